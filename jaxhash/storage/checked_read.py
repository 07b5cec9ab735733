"""Files of unknown origin, read without waiting for anyone and without more memory than the caller allows.

A name in a folder from a stranger may lead to a pipe that nobody writes to, to a device without an end, or to a file
larger than the memory.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

MEMORY_SHARE = 0.5
"""Share of the machine's memory that may be taken for what one file or folder claims."""
# "[[[": 88 bytes for each list of one, which has room for four, of 2 bytes with its end.
_MEMORY_PER_BYTE_OF_JSON = 44
_PIECE = 2**20
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """The machine's memory, or what its container may take of it."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int(path.read_text()))
    return min(limits)


def most_bytes_of_json() -> int:
    """So long a text, parsed, fits into `MEMORY_SHARE` of the memory, whatever it says."""
    return int(MEMORY_SHARE * memory_bytes() / _MEMORY_PER_BYTE_OF_JSON)


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file, open to be read from its beginning.

    Raises:
        OSError: if there is none, it cannot be read, or it is a folder, a pipe, a device or a socket.
    """
    # Without O_NONBLOCK, opening a pipe would wait for somebody who writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file, but a pipe, a device or the like", str(path))
        yield file


def read(path: Path, at_most: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `opened`, and if it is longer than `at_most` bytes.
    """
    with opened(path) as file:
        longer, content = os.fstat(file.fileno()).st_size > at_most, bytearray()
        # Piece by piece: `read(n)` takes n bytes of memory before it looks how many there are. A file that grows
        # meanwhile is read no further.
        while not longer and (piece := file.read(_PIECE)):
            content += piece
            longer = len(content) > at_most
        if longer:
            raise OSError(
                errno.EFBIG, f"longer than {at_most:,} bytes, the most that is read of such a file", str(path)
            )
    return bytes(content)


def read_json(path: Path) -> Any:
    """What a JSON file of at most `most_bytes_of_json` says.

    Raises:
        OSError: as `read`.
        ValueError: if it is not JSON, or nested deeper than Python's stack.
    """
    try:
        return json.loads(read(path, most_bytes_of_json()))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a regular file, which is not taken into memory at once.

    Raises:
        OSError: as `opened`.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
