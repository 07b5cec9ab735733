"""Display of a sweep in a terminal: a row for each place in the grid, a bar with the time left; else lines of text."""

import itertools
import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from jaxhash.sweeps import task as tasks
from jaxhash.sweeps.cost import Cost
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.progress import Lines, duration, share_bar, time_left

Row = tuple[Any, ...]
SHOWN = {"train_redundancy": "train redundancy", "knn_accuracy": "9-NN", "test_accuracy": "test accuracy"}
MOST_ROWS = 30


class Display:
    """The models as they train: a row for each place in the grid, and a bar; lines where there is no terminal."""

    def __init__(self, config: SweepConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._lock = threading.Lock()
        axes = config.axes
        self._row_axes = [name for name in axes if name not in ("repeat", "examples")]
        rows = list(itertools.product(*(axes[name] for name in self._row_axes)))
        self._epochs: dict[Row, dict[Row, int]] = {row: {} for row in rows}
        self._losses: dict[Row, dict[Row, float]] = {row: {} for row in rows}
        self._measured: dict[Row, list[dict[str, Any]]] = {row: [] for row in rows}
        self._of_row = config.models // len(rows)
        self._trained: dict[str, int] = {}
        self._models_of = config.models
        self._epochs_a_measuring = 0.0
        self._bar = share_bar(console)
        measured = "models measured" if len(config.snapshot_epochs) == 1 else "models x snapshots measured"
        self._models = Progress(TextColumn(measured), MofNCompleteColumn(), console=console)
        self._bar_task = self._bar.add_task("training", total=self._models_of * config.train.epochs, left="")
        self._models_task = self._models.add_task("", total=self._models_of * len(config.snapshot_epochs))
        self._live: Live | None = None
        self._lines = Lines()
        console.print(f"{config.data_name}: preparing, and timing the first steps ...", highlight=False)

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def announce(self, cost: Cost) -> None:
        """Say what the sweep will cost, before it starts."""
        # The bar counts epochs of single models; measuring is worth some of them.
        self._epochs_a_measuring = cost.epochs_a_measuring
        snapshots = len(self._config.snapshot_epochs)
        self._bar.update(
            self._bar_task,
            total=self._models_of * (self._config.train.epochs + snapshots * cost.epochs_a_measuring),
        )
        each = "" if snapshots == 1 else f", each measured {snapshots} times"
        rate = cost.model_steps / cost.seconds
        self._console.print(
            f"To do: {cost.models:,} models{each}; {cost.model_steps:,} model-steps. About {duration(cost.seconds)} "
            f"({rate:,.0f} model-steps/s, measuring and compiling included), less where models stop early.",
            highlight=False,
        )

    def update(self, progress: tasks.Progress) -> None:
        """Take in what the sweep reports; called from its threads."""
        task = progress.task
        with self._lock:
            for i, m in np.argwhere(progress.active) if progress.losses.size else ():
                at = task.coordinates(int(i), int(m))
                row, member = self._row(at), tuple(at.get(name, 0) for name in ("repeat", "examples"))
                self._epochs[row][member] = progress.epoch
                self._losses[row][member] = float(progress.losses[i, m])
            for entry in progress.models:
                self._measured[self._row(entry)].append(entry)
            self._trained[task.name] = task.models * progress.epoch
            measured = sum(map(len, self._measured.values()))
            done = sum(self._trained.values()) + measured * self._epochs_a_measuring
            seconds = progress.seconds_left
            self._bar.update(self._bar_task, completed=done)
            self._bar.update(
                self._bar_task, left=time_left(self._bar.tasks[0].time_remaining if seconds is None else seconds)
            )
            self._models.update(self._models_task, completed=measured)
            if self._live is None and (self._finished(measured) or self._lines.due()):
                self._speak()

    def _row(self, at: Mapping[str, Any]) -> Row:
        return tuple(at[name] for name in self._row_axes)

    def _finished(self, measured: int) -> bool:
        return measured == self._models_of * len(self._config.snapshot_epochs)

    def _speak(self) -> None:
        bar, models = self._bar.tasks[0], self._models.tasks[0]
        left = "" if models.finished else bar.fields["left"]
        self._console.print(f"{bar.percentage:3.0f} %  {models.completed:.0f} of {models.total:.0f} models{left}")

    def _render(self) -> Group:
        config = self._config
        table = Table(title=f"{config.data_name}: {_grid(config)}, side by side")
        for column in (*self._row_axes, "epoch", "training loss", "measured", *SHOWN.values()):
            table.add_column(column.replace("_", " "), justify="right")
        with self._lock:
            # Of a large grid the rows that train, as many as fit.
            rows = [row for row in self._measured if self._losses[row]] if len(self._measured) > MOST_ROWS else None
            for row in list(self._measured if rows is None else rows)[-MOST_ROWS:]:
                losses, measured = list(self._losses[row].values()), self._measured[row]
                # Of several snapshots and sample sizes the last and largest that is there for all to see.
                last = max(((e["epoch"], e.get("examples", 0)) for e in measured), default=None)
                shown = [e for e in measured if (e["epoch"], e.get("examples", 0)) == last]
                table.add_row(
                    *map(str, row),
                    _range(self._epochs[row].values(), self._of_row),
                    f"{np.mean(losses):.4f}" if losses else "",
                    f"{len(measured)} of {self._of_row * len(config.snapshot_epochs)}",
                    *(
                        f"{np.mean([e[name] for e in shown]):.3f}" if shown and name in shown[0] else ""
                        for name in SHOWN
                    ),
                )
        return Group(table, self._models, self._bar)


def _grid(config: SweepConfig) -> str:
    names = {"repeat": "repeats", "width": "widths", "examples": "sample sizes"}
    sizes = {name: len(values) for name, values in config.axes.items()}
    first = f"{sizes.pop('repeat')} repeats"
    return " x ".join([first, *(f"{size} {names.get(name, name.replace('_', ' '))}" for name, size in sizes.items())])


def _range(values: Collection[int], models: int) -> str:
    """Of the epochs of models, of which some may not train yet."""
    low, high = (0 if len(values) < models else min(values)), max(values, default=0)
    return str(low) if low == high else f"{low}-{high}"
