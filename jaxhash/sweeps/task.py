"""Task of a sweep: resumed where it stands, trained to the next snapshot, evaluated, measured, saved."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxhash.runtime.devices import gather
from jaxhash.storage import checkpoint
from jaxhash.storage.saves import Interrupted, StepSaves
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import OnDevice, orders, repeat_keys, task_labels
from jaxhash.sweeps.measuring import measured
from jaxhash.sweeps.programs import Programs, evaluate, first_calls
from jaxhash.training.mlp import TrainState

SECONDS_BETWEEN_SAVES = 60.0


class Progress(NamedTuple):
    """What a sweep reports while it runs."""

    task: Task
    epoch: int
    """Epochs trained so far."""
    losses: np.ndarray
    """Training loss of each model in the last epoch, [repeats, models]; empty where none was trained."""
    active: np.ndarray
    """Which models still train, [repeats, models]; empty likewise."""
    models: list[dict[str, Any]]
    """What was measured of every model of the task after this epoch: its coordinates and metrics; mostly empty."""
    seconds_left: float | None = None
    """Estimated time until the whole sweep is done, from what it took until now; None where nothing is known yet."""


Callback = Callable[[Progress], None]


class Sweep(NamedTuple):
    """What all tasks of a sweep share."""

    config: SweepConfig
    out: Path
    properties: Properties
    callback: Callback
    stop: threading.Event


def is_done(sweep: Sweep, task: Task) -> bool:
    """Whether every snapshot of a task is saved."""
    return all(folder_of(sweep, task, epoch).exists() for epoch in sweep.config.snapshot_epochs)


def folder_of(sweep: Sweep, task: Task, epoch: int) -> Path:
    """Where the models of a task are saved after an epoch of `config.snapshot_epochs`."""
    return task.folder(sweep.out, epoch if sweep.config.snapshots else None)


def work(sweep: Sweep, task: Task, programs: Programs, data: OnDevice) -> None:
    """Train the models of a task, measure and save them at every snapshot; what is saved already is not done again.

    Raises:
        Interrupted: after `stop` was set; where training stands is saved.
    """
    missing = [epoch for epoch in sweep.config.snapshot_epochs if not _told(sweep, task, epoch)]
    if not missing:
        return
    config, repeats = sweep.config, len(task.repeats)
    # A save is of the run and the task; which epoch it is of, it says itself.
    saves, saved = (
        StepSaves(sweep.out / runs.PARTIAL / task.name, runs.identity(sweep.out, task, None)),
        time.monotonic(),
    )
    keys = repeat_keys(config, task)
    y = task_labels(config, data.host, task)
    resumed = saves.latest(jax.eval_shape(programs.init, keys), at_most=missing[0])
    epoch, state = (0, programs.init(keys)) if resumed is None else resumed
    state, spread_keys, spread_y = data.place.spread((state, keys, y))
    try:
        for snapshot in missing:
            while epoch < snapshot and (active := np.asarray(state.active)).any():
                if sweep.stop.is_set():
                    raise Interrupted
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    saves.save(epoch, gather(state, repeats))
                    saved = time.monotonic()
                order = data.place.spread(orders(config, task, keys, epoch, len(data.x)))
                with first_calls.of((task.block, config.train, repeats, order.shape, data.place)):
                    state, losses = programs.epoch(state, spread_keys, order, data.x, spread_y)
                epoch += 1
                sweep.callback(Progress(task, epoch, np.asarray(losses)[:repeats], active[:repeats], []))
            models = [model | {"epoch": snapshot} for model in _measure(sweep, task, programs, state, data, y)]
            arrays = gather((state.params, state.stats), repeats)
            of = runs.identity(sweep.out, task, snapshot if config.snapshots else None)
            checkpoint.save(folder_of(sweep, task, snapshot), arrays, {"of": of, "models": models})
            sweep.callback(Progress(task, snapshot, np.zeros(0), np.zeros(0), models))
    except Interrupted:
        saves.save(epoch, gather(state, repeats))
        raise
    saves.clear()


def _told(sweep: Sweep, task: Task, epoch: int) -> bool:
    """Whether a snapshot is saved; the callback gets what was measured then."""
    path = folder_of(sweep, task, epoch)
    if not path.exists():
        return False
    models = runs.describe_task(sweep.out, task, path, epoch if sweep.config.snapshots else None)["models"]
    sweep.callback(Progress(task, epoch, np.zeros(0), np.zeros(0), models))
    return True


def _measure(
    sweep: Sweep, task: Task, programs: Programs, state: TrainState, data: OnDevice, y: np.ndarray
) -> list[dict[str, Any]]:
    """The metrics of every model of a task."""
    found = evaluate(task, programs, state, data, y)

    def go_on() -> None:
        if sweep.stop.is_set():
            raise Interrupted

    go_on()
    return measured(sweep.config, found, sweep.properties, go_on)
