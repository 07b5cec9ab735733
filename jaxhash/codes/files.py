"""Neural codes in files: packed words too many for memory, read and written a few rows at a time.

    <name>.npy     uint32 [n, words], NumPy's own format: `numpy.load(..., mmap_mode="r")` opens it too
    <name>.json    {"num_bits": ..., "layers": [{"name": ..., "bits": ...}, ...]}

The bits of each layer begin with a new word; what a layer leaves of its last word is 0, which no Hamming distance and
no count of distinct codes can see. The .json is written last: a file that has one is whole.
"""

import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt32

from jaxhash.codes.code import WORD
from jaxhash.storage import atomic, checked_read, checkpoint
from jaxhash.storage.checkpoint import CheckpointError

BYTES_AT_A_TIME = 2**24
"""Rows are worked on in chunks of about so many bytes of words. From 32 MB on, glibc gives every array new pages, which
cost more than the work: fingerprints took 0.25 instead of 0.09 s for 1,000,000 codes of 1,024 bits."""


class Layer(NamedTuple):
    """A layer of a network, as a code has it."""

    name: str
    bits: int

    @property
    def words(self) -> int:
        """Words that its bits take."""
        return -(-self.bits // WORD)


class CodeRows(ABC):
    """Codes that are looked at a few rows at a time, wherever they lie."""

    n: int

    @property
    @abstractmethod
    def num_words(self) -> int:
        """Words of a code."""

    @abstractmethod
    def rows(self, which: slice | Int[np.ndarray, " rows"]) -> UInt32[np.ndarray, "rows words"]:
        """Some codes, in memory."""

    @property
    def rows_at_a_time(self) -> int:
        """Rows of about `BYTES_AT_A_TIME`, at most n."""
        return min(max(BYTES_AT_A_TIME // (4 * self.num_words), 1), self.n)

    def chunks(self) -> Iterator[tuple[int, UInt32[np.ndarray, "rows words"]]]:
        """All codes in order, `rows_at_a_time` at a time but for the last; each with the index of its first row."""
        for start in range(0, self.n, max(self.rows_at_a_time, 1)):
            yield start, self.rows(slice(start, start + self.rows_at_a_time))


class CodeArray(CodeRows):
    """Codes in memory, for the functions that take codes in files."""

    def __init__(self, words: UInt32[np.ndarray, "n words"]) -> None:
        self.words = np.asarray(words)
        self.n = len(words)

    @property
    def num_words(self) -> int:
        """Words of a code."""
        return self.words.shape[1]

    def rows(self, which: slice | Int[np.ndarray, " rows"]) -> UInt32[np.ndarray, "rows words"]:
        """Some codes; a slice is not copied."""
        return self.words[which]


@dataclass(frozen=True)
class CodeFile(CodeRows):
    """The codes of n inputs in a file, or those of some of its layers. Holds no memory and no open file."""

    path: Path
    """Of the .npy."""
    n: int
    layers: tuple[Layer, ...]
    first_word: int = 0
    """Column of the file at which the first of these layers begins."""

    @property
    def num_bits(self) -> int:
        """Bits of a code."""
        return sum(layer.bits for layer in self.layers)

    @property
    def num_words(self) -> int:
        """Words of a code."""
        return sum(layer.words for layer in self.layers)

    def layer(self, name: str) -> "CodeFile":
        """The codes of one layer.

        Raises:
            ValueError: if there is no such layer.
        """
        names = [layer.name for layer in self.layers]
        if name not in names:
            raise ValueError(f"{self.path} has no layer {name!r}; its layers: {', '.join(names)}")
        at = names.index(name)
        before = sum(layer.words for layer in self.layers[:at])
        return CodeFile(self.path, self.n, self.layers[at : at + 1], self.first_word + before)

    def rows(self, which: slice | Int[np.ndarray, " rows"]) -> UInt32[np.ndarray, "rows words"]:
        """Some codes, copied into memory."""
        # Mapped anew each time: pages that stay mapped would count as memory of the process.
        words = np.load(self.path, mmap_mode="r")
        return np.array(words[which, self.first_word : self.first_word + self.num_words])


Append = Callable[[UInt32[np.ndarray, "rows words"]], None]


@contextmanager
def writing(path: Path, n: int, layers: Sequence[Layer]) -> Iterator[Append]:
    """Write the codes of n inputs, rows in order, as many at a time as one likes.

    They are written under a temporary name and renamed at the end: codes exist whole, or not at all. Codes that
    stand there are replaced.

    Args:
        path: of the .npy; the .json is beside it.
        n: rows that will be written.
        layers: names and numbers of bits, in the order of the words.

    Raises:
        ValueError: if another number of rows or words was written.
        OSError: if they cannot be written (a full disk, no permission); nothing is left behind.
    """
    layers = tuple(layers)
    num_words = sum(layer.words for layer in layers)
    written = 0
    made = atomic.make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as file:
            header = {"descr": "<u4", "fortran_order": False, "shape": (n, num_words)}
            np.lib.format.write_array_header_1_0(file, header)

            def append(words: UInt32[np.ndarray, "rows words"]) -> None:
                nonlocal written
                if words.shape[1] != num_words:
                    raise ValueError(f"{path}: rows of {words.shape[1]} words given, the layers have {num_words}")
                written += len(words)
                file.write(np.ascontiguousarray(words, "<u4").data)

            yield append
        if written != n:
            raise ValueError(f"{path}: {written} rows were written, {n} were announced")
        _header_of(path).unlink(missing_ok=True)
        atomic.rename(draft, path, made=made)
        description = {"num_bits": sum(layer.bits for layer in layers), "layers": [x._asdict() for x in layers]}
        checkpoint.write_text(_header_of(path), json.dumps(description, indent=1))
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | Path) -> CodeFile:
    """The codes in a file. Only headers are read: what they say is held against the size of the file.

    Args:
        path: of the .npy.

    Raises:
        CheckpointError: if they are missing, not whole, or do not fit their description.
    """
    path = Path(path)
    mend = "write the codes again"
    try:
        description = checked_read.read_json(_header_of(path))
        layers = tuple(Layer(str(layer["name"]), int(layer["bits"])) for layer in description["layers"])
        num_bits = description["num_bits"]
        with checked_read.opened(path) as file:
            if (version := np.lib.format.read_magic(file)) != (1, 0):
                raise ValueError(f"its .npy format is {version}, not (1, 0)")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            bytes_here = os.fstat(file.fileno()).st_size - file.tell()
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename}: no codes here, or not whole; {mend}") from None
    except Exception as error:  # a damaged header of Python literals can fail in any way
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:240]
        raise CheckpointError(f"{path}: cannot be read ({reason}); {mend}") from None
    codes = CodeFile(path, shape[0] if shape else 0, layers)
    sound = all(layer.bits >= 1 for layer in layers) and codes.num_bits == num_bits and layers
    sound = sound and all(type(size) is int and size >= 0 for size in shape)
    if not sound or by_columns or dtype != np.dtype("<u4") or shape != (codes.n, codes.num_words):
        raise CheckpointError(
            f"{path}: holds {dtype} {list(shape)}, but its description says "
            f"{num_bits} bits in {codes.num_words} uint32 words a row; {mend}"
        )
    if bytes_here != codes.n * codes.num_words * 4:
        raise CheckpointError(
            f"{path}: {bytes_here:,} bytes of codes, but {codes.n:,} rows of {codes.num_words} words "
            f"take {codes.n * codes.num_words * 4:,}; {mend}"
        )
    return codes


def _header_of(path: Path) -> Path:
    return path.with_suffix(".json")
