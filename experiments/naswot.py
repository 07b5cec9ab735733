"""NASWOT: untrained networks ranked by the log-determinant of their codes' kernel, against accuracy after training.

Mellor, Turner, Storkey, Crowley, "Neural architecture search without training" (arXiv 2006.04647, section 3, K_H): for
the codes c_i of a minibatch, K_ij = N_A - Hamming(c_i, c_j), where N_A is the number of ReLUs, and the score is
log |K|. It is high when an untrained network already gives different examples very different codes. As there, codes
are taken with batch norm in training mode. The yardstick to beat is the number of ReLUs alone.

K has at most rank N_A + 1, so a minibatch larger than that has a score of minus infinity whatever the network:
NASWOT is made for networks with many more units than examples, and small ones need small minibatches.

Measured (digits, 30 networks, seed 0): Spearman's correlation with trained accuracy is +0.47, where the number of
ReLUs alone has +0.49; among networks of one depth +0.57 against +0.60; among networks of one width, where size says
nothing, +0.39 on average (6 in a group). On networks as small as these the score is hardly more than their size.

    python -m experiments.naswot                                         # digits, under half a minute on 2 cores
    python -m experiments.naswot --dataset mnist --epochs 3
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau, rankdata, spearmanr

from jaxhash.codes import active, pack
from jaxhash.codes.hamming import hamming_words
from jaxhash.data import catalogue
from jaxhash.models.mlp import ModelConfig
from jaxhash.plots.style import BLUE, GREEN, ORANGE, PURPLE
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.sweeps import run_sweep
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.population import Block, forward, init_block

COLOURS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"))
Row = dict[str, float]


@dataclass(frozen=True)
class Config:
    """The NASWOT score of untrained networks of a grid of widths and depths, and their accuracy once trained."""

    dataset: str = "digits"
    """digits, mnist, fashion_mnist, kmnist, cifar10, or the path of an .npz file."""
    widths: tuple[int, ...] = (20, 30, 45, 70, 100)
    """Total hidden units (ReLUs) of each network."""
    depths: tuple[int, ...] = (1, 2, 4)
    """Numbers of hidden layers that share them, at most four."""
    repeats: int = 2
    """Initialisations of each architecture."""
    epochs: int = 20
    """Passes over the training set, at most."""
    batch: int = 16
    """Training examples in the minibatch of a score, at most one more than the smallest width."""
    batches: int = 10
    """Minibatches over which a score is averaged (the paper takes one)."""
    seed: int = 0
    """Of the networks and the minibatches."""
    out: Path | None = None
    """Folder of the data and the picture (default: runs/naswot-<dataset>)."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""

    def __post_init__(self) -> None:
        if not 2 <= self.batch <= min(self.widths) + 1:
            raise ValueError(
                f"--batch {self.batch} must be 2 to {min(self.widths) + 1}, one more than the smallest width: "
                "the kernel of a larger minibatch is always singular"
            )
        if self.batches < 1:
            raise ValueError(f"--batches {self.batches} is less than 1; score at least one minibatch")
        if not 1 <= len(set(self.depths)) == len(self.depths) <= len(COLOURS):
            raise ValueError(f"--depths {self.depths} must be 1 to {len(COLOURS)} different numbers")
        if len(self.widths) * len(self.depths) * self.repeats < 3:
            raise ValueError("fewer than 3 networks; a rank correlation needs more --widths, --depths or --repeats")

    def grid(self, depth: int) -> SweepConfig:
        """The sweep that trains the networks of one depth."""
        return SweepConfig(
            dataset=self.dataset,
            widths=self.widths,
            repeats=self.repeats,
            seed=self.seed,
            model=ModelConfig(depth=depth),
            train=TrainConfig(epochs=self.epochs),
        )


def naswot(words: UInt32[Array, "n words"], num_bits: int) -> float:
    """log |K|, K_ij = num_bits - Hamming(c_i, c_j), in nats; minus infinity if K is singular (two equal codes, say)."""
    kernel = num_bits - np.asarray(hamming_words(words, words), np.float64)
    sign, log_determinant = np.linalg.slogdet(kernel)
    # Rounding can leave a tiny determinant where there is none; the rank tells.
    singular = np.linalg.matrix_rank(kernel, hermitian=True) < len(kernel)
    return -np.inf if singular or sign <= 0 else float(log_determinant)


def untrained_words(
    grid: SweepConfig, classes: int, minibatches: Float[np.ndarray, "batches n features"]
) -> list[UInt32[Array, "repeats batches n words"]]:
    """Codes of minibatches under networks as training would begin with them, width by width.

    Batch norm takes the statistics of each minibatch, as it does in training.
    """
    block = Block(grid.widths, grid.model, minibatches.shape[2], classes)

    def bits(repeat_key: Array, x: Array) -> tuple[Array, ...]:
        params, stats = init_block(block, repeat_key)
        return tuple(map(active, forward(block, params, stats, x, train=True).pre_activations))

    keys = jnp.stack([grid.repeat_key(repeat) for repeat in range(grid.repeats)])
    layers = jax.jit(jax.vmap(jax.vmap(bits, (None, 0)), (0, None)))(keys, minibatches)
    words = []
    for m, units in enumerate(block.units):
        own = np.concatenate([np.asarray(layer)[:, :, m, :units] for layer in layers], axis=2)
        words.append(pack(jnp.asarray(own.swapaxes(2, 3))))
    return words


