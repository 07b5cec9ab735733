"""The activation hash phase chart: width x training time x sample size in one sweep, cut into three regimes.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490), section 5: under-expressive,
critically-expressive and sufficiently-expressive, which the study draws by eye and this by stated thresholds. What we
measured stands in the README, with the time it took.

    python -m experiments.phase_chart                                   # digits, under a minute on 2 cores
    python -m experiments.phase_chart --dataset mnist                   # MNIST, a repeat, 20 epochs
    python -m experiments.phase_chart --dataset mnist --panels epoch    # the same run, a panel a training time
    python -m experiments.phase_chart --dataset my.npz --sample-sizes 100 1000 --snapshots 0 1 10 --epochs 10

An interrupted run continues with the same command.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import tyro
import xarray as xr
from rich.console import Console
from rich.table import Table

from jaxhash.plots import phase
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.phase import NAMES, SUFFICIENT, Thresholds, chart
from jaxhash.terminal.command import command, option
from jaxhash.terminal.files import save
from jaxhash.terminal.sweeps import KEPT, SweepOptions, run_sweep, title_of
from jaxhash.training.mlp import TrainConfig

SNAPSHOTS = (0, 1, 3, 10, 20, 60)


@dataclass(frozen=True)
class Config(SweepOptions):
    """The regime of codes by width, training time and sample size."""

    thresholds: tyro.conf.OmitArgPrefixes[Thresholds] = field(default_factory=Thresholds)
    panels: Literal["examples", "epoch"] = "examples"
    """What a column of the figure stands for: a sample size, or a training time."""

    def __post_init__(self) -> None:
        if not self.sweep.sample_sizes or not self.sweep.snapshots:
            raise ValueError("the chart is drawn over sample sizes and snapshots; give at least one of both")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    dataset = option(arguments, "dataset", "digits")
    command(Config(default(dataset, option(arguments, "epochs", 20))), __doc__, body, arguments, kept=KEPT)


def body(config: Config) -> None:
    """Train or continue, measure, divide into regimes, draw."""
    out = config.folder("phase_chart")
    found = chart(run_sweep(config.sweep, out, config.data_dir, config.machines), config.thresholds)
    table = Table(title=f"{title_of(config.sweep)}: sufficiently-expressive from which width on")
    table.add_column("examples", justify="right")
    for epoch in found["epoch"].values:
        table.add_column(f"epoch {epoch}", justify="right")
    for size in found["examples"].values:
        row = found["regime"].sel(examples=size)
        table.add_row(f"{size:,}", *(_first_sufficient(row.sel(epoch=epoch)) for epoch in found["epoch"].values))
    console = Console()
    console.print(table)
    counts = [f"{int((found['regime'] == flag).sum())} {name}" for flag, name in NAMES.items()]
    console.print(f"Points of the chart: {', '.join(counts)}.", highlight=False)
    figure = phase.phase_chart(found, config.thresholds, config.panels, title_of(config.sweep))
    points = found.to_dataframe().reset_index()
    results = ("results.nc", "results.csv")
    save(out, {"phase_chart": figure}, {"phase_chart": points}, {"phase_chart": found}, others=results)


def default(dataset: str, epochs: int) -> SweepConfig:
    """Some widths and sample sizes of the study, from its smallest to its largest, or a grid for the digits."""
    snapshots = (*(epoch for epoch in SNAPSHOTS if epoch < epochs), epochs)
    study = presets.STUDIES.get(dataset)
    if study is None:
        train = TrainConfig(epochs=epochs, patience=0)
        sizes, widths = (30, 100, 300, 1000), (3, 5, 10, 20, 40, 80)
        return SweepConfig(dataset, widths, repeats=1, sample_sizes=sizes, snapshots=snapshots, train=train)
    return SweepConfig(
        dataset,
        _some(study.widths, 7),
        repeats=1,
        sample_sizes=_some(study.sample_sizes, 5),
        snapshots=snapshots,
        model=study.model,
        train=dataclasses.replace(study.train, epochs=epochs, patience=0),
    )


def _some(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    """So many of the values, from the first to the last."""
    return tuple(values[round(i * (len(values) - 1) / (count - 1))] for i in range(count))


def _first_sufficient(regimes: xr.DataArray) -> str:
    """The smallest width from which on all wider models are sufficiently expressive."""
    first = "none"
    for regime in regimes[::-1]:
        if regime != SUFFICIENT:
            break
        first = str(regime["width"].item())
    return first


if __name__ == "__main__":
    main()
