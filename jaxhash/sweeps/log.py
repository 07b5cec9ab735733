"""What a sweep does while it runs, as JSON lines beside its results: `log.jsonl`.

Of several processes each writes its own: process 1 `log-1.jsonl`, and so on; what is measured is in `log.jsonl` too.

Every line has `event`, `time` (UTC, from the wall clock, for people), `pid` and `seconds` (monotonic, since this
process began to work on the run; durations and speeds come from it alone). Beyond that:

    start      host, device, processes, tasks, models, epochs, steps_per_epoch
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

from jaxhash.storage import checked_read
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Interrupted, Progress, Report

LOG = "log.jsonl"
SECONDS_BETWEEN_LINES = 1.0


@contextmanager
def opened(
    out: Path,
    config: SweepConfig,
    tasks: list[Task],
    examples: int,
    report: Report,
    *,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Report]:
    """Log what is reported inside, and how it ends.

    Args:
        out: folder of the run.
        config: the grid.
        tasks: all of it, done or not.
        examples: in the training set.
        report: told all that is logged, afterwards.
        process: which one this is, from 0.
        processes: how many work on the sweep together.

    Raises:
        OSError: if the log cannot be written.
    """
    log = Log(_path(out, process))
    try:
        steps = config.train.steps_per_epoch(examples)
        log.write(
            "start",
            host=socket.gethostname(),
            device=jax.devices()[0].device_kind,
            processes=processes,
            tasks=len(tasks),
            models=sum(map(models_of, tasks)),
            epochs=config.train.epochs,
            steps_per_epoch=steps,
        )
        measured = {(e.get("task"), e.get("epoch")) for e in events(out, process) if e["event"] == "measured"}
        yield _logging(log, steps, measured, report)
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


def events(out: Path, process: int = 0) -> list[dict[str, Any]]:
    """What the log of a process says so far, in the order of writing; nothing if there is none.

    Raises:
        OSError: if it is there and cannot be read.
    """
    try:
        lines = checked_read.read(_path(out, process), checked_read.most_bytes_of_json()).splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and {"event", "time", "seconds"} <= event.keys() and _is_time(event["time"]):
                found.append(event)
    return found


def logs(out: Path) -> dict[int, list[dict[str, Any]]]:
    """What the log of each process that ever worked on a run says so far; that of process 0 first.

    Raises:
        OSError: as `events`.
    """
    others = [int(path.stem[4:]) for path in out.glob("log-*.jsonl") if path.stem[4:].isdecimal()]
    return {process: events(out, process) for process in (0, *sorted(others))}


def since_start(out: Path) -> list[list[dict[str, Any]]]:
    """What each of the processes that worked on a run last has logged since it began, the first process first."""
    logged = {process: _since_start(said) for process, said in logs(out).items()}
    processes = logged[0][0].get("processes", 1) if logged[0] else 1
    # A process of an earlier run that had more of them may have left a log too.
    return [said for process, said in logged.items() if process == 0 or _is_below(process, processes)]


def _is_below(process: int, processes: Any) -> bool:
    return isinstance(processes, int) and process < processes


def _is_time(said: Any) -> bool:
    try:
        datetime.fromisoformat(said)
    except (ValueError, TypeError):
        return False
    return True


def _since_start(logged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return logged[max((i for i, e in enumerate(logged) if e["event"] == "start"), default=0) :]


def _path(out: Path, process: int) -> Path:
    return out / (f"log-{process}.jsonl" if process else LOG)


def ago(then: str, now: datetime | None = None) -> str:
    """How long ago a line was written, for people; `now` by default is now."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(then)).total_seconds()
    except (ValueError, TypeError):
        return "at a time that cannot be read"
    # The clock may have been set back since.
    return f"{seconds:,.0f} s ago" if seconds >= 0 else "in the future, by this clock"


def models_of(task: Task) -> int:
    """How many models a task trains."""
    return len(task.repeats) * len(task.block.widths)


def _logging(log: "Log", steps_per_epoch: int, logged: set[tuple[Any, Any]], report: Report) -> Report:
    """`logged`: the tasks and epochs that have a line already; a run that is continued reports again what is done."""
    lock = threading.Lock()
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


class Log:
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
