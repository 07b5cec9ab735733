"""Lock file of a folder: one process at a time works in a run, and others are told which one.

    runs/x/.lock          locked (flock, by `filelock`) while a process works there; the kernel unlocks it when that
                          process ends, however it ends
    runs/x/.lock.json     the process, its host and its start; believed only while the folder is locked

On a file system without flock (some network file systems) `filelock`'s soft lock takes its place, the file
`.lock.soft`: the lock of a process that has ended is broken on its own host; on another host somebody deletes the file.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import filelock

from jaxhash.storage import checked_read

LOCK, NOTE, SOFT = ".lock", ".lock.json", ".lock.soft"
FILES = {LOCK, NOTE, SOFT}
"""What a lock may leave in a folder."""
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system answers that has no locks."""
_MOST_NOTED = 4096
# `holder` takes the lock for a moment to see whether it is free: that must not send a run away.
_SECONDS_OF_A_LOOK = 0.5


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
        OSError: if the lock is no file that can be written to (a link, which is not followed, or a pipe).
    """
    with _taken(folder):
        note = folder / NOTE
        # A link, which may lead to a file of somebody else's, is replaced and not followed.
        note.unlink(missing_ok=True)
        note.write_text(json.dumps(Holder(os.getpid(), socket.gethostname(), _now())._asdict()))
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


def holder(folder: Path) -> Holder | None:
    """The process that works in a folder now, if there is one. The folder is only read.

    Raises:
        OSError: if the lock is no file that can be read.
    """
    if os.path.lexists(folder / SOFT) and not _is_of_dead(folder / SOFT):
        return _noted(folder) or UNKNOWN
    try:
        with checked_read.opened(folder / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _noted(folder) or UNKNOWN
    except OSError as error:
        if not isinstance(error, FileNotFoundError) and error.errno not in WITHOUT_LOCKS:
            raise
    return None


@contextmanager
def _taken(folder: Path) -> Iterator[None]:
    mend = "wait for it, stop it, or give another --out"
    path = folder / LOCK
    if path.exists() and not path.is_file():  # a pipe could be locked, and would tell nobody so
        raise OSError(errno.EINVAL, "not a regular file, but a folder, a pipe, a device or the like", str(path))
    # Its own soft fallback would keep another process's `.lock` for a marker.
    lock: filelock.BaseFileLock = filelock.UnixFileLock(path, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=_SECONDS_OF_A_LOOK)
        except OSError as error:
            if isinstance(error, filelock.Timeout) or error.errno not in WITHOUT_LOCKS:
                raise
            mend += f". Its file system has no locks: if that process has ended, delete {folder / SOFT}"
            lock = filelock.SoftFileLock(folder / SOFT)
            lock.acquire(timeout=_SECONDS_OF_A_LOOK)
    except filelock.Timeout:
        raise InUse(f"{folder} is in use by another process: {_noted(folder) or UNKNOWN}; {mend}") from None
    try:
        yield
    finally:
        lock.release()


def _noted(folder: Path) -> Holder | None:
    """What the holder noted; None if there is no note, or half of one."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        read = json.loads(checked_read.read(folder / NOTE, _MOST_NOTED))
        return Holder(int(read["pid"]), str(read["host"]), str(read["since"]))
    return None


def _is_of_dead(soft: Path) -> bool:
    """Whether a soft lock (lines of its process and host) is one of this host whose process has ended."""
    try:
        pid, host, *_ = checked_read.read(soft, _MOST_NOTED).decode().splitlines()
        here = socket.gethostname()
        # A container's name ends with the number of its PID namespace.
        if host != here and not (host.startswith(here) and host.endswith(f"{os.stat('/proc/self/ns/pid').st_ino:x}")):
            return False
        os.kill(max(int(pid), 1), 0)  # 0 and below would be groups of processes
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
