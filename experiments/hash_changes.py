"""What figures 4 and 5 of the hash study depend on: their learner again, with one setting changed at a time.

    python -m experiments.hash_changes --figure 4         # Soft Actor-Critic
    python -m experiments.hash_changes --figure 5         # REINFORCE by the return, the table in the observation

Leaves `hash_changes.csv`: a line for each change and seed, with the means of the last iterations and the collisions,
drawn, at the worst. The words are those of the package, not the study's dictionary: an iteration costs a third.
docs/hash-study.md says what was found.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from rich.console import Console

from experiments.hash_study import LEARNERS, Learner, Size
from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import write_csv
from jaxhash.terminal.hashing import Common

NAME = "hash_changes"


@dataclass(frozen=True)
class Sweep:
    """A learner, and what is changed in its configuration."""

    learner: Learner
    size: Size
    changes: tuple[dict[str, Any], ...]
    last: int
    """Iterations whose mean is a result."""


SWEEPS = {
    "4": Sweep(
        "soft_actor_critic",
        Size(1000, 1000, 100),
        (
            {},
            {"initial_temperature": 100.0},
            {"initial_temperature": 1.0},  # the usual one; all below are changes of this one
            {"initial_temperature": 1.0, "discount": 0.0},
            {"initial_temperature": 1.0, "target_entropy": 1.0},
            {"initial_temperature": 1.0, "replay": 1},
            {"initial_temperature": 1.0, "updates": 1},
        ),
        last=10,
    ),
    "5": Sweep(
        "sees_table_return",
        Size(100, 100, 4000),
        ({"learning_rate": 1e-4}, {"learning_rate": 3e-4}, {"learning_rate": 1e-3}, {"learning_rate": 5e-3}),
        last=100,
    ),
}


@dataclass(frozen=True)
class Config:
    """One setting of a learner of figure 4 or 5 changed at a time."""

    figure: Literal["4", "5"] = "4"
    """Whose learner."""
    common: Common = field(default_factory=Common)
    iterations: int | None = None
    """The sweep's own by default."""


def body(config: Config) -> None:
    """Train each, write the table."""
    sweep = SWEEPS[config.figure]
    size = replace(sweep.size, iterations=config.iterations or sweep.size.iterations)
    tokens = tokenize(hashing.words(config.common))
    module, make_config = LEARNERS[sweep.learner]
    learner = make_config(size, hashing.network(tokens))
    rows = []
    for change in sweep.changes:
        name = ", ".join(f"{option}={value}" for option, value in change.items()) or "none"
        changed = replace(learner, **change)
        _, history = hashing.train(f"figure {config.figure}, {name}", module.make_train, changed, config.common, tokens)
        rows += [
            {"figure": config.figure, "learner": sweep.learner, "change": name, "iterations": size.iterations}
            | of_seed(history, seed, sweep.last)
            for seed in range(config.common.seeds)
        ]
    path = config.common.folder(NAME) / f"{NAME}.csv"
    write_csv(path, rows)
    Console().print(f"Metrics: {path}", highlight=False, soft_wrap=True)


def of_seed(history: Any, seed: int, last: int) -> dict[str, float]:
    """What a seed's training came to: means of the last iterations, and of the worst so many."""
    ended = {name: float(values[seed, -last:].mean()) for name, values in history._asdict().items()}
    drawn = np.convolve(history.drawn_collisions[seed], np.full(last, 1 / last), "valid")
    return {"seed": seed} | ended | {"most_drawn_collisions": float(drawn.max())}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
