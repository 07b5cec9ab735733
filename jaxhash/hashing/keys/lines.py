"""Lines of a file as keys, read a block at a time: a file may be larger than memory.

A key is a byte string, and a file of keys holds one a line:

    line ends       `\\n` or `\\r\\n`, not part of the key; any other `\\r` is. The last line may end without one.
    empty line      the empty key, so that line i of a file and of what is made from it always belong together
    any other byte  kept as it is: NULs, bytes that are not UTF-8, a byte-order mark, spaces at either end
    gzip            seen by its content: a file that begins with 1f 8b 08 is unpacked
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from jaxhash.data.download import DataError

BLOCK_BYTES = 2**22
"""Read at a time, or less where less has arrived."""
MAX_LINE_BYTES = 2**26
"""Longest key in a file: a file without line ends is no file of keys, and a gzipped one may hide terabytes of them."""

_LINE_END, _CARRIAGE_RETURN = 10, 13
_GZIP_MAGIC = b"\x1f\x8b\x08"


@runtime_checkable
class ByteStream(Protocol):
    """What is read to its end: a file open with mode "rb", a pipe, `sys.stdin.buffer`, `io.BytesIO`."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at its end."""


class Flat(NamedTuple):
    """Keys one after the other in one array, on the host; what stands between them is no key's."""

    text: UInt8[np.ndarray, " total"]
    starts: Int64[np.ndarray, " n"]
    """Where each key begins in `text`."""
    lengths: Int32[np.ndarray, " n"]
    """Bytes in each key."""


def key_of(flat: Flat, i: int) -> bytes:
    """Key i."""
    return flat.text[flat.starts[i] : flat.starts[i] + flat.lengths[i]].tobytes()


def keys_of(flat: Flat) -> list[bytes]:
    """All the keys."""
    text = flat.text.tobytes()
    return [text[a : a + n] for a, n in zip(flat.starts.tolist(), flat.lengths.tolist(), strict=True)]


def blocks(stream: ByteStream, name: str) -> Iterator[Flat]:
    """The lines of a stream, plain or gzipped, a block as soon as it has arrived.

    Args:
        stream: read from where it stands to its end, not closed.
        name: what errors call it.

    Raises:
        DataError: if it begins as gzip and is none, or a line is longer than `MAX_LINE_BYTES`.
        OSError: if it cannot be read.
        TypeError: if it is open as text.
    """
    begun: list[bytes] = []  # pieces of a line whose end has not come yet
    held = 0
    for block in _unpacked(stream, name):
        line_end = block.rfind(b"\n") + 1
        first = held + (block.find(b"\n") if line_end else len(block))
        if first > MAX_LINE_BYTES:
            raise DataError(
                f"{name}: a line is longer than {MAX_LINE_BYTES:,} bytes, the limit; give a file of one key a line"
            )
        if line_end:
            yield _flat(b"".join([*begun, block[:line_end]]))
            begun, held = [], 0
        begun.append(block[line_end:])
        held += len(begun[-1])
    if held:
        last = b"".join(begun)
        yield Flat(np.frombuffer(last, np.uint8), np.zeros(1, np.int64), np.array([len(last)], np.int32))


def file_blocks(path: Path, name: str) -> Iterator[Flat]:
    """The lines of a file, plain or gzipped, block by block.

    Args:
        path: of the file.
        name: what errors call it.

    Raises:
        DataError: if it cannot be read, or as `blocks`.
    """
    try:
        with path.open("rb") as stream:
            yield from blocks(stream, name)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; put it there, or give another file of keys") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); make it a file that you may read") from error


def name_of(stream: ByteStream) -> str:
    """What errors call a stream."""
    return str(getattr(stream, "name", "the stream"))


def _unpacked(stream: ByteStream, name: str) -> Iterator[bytes]:
    """The bytes of a stream, plain or gzipped, as they arrive.

    Raises:
        DataError, OSError, TypeError: as `blocks`.
    """
    if isinstance(stream, io.TextIOBase):
        raise TypeError(f"{name} is open as text; open it with mode 'rb', or give its .buffer")
    source: Any = stream
    if isinstance(stream, io.BufferedReader):
        begin = stream.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)]
    else:
        begin = b""
        while len(begin) < len(_GZIP_MAGIC) and (more := stream.read(len(_GZIP_MAGIC) - len(begin))):
            begin += more
        source = io.BufferedReader(_Rejoined(begin, stream))
    if begin == _GZIP_MAGIC:
        source = gzip.GzipFile(fileobj=source)
    try:
        while block := source.read1(BLOCK_BYTES):
            yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{name}: begins as a gzip file and is not a whole one ({error}); get it again, or give it unpacked"
        ) from error


class _Rejoined(io.RawIOBase):
    """A stream with what was read of it put back in front."""

    def __init__(self, begin: bytes, rest: ByteStream) -> None:
        self._begin, self._rest = begin, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._begin[: len(buffer)] if self._begin else self._rest.read(len(buffer))
        self._begin = self._begin[len(read) :]
        buffer[: len(read)] = read
        return len(read)


def _flat(text: bytes) -> Flat:
    """Lines, each with its end."""
    array = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(array == _LINE_END)
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    lengths = (ends - starts).astype(np.int32)
    lengths -= (lengths > 0) & (array[ends - 1] == _CARRIAGE_RETURN)
    return Flat(array, starts, lengths)
