"""Any number of keys of any length -> batches of few shapes, so that new sizes are not compiled again."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from jaxhash.hashing.keys import Tokens, tokenize

MAX_ROWS = 2**16
MIN_ROWS = 2**4
MIN_LENGTH = 2**6
MAX_BYTES = 2**26
"""Memory for the characters of a batch, unless one key alone is longer."""


def batches(keys: Sequence[bytes]) -> Iterator[tuple[Int[np.ndarray, " n"], Tokens]]:
    """Keys as padded tokens, with the place of each in `keys`.

    Keys of about the same length travel together, so that one very long key does not widen all others. The first
    n rows of a batch are the keys at those n places; the rows below are padding.
    """
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    buckets = np.array([padded_length(int(length)) for length in np.unique(lengths)])
    widths = buckets[np.searchsorted(np.unique(lengths), lengths)] if len(keys) else lengths
    for width in np.unique(widths):
        places = np.flatnonzero(widths == width)
        at_a_time = max_rows(int(width))
        for start in range(0, len(places), at_a_time):
            some = places[start : start + at_a_time]
            yield some, pad_rows(tokenize([keys[i] for i in some.tolist()], int(width)))


def split(tokens: Tokens) -> Iterator[tuple[slice, Tokens]]:
    """Tokens on the host as padded batches of consecutive keys, with the place of each."""
    n, length = tokens.characters.shape
    width = padded_length(length)
    wide = np.pad(np.asarray(tokens.characters), [(0, 0), (0, width - length)])
    at_a_time = max_rows(width)
    for start in range(0, n, at_a_time):
        some = slice(start, min(start + at_a_time, n))
        yield some, pad_rows(Tokens(wide[some], np.asarray(tokens.lengths)[some]))


def padded_length(length: int) -> int:
    """The least of 64, 256, 1024, ... that holds so many characters."""
    return _power_of_four(length, MIN_LENGTH)


def max_rows(length: int) -> int:
    """Most keys of this padded length that a batch takes."""
    return max(min(MAX_ROWS, MAX_BYTES // length), 1)


def pad_rows(tokens: Tokens) -> Tokens:
    """Tokens with empty keys below, up to the least of 16, 64, 256, ... rows."""
    n, length = tokens.characters.shape
    rows = min(_power_of_four(n, MIN_ROWS), max_rows(length)) - n
    return Tokens(np.pad(tokens.characters, [(0, rows), (0, 0)]), np.pad(tokens.lengths, (0, rows)))


def _power_of_four(at_least: int, smallest: int) -> int:
    size = smallest
    while size < at_least:
        size *= 4
    return size
