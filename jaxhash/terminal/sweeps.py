"""Sweeps run by a command: progress shown, Ctrl-C that saves, errors in one line, and the table at the end."""

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import tyro
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.runtime.processes import Group
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import variants
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.results import STATE
from jaxhash.sweeps.task import Progress
from jaxhash.terminal.command import interruptible
from jaxhash.terminal.files import save
from jaxhash.terminal.machines import ONE_PROCESS, Machines
from jaxhash.terminal.progress import Lines, share_bar, time_left
from jaxhash.terminal.sweep_display import Display

KEPT = "What was trained is saved; the same command continues it."
"""What a command that trains a sweep says when it is interrupted before or after that."""


@dataclass(frozen=True)
class SweepOptions:
    """Options of every command that trains a sweep."""

    sweep: tyro.conf.OmitArgPrefixes[SweepConfig] = field(default_factory=SweepConfig)
    machines: tyro.conf.OmitArgPrefixes[Machines] = field(default_factory=Machines)
    out: Path | None = None
    """Folder of the run (default: runs/<name of the figure>-<dataset>). A run that stands there is continued."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""

    def folder(self, figure: str) -> Path:
        """Folder of the run."""
        return self.out or Path("runs") / f"{figure}-{Path(self.sweep.data_name).stem}"


def figure_of_sweep(options: SweepOptions, name: str, draw: Callable[[xr.Dataset, str], Figure]) -> None:
    """Run a sweep or continue it, print its table, save its figure.

    Args:
        options: what to train, and where.
        name: of the figure and its file.
        draw: makes it of the results and a title.
    """
    out, title = options.folder(name), title_of(options.sweep)
    results = run_sweep(options.sweep, out, options.data_dir, options.machines)
    Console().print(summary(results, title))
    say_diverged(results)
    save(out, {name: draw(results, title)}, others=("results.nc", "results.csv"))


def run_sweep(
    config: SweepConfig,
    out: Path,
    data_dir: Path | None,
    machines: Machines = ONE_PROCESS,
    *,
    properties: Properties | None = None,
) -> xr.Dataset:
    """`sweep.run` for a person at a terminal; exits as `interruptible` does.

    Of several processes the first returns, and goes on with the results; the others end here.
    """
    machines.prepare()
    console = Console(stderr=True)
    with interruptible(out, console) as stop, machines.joined() as group:
        shared: dict[str, Any] = {"data_dir": data_dir, "mesh": machines.mesh, "group": group, "stop": stop}
        shared["properties"] = properties
        if group is not None and group.index > 0:
            _help(group, {out: config}, console, shared)
        with Display(config, console) as display:
            return sweep.run(config, out, announce=display.announce, callback=display.update, **shared)


def run_variants(
    configs: Mapping[str, SweepConfig],
    out: Path,
    data_dir: Path | None,
    machines: Machines = ONE_PROCESS,
    *,
    dimension: str = "variant",
    coordinate: Sequence[Any] | None = None,
    properties: Properties | None = None,
) -> xr.Dataset:
    """`variants.run` for a person at a terminal, with one progress bar over all of them; else as `run_sweep`."""
    machines.prepare()
    console = Console(stderr=True)
    models = {name: config.models for name, config in configs.items()}
    epochs = {name: models[name] * config.train.epochs for name, config in configs.items()}
    console.print(
        f"To do: {len(configs)} variants, {sum(models.values()):,} models, {sum(epochs.values()):,} epochs of single "
        "models, less what is finished and where models stop early.",
        highlight=False,
    )
    bar, line = share_bar(console), Lines()
    everything = bar.add_task("preparing", total=sum(epochs.values()), left="")
    with interruptible(out, console) as stop, machines.joined() as group, bar:
        shared: dict[str, Any] = {"data_dir": data_dir, "mesh": machines.mesh, "group": group, "stop": stop}
        shared["properties"] = properties
        if group is not None and group.index > 0:
            _help(group, {out / name: config for name, config in configs.items()}, console, shared)

        def run_one(config: SweepConfig, folder: Path) -> xr.Dataset:
            number = list(configs).index(folder.name)
            before = sum(list(epochs.values())[:number])
            trained: dict[str, int] = {}

            def callback(progress: Progress) -> None:
                trained[progress.task.name] = progress.task.models * progress.epoch
                bar.update(everything, completed=before + sum(trained.values()))
                left = time_left(bar.tasks[0].time_remaining)
                bar.update(everything, left=left)
                if not console.is_terminal and line.due():
                    console.print(f"{bar.tasks[0].percentage:3.0f} %{left}", highlight=False)

            name = f"{folder.name} ({number + 1} of {len(configs)})"
            bar.update(everything, description=name)
            if not console.is_terminal:
                console.print(name, highlight=False)
            return sweep.run(config, folder, callback=callback, **shared)

        return variants.run(configs, out, dimension=dimension, coordinate=coordinate, run_sweep=run_one)


def title_of(config: SweepConfig) -> str:
    """What a figure of a sweep shows, in short."""
    depth = config.model.depth
    layers = f"{depth} hidden layer{'s' if depth > 1 else ''}" if config.network is None else config.network.name
    return f"{Path(config.data_name).stem}, {layers}, {config.repeats} repeat{'s' if config.repeats > 1 else ''}"


def summary(results: xr.Dataset, title: str) -> Table:
    """Means over repeats, a row each width (and sample size, and snapshot)."""
    table = Table(
        title=title,
        caption="means over repeats (acc.: accuracy of the network, red.: redundancy ratio of the codes, the others: "
        "accuracy on the codes); results.csv has every model",
    )
    # Short, so that the table fits a terminal of 80 columns.
    names = [str(name) for name in results.data_vars if name not in STATE and not str(name).endswith("loss")]
    names = names if any(name.endswith("accuracy") for name in names) else [*names, "train_loss", "test_loss"]
    columns = {name: name.removesuffix("_accuracy").replace("_", "\n") for name in names}
    short = {"train_accuracy": "train\nacc.", "test_accuracy": "test\nacc.", "knn_accuracy": "9-NN"}
    columns |= {name: text for name, text in short.items() if name in columns}
    columns = {
        name: heading.replace("redundancy", "red.").replace("kmeans", "K-Means") for name, heading in columns.items()
    }
    every = [str(name) for name in results.dims if name != "repeat"]
    rows = [name for name in every if results.sizes[name] > 1] or every[:1]
    results = results.isel({name: 0 for name in every if name not in rows})
    if len(rows) > 1:
        table.box, table.pad_edge = None, False
    for name in rows:
        table.add_column(name, justify="right")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    means = results.mean("repeat")
    for values in itertools.product(*(results[name].values for name in rows)):
        row = means.sel(dict(zip(rows, values, strict=True)))
        shown = (value if isinstance(value, str) else f"{value:,}" for value in values)
        table.add_row(*shown, *(f"{float(row[name]):.3f}" for name in columns))
    return table


def say_diverged(results: xr.Dataset) -> None:
    """Say how many models are left out of the means, if any."""
    if diverged := int(results["diverged"].sum()):
        Console().print(
            f"[bold yellow]{diverged} models diverged[/] (loss not finite); they are left out of the means."
        )


def _help(group: Group, configs: Mapping[Path, SweepConfig], console: Console, shared: dict[str, Any]) -> NoReturn:
    """Work on sweeps that another process leads, then end."""
    console.print(f"Process {group.index} of {group.count} helps process 0, which shows the progress of its own.")
    for folder, config in configs.items():
        sweep.run(config, folder, **shared)
    console.print(f"Process {group.index} is done; process 0 has the results.")
    sys.exit(0)
