"""Separation of keys: fingerprints that are all different, 8 bytes a key, and duplicate keys found."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, UInt64

from jaxhash.hashing.keys.batches import Places, batches, count
from jaxhash.hashing.keys.fingerprint import as_numbers, fingerprint
from jaxhash.hashing.keys.lines import Flat, key_of
from jaxhash.hashing.keys.source import KeySource
from jaxhash.hashing.keys.words import Repeated
from jaxhash.storage import checked_read

SEEDS = 20
"""Seeds tried for fingerprints without a collision; for 10^9 keys one succeeds with probability 0.97."""
MAX_KEYS = 2**31 - 1
BYTES_PER_KEY = 16
"""Of memory, to tell them apart."""
_BLOCKS_UNDER_WAY = 2


class Separation(NamedTuple):
    """What is left of a key set."""

    seed: int
    """Of the fingerprints."""
    numbers: UInt64[np.ndarray, " n"]
    """The fingerprints of the different keys, in ascending order."""
    entries: int
    """Keys that were read, repeats included."""


def separate(
    source: KeySource, seed: int, drop_duplicates: bool = False, callback: Callable[[int], None] = lambda entries: None
) -> Separation:
    """The first seed from `seed` on that gives different keys different fingerprints, and these.

    Cost: 16 bytes of memory a key; where keys repeat, also each of those once. The source is gone through once a seed,
    and once more if fingerprints repeat, to see whether it is because keys do.

    Args:
        source: of the keys.
        seed: of the fingerprint, a 32-bit word.
        drop_duplicates: whether keys may repeat.
        callback: called now and then with how many keys have been read.

    Raises:
        Repeated: (a ValueError) if keys repeat and may not.
        ValueError: if there are more keys than a function can have, or than the memory holds; if no seed serves, which
            for different keys has a probability next to nothing.
    """
    for attempt in range(SEEDS):
        tried = (seed + attempt) % 2**32
        parts, entries = [], 0
        for numbers in fingerprints(source.blocks(), tried):
            parts.append(numbers)
            entries += len(numbers)
            _check_number(source, entries)
            callback(entries)
        ordered = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        del parts
        ordered.sort()
        first = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
        if first.all():
            return Separation(tried, ordered, entries)
        if _are_repeats(source, tried, np.unique(ordered[~first]), entries, drop_duplicates, callback):
            return Separation(tried, ordered[first], entries)
    raise ValueError(f"{SEEDS} seeds from {seed} on all give two of the keys the same fingerprint; give other keys")


def fingerprints(blocks: Iterable[Flat], seed: int) -> Iterator[UInt64[np.ndarray, " n"]]:
    """The fingerprint of each key as one number, block by block; a device works on one while the next is read."""
    under_way: deque[tuple[int, list[tuple[Places, Array]]]] = deque()
    for flat in blocks:
        found = [(places, _fingerprint(tokens, np.uint32(seed))) for places, tokens in batches(flat)]
        under_way.append((len(flat.lengths), found))
        if len(under_way) == _BLOCKS_UNDER_WAY:
            yield _collected(*under_way.popleft())
    while under_way:
        yield _collected(*under_way.popleft())


def _check_number(source: KeySource, entries: int) -> None:
    if entries > MAX_KEYS:
        raise ValueError(f"{source.name}: more than {MAX_KEYS:,} keys, the limit; cut the key set into several")
    needed, memory = BYTES_PER_KEY * entries, checked_read.memory_bytes()
    if needed > checked_read.MEMORY_SHARE * memory:
        raise ValueError(
            f"{source.name}: {entries:,} keys and more take over {needed / 1e9:,.0f} GB, more than half of this "
            f"machine's {memory / 1e9:,.0f} GB of memory; give fewer, or take a larger machine"
        )


def _collected(n: int, found: list[tuple[Places, Array]]) -> UInt64[np.ndarray, " keys"]:
    prints = np.empty((n, 2), np.uint32)
    for places, some in found:
        prints[places] = np.asarray(some)[: count(places)]
    return as_numbers(prints)


_fingerprint = jax.jit(fingerprint)


def _are_repeats(
    source: KeySource,
    seed: int,
    shared: UInt64[np.ndarray, " shared"],
    entries: int,
    drop_duplicates: bool,
    callback: Callable[[int], None],
) -> bool:
    """Whether keys that share a fingerprint are the same.

    Raises:
        Repeated: if some are, and may not be.
    """
    where: dict[bytes, int] = {}
    repeats, example, start = 0, None, 0
    blocks, numbers_of = source.blocks(), fingerprints(source.blocks(), seed)
    for flat, numbers in zip(blocks, numbers_of, strict=True):
        for i in np.flatnonzero(np.isin(numbers, shared)).tolist():
            key, place = key_of(flat, i), start + i
            if (before := where.setdefault(key, place)) != place:
                repeats += 1
                example = example or (key, source.places(before, place))
        start += len(numbers)
        callback(start)
    if example is not None and not drop_duplicates:
        raise Repeated(source.name, repeats, entries, *example)
    return len(where) == len(shared)
