"""A perfect hash of word lists of growing size: time, bits per key, and how collisions fall while it is learned.

"Neural Hash Functions" (A. Museth, CS285), Figure 6, trains Policy Gradient on the same 10,000 words again and again:
a perfect hash after 5 h 40 min (20,400 s); the dictionary of 466,550 words is given up. Here the same network is
trained by the policy gradient without sampling (method `network`), or a tiny policy for every 32 keys, whose colliding
keys are shown empty bins that the policy likes (`sharded`).

Measured with the defaults on 2 cores (docs/data/perfect-hash.csv): all perfect; 1,000 words in 7.6 s at 3,325
(network), 10,000 words in 0.8 s at 19.5 bits per key (sharded), the dictionary in 3.8 s at 19.5. Importing JAX, reading
the list and saving are not in these seconds; `python -m bench.perfect_hash` times the whole command.

    python -m experiments.perfect_hash
    python -m experiments.perfect_hash --sizes 500 5000 --methods network --seeds 3 --out runs/mine
    python -m experiments.perfect_hash --keys my.txt --sizes 1000
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect, Progress, fit
from jaxhash.hashing.perfect.hasher import floor_bits_per_key
from jaxhash.hashing.perfect.network import Network, weight_bits
from jaxhash.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save

REPORTED_SECONDS = 20_400
"""The study's training time for 10,000 words."""
REPORTED_WORDS = 10_000
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)


@dataclass(frozen=True)
class Config:
    """Minimal perfect hashes (as many bins as words) of the first words of a list."""

    keys: str = "dwyl"
    """dwyl (the study's dictionary; english if it is not at hand), english, or a file of one key a line."""
    sizes: tuple[int, ...] = (1000, 10_000, 100_000, 466_551)
    """Numbers of words; those that the list does not hold are left out."""
    methods: tuple[Literal["sharded", "network"], ...] = ("sharded", "network")
    """sharded: a tiny policy for every 32 keys; network: one with two hidden layers, by the policy gradient."""
    largest_network: int = 1000
    """Most words given to the network, whose cost grows with their square."""
    seeds: int = 1
    """Trainings of each size, one after another, from seed 0 on."""
    out: Path = Path("runs/perfect_hash")
    """Folder of the numbers and the figure."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds} is less than 1; train at least once")
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("--sizes must be 1 or more, at least one of them")


def measure(config: Config, console: Console) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """One row a training, and one row a report of a training (its collisions so far).

    Seconds are those of the whole fit, with compilation and the check of every key; the second training of a size and
    method has the compilation behind it.
    """
    words = hashing.listed(config.keys, console)
    fits: list[dict[str, object]] = []
    curves: list[dict[str, object]] = []
    for method in config.methods:
        for size in config.sizes:
            if size > len(words) or (method == "network" and size > config.largest_network):
                continue
            for seed in range(config.seeds):
                reports: list[Progress] = []
                began = time.monotonic()
                try:
                    hasher = fit(words[:size], FitConfig(method=method, seed=seed), reports.append)
                except NotPerfect as error:
                    hasher = error.hasher
                seconds = time.monotonic() - began
                # Reading and checking count keys, not steps.
                reports = [report for report in reports if report.stage == "fitting"]
                row = {"method": method, "words": size, "seed": seed}
                fits.append(
                    {
                        **row,
                        "collisions": hasher.collisions,
                        "seconds": round(seconds, 3),
                        "steps": reports[-1].steps,
                        "bits_per_key": round(hasher.bits_per_key, 3),
                        "bits_per_weight": weight_bits(hasher.policy) if isinstance(hasher.policy, Network) else None,
                        "load": hasher.load,
                        "least_bits_per_key": round(floor_bits_per_key(hasher.load), 3),
                    }
                )
                curves += [
                    {**row, "seconds": round(r.seconds, 3), "steps": r.steps, "collisions": r.collisions}
                    for r in {r.steps: r for r in reports}.values()
                ]
                console.print(
                    f"{method}, {size:,} words: {hasher.collisions:,} collisions after {seconds:.1f} s",
                    highlight=False,
                )
    if not fits:
        raise ValueError(f"none of --sizes fits the {len(words):,} words of {config.keys} and --largest-network")
    return fits, curves


def draw_figure(curves: list[dict[str, object]], config: Config) -> Figure:
    """Share of colliding words against learning steps, one line a size, one panel a method."""
    methods = [method for method in config.methods if any(row["method"] == method for row in curves)]
    figure = Figure(figsize=(5.2 * len(methods), 4.2), layout="constrained")
    titles = {"sharded": "A policy for every 32 words", "network": "One network, 2 x 300"}
    for panel, method in zip(figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True):
        sizes = sorted({int(str(row["words"])) for row in curves if row["method"] == method})
        for size, colour, marker in zip(sizes, COLOURS, "osD^v", strict=False):
            for seed in range(config.seeds):
                rows = [r for r in curves if (r["method"], r["words"], r["seed"]) == (method, size, seed)]
                panel.plot(
                    [r["steps"] for r in rows],
                    [int(str(r["collisions"])) / size for r in rows],
                    color=colour,
                    marker=marker,
                    markersize=4,
                    label=f"{size:,} words" if seed == 0 else None,
                )
        panel.set(
            title=titles[method],
            xlabel="learning steps" if method == "sharded" else "times all words are placed",
            ylabel="colliding words / words",
            ylim=(-0.03, 1.03),
        )
        if method == "sharded":
            panel.set_xscale("symlog", linthresh=16)
            panel.set_xlim(left=0)
        else:
            panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    figure.suptitle("Minimal perfect hashes: words without a bin of their own, while the function is learned")
    return figure


def show(fits: list[dict[str, object]]) -> Table:
    """The trainings beside the study's."""
    table = Table(title="Minimal perfect hashes", caption=f"the study: {REPORTED_SECONDS:,} s for 10,000 words")
    for column in ("method", "words", "collisions", "seconds", "the study, s", "bits/key", "least possible"):
        table.add_column(column, justify="right")
    for row in fits:
        reported = f"{REPORTED_SECONDS:,}" if row["words"] == REPORTED_WORDS else "-"
        size, seconds, bits = int(str(row["words"])), float(str(row["seconds"])), float(str(row["bits_per_key"]))
        table.add_row(
            str(row["method"]), f"{size:,}", f"{row['collisions']:,}", f"{seconds:.1f}", reported, f"{bits:,.1f}",
            str(row["least_bits_per_key"]),
        )  # fmt: skip
    return table


def body(config: Config) -> None:
    """Measure, save, draw."""
    fits, curves = measure(config, Console(stderr=True))
    Console().print(show(fits))
    save(config.out, {"perfect_hash": draw_figure(curves, config)}, {"fits": fits, "curves": curves})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
