"""What a reader of files from strangers is to the fuzzer, and what its first files are made with."""

import io
import zipfile
from collections.abc import Callable
from typing import NamedTuple


class Reader(NamedTuple):
    """What is fuzzed. The first byte of an input chooses its kind, the rest is a file of that kind."""

    seeds: list[bytes]
    """A whole file of each kind, without that byte. Some kinds are packed before they are read: behind a checksum a
    fuzzer would not get far."""
    read: Callable[[int, bytes], object]
    """(kind, file): returns, whatever the file says."""
    text: bool = False
    """Whether the files are JSON, or JSON lines: then values in them are replaced too, and not only bytes."""


def zipped(parts: dict[str, bytes]) -> bytes:
    """An archive as NumPy writes it: not compressed."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in parts.items():
            archive.writestr(name if "." in name else f"{name}.npy", content)
    return file.getvalue()
