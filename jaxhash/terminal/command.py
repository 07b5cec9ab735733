"""What the experiments' commands share: options, a sweep run in a terminal, its progress, its errors, its Ctrl-C."""

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tyro
import xarray as xr
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from jaxhash.runtime import signals
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.engine import METRICS, SweepConfig
from jaxhash.terminal.machines import ONE_PROCESS, Machines

EXIT_INTERRUPTED = 130

T = TypeVar("T")


def option(arguments: list[str] | None, name: str, default: T) -> T:
    """The value of an option that the defaults of others depend on, read before them."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument(f"--{name}", dest="value", default=default, type=type(default))
    try:
        return first.parse_known_args(arguments)[0].value
    except argparse.ArgumentError:
        return default  # the command itself says what is wrong with it


def parse(default: T, description: str | None, arguments: list[str] | None) -> T:
    """The configuration that the command line asks for; exits with one line if it contradicts itself."""
    try:
        return tyro.cli(
            tyro.conf.OmitArgPrefixes[type(default)],  # type: ignore[misc]
            description=description,
            default=default,
            args=arguments,
        )
    except ValueError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


def conclude(results: xr.Dataset, title: str, picture: Path) -> None:
    """Print the table of a sweep and where everything stands."""
    console = Console()
    console.print(summary(results, title))
    if diverged := int(results["diverged"].sum()):
        console.print(f"[bold yellow]{diverged} models diverged[/] (loss not finite); they are left out of the means.")
    out = picture.parent
    console.print(f"Figure: {picture}\nNumbers: {out / 'results.nc'}, {out / 'results.csv'}", soft_wrap=True)


def title_of(config: SweepConfig) -> str:
    """What a figure of a sweep shows, in short."""
    depth = config.model.depth
    layers = f"{depth} hidden layer{'s' if depth > 1 else ''}"
    return f"{Path(config.data_name).stem}, {layers}, {config.repeats} repeat{'s' if config.repeats > 1 else ''}"


def run_sweep(config: SweepConfig, out: Path, data_dir: Path | None, machines: Machines = ONE_PROCESS) -> xr.Dataset:
    """`sweep.run` for a person at a terminal: live progress, Ctrl-C that saves, errors in one line.

    Of several processes the first returns, and goes on with the results; the others end here.

    Exits as `interruptible` does.
    """
    sweep.one_thread_a_worker()
    console = Console(stderr=True)
    with interruptible(out, console) as stop, machines.joined() as group:
        if group is not None and group.index > 0:
            console.print(
                f"Process {group.index} of {group.count} helps process 0, which shows the progress of its own."
            )
            sweep.run(config, out, data_dir=data_dir, mesh=machines.mesh, group=group, stop=stop)
            console.print(f"Process {group.index} is done; process 0 has the results.")
            sys.exit(0)
        with Display(config, console) as display:
            return sweep.run(
                config,
                out,
                data_dir=data_dir,
                mesh=machines.mesh,
                group=group,
                announce=display.announce,
                callback=display.update,
                stop=stop,
            )


@contextmanager
def interruptible(out: Path, console: Console) -> Iterator[threading.Event]:
    """What runs inside stops when it sees the event set, which Ctrl-C and SIGTERM do; a second one ends it at once.

    Exits with 130 after Ctrl-C, with 143 after SIGTERM, and with 1, and one line on the console, after an error that
    the person can mend.
    """

    def say() -> None:
        console.print("[bold]Stopping[/] after the epochs under way and saving; Ctrl-C again quits at once.")

    try:
        with signals.requests(say) as request:
            try:
                yield request.stop
            except (sweep.Interrupted, KeyboardInterrupt):
                console.print(f"Interrupted. What was finished is in {out}; the same command continues it.")
                sys.exit(request.status)
    except ValueError as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        mend = "" if isinstance(error, ConnectionError) else "once this is mended (space, permissions), "
        console.print(
            f"[bold red]Error:[/] {error}. What was finished is in {out}; {mend}the same command continues it.",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(1)


def progress_bar(console: Console) -> Progress:
    """A bar with the share done, the time it took and the time left; nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
    )


