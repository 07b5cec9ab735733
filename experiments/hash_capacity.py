"""How many words a network can hold: perfect hashes by the policy gradient, over widths, word lists and ways to read.

Each word list is learned by networks of several widths (two hidden layers), which read one-hot characters as in "Neural
Hash Functions" (A. Museth, CS285), learned character embeddings (its future work), or the characters' bits. The learner
is the policy gradient without sampling (`jaxhash/hashing/study/expected_return.py`). A network has as many units in its
last hidden layer as it has weights for each word. docs/hash-study.md says what was found.

    python -m experiments.hash_capacity                                  # some minutes on 2 cores
    python -m experiments.hash_capacity --words 2000 --hidden 100 200 --readers one_hot
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import expected_return
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig
from jaxhash.plots.style import BLUE, GREEN, ORANGE
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_capacity"
Reader = Literal["one_hot", "embedding", "bits"]
STYLES = {"one_hot": (BLUE, "o"), "embedding": (ORANGE, "s"), "bits": (GREEN, "^")}


@dataclass(frozen=True)
class Config:
    """Perfect hashes of words, as many bins as words, by networks of growing width."""

    common: Common = field(default_factory=Common)
    words: tuple[int, ...] = (100, 300, 1000)
    """Words of each list, and bins."""
    hidden: tuple[int, ...] = (8, 12, 16, 24, 32, 64, 128)
    """Units of each of the two hidden layers."""
    readers: tuple[Reader, ...] = ("one_hot", "embedding", "bits")
    """How a network reads the characters of a word (`networks.NetworkConfig`)."""
    iterations: int = 300

    def __post_init__(self) -> None:
        for name in ("words", "hidden"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"--{name} must be 1 or more, at least one of them")


def body(config: Config) -> None:
    """Train, save, draw."""
    rows = []
    for count, units, reader in product(config.words, config.hidden, config.readers):
        tokens = tokenize(hashing.words(config.common, count))
        learner = ExpectedReturnConfig(
            num_bins=count,
            iterations=config.iterations,
            network=hashing.network(tokens, (units, units), reader),
        )
        label = f"{count:,} words, 2 x {units}, {reader}"
        states, history = hashing.train(label, expected_return.make_train, learner, config.common, tokens)
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(states.params))
        for repeat, collisions in enumerate(np.asarray(history.collisions)):
            perfect = np.flatnonzero(collisions == 0)
            rows.append(
                {
                    "words": count,
                    "hidden": units,
                    "reader": reader,
                    "parameters": parameters,
                    "repeat": repeat,
                    "fewest_collisions": int(collisions.min()),
                    "iterations_to_perfect": int(perfect[0]) + 1 if perfect.size else None,
                }
            )
    table = pd.DataFrame(rows)
    save(config.common.folder(NAME), {NAME: draw_figure(table)}, {NAME: table})
    Console().print(shown(table))


def draw_figure(table: pd.DataFrame) -> Figure:
    """Share of words left in company against the width, a panel for each word list, a line for each reader."""
    counts = sorted(table["words"].unique())
    figure = Figure(figsize=(4.2 * len(counts), 3.8), layout="constrained")
    for panel, count in zip(figure.subplots(1, len(counts), squeeze=False)[0], counts, strict=True):
        for reader, of_reader in table[table["words"] == count].groupby("reader"):
            colour, marker = STYLES[str(reader)]
            by_width = of_reader.groupby("hidden")["fewest_collisions"]
            mean, low, high = (getattr(by_width, name)() / count for name in ("mean", "min", "max"))
            panel.plot(mean.index, mean, color=colour, marker=marker, markersize=4, label=str(reader))
            panel.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
        panel.set(title=f"{count:,} words", xlabel="units of each hidden layer", ylabel="collisions left / words")
        panel.set_xscale("log")
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    figure.suptitle("Fewest collisions under the most probable bins; band: least and most over the seeds")
    return figure


def shown(table: pd.DataFrame) -> Table:
    """A row for each word list, width and reader."""
    found = Table(
        title="Perfect hashes by the policy gradient", caption="iterations: mean over the seeds that got there"
    )
    for column in ("words", "hidden", "reader", "parameters", "perfect", "iterations", "fewest collisions"):
        found.add_column(column, justify="right")
    for (count, units, reader), group in table.groupby(["words", "hidden", "reader"], sort=True):
        perfect = group["iterations_to_perfect"].dropna()
        found.add_row(
            f"{count:,}",
            str(units),
            str(reader),
            f"{group['parameters'].iloc[0]:,}",
            f"{len(perfect)} of {len(group)}",
            f"{perfect.mean():.0f}" if len(perfect) else "-",
            f"{group['fewest_collisions'].mean():.1f}",
        )
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
