"""Beyond the study: does meta-learning save iterations on new key sets?

The future work of A. Museth, "Neural Hash Functions" (CS285), names meta-learning. Reptile (arXiv 1803.02999) learns
an initialisation over many small key sets; then new key sets, of words that no key set of the training had, are
learned from it and from a random initialisation, each to its perfect hash, and the iterations are counted. The same
key sets are learned both ways, so the test is Wilcoxon's signed-rank test on pairs. Measured, 300 key sets of 32 words
in 32 bins: 19.5 iterations from a random initialisation, 8.9 from Reptile's, p = 6e-49. Both use the same step size,
which was not tuned for either.

    python -m experiments.hash_meta                     # 55 s on 2 cores
"""

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from rich.console import Console
from scipy import stats

from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.study import reptile
from jaxhash.hashing.study.networks import Params, take
from jaxhash.hashing.study.reptile import MetaConfig
from jaxhash.plots import hashing as hash_plots
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command, in_background
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_meta"


@dataclass(frozen=True)
class Config:
    """Reptile over small key sets."""

    common: Common = field(default_factory=Common)
    set_size: int = 32
    """Words in a key set, and bins."""
    iterations: int = 200
    """Meta-steps."""
    tasks: int = 16
    """Key sets a meta-step."""
    inner_steps: int = 10
    """Steps on each key set in training."""
    inner_learning_rate: float = 3e-3
    """Adam's step size on a key set."""
    new_sets: int = 100
    """New key sets to measure on, for each seed."""
    most: int = 300
    """Iterations after which a key set is given up."""


def body(config: Config) -> None:
    """Train, measure, save, draw."""
    words = hashing.words(config.common)
    half = len(words) // 2
    length = max(map(len, words))
    every, old, new = (tokenize(part, length) for part in (words, words[:half], words[half:]))
    learner = MetaConfig(
        num_bins=config.set_size,
        keys_per_task=config.set_size,
        iterations=config.iterations,
        tasks=config.tasks,
        inner_steps=config.inner_steps,
        inner_learning_rate=config.inner_learning_rate,
        network=hashing.network(every, (64, 64)),
    )
    params, history = hashing.train("Reptile", reptile.make_train, learner, config.common, old)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(config.common.seed + 2**31), jnp.arange(config.common.seeds)
    )
    measure = jax.jit(jax.vmap(partial(compare, config, learner), in_axes=(0, 0, None)))
    cold, warm = (np.asarray(a) for a in in_background(lambda: jax.block_until_ready(measure(keys, params, new))))
    test = stats.wilcoxon(cold.ravel(), warm.ravel(), zero_method="zsplit")
    results = hashing.labelled(history).assign(
        cold_iterations=(("repeat", "key_set"), cold), warm_iterations=(("repeat", "key_set"), warm)
    )
    title = f"Iterations to a perfect hash of {config.set_size} new words in {config.set_size} bins"
    samples = {"random initialisation": cold.ravel(), "Reptile": warm.ravel()}
    figure = hash_plots.histograms(samples, title, "iterations to zero collisions")
    save(config.common.folder(NAME), {NAME: figure}, datasets={"results": results})
    by_seed = ", ".join(f"{c:.1f} -> {w:.1f}" for c, w in zip(cold.mean(1), warm.mean(1), strict=True))
    unfinished = {name: int((values >= config.most).sum()) for name, values in samples.items()}
    Console().print(
        f"{title}: {cold.mean():.1f} from a random initialisation, {warm.mean():.1f} from Reptile's ({cold.size} key "
        f"sets; by seed {by_seed}); Wilcoxon's signed-rank test p = {test.pvalue:.1g}. Given up after "
        f"{config.most}: {unfinished}."
    )


def compare(
    config: Config, learner: MetaConfig, key: Key[Array, ""], params: Params, new: Tokens
) -> tuple[Array, Array]:
    """Iterations [key sets] to perfect hashes of new key sets, from random parameters and from `params`."""

    def one(key: Array) -> tuple[Array, Array]:
        set_key, init_key = jax.random.split(key)
        n = new.characters.shape[0]
        batch = take(new, jax.random.choice(set_key, n, (config.set_size,), replace=False))
        start = reptile.fresh_params(learner, init_key, new)
        return (
            reptile.iterations_to_perfect(learner, start, batch, config.most),
            reptile.iterations_to_perfect(learner, params, batch, config.most),
        )

    return jax.vmap(one)(jax.random.split(key, config.new_sets))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
