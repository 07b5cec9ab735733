"""Buckets of a key set: ranges of the first word of the fingerprint, and how the bucket of a key is found again.

A bucket is a range of that word, cut so that each holds the same number of keys: bucket i takes the fingerprints from
its threshold up to the next one's. A hasher has max(keys, bins) slots, and slot % bins is the bin; each bucket has
slots of its own, one after another.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt8, UInt32, UInt64

CELLS_PER_BUCKET = 2
_LAST = np.uint32(0xFFFFFFFF)


class Buckets(NamedTuple):
    """A key set cut into buckets, with the buckets along the last axis, where a processor takes many at once."""

    first: UInt32[Array | np.ndarray, "keys buckets"]
    """First words of the fingerprints; rows from a bucket's size on are padding."""
    second: UInt32[Array | np.ndarray, "keys buckets"]
    thresholds: UInt32[Array | np.ndarray, " buckets"]
    """Least first word of a fingerprint in the bucket; 0 for the first bucket."""
    sizes: UInt8[Array | np.ndarray, " buckets"]
    """Keys in the bucket; 0 in padding."""
    rooms: Int32[Array | np.ndarray, " buckets"]
    """Slots of the bucket."""


def cut(numbers: UInt64[np.ndarray, " n"], num_slots: int, keys_per_bucket: int) -> Buckets:
    """Buckets of `keys_per_bucket` keys, at most 255, out of all fingerprints, numbers in ascending order; on the host.

    Keys whose fingerprints share the first word stay together, so a bucket may hold a key less.

    Raises:
        ValueError: if more keys than a bucket may hold share the first word.
    """
    n = len(numbers)
    first = (numbers >> np.uint64(32)).astype(np.uint32)
    bounds = [0]
    while bounds[-1] + keys_per_bucket < n:
        bound = bounds[-1] + keys_per_bucket
        while bound > bounds[-1] and first[bound] == first[bound - 1]:
            bound -= 1
        if bound == bounds[-1]:
            raise ValueError(f"more than {keys_per_bucket} keys share 32 bits of their fingerprints; try another seed")
        bounds.append(bound)
    starts = np.array(bounds)
    sizes = np.diff(starts, append=n).astype(np.uint8)
    room = np.asarray(rooms(sizes, np.int32(num_slots))[1])
    words = np.append(numbers, np.uint64(0))[np.minimum(starts + np.arange(keys_per_bucket)[:, None], n)]
    thresholds = (words[0] >> np.uint64(32)).astype(np.uint32)
    thresholds[0] = 0
    return Buckets(
        (words >> np.uint64(32)).astype(np.uint32),
        words.astype(np.uint32),
        thresholds,
        sizes,
        room,
    )


def check(
    thresholds: UInt32[Array | np.ndarray, " buckets"], sizes: UInt8[Array | np.ndarray, " buckets"], num_keys: int
) -> None:
    """Whether these can be the buckets of so many keys, as read from a file of unknown origin; on the host.

    Raises:
        ValueError: if they cannot.
    """
    thresholds, sizes = np.asarray(thresholds), np.asarray(sizes)
    # The type checks of the tests come first.
    if (
        thresholds.dtype != np.uint32 or sizes.dtype != np.uint8 or not thresholds.shape == sizes.shape == (len(sizes),)
    ):  # pragma: no cover
        raise ValueError(f"thresholds {thresholds.dtype}{thresholds.shape} and sizes {sizes.dtype}{sizes.shape}")
    if not len(sizes) or thresholds[0] != 0 or not (thresholds[1:] > thresholds[:-1]).all():
        raise ValueError("the thresholds of the buckets do not begin at 0 and ascend")
    if (held := int(sizes.sum(dtype=np.int64))) != num_keys:
        raise ValueError(f"the buckets hold {held:,} keys, the function {num_keys:,}")


@dataclass(frozen=True)
class Index:
    """Where buckets lie, laid out so that `find` needs no search."""

    cells: Int32[Array | np.ndarray, " cells"]
    """The 32-bit words cut into equal cells: the bucket in which each of them begins."""
    thresholds: UInt32[Array | np.ndarray, " padded"]
    starts: Int32[Array | np.ndarray, " buckets"]
    """First slot of each bucket."""
    rooms: Int32[Array | np.ndarray, " buckets"]
    """Slots of each bucket."""
    probes: int
    """Buckets that begin within a cell, at most."""


jax.tree_util.register_dataclass(Index, data_fields=["cells", "thresholds", "starts", "rooms"], meta_fields=["probes"])


def index(
    thresholds: UInt32[Array | np.ndarray, " buckets"], sizes: UInt8[Array | np.ndarray, " buckets"], num_slots: int
) -> Index:
    """The index of buckets with these thresholds and sizes, for so many slots, at least one a key; on the host."""
    thresholds, sizes = np.asarray(thresholds), np.asarray(sizes)
    num_buckets = len(sizes)
    cell_bits = max((CELLS_PER_BUCKET * num_buckets - 1).bit_length(), 1)
    begin = np.arange(2**cell_bits, dtype=np.uint32) << np.uint32(32 - cell_bits)
    cells, last = (
        (np.searchsorted(thresholds, words, side="right") - 1).astype(np.int32)
        for words in (begin, begin + np.uint32(2 ** (32 - cell_bits) - 1))
    )
    probes = int((last - cells).max())
    starts, room = (np.asarray(a) for a in rooms(sizes, np.int32(num_slots)))
    # Beyond the last bucket, no word reaches the threshold (and should one equal it, `find` stays in range).
    return Index(cells, np.pad(thresholds, (0, probes), constant_values=_LAST), starts, room, probes)


def find(where: Index, first: UInt32[Array, " n"]) -> Int32[Array, " n"]:
    """The bucket of each key, by the first word of its fingerprint. Cost a key: 1 + probes reads."""
    cell_bits = where.cells.shape[0].bit_length() - 1
    begin = read(where.cells, first >> (32 - cell_bits))
    bucket = begin
    for probe in range(1, where.probes + 1):
        bucket = bucket + (read(where.thresholds, begin + probe) <= first)
    return jnp.minimum(bucket, where.starts.shape[0] - 1)


def read(table: Array | np.ndarray, where: Int32[Array, " n"] | UInt32[Array, " n"]) -> Array:
    """Entries of a table; every index must be in it."""
    return jnp.asarray(table).at[where].get(mode="promise_in_bounds")


def rooms(
    sizes: UInt8[Array | np.ndarray, " buckets"], num_slots: Int32[Array | np.ndarray | np.int32, ""]
) -> tuple[Int32[Array | np.ndarray, " buckets"], Int32[Array | np.ndarray, " buckets"]]:
    """First slot and number of slots of each bucket: one for each key, and what is left over in equal parts.

    For NumPy's arrays and JAX's, int32.
    """
    keys = sizes.astype(np.int32)
    num_buckets = np.int32(sizes.shape[0])
    more = num_slots - keys.sum(dtype=np.int32)
    room = keys + more // num_buckets + (np.arange(num_buckets, dtype=np.int32) < more % num_buckets)
    return room.cumsum(dtype=np.int32) - room, room
