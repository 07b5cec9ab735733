"""Python's own `hash` as the study's yardstick: how many words are left without a bin of their own.

"Neural Hash Functions" (A. Museth, CS285) gives one figure: 1,000 words in 1,000 bins leave 369 on average, where
chance gives 1,000 / e = 368. Here each draw takes fresh words and a fresh salt (PYTHONHASHSEED), and mean and spread
stand beside their exact values for bins drawn at random.

Measured with the defaults (200 draws a load, seed 0), in 6 s on 2 cores: 368.0 +- 9.4 for 1,000 words in 1,000 bins,
where chance gives 367.7 +- 9.9.

    python -m experiments.hash_python
    python -m experiments.hash_python --keys dwyl --num-keys 466551 --num-bins 466551 --draws 20
    python -m experiments.hash_python --keys my.txt --num-keys 50 500 --num-bins 100 100 --out runs/mine
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.hashing.keys.python_hash import MAX_SALT, python_bins
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.study.table import collision_deviation, expected_collisions
from jaxhash.plots.style import BLUE, GREY, ORANGE
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.progress import progress

REPORTED = {(1000, 1000): 369}
"""Mean collisions that the study reports, by keys and bins."""


@dataclass(frozen=True)
class Config:
    """Collisions and the fullest bin under Python's hash, over many draws of words and salts."""

    keys: str = "english"
    """english, dwyl (the study's dictionary), or a file of one key a line."""
    num_keys: tuple[int, ...] = (100, 1000, 3000, 10_000)
    """Words in a draw, one number a load."""
    num_bins: tuple[int, ...] = (100, 1000, 1000, 10_000)
    """Bins, one number a load."""
    draws: int = 200
    """Draws a load, each of other words under another salt."""
    seed: int = 0
    """Of the words and salts drawn."""
    out: Path = Path("runs/hash_python")
    """Folder of the numbers and the figure."""

    def __post_init__(self) -> None:
        if len(self.num_keys) != len(self.num_bins) or not self.num_keys:
            raise ValueError(
                f"--num-keys has {len(self.num_keys)} numbers and --num-bins {len(self.num_bins)}; give one each a load"
            )
        if self.draws < 2:
            raise ValueError(f"--draws {self.draws} is less than 2; a spread needs two")
        if min(self.num_keys) < 1 or min(self.num_bins) < 1:
            raise ValueError("--num-keys and --num-bins must be 1 or more")


def loads(config: Config) -> list[tuple[int, int]]:
    """Keys and bins of each load."""
    return list(zip(config.num_keys, config.num_bins, strict=True))


def measure(config: Config) -> list[dict[str, int]]:
    """One row a draw: keys, bins, draw, salt, collisions, largest_bin, and largest_bin_by_chance.

    The last is that of as many bins drawn at random.

    Raises:
        ValueError: if the key set is too small.
    """
    words = load_keys(config.keys)
    if max(config.num_keys) > len(words):
        raise ValueError(
            f"--num-keys {max(config.num_keys)} is more than the {len(words):,} keys of {config.keys}; ask for fewer"
        )
    generator = np.random.default_rng(config.seed)
    every = [load for load in loads(config) for _ in range(config.draws)]
    rows = []
    with progress("draws", len(every)) as told:
        for i, (n, m) in enumerate(every):
            salt = int(generator.integers(1, MAX_SALT, endpoint=True))
            drawn = [words[j] for j in generator.choice(len(words), n, replace=False)]
            counts = np.bincount(python_bins(drawn, m, salt), minlength=m)
            chance = np.bincount(generator.integers(0, m, n), minlength=m)
            rows.append(
                {"keys": n, "bins": m, "draw": i % config.draws, "salt": salt}
                | {"collisions": n - int((counts > 0).sum()), "largest_bin": int(counts.max())}
                | {"largest_bin_by_chance": int(chance.max())}
            )
            told(i + 1)
    return rows


