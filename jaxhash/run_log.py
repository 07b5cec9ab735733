"""What a sweep does while it runs, as JSON lines beside its results: `log.jsonl`.

Every line has `event`, `time` (UTC, from the wall clock, for people), `pid` and `seconds` (monotonic, since this
process began to work on the run; durations and speeds come from it alone). Beyond that:

    start      host, device, tasks, models, epochs, steps_per_epoch
    epoch      task, epoch, active (models that still train), loss_mean, loss_min, loss_max (training loss of these,
               nats), model_steps, model_steps_per_second (since start, of all tasks); a line a task and second at most
    measured   task, epoch, models, train_redundancy, test_accuracy (means); once these models are saved
    done, stopped, failed (with error)

The file is only ever added to, a line a write; a line that a killed process left torn is skipped by readers.
"""

import errno
import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxhash import bounded_files
from jaxhash.grid import SweepConfig
from jaxhash.runs import Task
from jaxhash.tasks import Interrupted, Progress, Report

LOG = "log.jsonl"
SECONDS_BETWEEN_LINES = 1.0


@contextmanager
def opened(out: Path, config: SweepConfig, tasks: list[Task], examples: int, report: Report) -> Iterator[Report]:
    """Log what is reported inside, and how it ends.

    Args:
        out: folder of the run.
        config: the grid.
        tasks: all of it, done or not.
        examples: in the training set.
        report: told all that is logged, afterwards.

    Raises:
        OSError: if the log cannot be written.
    """
    log = _Log(out / LOG)
    try:
        steps = config.train.steps_per_epoch(examples)
        log.write(
            "start",
            host=socket.gethostname(),
            device=jax.devices()[0].device_kind,
            tasks=len(tasks),
            models=sum(map(models_of, tasks)),
            epochs=config.train.epochs,
            steps_per_epoch=steps,
        )
        yield _logging(log, steps, report)
        log.write("done")
    except Interrupted:
        log.write("stopped")
        raise
    except BaseException as error:
        # What went wrong first is what is told, on a full disk too.
        with suppress(OSError):
            log.write("failed", error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        log.close()


def events(out: Path) -> list[dict[str, Any]]:
    """What the log of a run says so far, in the order of writing; nothing if there is none.

    Raises:
        OSError: if it is there and cannot be read.
    """
    try:
        lines = bounded_files.read(out / LOG, bounded_files.most_bytes_of_json()).splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and {"event", "time", "seconds"} <= event.keys():
                found.append(event)
    return found


def models_of(task: Task) -> int:
    """How many models a task trains."""
    return len(task.repeats) * len(task.block.widths)


def _logging(log: "_Log", steps_per_epoch: int, report: Report) -> Report:
    lock = threading.Lock()
    # A run that is continued reports again what it finds done.
    logged = {(e.get("task"), e.get("epoch")) for e in events(log.path.parent) if e["event"] == "measured"}
    spoke: dict[str, float] = {}
    model_steps = 0

    def epoch(progress: Progress) -> None:
        nonlocal model_steps
        name, losses = progress.task.name, progress.losses[progress.active]
        model_steps += int(progress.active.sum()) * steps_per_epoch
        seconds = log.seconds()
        if seconds - spoke.get(name, -math.inf) < SECONDS_BETWEEN_LINES:
            return
        spoke[name] = seconds
        log.write(
            "epoch",
            task=name,
            epoch=progress.epoch,
            active=len(losses),
            loss_mean=_finite(losses.mean()),
            loss_min=_finite(losses.min()),
            loss_max=_finite(losses.max()),
            model_steps=model_steps,
            model_steps_per_second=round(model_steps / max(seconds, 1e-9), 1),
        )

    def measured(progress: Progress) -> None:
        at = (progress.task.name, progress.epoch)
        if at in logged:
            return
        logged.add(at)
        means = {
            name: _finite(np.mean([model[name] for model in progress.models if not model["diverged"]] or [math.nan]))
            for name in ("train_redundancy", "test_accuracy")
        }
        log.write("measured", task=at[0], epoch=at[1], models=len(progress.models), **means)

    def both(progress: Progress) -> None:
        with lock:
            if progress.losses.size and progress.active.any():
                epoch(progress)
            if progress.models:
                measured(progress)
        report(progress)

    return both


class _Log:
    """The file, open to be added to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.monotonic()
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def seconds(self) -> float:
        """Since it was opened."""
        return time.monotonic() - self._began

    def write(self, event: str, **more: Any) -> None:
        """Add a line."""
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        line = {"event": event, "time": now, "pid": os.getpid(), "seconds": round(self.seconds(), 3)} | more
        data = b"\n" * self._torn + json.dumps(line, allow_nan=False).encode() + b"\n"
        written = os.write(self._file, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """Nothing can be added any more."""
        os.close(self._file)


def _finite(value: np.floating[Any] | float) -> float | None:
    """A number as JSON knows it."""
    return round(float(value), 6) if math.isfinite(value) else None
