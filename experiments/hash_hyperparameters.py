"""Beyond the study: REINFORCE's hyper-parameters, swept as one program.

The future work of A. Museth, "Neural Hash Functions" (CS285), names hyper-parameters. All values of learning rate,
entropy bonus and baseline are trained side by side, as one `vmap` of one compiled program, on the same words again and
again, from a start that is spread and sharp (`jaxhash/hashing/study/whitened.py`). The map shows the collisions that
are left under the most probable bins. docs/hash-study.md says what was found.

    python -m experiments.hash_hyperparameters
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Key
from rich.console import Console

from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.study import reinforce
from jaxhash.hashing.study.loop import Callback
from jaxhash.hashing.study.reinforce import ReinforceConfig, Tuning
from jaxhash.hashing.study.table import expected_collisions
from jaxhash.hashing.study.whitened import sharp_deviation
from jaxhash.plots import hashing as hash_plots
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_hyperparameters"


@dataclass(frozen=True)
class Config:
    """A sweep of REINFORCE on fixed words."""

    common: Common = field(default_factory=Common)
    words: int = 100
    """Words, the same in every iteration."""
    bins: int = 100
    iterations: int = 400
    episodes: int = 8
    """Tables filled in an iteration."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """Adam's step sizes."""
    entropies: tuple[float, ...] = (0.0, 0.3, 1.0, 3.0)
    """Weights of the policy's entropy (nats), beside rewards of 10."""
    baselines: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Shares of the key's mean credit in the other tables that are subtracted."""
    hidden: tuple[int, ...] = (100, 100)
    """Units of each hidden layer."""


def body(config: Config) -> None:
    """Sweep, compare, save, draw."""
    tokens = tokenize(hashing.words(config.common, config.words))
    learner = ReinforceConfig(
        num_bins=config.bins,
        iterations=config.iterations,
        batch_size=config.words,
        batches="in_turn",
        episodes=config.episodes,
        credit="difference",
        deviation=sharp_deviation(config.bins),
        network=hashing.network(tokens, config.hidden),
    )
    sweep = one_program(config, learner, tokens)
    left = sweep["collisions"][..., -10:].mean(("repeat", "iteration"))
    where = left.argmin(...)
    rate, bonus, baseline = (float(left[name][where[name]]) for name in ("learning_rate", "entropy_bonus", "baseline"))
    chance = expected_collisions(config.words, config.bins)
    task = f"REINFORCE on the same {config.words} words, {config.bins} bins"
    runs = left.size * config.common.seeds
    label = "collisions left, most probable bins"
    figure = hash_plots.heat_map(left, f"{task}: {runs} runs in one program (chance: {chance:.1f})", label)
    table = left.to_dataframe("collisions_left").reset_index()
    save(config.common.folder(NAME), {NAME: figure}, {NAME: table}, {"sweep": sweep})
    Console().print(
        f"Fewest collisions left: {float(left.min()):.1f} of {config.words} words (chance {chance:.1f}), with "
        f"learning rate {rate:g}, entropy bonus {bonus:g}, baseline {baseline:g}."
    )


def one_program(config: Config, learner: ReinforceConfig, tokens: Tokens) -> xr.Dataset:
    """Every combination from every seed: [repeat, learning_rate, entropy_bonus, baseline, iteration]."""
    grid = list(product(config.learning_rates, config.entropies, config.baselines))
    tuning = Tuning(*(jnp.array(values) for values in zip(*grid, strict=True)))

    def train_grid(learner: ReinforceConfig, callback: Callback) -> Callable[[Key[Array, ""], Tokens], Any]:
        train = reinforce.make_train_tuned(learner, callback)
        return lambda key, tokens: jax.vmap(train, (None, None, 0))(key, tokens, tuning)

    _, history = hashing.train(f"{len(grid)} combinations", train_grid, learner, config.common, tokens)
    axes = {"learning_rate": config.learning_rates, "entropy_bonus": config.entropies, "baseline": config.baselines}
    shape = (config.common.seeds, *map(len, axes.values()), config.iterations)
    return xr.Dataset(
        {name: (("repeat", *axes, "iteration"), values.reshape(shape)) for name, values in history._asdict().items()},
        {name: list(values) for name, values in axes.items()},
    )


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
