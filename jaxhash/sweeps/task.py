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
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import OnDevice, orders, repeat_keys, task_labels
from jaxhash.sweeps.measuring import measured
from jaxhash.sweeps.programs import Work
from jaxhash.sweeps.tasks import Task

SECONDS_BETWEEN_SAVES = 60.0


class Progress(NamedTuple):
    """What a sweep reports while it runs."""

    task: Task
    epoch: int
    """Epochs trained so far."""
    losses: np.ndarray
    """Training loss of each model in the last epoch, [members, columns]; empty where none was trained."""
    active: np.ndarray
    """Which models still train, [members, columns]; empty likewise."""
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


def work(sweep: Sweep, task: Task, programs: Any, data: OnDevice) -> None:
    """Train the models of a task, measure and save them at every snapshot; what is saved already is not done again.

    Raises:
        Interrupted: after `stop` was set; where training stands is saved.
    """
    missing = [epoch for epoch in sweep.config.snapshot_epochs if not _told(sweep, task, epoch)]
    if not missing:
        return
    config, members = sweep.config, len(task.members)
    # A save is of the run and the task; which epoch it is of, it says itself.
    saves, saved = (
        StepSaves(sweep.out / runs.PARTIAL / task.name, runs.identity(sweep.out, task, None)),
        time.monotonic(),
    )
    keys, hyper = repeat_keys(config, task), task.hyper()
    y = task_labels(config, data.host, task)
    resumed = saves.latest(jax.eval_shape(lambda: programs.start(keys, hyper, data)), at_most=missing[0])
    epoch, state = (0, programs.start(keys, hyper, data)) if resumed is None else resumed
    state, of_members = data.place.spread((state, Work(keys, y, hyper)))

    def go_on() -> None:
        if sweep.stop.is_set():
            raise Interrupted

    try:
        for snapshot in missing:
            while epoch < snapshot and (active := table(state.active)).any():
                go_on()
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    saves.save(epoch, gather(state, members))
                    saved = time.monotonic()
                order = data.place.spread(orders(config, task, keys, epoch, len(data.x)))
                state, losses = programs.train(state, of_members, order, data, go_on)
                epoch += 1
                sweep.callback(Progress(task, epoch, table(losses)[:members], active[:members], []))
            models: list[dict[str, Any]] = []
            for found in programs.looked_at(task, state, data, y, sweep.out / runs.PARTIAL):
                go_on()
                models += measured(config, found, sweep.properties, go_on)
            models = [model | {"epoch": snapshot} for model in models]
            arrays = gather(programs.trained(state), members)
            of = runs.identity(sweep.out, task, snapshot if config.snapshots else None)
            checkpoint.save(folder_of(sweep, task, snapshot), arrays, {"of": of, "models": models})
            sweep.callback(Progress(task, snapshot, np.zeros(0), np.zeros(0), models))
    except Interrupted:
        saves.save(epoch, gather(state, members))
        raise
    saves.clear()


def table(of_models: Any) -> np.ndarray:
    """Numbers of a task's models as [members, columns], wherever they are and if there is one column only."""
    found = np.asarray(of_models)
    return found[:, None] if found.ndim == 1 else found


def _told(sweep: Sweep, task: Task, epoch: int) -> bool:
    """Whether a snapshot is saved; the callback gets what was measured then."""
    path = folder_of(sweep, task, epoch)
    if not path.exists():
        return False
    models = runs.describe_task(sweep.out, task, path, epoch if sweep.config.snapshots else None)["models"]
    sweep.callback(Progress(task, epoch, np.zeros(0), np.zeros(0), models))
    return True
