"""Tokens: keys as arrays of characters, padded to one width, with the length of each.

A key is a byte string; a `str` stands for its UTF-8 bytes, unnormalised. Two different keys never have the same
tokens, since tokens carry lengths.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int32, UInt8

from jaxhash.hashing.keys.lines import Flat

MAX_TOKEN_BYTES = 2**31
"""Most memory that `tokenize` takes for characters: one very long key would widen the row of every other."""

KEYS_A_BLOCK = 2**16

_LINE_END = 10


class Tokens(NamedTuple):
    """Keys as arrays: NumPy's as `tokenize` makes them, or JAX's."""

    characters: UInt8[Array | np.ndarray, "n length"]
    """The bytes of each key, 0 after its end."""
    lengths: Int32[Array | np.ndarray, " n"]
    """Bytes in each key; "a" and "a\\0" differ in it."""


def listed_keys(keys: Iterable[Any]) -> Sequence[Any]:
    """The keys as a sequence; a list or tuple is returned as it is.

    Raises:
        TypeError: if `keys` is one key.
    """
    if isinstance(keys, str | bytes):
        raise TypeError(f"keys is one {type(keys).__name__}, {shown(keys)}; give a list of keys, such as [key]")
    return keys if isinstance(keys, list | tuple) else list(keys)


def encode_keys(keys: Iterable[str | bytes]) -> list[bytes]:
    """Keys as bytes: `str` as UTF-8, `bytes` as they are.

    Raises:
        TypeError: if `keys` is one key, or one of them is neither `str` nor `bytes`.
        ValueError: if a `str` has no UTF-8 form (a lone surrogate).
    """
    listed = listed_keys(keys)
    try:
        encoded = [key.encode() if isinstance(key, str) else key for key in listed]
    except UnicodeEncodeError as error:
        raise ValueError(
            f"keys[{listed.index(error.object)}] is {shown(error.object)}, which has no UTF-8 form ({error.reason}); "
            "give its bytes instead"
        ) from None
    for i, key in enumerate(encoded):
        if not isinstance(key, bytes):
            raise TypeError(f"keys[{i}] is {shown(key)}, a {type(key).__name__}; give str or bytes")
    return encoded


def flatten(keys: Iterable[str | bytes]) -> Flat:
    """Keys as one array.

    Cost: one pass over the characters, in C; about 30 ns a word where no key has a line end in it.

    Raises:
        TypeError, ValueError: as `encode_keys`.
    """
    listed = listed_keys(keys)
    text = _joined_by_line_ends(listed)
    if text is not None:
        ends = np.flatnonzero(text == _LINE_END)
        if len(ends) == len(listed):
            starts = np.zeros_like(ends)
            starts[1:] = ends[:-1] + 1
            return Flat(text, starts, (ends - starts).astype(np.int32))
    encoded = encode_keys(listed)
    lengths = np.fromiter(map(len, encoded), np.int32, count=len(encoded))
    return Flat(np.frombuffer(b"".join(encoded), np.uint8), lengths.cumsum(dtype=np.int64) - lengths, lengths)


def list_blocks(keys: Sequence[Any]) -> Iterator[Flat]:
    """`flatten` of some keys after the others, so that a device can begin before all are prepared.

    Raises:
        TypeError, ValueError: as `encode_keys`.
    """
    for start in range(0, len(keys), KEYS_A_BLOCK):
        try:
            flat = flatten(keys[start : start + KEYS_A_BLOCK])
        except (TypeError, ValueError):
            encode_keys(keys)  # raises the same, and counts from the first key
            raise
        yield flat


def windows(flat: Flat, width: int) -> Tokens:
    """The `width` characters from the start of each key on. Those after a key's end are NOT zero.

    No key may be longer than `width`. Cost: n * width bytes copied.
    """
    if not len(flat.starts):
        return Tokens(np.zeros((0, width), np.uint8), flat.lengths)
    text = flat.text
    if (beyond := int(flat.starts[-1]) + width - len(text)) > 0:
        text = np.concatenate([text, np.zeros(beyond, np.uint8)])
    # As items of `width` bytes: NumPy copies them whole, and sooner than rows of a sliding window.
    items = np.ndarray(len(text) - width + 1, f"V{width}", np.ascontiguousarray(text), strides=1)[flat.starts]
    return Tokens(items.view(np.uint8).reshape(-1, width), flat.lengths)


def tokenize(keys: Iterable[str | bytes], length: int | None = None) -> Tokens:
    """Keys as one array of characters, zero after each key's end, and their lengths.

    Cost: one pass over the characters in NumPy, n * length bytes of memory.

    Args:
        keys: n keys; n = 0 gives characters of shape [0, length].
        length: characters a key, 1 or more; by default as many as the longest key has.

    Raises:
        TypeError, ValueError: as `encode_keys`.
        ValueError: if a key is longer than `length`, or the characters would take over `MAX_TOKEN_BYTES`.
    """
    flat = flatten(keys)
    n = len(flat.lengths)
    longest = int(flat.lengths.max(initial=0))
    if length is not None and length < 1:
        raise ValueError(f"length={length} is less than 1; it is the number of characters kept of each key")
    if length is not None and longest > length:
        start = int(flat.starts[flat.lengths.argmax()])
        key = flat.text[start : start + longest].tobytes()
        raise ValueError(
            f"key {shown(key)} is {longest:,} bytes long, more than the limit of {length:,}; leave out "
            f"keys longer than {length:,} bytes, or raise length"
        )
    width = max(longest, 1) if length is None else length
    if n * width > MAX_TOKEN_BYTES:
        raise ValueError(
            f"{n:,} keys of {width:,} characters take {n * width:,} bytes, more than {MAX_TOKEN_BYTES:,}; tokenize "
            "them in batches, or leave out the longest keys"
        )
    characters, lengths = windows(flat, width)
    return Tokens(np.where(np.arange(width) < lengths[:, None], characters, np.uint8(0)), lengths)


def _joined_by_line_ends(listed: Sequence[Any]) -> UInt8[np.ndarray, " total"] | None:
    """The keys, each with a line end after it; None if they are not all `str` or all `bytes`, or have no UTF-8 form."""
    try:
        if listed and isinstance(listed[0], bytes):
            return np.frombuffer(b"\n".join([*listed, b""]), np.uint8)
        return np.frombuffer("\n".join([*listed, ""]).encode(), np.uint8)
    except (TypeError, UnicodeEncodeError):
        return None


def shown(key: object) -> str:
    """A key as an error message shows it: a long one in part."""
    if isinstance(key, str | bytes) and len(key) > 60:
        return f"{key[:60]!r}..."
    return repr(key)
