"""Formats of image files: IDX (the MNIST family), CIFAR-10's binary and python batches, SVHN's .mat files.

The parsers do not trust what a file says of itself: no code of a file is run, and no more memory is taken than a file
of its size can fill (of a python batch only once its digest was checked: it is a pickle).
"""

import gzip
import io
import math
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jaxhash.data import mat5
from jaxhash.data.download import DataError

CIFAR_SHAPE = (3, 32, 32)
"""Channel, height, width: the order in which CIFAR files store a picture; SVHN's pictures are as large."""
CIFAR_FEATURES = math.prod(CIFAR_SHAPE)

# Deflate cannot pack more than 1,032 bytes into one (zlib's technical notes): a larger claim is false.
_MOST_BYTES_PER_PACKED_BYTE = 1032


def parse_idx(content: bytes, path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """The array in a gzipped IDX file of unsigned bytes, uint8 with `axes` axes.

    Format: https://yann.lecun.com/exdb/mnist: two zero bytes, type 8, number of axes; a big-endian uint32 for each
    axis; the bytes, last axis fastest.

    Args:
        content: the gzipped file.
        path: where it is from, for error messages.
        axes: 3 for images [n, height, width], 1 for labels [n].

    Raises:
        DataError: if it is not exactly such a file.
    """
    mend = "get the file again from its publisher"
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            magic = stream.read(4)
            if magic != bytes((0, 0, 8, axes)):
                raise DataError(
                    f"{path}: begins with {magic.hex() or 'nothing'}, but an IDX file of bytes with {axes} axes "
                    f"begins with 000008{axes:02x}; {mend}"
                )
            header = stream.read(4 * axes)
            if len(header) < 4 * axes:
                raise DataError(f"{path}: ends inside its header; {mend}")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
            expected = math.prod(shape)
            # Without its empty axes: an array that is empty along one may not be endless along the others.
            if math.prod(size for size in shape if size) > _MOST_BYTES_PER_PACKED_BYTE * len(content):
                raise DataError(f"{path}: claims {shape} bytes, more than a file of its size can hold; {mend}")
            # One byte more than there should be: it shows what is left over, and makes gzip check its checksum.
            values = stream.read(expected + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); {mend}") from error
    if len(values) != expected:
        found = f"only {len(values):,}" if len(values) < expected else "more"
        raise DataError(f"{path}: its header {shape} needs {expected:,} bytes, it holds {found}; {mend}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def parse_cifar_pickle(content: bytes, path: Path) -> tuple[UInt8[np.ndarray, "n 3072"], Int32[np.ndarray, " n"]]:
    """Pictures uint8 [n, 3072] (height, width, channel) and labels int32 [n] of a CIFAR-10 python batch.

    The format is a pickle of bytes, lists and one NumPy array; one that names anything else is refused. Read it only
    once its digest was checked: a pickle can still ask for any amount of memory.
    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).

    Raises:
        DataError: if it is not exactly such a batch.
    """
    mend = "get the file again from https://www.cs.toronto.edu/~kriz/cifar.html"
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"].pixels, np.asarray(batch[b"labels"])
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(f"{path}: not a CIFAR-10 python batch ({type(error).__name__}: {error}); {mend}") from error
    if pixels.dtype != np.uint8 or labels.dtype.kind != "i" or pixels.shape != (*labels.shape, CIFAR_FEATURES):
        raise DataError(f"{path}: not a CIFAR-10 python batch (no uint8 [n, 3072] with n labels); {mend}")
    return _channels_last(pixels), _cifar_labels(labels, path, mend)


def parse_cifar_binary(
    content: bytes, path: Path, examples: int = 10_000
) -> tuple[UInt8[np.ndarray, "n 3072"], Int32[np.ndarray, " n"]]:
    """Pictures uint8 [n, 3072] (height, width, channel) and labels int32 [n] of a CIFAR-10 binary batch.

    Format: https://www.cs.toronto.edu/~kriz/cifar.html: for each example a label byte and 3,072 pixel bytes.

    Raises:
        DataError: if it does not have exactly `examples` examples, or a label is not 0 ... 9.
    """
    mend = "delete it so that it is downloaded or unpacked again, or get it from https://www.cs.toronto.edu/~kriz/cifar.html"
    expected = examples * (1 + CIFAR_FEATURES)
    if len(content) != expected:
        raise DataError(f"{path}: {len(content):,} bytes long, but a CIFAR-10 binary batch has {expected:,}; {mend}")
    rows = np.frombuffer(content, np.uint8).reshape(examples, 1 + CIFAR_FEATURES)
    return _channels_last(rows[:, 1:]), _cifar_labels(rows[:, 0], path, mend)


def parse_svhn(content: bytes, path: Path) -> tuple[UInt8[np.ndarray, "n 3072"], Int32[np.ndarray, " n"]]:
    """Pictures uint8 [n, 3072] (height, width, channel) and labels int32 [n] of a .mat file of SVHN's cropped digits.

    Format: http://ufldl.stanford.edu/housenumbers (format 2): a MATLAB 5 file with X, uint8 [32, 32, 3, n], and y,
    [n, 1], digits 1 ... 9 and 10 for the digit 0, which is 0 here.

    Raises:
        DataError: if it is not exactly such a file.
    """
    mend = "get the file again from http://ufldl.stanford.edu/housenumbers (cropped digits)"
    try:
        arrays = mat5.read(content)
        x, y = arrays["X"], arrays["y"]
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: not a whole .mat file of digits ({type(error).__name__}: {error}); {mend}") from error
    n = x.shape[-1] if x.shape else 0
    if (
        (x.kind, x.values.dtype, x.shape, y.shape) != ("uint8", np.uint8, (32, 32, 3, n), (n, 1))
        or (len(x.values), len(y.values)) != (n * CIFAR_FEATURES, n)
        or not n
    ):
        found = ", ".join(f"{name}: {array.kind} {array.shape}" for name, array in sorted(arrays.items()))
        raise DataError(f"{path}: holds {found}, not X: uint8 (32, 32, 3, n) and y: (n, 1) with n >= 1; {mend}")
    if not np.isin(y.values, np.arange(1, 11)).all():
        raise DataError(
            f"{path}: holds labels {y.values.min()} ... {y.values.max()} where 1 ... 10 are expected; {mend}"
        )
    # The first axis is the fastest: read the other way round, pictures come first.
    pictures = np.ascontiguousarray(x.values.reshape(n, 3, 32, 32).transpose(0, 3, 2, 1)).reshape(n, CIFAR_FEATURES)
    return pictures, (y.values % 10).astype(np.int32)


class _Pixels:
    """What stands for a NumPy array in a pickle. NumPy's own would take over flags that leave its memory."""

    def __init__(self, *_: Any) -> None:
        self.pixels = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, data = state
        if not isinstance(dtype, _Dtype) or dtype.name != b"u1" or min(shape) < 0:
            raise pickle.UnpicklingError("its pixels are no bytes")
        self.pixels = np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_columns else "C")


class _Dtype:
    def __init__(self, name: bytes, *_: Any) -> None:
        self.name = name

    def __setstate__(self, _: Any) -> None:
        """Byte order and the like, of which single bytes have none."""


class _Ndarray:
    """A name that is given and not used."""


# The names that a python batch asks for.
_PICKLED = {"numpy.core.multiarray._reconstruct": _Pixels, "numpy.ndarray": _Ndarray, "numpy.dtype": _Dtype}


class _Unpickler(pickle.Unpickler):
    """Makes bytes, numbers, lists, dicts and the pixels of an array, and calls no function that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        if (known := _PICKLED.get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no such file needs"[:200])
        return known


def _channels_last(pixels: np.ndarray) -> UInt8[np.ndarray, "n 3072"]:
    pictures = pixels.reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures).reshape(-1, CIFAR_FEATURES)


def _cifar_labels(labels: Any, path: Path, mend: str) -> Int32[np.ndarray, " n"]:
    if len(labels) and not 0 <= min(labels) <= max(labels) <= 9:
        raise DataError(f"{path}: holds labels {min(labels)} ... {max(labels)} where 0 ... 9 are expected; {mend}")
    return np.asarray(labels, np.int32)
