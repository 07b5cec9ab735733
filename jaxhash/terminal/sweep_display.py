"""Display of a sweep in a terminal: a row a width, and a bar with the time left; lines where there is no terminal."""

import itertools
import threading
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
            self._bar.update(self._bar_task, completed=done, left=time_left(progress.seconds_left))
            self._models.update(self._models_task, completed=measured)
            if self._live is None and (self._finished(measured) or self._lines.due()):
                self._speak()

    def _finished(self, measured: int) -> bool:
        return measured == self._models_of * len(self._config.snapshot_epochs)

    def _speak(self) -> None:
        bar, models = self._bar.tasks[0], self._models.tasks[0]
        left = "" if models.finished else bar.fields["left"]
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


def _grid(config: SweepConfig) -> str:
    parts = [f"{config.repeats} repeats of {len(config.widths)} widths"]
    parts += [f"{len(config.sample_sizes)} sample sizes"] if config.sample_sizes else []
    return ", ".join(parts)


def _range(values: object) -> str:
    low, high = min(values), max(values)  # type: ignore[call-overload]
    return str(low) if low == high else f"{low}-{high}"