class Display:
    """The population as it trains: a row a width, and a bar with the time left; lines where there is no terminal."""

    def __init__(self, config: SweepConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._lock = threading.Lock()
        members = list(itertools.product(range(config.repeats), config.sample_sizes or (None,)))
        self._epochs = {width: dict.fromkeys(members, 0) for width in config.widths}
        self._losses: dict[int, dict[tuple[int, int | None], float]] = {width: {} for width in config.widths}
        self._measured: dict[int, list[dict[str, Any]]] = {width: [] for width in config.widths}
        self._trained: dict[str, int] = {}
        self._models_of = len(config.widths) * len(members)
        self._epochs_a_measuring = 0.0
        self._bar = progress_bar(console)
        measured = "models measured" if len(config.snapshot_epochs) == 1 else "models x snapshots measured"
        self._models = Progress(TextColumn(measured), MofNCompleteColumn(), console=console)
        self._bar_task = self._bar.add_task("training", total=self._models_of * config.train.epochs)
        self._models_task = self._models.add_task("", total=self._models_of * len(config.snapshot_epochs))
        self._live: Live | None = None
        self._spoke = time.monotonic()
        console.print(f"{config.data_name}: preparing, and timing the first steps ...", highlight=False)

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def announce(self, cost: sweep.Cost) -> None:
        """Say what the sweep will cost, before it starts."""
        # The bar counts epochs of single models; measuring is worth some of them.
        self._epochs_a_measuring = cost.epochs_a_measuring
        moments = len(self._config.snapshot_epochs)
        self._bar.update(
            self._bar_task,
            total=self._models_of * (self._config.train.epochs + moments * cost.epochs_a_measuring),
        )
        each = "" if moments == 1 else f", each measured {moments} times"
        rate = cost.model_steps / cost.seconds
        self._console.print(
            f"To do: {cost.models:,} models{each}; {cost.model_steps:,} model-steps. About {_duration(cost.seconds)} "
            f"({rate:,.0f} model-steps/s, measuring and compiling included), less where models stop early.",
            highlight=False,
        )

    def update(self, progress: sweep.Progress) -> None:
        """Take in what the sweep reports; called from its threads."""
        task = progress.task
        with self._lock:
            sizes = task.examples or (None,) * len(task.repeats)
            for i, member in enumerate(zip(task.repeats, sizes, strict=True)):
                for m, width in enumerate(task.block.widths):
                    if progress.losses.size and progress.active[i, m]:
                        self._epochs[width][member] = progress.epoch
                        self._losses[width][member] = float(progress.losses[i, m])
            for entry in progress.models:
                self._measured[entry["width"]].append(entry)
            self._trained[task.name] = len(task.repeats) * len(task.block.widths) * progress.epoch
            measured = sum(map(len, self._measured.values()))
            done = sum(self._trained.values()) + measured * self._epochs_a_measuring
            self._bar.update(self._bar_task, completed=done)
            self._models.update(self._models_task, completed=measured)
            spoken = time.monotonic() - self._spoke
            if self._live is None and (spoken > 20 or (progress.models and spoken > 1) or self._finished(measured)):
                self._speak()

    def _finished(self, measured: int) -> bool:
        return measured == self._models_of * len(self._config.snapshot_epochs)

    def _speak(self) -> None:
        self._spoke = time.monotonic()
        bar, models = self._bar.tasks[0], self._models.tasks[0]
        left = f", about {bar.time_remaining:,.0f} s left" if bar.time_remaining else ""
        self._console.print(f"{bar.percentage:3.0f} %  {models.completed:.0f} of {models.total:.0f} models{left}")

    def _render(self) -> Group:
        config = self._config
        table = Table(title=f"{config.data_name}: {_grid(config)}, side by side")
        for column in ("width", "epoch", "training loss", "measured", "train redundancy", "9-NN", "test accuracy"):
            table.add_column(column, justify="right")
        with self._lock:
            for width in sorted(config.widths):
                losses, measured = list(self._losses[width].values()), self._measured[width]
                # Of several snapshots and sample sizes the last and largest that is there for all to see.
                last = max(((e["epoch"], e.get("examples", 0)) for e in measured), default=None)
                shown = [e for e in measured if (e["epoch"], e.get("examples", 0)) == last]
                table.add_row(
                    str(width),
                    _range(self._epochs[width].values()),
                    f"{np.mean(losses):.4f}" if losses else "",
                    f"{len(measured)} of {len(self._epochs[width]) * len(config.snapshot_epochs)}",
                    *(
                        f"{np.mean([e[name] for e in shown]):.3f}" if shown else ""
                        for name in ("train_redundancy", "knn_accuracy", "test_accuracy")
                    ),
                )
        return Group(table, self._models, self._bar)


def summary(results: xr.Dataset, title: str) -> Table:
    """Means over repeats, a row each width (and sample size, and snapshot)."""
    table = Table(
        title=title,
        caption="means over repeats (acc.: accuracy of the network, red.: redundancy ratio of the codes, the others: "
        "accuracy on the codes); results.csv has every model",
    )
    # Short, so that the table fits a terminal of 80 columns.
    columns = {name: name.removesuffix("_accuracy").replace("_", "\n") for name in METRICS if not name.endswith("loss")}
    columns |= {"train_accuracy": "train\nacc.", "test_accuracy": "test\nacc.", "knn_accuracy": "9-NN"}
    columns = {
        name: heading.replace("redundancy", "red.").replace("kmeans", "K-Means") for name, heading in columns.items()
    }
    rows = [str(name) for name in results.dims if name != "repeat"]
    if len(rows) > 1:
        table.box, table.pad_edge = None, False
    for name in rows:
        table.add_column(name, justify="right")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    means = results.mean("repeat")
    for values in itertools.product(*(results[name].values for name in rows)):
        row = means.sel(dict(zip(rows, values, strict=True)))
        table.add_row(*(f"{value:,}" for value in values), *(f"{float(row[name]):.3f}" for name in columns))
    return table


def _grid(config: SweepConfig) -> str:
    parts = [f"{config.repeats} repeats of {len(config.widths)} widths"]
    parts += [f"{len(config.sample_sizes)} sample sizes"] if config.sample_sizes else []
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _range(values: object) -> str:
    low, high = min(values), max(values)  # type: ignore[call-overload]
    return str(low) if low == high else f"{low}-{high}"