def summarise(rows: list[dict[str, int]], config: Config) -> list[dict[str, float]]:
    """One row a load: mean and spread of the collisions beside their exact values, mean fullest bins."""
    summary = []
    for i, (n, m) in enumerate(loads(config)):
        part = rows[i * config.draws : (i + 1) * config.draws]
        collisions = np.array([row["collisions"] for row in part])
        expected, deviation = expected_collisions(n, m), collision_deviation(n, m)
        error = deviation / math.sqrt(config.draws)
        summary.append(
            {"keys": n, "bins": m, "collisions": float(collisions.mean())}
            | {"deviation": float(collisions.std(ddof=1)), "expected": expected, "expected_deviation": deviation}
            | {"standard_errors_off": (float(collisions.mean()) - expected) / error if error else 0.0}
            | {"lowest": int(collisions.min()), "highest": int(collisions.max())}
            | {name: float(np.mean([row[name] for row in part])) for name in ("largest_bin", "largest_bin_by_chance")}
        )
    return summary


def show(summary: list[dict[str, float]], config: Config) -> Table:
    """The summary for a terminal."""
    reported = [f"{REPORTED[load]} for {load[0]:,} in {load[1]:,}" for load in REPORTED if load in loads(config)]
    table = Table(
        title=f"Python's hash on {config.keys}: {config.draws} draws of words and salts a load",
        caption="mean ± standard deviation over draws; off: the mean's distance from chance, in standard errors"
        + "".join(f"; the study reports {text}" for text in reported),
    )
    for name in ("keys", "bins", "colliding", "by chance", "off", "fullest\nbin", "by\nchance"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in summary:
        digits = 1 if row["keys"] < 100_000 else 0
        table.add_row(
            f"{row['keys']:,}",
            f"{row['bins']:,}",
            f"{row['collisions']:,.{digits}f} ± {row['deviation']:.{digits}f}",
            f"{row['expected']:,.{digits}f} ± {row['expected_deviation']:.{digits}f}",
            f"{row['standard_errors_off']:+.1f}",
            f"{row['largest_bin']:.2f}",
            f"{row['largest_bin_by_chance']:.2f}",
        )
    return table


def draw_figure(rows: list[dict[str, int]], summary: list[dict[str, float]], config: Config) -> Figure:
    """A histogram of the collisions a load, over what chance gives (a normal curve of its exact mean and spread)."""
    columns = min(len(summary), 2)
    lines = math.ceil(len(summary) / columns)
    figure = Figure(figsize=(5 * columns, 3.1 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(summary) :]:
        panel.set_axis_off()
    for i, (panel, row) in enumerate(zip(panels, summary, strict=False)):
        collisions = [r["collisions"] for r in rows[i * config.draws : (i + 1) * config.draws]]
        step = max(1, round((max(collisions) - min(collisions)) / 15))
        edges = np.arange(min(collisions), max(collisions) + step + 1, step) - 0.5
        panel.hist(collisions, edges, color=BLUE, alpha=0.6, label="Python's hash, draws")
        mean, deviation = row["expected"], row["expected_deviation"]
        if deviation:
            x = np.linspace(mean - 4 * deviation, mean + 4 * deviation, 200)
            density = np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
            panel.plot(x, density * config.draws * step, color=GREY, label="bins at random")
        panel.axvline(mean, ymax=0.78, color=GREY, linestyle="--", linewidth=1, label=f"expected, {mean:,.1f}")
        reported = REPORTED.get((int(row["keys"]), int(row["bins"])))
        if reported is not None:
            panel.axvline(reported, ymax=0.78, color=ORANGE, linewidth=1.5, label=f"the study, {reported}")
        panel.set(
            title=f"{row['keys']:,} words, {row['bins']:,} bins",
            xlabel="colliding words",
            ylabel="draws",
            ylim=(0, panel.get_ylim()[1] * 1.5),
        )
        panel.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    figure.suptitle(f"Words without a bin of their own under Python's hash ({config.keys}, {config.draws} draws)")
    return figure


def body(config: Config) -> None:
    """Measure, save, draw."""
    rows = measure(config)
    summary = summarise(rows, config)
    Console().print(show(summary, config))
    save(config.out, {"hash_python": draw_figure(rows, summary, config)}, {"summary": summary, "draws": rows})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
