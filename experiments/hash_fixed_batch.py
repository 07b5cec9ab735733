"""The study's figures 6 and 7: the same words again and again, until they have a perfect hash.

Figures 6 and 7 of A. Museth, "Neural Hash Functions" (CS285). Figure 7: the same 3,000 words, 1,000 an iteration,
1,000 bins; figure 6: the same 10,000 words, which took the study 5 h 40 min. Two learners side by side: REINFORCE with
per-key credit and a baseline, and the one that is shown good bins (`jaxhash/hashing/study/guided.py`). Figure 6 has
1,000 words unless it is told otherwise; `jaxhash fit` is the command for a perfect hash of the study's 10,000.

Measured, 3 seeds, collisions under the policy's most probable bins: where good bins are shown, 856 -> 0 on every seed
(figure 6, 25 iterations; figure 7, 120); REINFORCE 856 -> 841 and 856 -> 797 in as many iterations, its draws still at
chance. With 10,000 words (one seed, 25 iterations): shown good bins 9,107 -> 2.7, REINFORCE 9,107 -> 9,602.

    python -m experiments.hash_fixed_batch                                    # 75 s on 2 cores
    python -m experiments.hash_fixed_batch --figure-6-words 10000 --seeds 1   # the study's size: 5 minutes, 4 GB
"""

from dataclasses import dataclass, field

import xarray as xr
from rich.console import Console

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import guided, reinforce
from jaxhash.hashing.study.guided import GuidedConfig
from jaxhash.hashing.study.reinforce import ReinforceConfig, Tuning
from jaxhash.hashing.study.table import expected_collisions
from jaxhash.plots import hashing as hash_plots
from jaxhash.plots.hashing import Panel
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_fixed_batch"


@dataclass(frozen=True)
class Config:
    """Two learners on a fixed set of words."""

    common: Common = field(default_factory=Common)
    figure_6_words: int = 1000
    """Words of figure 6, and bins: all of them are placed in every iteration. The study has 10,000."""
    figure_6_iterations: int = 25
    figure_7_words: int = 3000
    """Words of figure 7."""
    figure_7_an_iteration: int = 1000
    """Words placed in an iteration of figure 7, and bins."""
    figure_7_iterations: int = 120
    learning_rate: float = 1e-3
    """Adam's step size in REINFORCE."""
    guided_learning_rate: float = 1.5e-3
    """Adam's step size at first where good bins are shown."""
    episodes: int = 16
    """Tables REINFORCE fills in an iteration, for its baseline."""


def body(config: Config) -> None:
    """Train, save, draw."""
    sizes = [
        ("Figure 6", config.figure_6_words, config.figure_6_words, config.figure_6_iterations),
        ("Figure 7", config.figure_7_words, config.figure_7_an_iteration, config.figure_7_iterations),
    ]
    rows, files, panels = [], {}, []
    for figure, num_words, bins, iterations in sizes:
        results = train(config, figure, num_words, bins, iterations)
        rows.append((f"{figure}: {num_words:,} words, {bins:,} an iteration", results))
        files[figure.lower().replace(" ", "_")] = results
        chance = expected_collisions(bins, bins)
        panels.append(
            [
                Panel("greedy_collisions", "collisions, most probable bins", chance, "chance"),
                Panel("collisions", "collisions, bins drawn", chance, "chance"),
                Panel("greedy_largest_bin", "keys in the fullest bin"),
            ]
        )
    title = f"Fixed words, as many bins as words placed, {config.common.seeds} seeds"
    save(config.common.folder(NAME), {NAME: hash_plots.curves(rows, panels, title)}, datasets=files)
    columns = {"greedy_collisions": "collisions, best bins", "collisions": "drawn", "greedy_largest_bin": "fullest bin"}
    short = [(name.split(":")[0], results) for name, results in rows]
    Console().print(hashing.summary(title, short, columns, last=3))


def train(config: Config, figure: str, num_words: int, bins: int, iterations: int) -> xr.Dataset:
    """Both learners on `num_words` words, `bins` of them an iteration."""
    tokens = tokenize(hashing.words(config.common, num_words))
    network = hashing.network(tokens)
    plain = ReinforceConfig(
        num_bins=bins,
        iterations=iterations,
        batch_size=bins,
        batches="in_turn",
        episodes=config.episodes,
        credit="difference",
        tuning=Tuning(config.learning_rate, baseline=1.0),
        network=network,
    )
    shown = GuidedConfig(
        num_bins=bins,
        iterations=iterations,
        batch_size=bins,
        learning_rate=config.guided_learning_rate,
        network=network,
    )
    histories = {
        "REINFORCE": hashing.train(f"{figure}, REINFORCE", reinforce.make_train, plain, config.common, tokens)[1],
        "shown good bins": hashing.train(f"{figure}, shown good bins", guided.make_train, shown, config.common, tokens)[
            1
        ],
    }
    return hashing.variants(histories)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
