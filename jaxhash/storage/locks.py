"""Whose turn it is in the folder of a run: one process at a time, let go when it ends, however it ends.

    runs/x/.lock    locked (flock) while a process works there; holds the process, its host and its start as JSON

The kernel drops the lock with the process, after kill -9 too, and what the file says is believed only while it is
locked. On a file system without locks (ENOLCK, ENOTSUP, ENOSYS: some network file systems) the file alone has to do:
its process is looked for on this host; one of another host counts as alive until somebody deletes the file.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from jaxhash.storage import checked_read

LOCK = ".lock"
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system answers that has no locks."""
_MOST_SAID = 4096
"""Bytes that are read of what a holder wrote."""
# `holder` takes the lock for a moment to see whether it is free: that must not send a run away.
SECONDS_OF_A_LOOK = 0.5


class InUse(ValueError):
    """Another process works in the folder."""


class Holder(NamedTuple):
    """The process that works in a folder."""

    pid: int
    host: str
    since: str
    """When it began there, ISO 8601, UTC."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


UNKNOWN = Holder(0, "a host that did not say", "a time that is not known")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Work alone in an existing folder.

    Raises:
        InUse: if another process does; nothing was changed.
        OSError: if the lock is no file that can be written to.
    """
    with _taken(folder) as file:
        file.truncate(0)
        file.write(json.dumps(_myself()._asdict()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def holder(folder: Path) -> Holder | None:
    """The process that works in a folder now, if there is one.

    Raises:
        OSError: if the lock is no file that can be read.
    """
    try:
        with checked_read.opened(folder / LOCK) as file:
            said = _said(file)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return said or UNKNOWN
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise
                return said if said is not None and _may_live(said) else None
            return None
    except FileNotFoundError:
        return None


@contextmanager
def _taken(folder: Path) -> Iterator[IO[str]]:
    # A link from a stranger's folder might lead to a file of one's own, which would be emptied; a pipe has no lock.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        with open(folder / LOCK, "a+", opener=lambda name, mode: os.open(name, mode | flags, 0o666)) as file:
            _take(file, folder)
            # Whoever had it before may have deleted it: then it keeps nobody else out.
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def _take(file: IO[str], folder: Path) -> None:
    mend = "wait for it, stop it, or give another --out"
    gives_up = time.monotonic() + SECONDS_OF_A_LOOK
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > gives_up:
                raise InUse(f"{folder} is in use by another process: {_said(file) or UNKNOWN}; {mend}") from None
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            said = _said(file)
            if said is not None and _may_live(said):
                raise InUse(
                    f"{folder} is in use by another process: {said}; {mend}. Its file system has no locks: if that "
                    f"process has ended, delete {folder / LOCK}"
                ) from None
            return


def _said(file: IO[str] | IO[bytes]) -> Holder | None:
    """What the holder wrote; None if it is empty or half written."""
    file.seek(0)
    try:
        read = json.loads(file.read(_MOST_SAID))
        return Holder(int(read["pid"]), str(read["host"]), str(read["since"]))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _may_live(process: Holder) -> bool:
    if process.host != socket.gethostname():
        return True
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _myself() -> Holder:
    return Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
