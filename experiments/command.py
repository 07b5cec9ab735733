"""What the experiments' commands share: a sweep run in a terminal, its progress, its errors, its Ctrl-C."""

import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from jaxhash import sweep
from jaxhash.sweep import NUMBERS, SweepConfig

EXIT_INTERRUPTED = 130
# Measuring a model's codes takes about as long as so many of its epochs (MNIST, 2 cores): for the time left only.
EPOCHS_TO_MEASURE = 3


def run_sweep(config: SweepConfig, out: Path, data_dir: Path | None) -> xr.Dataset:
    """`sweep.run` for a person at a terminal: live progress, Ctrl-C that saves, errors in one line.

    Exits with 130 after Ctrl-C and with 1 after an error that the person can mend.
    """
    sweep.one_thread_a_lane()
    console = Console(stderr=True)
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("[bold]Stopping[/] after the epochs under way and saving; Ctrl-C again quits at once.")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with Display(config, console) as display:
            return sweep.run(config, out, data_dir=data_dir, report=display.update, stop=stop)
    except (sweep.Interrupted, KeyboardInterrupt):
        console.print(f"Interrupted. What was finished is in {out}; the same command continues it.")
        sys.exit(EXIT_INTERRUPTED)
    except ValueError as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False)
        sys.exit(1)
    except OSError as error:
        console.print(
            f"[bold red]Error:[/] {error}. What was finished is in {out}; once this is mended (space, permissions), "
            "the same command continues it.",
            highlight=False,
        )
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, before)


class Display:
    """The population as it trains: a row a width, and a bar with the time left; lines where there is no terminal."""

    def __init__(self, config: SweepConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._lock = threading.Lock()
        self._epochs = {width: dict.fromkeys(range(config.repeats), 0) for width in config.widths}
        self._losses: dict[int, dict[int, float]] = {width: {} for width in config.widths}
        self._numbers: dict[int, list[dict[str, float]]] = {width: [] for width in config.widths}
        self._done: dict[str, float] = {}
        models = len(config.widths) * config.repeats
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._models = Progress(TextColumn("models measured"), MofNCompleteColumn(), console=console)
        self._bar_task = self._bar.add_task("training", total=models * (config.train.epochs + EPOCHS_TO_MEASURE))
        self._models_task = self._models.add_task("", total=models)
        self._live: Live | None = None
        self._spoke = time.monotonic()

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: sweep.Progress) -> None:
        """Take in what the sweep reports; called from its threads."""
        task = progress.task
        with self._lock:
            for i, repeat in enumerate(task.repeats):
                for m, width in enumerate(task.block.widths):
                    if progress.losses.size and progress.active[i, m]:
                        self._epochs[width][repeat] = progress.epoch
                        self._losses[width][repeat] = float(progress.losses[i, m])
            for (_, width), numbers in progress.numbers.items():
                self._numbers[width].append(numbers)
            models = len(task.repeats) * len(task.block.widths)
            measured = EPOCHS_TO_MEASURE if progress.numbers else 0
            self._done[task.name] = models * (progress.epoch + measured)
            self._bar.update(self._bar_task, completed=sum(self._done.values()))
            self._models.update(self._models_task, completed=sum(map(len, self._numbers.values())))
            if self._live is None and (progress.numbers or time.monotonic() - self._spoke > 20):
                self._speak()

    def _speak(self) -> None:
        self._spoke = time.monotonic()
        bar, models = self._bar.tasks[0], self._models.tasks[0]
        left = f", about {bar.time_remaining:,.0f} s left" if bar.time_remaining else ""
        self._console.print(f"{bar.percentage:3.0f} %  {models.completed:.0f} of {models.total:.0f} models{left}")

    def _render(self) -> Group:
        config = self._config
        table = Table(title=f"{config.dataset}: {config.repeats} repeats of {len(config.widths)} widths, side by side")
        for column in ("width", "epoch", "training loss", "measured", "train redundancy", "9-NN", "test accuracy"):
            table.add_column(column, justify="right")
        with self._lock:
            for width in sorted(config.widths):
                losses, numbers = list(self._losses[width].values()), self._numbers[width]
                table.add_row(
                    str(width),
                    _range(self._epochs[width].values()),
                    f"{np.mean(losses):.4f}" if losses else "",
                    f"{len(numbers)} of {config.repeats}",
                    *(
                        f"{np.mean([n[name] for n in numbers]):.3f}" if numbers else ""
                        for name in ("train_redundancy", "knn_accuracy", "test_accuracy")
                    ),
                )
        return Group(table, self._models, self._bar)


def summary(results: xr.Dataset, title: str) -> Table:
    """Means over repeats against width."""
    table = Table(
        title=title,
        caption="means over repeats (acc.: accuracy of the network, red.: redundancy ratio of the codes, the others: "
        "accuracy on the codes); results.csv has every model",
    )
    # Short, so that the table fits a terminal of 80 columns.
    columns = {name: name.removesuffix("_accuracy").replace("_", "\n") for name in NUMBERS if not name.endswith("loss")}
    columns |= {"train_accuracy": "train\nacc.", "test_accuracy": "test\nacc.", "knn_accuracy": "9-NN"}
    columns = {
        name: heading.replace("redundancy", "red.").replace("kmeans", "K-Means") for name, heading in columns.items()
    }
    table.add_column("width", justify="right")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    means = results.mean("repeat")
    for width in results["width"].values:
        table.add_row(str(width), *(f"{float(means[name].sel(width=width)):.3f}" for name in columns))
    return table


def _range(values: object) -> str:
    low, high = min(values), max(values)  # type: ignore[call-overload]
    return str(low) if low == high else f"{low}-{high}"
