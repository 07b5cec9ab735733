"""Batches of keys, padded to few shapes, so that a new number or length of keys seldom compiles again."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int

from jaxhash.hashing.keys.lines import Flat
from jaxhash.hashing.keys.tokens import Tokens, windows

MAX_ROWS = 2**16
MIN_ROWS = 2**4
LENGTHS = (2**5, 2**6)
"""The shortest lengths; most words are no longer than the first."""
MAX_BYTES = 2**26
"""Memory for the characters of a batch, unless one key alone is longer."""

Places = slice | Int[np.ndarray, "_"]


def pipeline(blocks: Iterable[Flat]) -> Iterator[tuple[Places, Tokens]]:
    """`batches` of one block after the other, with the place of each key among all."""
    start = 0
    for flat in blocks:
        for places, tokens in batches(flat):
            if isinstance(places, slice):
                yield slice(places.start + start, places.stop + start), tokens
            else:
                yield places + start, tokens
        start += len(flat.lengths)


def batches(flat: Flat) -> Iterator[tuple[Places, Tokens]]:
    """Keys as padded tokens, with the place of each among the keys; the rows below those of the places are padding.

    Keys of about the same length travel together, so that one very long key does not widen all others. Characters
    after a key's end are not zero: `fingerprint` does not read them.
    """
    longest = padded_length(int(flat.lengths.max(initial=0)))
    shorter, length = -1, LENGTHS[0]
    while length <= longest:
        alone = length == longest and shorter < 0
        places = None if alone else np.flatnonzero((flat.lengths > shorter) & (flat.lengths <= length))
        n, at_a_time = len(flat.lengths) if places is None else len(places), max_rows(length)
        for start in range(0, n, at_a_time):
            some = slice(start, min(start + at_a_time, n)) if places is None else places[start : start + at_a_time]
            yield some, pad_rows(windows(Flat(flat.text, flat.starts[some], flat.lengths[some]), length))
        shorter, length = length, padded_length(length + 1)


def split(tokens: Tokens) -> Iterator[tuple[slice, Tokens]]:
    """Tokens on the host as padded batches of consecutive keys, with the place of each."""
    characters, lengths = np.asarray(tokens.characters), np.asarray(tokens.lengths)
    n, length = characters.shape
    # Wide tokens cost what they are padded to; a few more shapes cost only who has tokens of all widths.
    width = -(-max(length, 1) // 16) * 16 if length <= LENGTHS[1] else padded_length(length)
    at_a_time = max_rows(width)
    for start in range(0, n, at_a_time):
        some = slice(start, min(start + at_a_time, n))
        wide = characters[some]
        if length < width:
            # Not zeros: what stands after a key's end is not read.
            wide = np.empty((some.stop - start, width), np.uint8)
            wide[:, :length] = characters[some]
        yield some, pad_rows(Tokens(wide, lengths[some]))


def count(places: Places) -> int:
    """How many places these are."""
    return places.stop - places.start if isinstance(places, slice) else len(places)


def padded_length(length: int) -> int:
    """The least of 32, 64, 256, 1024, ... that holds so many characters."""
    return LENGTHS[0] if length <= LENGTHS[0] else _power_of_four(length, LENGTHS[1])


def max_rows(length: int) -> int:
    """Most keys of this padded length that a batch takes."""
    return max(min(MAX_ROWS, MAX_BYTES // length), 1)


def pad_rows(tokens: Tokens) -> Tokens:
    """Tokens with empty keys below, up to the least of 16, 64, 256, ... rows."""
    n, length = tokens.characters.shape
    rows = min(_power_of_four(n, MIN_ROWS), max_rows(length))
    if rows == n:
        return tokens
    # By hand: np.pad takes longer than a small batch takes on the device.
    characters, lengths = np.empty((rows, length), np.uint8), np.zeros(rows, np.int32)
    characters[:n], lengths[:n] = tokens
    return Tokens(characters, lengths)


def _power_of_four(at_least: int, smallest: int) -> int:
    size = smallest
    while size < at_least:
        size *= 4
    return size
