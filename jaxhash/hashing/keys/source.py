"""Source of the keys of a fit: a list in memory (`KeyList`) or a file that is read several times (`KeyFile`)."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jaxhash.data.download import DataError
from jaxhash.hashing.keys.lines import BLOCK_BYTES, ByteStream, Flat, file_blocks, name_of
from jaxhash.hashing.keys.tokens import list_blocks


@dataclass(frozen=True)
class KeyList:
    """Keys in memory."""

    keys: Sequence[str | bytes]
    name: str = "keys"

    def state(self) -> tuple[int, ...]:
        """What differs if the keys have changed meanwhile."""
        return ()

    def blocks(self) -> Iterator[Flat]:
        """All keys, block by block.

        Raises:
            TypeError, ValueError: as `tokens.encode_keys`.
        """
        return list_blocks(self.keys)

    def places(self, i: int, j: int) -> str:
        """How an error names keys i and j."""
        return f"keys[{i}] and keys[{j}]"


@dataclass(frozen=True)
class KeyFile:
    """The lines of a file, plain or gzipped (`lines.py`), of which one block is in memory at a time."""

    path: Path
    called: str | None = None
    """What errors call it, by default its path."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return str(self.path) if self.called is None else self.called

    def state(self) -> tuple[int, ...]:
        """What differs if the keys have changed meanwhile; () if there is no such file."""
        if not self.path.exists():
            return ()
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def blocks(self) -> Iterator[Flat]:
        """All lines, block by block.

        Raises:
            DataError: if it cannot be read, or only once; if it begins as gzip and is none, or a line is too long.
        """
        if self.path.exists() and not self.path.is_file():
            raise DataError(f"{self.name}: is no regular file, and keys are read more than once; give it to `spooled`")
        return file_blocks(self.path, self.name)

    def places(self, i: int, j: int) -> str:
        """How an error names keys i and j."""
        return f"lines {i + 1} and {j + 1}"


KeySource = KeyList | KeyFile
"""Keys that can be read several times, in the same order each time."""


@contextmanager
def spooled(stream: ByteStream, callback: Callable[[int], None] = lambda copied: None) -> Iterator[KeyFile]:
    """What a stream holds as a file, which can be read more than once; gone at the end.

    Args:
        stream: read to its end.
        callback: called now and then with how many bytes have been copied.

    Raises:
        OSError: if there is no room for it where temporary files are (`TMPDIR`).
    """
    with tempfile.NamedTemporaryFile(prefix="jaxhash-keys-") as file:
        while block := stream.read(BLOCK_BYTES):
            file.write(block)
            callback(file.tell())
        file.flush()
        yield KeyFile(Path(file.name), name_of(stream))