def measure(config: Config, out: Path) -> list[Row]:
    """Train the grid, score its networks as they were before; one row a network."""
    dataset = catalogue.load(config.dataset, config.data_dir)
    generator = np.random.default_rng(config.seed)
    chosen = [generator.choice(len(dataset.x_train), config.batch, replace=False) for _ in range(config.batches)]
    minibatches = dataset.x_train[np.stack(chosen)]
    rows: list[Row] = []
    for depth in config.depths:
        grid = config.grid(depth)
        results = run_sweep(grid, out / f"depth-{depth}", config.data_dir)
        words = untrained_words(grid, dataset.num_classes, minibatches)
        for width, own in zip(config.widths, words, strict=True):
            relus = grid.model.units(width) * depth
            for repeat in range(config.repeats):
                row: Row = {"depth": depth, "width": width, "repeat": repeat, "relus": relus}
                row["score"] = float(np.mean([naswot(minibatch, relus) for minibatch in own[repeat]]))
                row["test_accuracy"] = float(results["test_accuracy"].sel(width=width, repeat=repeat))
                rows.append(row)
    return rows


def correlations(rows: list[Row]) -> list[dict[str, object]]:
    """Rank correlations with trained accuracy, of the score and of the number of ReLUs: of all, and among equals."""
    everything = [("all networks", rows)]
    widths, depths = ({row[name] for row in rows} for name in ("width", "depth"))
    same_width = [("width", [row for row in rows if row["width"] == width]) for width in sorted(widths)]
    same_depth = [("depth", [row for row in rows if row["depth"] == depth]) for depth in sorted(depths)]
    table: list[dict[str, object]] = []
    for name, groups in (
        ("all networks", everything),
        ("of one depth, mean over depths", same_depth),
        ("of one width, mean over widths", same_width),
    ):
        row: dict[str, object] = {"among": name}
        for by in ("score", "relus"):
            for label, statistic in (("spearman", spearmanr), ("kendall", kendalltau)):
                row[f"{label}_{by}"] = float(np.mean([_correlation(statistic, part, by) for _, part in groups]))
        table.append(row)
    return table


def show(table: list[dict[str, object]], title: str) -> Table:
    """The correlations for a terminal."""
    shown = Table(title=title, caption="rank correlation with test accuracy after training; 1: the same order")
    for heading in ("among", "score,\nSpearman", "score,\nKendall", "ReLUs,\nSpearman", "ReLUs,\nKendall"):
        shown.add_column(heading, justify="left" if heading == "among" else "right")
    for row in table:
        among, *numbers = row.values()
        shown.add_row(str(among), *("" if np.isnan(float(str(n))) else f"{float(str(n)):+.2f}" for n in numbers))
    return shown


def draw_figure(rows: list[Row], title: str) -> Figure:
    """Accuracy after training against the score before it, and against the number of ReLUs."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for (colour, marker), depth in zip(COLOURS, sorted({row["depth"] for row in rows}), strict=False):
        part = [row for row in rows if row["depth"] == depth and np.isfinite(row["score"])]
        for axes, by in ((left, "score"), (right, "relus")):
            x, y = [row[by] for row in part], [row["test_accuracy"] for row in part]
            axes.plot(x, y, marker, color=colour, alpha=0.75, label=f"depth {depth:.0f}")
    left.set(xlabel="NASWOT score of the untrained network, log |K|", ylabel="test accuracy after training")
    right.set(xlabel="ReLUs")
    for axes in (left, right):
        axes.grid(alpha=0.25)
    right.legend(frameon=False, loc="lower right")
    singular = sum(not np.isfinite(row["score"]) for row in rows)
    figure.suptitle(title + (f" ({singular} with a score of minus infinity not drawn)" if singular else ""))
    return figure


def body(config: Config) -> None:
    """Train, score, save, draw."""
    name = Path(config.dataset).stem
    out = config.out or Path("runs") / f"naswot-{name}"
    rows = measure(config, out)
    table = correlations(rows)
    title = f"{name}: {len(rows)} networks, scores over {config.batches} minibatches of {config.batch}"
    Console().print(show(table, title))
    save(out, {"naswot": draw_figure(rows, title)}, {"networks": rows, "correlations": table})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


def _correlation(statistic: Callable[..., Any], rows: list[Row], by: str) -> float:
    """A rank correlation of a column with accuracy; NaN where the column is constant, which orders nothing."""
    # As ranks first, so that minus infinity is the lowest and no more.
    a, b = (rankdata([row[name] for row in rows]) for name in (by, "test_accuracy"))
    if len(set(a)) == 1 or len(set(b)) == 1:
        return float("nan")
    return float(statistic(a, b).statistic)


if __name__ == "__main__":
    main()
