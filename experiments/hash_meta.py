"""Beyond the study: does meta-learning save iterations on new key sets?

The future work of A. Museth, "Neural Hash Functions" (CS285), names meta-learning. Reptile (arXiv 1803.02999) learns
an initialisation over many small key sets; then new key sets, of words that no key set of the training had, are
learned from it and from a random initialisation, each to its perfect hash, and the iterations are counted. The same
key sets are learned both ways, so the test is Wilcoxon's signed-rank test on pairs. The learner is the expected return.
docs/hash-study.md says what was found.

    python -m experiments.hash_meta
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Int
from rich.console import Console
from scipy import stats

from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.study import expected_return, reptile
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
    inner_steps: tuple[int, ...] = (3, 10, 30)
    """Iterations on each key set in training."""
    layers: tuple[Literal["hidden", "all"], ...] = ("hidden", "all")
    """What Reptile learns: all layers but the last, or all."""
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
    learner = replace(reptile.TASK, num_bins=config.set_size, network=hashing.network(every, (64, 64)))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(config.common.seed + 2**31), jnp.arange(config.common.seeds)
    )
    drawn = jax.vmap(lambda key: expected_return.draw(learner, key, new))(keys)
    cold = counted(config, MetaConfig(config.set_size, learner=learner), keys, new, drawn)
    rows, found = [row("none", 0, config.most, cold, cold)], {}
    for layers, inner_steps in product(config.layers, config.inner_steps):
        meta = MetaConfig(config.set_size, config.iterations, config.tasks, inner_steps, layers=layers, learner=learner)
        label = f"Reptile, {layers} layers, {inner_steps} inner steps"
        params, _ = hashing.train(label, reptile.make_train, meta, config.common, old)
        warm = counted(config, meta, keys, new, params)
        rows.append(row(layers, inner_steps, config.most, warm, cold))
        found[layers, inner_steps] = warm
    table = pd.DataFrame(rows)
    samples = {"random initialisation": cold.ravel()}
    for layers in config.layers:
        best = min(config.inner_steps, key=lambda steps: found[layers, steps].mean())
        samples[f"Reptile, {layers} layers, {best} inner steps"] = found[layers, best].ravel()
    title = f"Iterations to a perfect hash of {config.set_size} new words in {config.set_size} bins"
    figure = hash_plots.histograms(samples, title, "iterations to zero collisions")
    save(config.common.folder(NAME), {NAME: figure}, {NAME: table})
    Console().print(f"{title}, {cold.size} key sets; given up after {config.most}. p: Wilcoxon's signed-rank test.")
    Console().print(table.to_string(index=False), highlight=False)


def counted(
    config: Config, meta: MetaConfig, keys: Array, new: Tokens, params: Params
) -> Int[np.ndarray, "seeds sets"]:
    """Iterations to perfect hashes of new key sets, from each seed's parameters."""

    def one(params: Params, key: Array) -> Array:
        set_key, draw_key = jax.random.split(key)
        n = new.characters.shape[0]
        batch = take(new, jax.random.choice(set_key, n, (config.set_size,), replace=False))
        start = reptile.begin(meta, params, draw_key, batch)
        return reptile.iterations_to_perfect(meta.learner, start, batch, config.most)

    def of_seed(params: Params, key: Array) -> Array:
        return jax.vmap(partial(one, params))(jax.random.split(key, config.new_sets))

    return np.asarray(in_background(lambda: jax.device_get(jax.jit(jax.vmap(of_seed))(params, keys))))


def row(
    layers: str, inner_steps: int, most: int, found: Int[np.ndarray, "seeds sets"], cold: Int[np.ndarray, "seeds sets"]
) -> dict[str, Any]:
    """A line of the table: iterations, beside those from random parameters on the same key sets."""
    means = found.mean(1)
    differ = not np.array_equal(found, cold)
    return {
        "learned": layers,
        "inner_steps": inner_steps,
        "iterations": found.mean(),
        "least_of_seeds": means.min(),
        "most_of_seeds": means.max(),
        "given_up": int((found >= most).sum()),
        "p": float(stats.wilcoxon(found.ravel(), cold.ravel(), zero_method="zsplit").pvalue) if differ else math.nan,
    }


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
