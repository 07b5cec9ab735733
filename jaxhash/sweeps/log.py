"""Event log of a sweep, `log.jsonl` beside its results: what is written, and how it is read.

Of several processes each writes its own: process 1 `log-1.jsonl`, and so on; what is measured is in `log.jsonl` too.
Events are

    start      host, device, processes, tasks, models, epochs, steps_per_epoch
    epoch      task, epoch, active (models that still train), loss_mean, loss_min, loss_max (training loss of these,
               nats), model_steps, model_steps_per_second (since start, of all tasks); a line a task and second at most
    measured   task, epoch, models, train_redundancy, test_accuracy (means); once these models are saved
    done, stopped, failed (with error)
"""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxhash.storage import event_log
from jaxhash.storage.event_log import LOG, EventLog, finite
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Callback, Interrupted, Progress
from jaxhash.sweeps.tasks import Task

_COUNTS = ("processes", "steps_per_epoch", "epoch", "active", "model_steps")
_NUMBERS = ("loss_mean", "loss_min", "loss_max", "model_steps_per_second")
_MOST = 2**63 - 1
_TASK = re.compile(r"\w[\w.+-]*")


@contextmanager
def opened(
    out: Path,
    config: SweepConfig,
    tasks: list[Task],
    examples: int,
    callback: Callback,
    *,
    process: int = 0,
    processes: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callback]:
    """Log what the callback given out gets, and how it ends.

    Args:
        out: folder of the run.
        config: the grid.
        tasks: all of it, done or not.
        examples: in the training set.
        callback: called with all that is logged, afterwards.
        process: which one this is, from 0.
        processes: how many work on the sweep together.
        clock: seconds since any moment.

    Raises:
        OSError: if the log cannot be written.
    """
    steps = config.train.steps_per_epoch(examples)
    with event_log.writing(
        _path(out, process),
        Interrupted,
        clock=clock,
        device=jax.devices()[0].device_kind,
        processes=processes,
        tasks=len(tasks),
        models=sum(task.models for task in tasks),
        epochs=config.train.epochs,
        steps_per_epoch=steps,
    ) as log:
        # A run that is continued reports again what is done.
        measured = {(e.get("task"), e.get("epoch")) for e in events(out, process) if e["event"] == "measured"}
        yield _logging(log, lambda task: config.recipe(dict(task.shared)).steps_per_epoch(examples), measured, callback)


def events(out: Path, process: int = 0) -> list[dict[str, Any]]:
    """What the log of a process says so far, in the order of writing; nothing if there is none.

    A line in which a field is not as it was written is left out, like one that was torn.

    Raises:
        OSError: if it is there and cannot be read.
    """
    return [event for event in event_log.read(_path(out, process)) if _is_sound(event)]


def logs(out: Path) -> dict[int, list[dict[str, Any]]]:
    """What the log of each process that ever worked on a run says so far; that of process 0 first.

    Raises:
        OSError: as `events`.
    """
    others = [int(path.stem[4:]) for path in out.glob("log-*.jsonl") if path.stem[4:].isdecimal()]
    return {process: events(out, process) for process in (0, *sorted(others))}


def since_start(out: Path) -> list[list[dict[str, Any]]]:
    """What each of the processes that worked on a run last has logged since it began, the first process first."""
    logged = {
        process: said[max((i for i, e in enumerate(said) if e["event"] == "start"), default=0) :]
        for process, said in logs(out).items()
    }
    processes = logged[0][0].get("processes") if logged[0] else None
    # A process of an earlier run that had more of them may have left a log too.
    count = processes if isinstance(processes, int) else 1
    return [said for process, said in logged.items() if process < max(count, 1)]


def _is_sound(event: dict[str, Any]) -> bool:
    if not all(type(event.get(name, 0)) is int and 0 <= event.get(name, 0) <= _MOST for name in _COUNTS):
        return False
    numbers = [event[name] for name in _NUMBERS if event.get(name) is not None]
    if not all(isinstance(number, int | float) and abs(number) <= _MOST for number in numbers):
        return False
    # A task is a folder's name, and leads nowhere else.
    return isinstance(task := event.get("task", "x"), str) and _TASK.fullmatch(task) is not None


def _path(out: Path, process: int) -> Path:
    return out / (f"log-{process}.jsonl" if process else LOG)


def _logging(
    log: EventLog, steps_per_epoch: Callable[[Task], int], logged: set[tuple[Any, Any]], callback: Callback
) -> Callback:
    """`logged`: the tasks and epochs that have a line already; a run that is continued reports again what is done."""
    lock = threading.Lock()
    model_steps = 0

    def epoch(progress: Progress) -> None:
        nonlocal model_steps
        name, losses = progress.task.name, progress.losses[progress.active]
        model_steps += int(progress.active.sum()) * steps_per_epoch(progress.task)
        if log.due(name):
            log.write(
                "epoch",
                task=name,
                epoch=progress.epoch,
                active=len(losses),
                loss_mean=finite(losses.mean()),
                loss_min=finite(losses.min()),
                loss_max=finite(losses.max()),
                model_steps=model_steps,
                model_steps_per_second=round(model_steps / max(log.seconds(), 1e-9), 1),
            )

    def measured(progress: Progress) -> None:
        at = (progress.task.name, progress.epoch)
        if at in logged:
            return
        logged.add(at)
        means = {
            name: finite(np.mean([model[name] for model in progress.models if not model["diverged"]] or [math.nan]))
            for name in ("train_redundancy", "test_accuracy")
            if name in progress.models[0]
        }
        log.write("measured", task=at[0], epoch=at[1], models=len(progress.models), **means)

    def both(progress: Progress) -> None:
        with lock:
            if progress.losses.size and progress.active.any():
                epoch(progress)
            if progress.models:
                measured(progress)
        callback(progress)

    return both
