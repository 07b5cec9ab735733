"""Event log of a run as JSON lines: written line by line while it works, read while and after.

Every line has `event`, `time` (UTC, from the wall clock, for people), `pid` and `seconds` (monotonic, since the log was
opened; durations and speeds come from it alone). The file is only ever added to, a line a write; a line that a killed
process left torn is skipped by readers.
"""

import errno
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxhash.storage import checked_read

LOG = "log.jsonl"
SECONDS_BETWEEN_LINES = 1.0
"""Of one kind, see `EventLog.due`."""


@contextmanager
def writing(
    path: Path, stopped: type[BaseException], *, clock: Callable[[], float] = time.monotonic, **start: Any
) -> Iterator["EventLog"]:
    """Log what happens inside: `start` (host and what is given), and `done`, `stopped` or `failed` (error).

    Args:
        path: of the log; it is continued if it exists.
        stopped: raised inside when work was asked to stop.
        clock: seconds since any moment.

    Raises:
        OSError: if the log cannot be written.
    """
    log = EventLog(path, clock)
    try:
        log.write("start", host=socket.gethostname(), **start)
        yield log
        log.write("done")
    except stopped:
        log.write("stopped")
        raise
    except BaseException as error:
        # The first error is the one to raise, on a full disk too.
        with suppress(OSError):
            log.write("failed", error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        log.close()


class EventLog:
    """A log, open to be added to; close it. See `writing`."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock, self._began = clock, clock()
        self._spoke: dict[str, float] = {}
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def seconds(self) -> float:
        """Since it was opened."""
        return self._clock() - self._began

    def due(self, kind: str) -> bool:
        """Whether a line of a kind may be written, a second or more after the one before."""
        seconds = self.seconds()
        if seconds - self._spoke.get(kind, -math.inf) < SECONDS_BETWEEN_LINES:
            return False
        self._spoke[kind] = seconds
        return True

    def write(self, event: str, **more: Any) -> None:
        """Add a line; numbers in it are finite (see `finite`).

        Raises:
            OSError: if it cannot be written whole.
        """
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


def finite(value: Any) -> float | None:
    """A number as JSON knows it, rounded: None for NaN and infinities."""
    return round(float(value), 6) if math.isfinite(value) else None


def read(path: Path) -> list[dict[str, Any]]:
    """What a log says so far, in the order of writing; nothing if there is none.

    Raises:
        OSError: if it is there and cannot be read.
    """
    try:
        lines = checked_read.read(path, checked_read.most_bytes_of_json()).splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and {"event", "time", "seconds"} <= event.keys() and _is_time(event["time"]):
                found.append(event)
    return found


def ago(then: str, now: datetime | None = None) -> str:
    """How long ago a line was written, for people; `now` by default is now."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(then)).total_seconds()
    except (ValueError, TypeError):
        return "at a time that cannot be read"
    # The clock may have been set back since.
    return f"{seconds:,.0f} s ago" if seconds >= 0 else "in the future, by this clock"


def _is_time(said: Any) -> bool:
    try:
        datetime.fromisoformat(said)
    except (ValueError, TypeError):
        return False
    return True
