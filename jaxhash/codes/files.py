"""Neural codes in files: packed words too many for memory, written and read a few rows at a time.

    <name>.npy     uint32 [n, words], NumPy's own format: `numpy.load(..., mmap_mode="r")` opens it too
    <name>.json    {"num_bits": ..., "layers": [{"name", "start", "size", "shape", "source"}, ...], "skipped": [...]}

The words are those of `Code.words`, bit for bit. The .json is written last: a file that has one is whole.
"""

import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from jaxhash.codes.code import WORD, Code, Layer, Skipped, bit_range, check_range, layers_within, range_of
from jaxhash.storage import atomic, checked_read, checkpoint
from jaxhash.storage.checkpoint import CheckpointError

BYTES_AT_A_TIME = 2**24
"""Rows are worked on in chunks of about so many bytes of words. From 32 MB on, glibc gives every array new pages, which
cost more than the work: fingerprints took 0.25 instead of 0.09 s for 1,000,000 codes of 1,024 bits."""


@dataclass(frozen=True)
class CodeFile:
    """The codes of n inputs in a file, or some of their bits. Holds no memory and no open file."""

    path: Path
    """Of the .npy."""
    n: int
    num_bits: int
    layers: tuple[Layer, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    first_bit: int = 0
    """Of the codes in the file."""

    @property
    def num_words(self) -> int:
        """Words of a code."""
        return -(-self.num_bits // WORD)

    def bits(self, start: int, stop: int) -> "CodeFile":
        """The codes of bits start ... stop - 1 alone; the layers within that range are kept.

        Raises:
            ValueError: if the codes have no such bits.
        """
        check_range(start, stop, self.num_bits)
        layers = layers_within(self.layers, start, stop)
        return CodeFile(self.path, self.n, stop - start, layers, self.skipped, self.first_bit + start)

    def layer(self, name: str) -> "CodeFile":
        """The codes of one layer.

        Raises:
            ValueError: if there is no such layer.
        """
        return self.bits(*range_of(self.layers, name))

    def up_to(self, name: str) -> "CodeFile":
        """The codes of the layers from the first to this one.

        Raises:
            ValueError: if there is no such layer.
        """
        return self.bits(0, range_of(self.layers, name)[1])

    def rows(self, which: slice | Int[np.ndarray, " rows"]) -> UInt32[np.ndarray, "rows words"]:
        """The words of some codes, copied into memory."""
        # Mapped anew each time: pages that stay mapped would count as memory of the process.
        words = np.load(self.path, mmap_mode="r")
        first, shift = divmod(self.first_bit, WORD)
        last = -(-(self.first_bit + self.num_bits) // WORD)
        found = np.array(words[which, first:last])
        if not shift and last == words.shape[1]:
            return found
        return np.asarray(bit_range(found, shift, shift + self.num_bits))

    def read(self) -> Code:
        """All of them as a `Code` in memory."""
        return Code(jnp.asarray(self.rows(slice(None))), self.num_bits, self.layers, self.skipped)


Codes = Code | CodeFile
"""What the questions of this package are put to."""


def rows_at_a_time(codes: Codes) -> int:
    """Rows of about `BYTES_AT_A_TIME`, at most n."""
    return min(max(BYTES_AT_A_TIME // (4 * max(codes.num_words, 1)), 1), codes.n)


def chunks(codes: Codes) -> Iterator[tuple[int, UInt32[np.ndarray, "rows words"]]]:
    """All codes in order, `rows_at_a_time` at a time but for the last; each with the index of its first row."""
    size = max(rows_at_a_time(codes), 1)
    for start in range(0, codes.n, size):
        yield start, codes.rows(slice(start, start + size))


def check_alike(a: Codes, b: Codes) -> None:
    """Refuse codes that cannot be compared.

    Raises:
        ValueError: if they are not lists of codes, or differ in their number of bits.
    """
    _ = a.n, b.n  # which refuses what is no list
    if a.num_bits != b.num_bits:
        raise ValueError(f"codes of {a.num_bits} and of {b.num_bits} bits cannot be compared; give codes of one model")


def check_labels(codes: Codes, labels: Any, which: str) -> None:
    """Refuse labels that are not one for each code.

    Raises:
        ValueError: if there are more or fewer.
    """
    if np.shape(labels) != (codes.n,):
        raise ValueError(f"labels of shape {np.shape(labels)} for {codes.n} {which} codes; give one each")


def write(
    path: str | Path,
    encode: Callable[[Array], tuple[Any, Code]],
    x: np.ndarray,
    *,
    batch_size: int = 128,
    callback: Callable[[int], None] | None = None,
) -> tuple[CodeFile, Any]:
    """Encode examples batch by batch into a file of codes.

    Args:
        path: of the .npy; the .json is beside it. Codes that stand there are replaced.
        encode: a traceable function of a batch, such as `jaxhash.encode_with_output(model)` returns.
        x: examples [n, ...].
        batch_size: examples at a time; the last batch is filled up with zeros, so that one program serves all.
        callback: called after every batch with the number of examples encoded so far.

    Returns:
        The codes, and the outputs of all examples (a pytree of NumPy arrays [n, ...]).

    Memory: the activations and words of one batch, and the outputs.

    Raises:
        ValueError: if there are no examples, or batch_size is less than 1.
        OSError: if the codes cannot be written (a full disk, no permission); nothing is left behind.
    """
    n, path = len(x), Path(path)
    if n < 1 or batch_size < 1:
        raise ValueError(f"{n} examples in batches of {batch_size}: give at least 1 of both")
    traced: list[Code] = []

    @jax.jit
    def run(batch: Array) -> tuple[Any, Array]:
        output, code = encode(batch)
        traced.append(code)
        return output, code.words

    jax.eval_shape(run, jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype))
    outputs = []
    with writing(path, n, traced[0].num_bits, traced[0].layers, traced[0].skipped) as append:
        for start in range(0, n, batch_size):
            some = x[start : start + batch_size]
            full = np.pad(some, [(0, batch_size - len(some))] + [(0, 0)] * (x.ndim - 1))
            output, words = jax.device_get(run(jnp.asarray(full)))
            append(words[: len(some)])
            outputs.append(jax.tree.map(lambda a: a[: len(some)], output))  # noqa: B023  (mapped at once)
            if callback:
                callback(start + len(some))
    return load(path), jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


Append = Callable[[UInt32[np.ndarray, "rows words"]], None]


@contextmanager
def writing(
    path: Path, n: int, num_bits: int, layers: Sequence[Layer] = (), skipped: Sequence[Skipped] = ()
) -> Iterator[Append]:
    """Write the packed codes of n inputs, rows in order, as many at a time as one likes.

    They are written under a temporary name and renamed at the end: codes exist whole, or not at all. Codes that
    stand there are replaced.

    Args:
        path: of the .npy; the .json is beside it.
        n: rows that will be written.
        num_bits: of a code.
        layers: where the bits come from, if that is known.
        skipped: activations that gave no bits.

    Raises:
        ValueError: if another number of rows or words was written, or the layers are not those of so many bits.
        OSError: if they cannot be written (a full disk, no permission); nothing is left behind.
    """
    if not _fit(layers, num_bits):
        raise ValueError(f"{path}: the layers have {sum(layer.size for layer in layers)} bits, the codes {num_bits}")
    num_words = -(-num_bits // WORD)
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
                    raise ValueError(
                        f"{path}: rows of {words.shape[1]} words given, codes of {num_bits} bits have {num_words}"
                    )
                written += len(words)
                file.write(np.ascontiguousarray(words, "<u4").data)

            yield append
        if written != n:
            raise ValueError(f"{path}: {written} rows were written, {n} were announced")
        _header_of(path).unlink(missing_ok=True)
        atomic.rename(draft, path, made=made)
        description = description_of(_no_words(num_bits, layers, skipped))
        checkpoint.write_text(_header_of(path), json.dumps(description, indent=1))
    finally:
        draft.unlink(missing_ok=True)


def description_of(code: Code) -> dict[str, Any]:
    """What a code is, apart from its words, for JSON."""
    return {
        "num_bits": code.num_bits,
        "layers": [layer._asdict() for layer in code.layers],
        "skipped": [one._asdict() for one in code.skipped],
    }


def _no_words(num_bits: int, layers: Sequence[Layer], skipped: Sequence[Skipped]) -> Code:
    return Code(jnp.zeros((0, 0), jnp.uint32), num_bits, tuple(layers), tuple(skipped))


def described(said: Any) -> Code:
    """What `description_of` told, as a code of no words; numbers are taken as they stand.

    Raises:
        KeyError, TypeError: if it is something else.
    """
    layers = tuple(
        Layer(str(one["name"]), one["start"], one["size"], tuple(one["shape"]), str(one["source"]))
        for one in said["layers"]
    )
    skipped = tuple(Skipped(str(one["name"]), str(one["reason"])) for one in said["skipped"])
    return _no_words(said["num_bits"], layers, skipped)


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
        code = described(description)
        num_bits, layers, skipped = code.num_bits, code.layers, code.skipped
        sound = type(num_bits) is int and num_bits >= 0 and _fit(layers, num_bits)
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
    sound = sound and len(shape) == 2 and all(type(size) is int and size >= 0 for size in shape)
    if not sound or by_columns or dtype != np.dtype("<u4") or shape[1] != -(-num_bits // WORD):
        raise CheckpointError(
            f"{path}: holds {dtype} {list(shape)}, but its description says {str(num_bits)[:40]} bits, 32 in a "
            f"uint32, of {len(layers)} layers that follow one another; {mend}"
        )
    if bytes_here != shape[0] * shape[1] * 4:
        raise CheckpointError(
            f"{path}: {bytes_here:,} bytes of codes, but {shape[0]:,} rows of {shape[1]} words "
            f"take {shape[0] * shape[1] * 4:,}; {mend}"
        )
    return CodeFile(path, shape[0], num_bits, layers, skipped)


def _fit(layers: Sequence[Layer], num_bits: int) -> bool:
    """The layers follow one another, have as many bits as their shapes, and all of the code's (or none is noted)."""
    end = 0
    for layer in layers:
        sizes = (layer.start, layer.size, *layer.shape)
        if not all(type(size) is int and size >= 0 for size in sizes):
            return False
        if layer.start != end or layer.size != math.prod(layer.shape):
            return False
        end += layer.size
    return not layers or end == num_bits


def _header_of(path: Path) -> Path:
    return path.with_suffix(".json")
