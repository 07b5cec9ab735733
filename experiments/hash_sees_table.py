"""The study's figure 5: Policy Gradient that sees which bins are occupied, 100/100 and 1,000/1,000.

Figure 5 of A. Museth, "Neural Hash Functions" (CS285): collisions fall clearly, and more slowly for 1,000. **What is
learned is no hash function**: the bin of a word depends on the words before it. The lookup of a word would have to
replay all that came before. Measured, 3 seeds: 100/100 falls from 42.6 collisions to 7.2 +- 1.6 in 500 iterations
(chance: 36.6); 1,000/1,000 only comes from 394 to chance (368) in 200 iterations. There each episode says ten times
less about each bin, and a single seed was still at 365 +- 4 after 500 iterations.

    python -m experiments.hash_sees_table                                     # 75 s on 2 cores
    python -m experiments.hash_sees_table --large-iterations 1000             # longer at 1,000/1,000
"""

from dataclasses import dataclass, field

from rich.console import Console

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import table_reinforce
from jaxhash.hashing.study.table import expected_collisions
from jaxhash.hashing.study.table_reinforce import TableReinforceConfig
from jaxhash.plots import hashing as hash_plots
from jaxhash.plots.hashing import Panel
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_sees_table"


@dataclass(frozen=True)
class Config:
    """Policy Gradient with the table among its inputs."""

    common: Common = field(default_factory=Common)
    small: int = 100
    """Words and bins of the first row."""
    small_iterations: int = 500
    """Optimiser steps of the first row."""
    small_learning_rate: float = 1.5e-3
    """Adam's step size in the first row."""
    large: int = 1000
    """Words and bins of the second row; 0 leaves it out."""
    large_iterations: int = 200
    """Optimiser steps of the second row."""
    large_learning_rate: float = 2e-3
    """Adam's step size in the second row."""
    episodes: int = 4
    """Tables filled side by side in an iteration of the first row; one in the second."""


def body(config: Config) -> None:
    """Train, save, draw."""
    tokens = tokenize(hashing.words(config.common))
    network = hashing.network(tokens)
    sizes = [
        (config.small, config.small_iterations, config.episodes, config.small_learning_rate),
        (config.large, config.large_iterations, 1, config.large_learning_rate),
    ]
    rows, files = [], {}
    for size, iterations, episodes, rate in sizes:
        if size == 0:
            continue
        learner = TableReinforceConfig(
            num_bins=size,
            batch_size=size,
            iterations=iterations,
            episodes=episodes,
            learning_rate=rate,
            network=network,
        )
        name = f"{size:,} words in {size:,} bins"
        history = hashing.train(name, table_reinforce.make_train, learner, config.common, tokens)[1]
        rows.append((name, hashing.variants({"sees the table": history})))
        files[f"results-{size}"] = rows[-1][1]
    panels = [
        [
            Panel("collisions", "collisions, bins drawn", expected_collisions(size, size), "chance"),
            Panel("largest_bin", "keys in the fullest bin"),
            Panel("mean_reward", "mean reward a key", 10.0, "perfect"),
        ]
        for size, *_ in sizes
        if size
    ]
    title = f"REINFORCE that sees the table (no hash function), {config.common.seeds} seeds"
    save(config.common.folder(NAME), {NAME: hash_plots.curves(rows, panels, title)}, datasets=files)
    columns = {"collisions": "collisions", "largest_bin": "fullest bin", "entropy": "entropy (nats)"}
    Console().print(hashing.summary(title, rows, columns))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
