"""Neural codes against depth, at equal total width, and layer by layer.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490) use one hidden layer on MNIST, five on
CIFAR-10, and all layers as one code. Here the same number of hidden units is divided over 1 to 5 layers, and each
property is measured on the code of all layers, of every single layer, and of the first k. What we measured stands in
the README.

    python -m experiments.depth                                           # digits
    python -m experiments.depth --dataset mnist --repeats 3 --epochs 20   # the recipe of jaxhash/sweeps/presets.py
    python -m experiments.depth --depths 1 2 4 --widths 64 --out runs/mine

An interrupted run continues with the same command.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from jaxhash.plots import compare
from jaxhash.sweeps import layers as layer_properties
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.command import command, interruptible, option
from jaxhash.terminal.files import save
from jaxhash.terminal.progress import progress
from jaxhash.terminal.sweeps import KEPT, SweepOptions, run_sweep, say_diverged
from jaxhash.training.mlp import TrainConfig

SHOWN = ("train_redundancy", "knn_accuracy", "test_kmeans_accuracy")
"""Rows of the figure."""
COLUMNS = ("train_redundancy", "test_redundancy", "knn_accuracy", "logistic_accuracy", "test_kmeans_accuracy")


@dataclass(frozen=True)
class Config(SweepOptions):
    """Properties of the codes of all layers, of single layers and of the first k, against depth.

    --widths are total hidden units; each has to divide by every depth. Of the other options --depth alone has no
    effect.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Numbers of hidden layers."""

    def __post_init__(self) -> None:
        if len(set(self.depths)) != len(self.depths) or min(self.depths, default=0) < 1:
            raise ValueError(
                f"depths={self.depths} is no list of different numbers of layers; give 1 or more, each once"
            )
        least = math.lcm(*self.depths)
        for width in self.sweep.widths:
            if width % least:
                raise ValueError(
                    f"width={width} does not divide into {self.depths} layers of equal size; give multiples of {least}"
                )
        if self.sweep.sample_sizes or self.sweep.snapshots:
            raise ValueError("sample_sizes, snapshots have no place in this figure; use experiments.phase_chart")

    @property
    def grid(self) -> SweepConfig:
        """The sweep, with depth as an axis."""
        return dataclasses.replace(self.sweep, grid={**self.sweep.grid, "depth": tuple(sorted(self.depths))})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    dataset = option(arguments, "dataset", "digits")
    command(default(dataset), __doc__, body, arguments, kept=KEPT)


def body(config: Config) -> None:
    """Train or continue a sweep for each depth, measure its layers, draw."""
    out, sweep = config.folder("depth"), config.grid
    whole = run_sweep(sweep, out, config.data_dir, config.machines)
    console = Console(stderr=True)
    with interruptible(out, console) as stop, progress("measuring the layers of models", sweep.models, stop) as told:
        layers = layer_properties.measured(
            sweep, out, out / "layers", config.data_dir, stop, callback=lambda done, _: told(done)
        )

    of = f"{Path(config.sweep.data_name).stem}, {config.sweep.repeats} repeats, {config.sweep.train.epochs} epochs"
    width = min(config.sweep.widths)
    Console().print(table(whole, layers, width))
    say_diverged(whole)
    figure = compare.depths(whole, layers, width, SHOWN, f"{of}: equal total width")
    save(out, {"depth": figure}, others=("results.nc", "results.csv", "layers/results.nc", "layers/results.csv"))


def default(dataset: str) -> Config:
    """The study's recipe, or one for the embedded digits."""
    study = presets.STUDIES.get(dataset)
    if study is None:
        return Config(SweepConfig(dataset, widths=(60, 120), repeats=3, train=TrainConfig(epochs=60)))
    return Config(dataclasses.replace(presets.capacity(dataset), widths=(60, 120), repeats=3))


def table(whole: xr.Dataset, layers: xr.Dataset, width: int) -> Table:
    """Means over repeats of models of one width: all layers, single ones, and the first k."""
    made = Table(
        title=f"{width} hidden units in all",
        caption="means over repeats; red.: redundancy ratio of the codes, the others: accuracy on the codes",
        box=SIMPLE,
    )
    made.add_column("depth", justify="right")
    made.add_column("code")
    for heading in ("train\nred.", "test\nred.", "9-NN", "logistic", "test\nK-Means"):
        made.add_column(heading, justify="right")

    def add(depth: int, code: str, numbers: xr.Dataset) -> None:
        made.add_row(str(depth), code, *(f"{float(numbers[name]):.3f}" for name in COLUMNS))

    means, parts = whole.sel(width=width).mean("repeat"), layers.sel(width=width).mean("repeat")
    for depth in map(int, whole["depth"].values):
        add(depth, "all layers", means.sel(depth=depth))
        for layer in range(1, depth + 1) if depth > 1 else ():
            add(depth, f"layer {layer}", parts.sel(depth=depth, part=layer_properties.SINGLE, layer=layer))
        for layer in range(2, depth):
            add(depth, f"first {layer}", parts.sel(depth=depth, part=layer_properties.FIRST, layer=layer))
        made.add_section()
    return made


if __name__ == "__main__":
    main()
