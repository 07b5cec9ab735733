"""MATLAB 5 files of numeric arrays (.mat), read without trust in what they say of themselves.

SciPy's reader ends the process with a segmentation fault on some damaged files. This one reads no more than the format
needs to say for plain arrays: no cells, structures, texts, sparse or complex arrays.
Source: The MathWorks, "MAT-File Format" (chapter 1, level 5).
"""

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_HEADER_BYTES = 128
_LITTLE_ENDIAN = b"\0\1IM"
# Types of what stands in a file.
_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_MATRIX, _COMPRESSED = 14, 15
# Types of an array in MATLAB, which may be kept as a smaller one.
_CLASSES = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_FIRST_CLASS = 6
_COMPLEX = 0x08


class Array(NamedTuple):
    """An array as a file has it."""

    kind: str
    """Its class in MATLAB, such as `uint8`."""
    shape: tuple[int, ...]
    """As claimed: there may be fewer values, or more."""
    values: np.ndarray
    """In MATLAB's order, the first axis fastest."""


def read(content: bytes) -> dict[str, Array]:
    """The arrays of a file by name.

    Memory: that of the file, or of what zlib can pack into it, about a thousand times as much.

    Raises:
        ValueError: if it is no such file, not whole, or holds something else than numeric arrays.
    """
    if content[_HEADER_BYTES - 4 : _HEADER_BYTES] != _LITTLE_ENDIAN:
        raise ValueError("no little-endian MATLAB 5 file")
    found = {}
    for kind, data in _elements(memoryview(content)[_HEADER_BYTES:]):
        if kind == _COMPRESSED:
            try:
                kind, data = next(_elements(memoryview(zlib.decompress(data))), (0, data))
            except zlib.error as error:
                raise ValueError(str(error)) from None
        if kind != _MATRIX:
            raise ValueError(f"holds an element of type {kind} where an array is expected")
        name, array = _array(data)
        found[name] = array
    return found


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Types and contents, one after the other."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("ends inside a tag")
        kind, size = struct.unpack_from("<II", data, at)
        begin = at + 8
        at = begin + size if kind == _COMPRESSED else begin + size + -size % 8
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            at, begin = begin, begin - 4
            if size > 4:
                raise ValueError(f"a tag for {size} bytes has room for 4")
        if begin + size > len(data):
            raise ValueError("ends inside an array")
        yield kind, data[begin : begin + size]


def _array(data: memoryview) -> tuple[str, Array]:
    parts = list(itertools.islice(_elements(data), 4))
    if len(parts) < 4:
        raise ValueError("an array has no values")
    (_, flags), (_, shape), (_, name), (kind, values) = parts
    of_class = flags[0] - _FIRST_CLASS if len(flags) == 8 else -1
    if not 0 <= of_class < len(_CLASSES) or flags[1] & _COMPLEX or kind not in _NUMBERS or len(shape) % 4:
        raise ValueError("holds something else than arrays of real numbers")
    dtype = np.dtype(_NUMBERS[kind])
    if len(values) % dtype.itemsize:
        raise ValueError("ends inside a number")
    sizes = tuple(np.frombuffer(shape, "<i4").tolist())
    return bytes(name).decode("ascii", "replace"), Array(_CLASSES[of_class], sizes, np.frombuffer(values, dtype))
