"""A key set cut into shards by the first word of the fingerprint, and how the shard of a key is found again.

Shards are ranges of that word, cut so that each holds the same number of keys: shard s takes the fingerprints from its
threshold up to the next one's. Each shard has bins of its own, one after another.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt8, UInt32, UInt64

CELLS_PER_SHARD = 2
_LAST = np.uint32(0xFFFFFFFF)


class Shards(NamedTuple):
    """A key set cut into shards, with the shards along the last axis, where a processor takes many at once."""

    first: UInt32[Array | np.ndarray, "keys shards"]
    """First words of the fingerprints; rows from a shard's size on are padding."""
    second: UInt32[Array | np.ndarray, "keys shards"]
    thresholds: UInt32[Array | np.ndarray, " shards"]
    """Least first word of a fingerprint in the shard; 0 for the first shard."""
    sizes: UInt8[Array | np.ndarray, " shards"]
    """Keys in the shard."""
    rooms: Int32[Array | np.ndarray, " shards"]
    """Bins of the shard."""
    num_shards: Int32[Array | np.ndarray | np.int32, ""]
    """Shards without empty ones at the end."""


def cut(numbers: UInt64[np.ndarray, " n"], num_seats: int, keys_per_shard: int) -> Shards:
    """Shards of `keys_per_shard` keys, at most 255, out of all fingerprints, numbers in ascending order; on the host.

    Keys whose fingerprints share the first word stay together, so a shard may hold a key less.

    Raises:
        ValueError: if more keys than a shard may hold share the first word.
    """
    n = len(numbers)
    first = (numbers >> np.uint64(32)).astype(np.uint32)
    bounds = [0]
    while bounds[-1] + keys_per_shard < n:
        bound = bounds[-1] + keys_per_shard
        while bound > bounds[-1] and first[bound] == first[bound - 1]:
            bound -= 1
        if bound == bounds[-1]:
            raise ValueError(f"more than {keys_per_shard} keys share 32 bits of their fingerprints; try another seed")
        bounds.append(bound)
    starts = np.array(bounds)
    sizes = np.diff(starts, append=n).astype(np.uint8)
    room = np.asarray(rooms(sizes, np.int32(num_seats))[1])
    words = np.append(numbers, np.uint64(0))[np.minimum(starts + np.arange(keys_per_shard)[:, None], n)]
    thresholds = (words[0] >> np.uint64(32)).astype(np.uint32)
    thresholds[0] = 0
    return Shards(
        (words >> np.uint64(32)).astype(np.uint32),
        words.astype(np.uint32),
        thresholds,
        sizes,
        room,
        np.int32(len(bounds)),
    )


def check(
    thresholds: UInt32[Array | np.ndarray, " shards"], sizes: UInt8[Array | np.ndarray, " shards"], num_keys: int
) -> None:
    """Whether these can be the shards of so many keys, as read from a file of unknown origin; on the host.

    Raises:
        ValueError: if they cannot.
    """
    thresholds, sizes = np.asarray(thresholds), np.asarray(sizes)
    if thresholds.dtype != np.uint32 or sizes.dtype != np.uint8 or not thresholds.shape == sizes.shape == (len(sizes),):
        raise ValueError(f"thresholds {thresholds.dtype}{thresholds.shape} and sizes {sizes.dtype}{sizes.shape}")
    if not len(sizes) or thresholds[0] != 0 or not (thresholds[1:] > thresholds[:-1]).all():
        raise ValueError("the thresholds of the shards do not begin at 0 and ascend")
    if (held := int(sizes.sum(dtype=np.int64))) != num_keys:
        raise ValueError(f"the shards hold {held:,} keys, the function {num_keys:,}")


@dataclass(frozen=True)
class Index:
    """Where shards lie, laid out so that `find` needs no search."""

    cells: Int32[Array | np.ndarray, " cells"]
    """The 32-bit words cut into equal cells: the shard in which each of them begins."""
    thresholds: UInt32[Array | np.ndarray, " padded"]
    starts: Int32[Array | np.ndarray, " shards"]
    """First bin of each shard."""
    rooms: Int32[Array | np.ndarray, " shards"]
    """Bins of each shard."""
    probes: int
    """Shards that begin within a cell, at most."""


jax.tree_util.register_dataclass(Index, data_fields=["cells", "thresholds", "starts", "rooms"], meta_fields=["probes"])


def index(
    thresholds: UInt32[Array | np.ndarray, " shards"], sizes: UInt8[Array | np.ndarray, " shards"], num_seats: int
) -> Index:
    """The index of shards with these thresholds and sizes, for `num_seats` bins, at least one a key; on the host."""
    thresholds, sizes = np.asarray(thresholds), np.asarray(sizes)
    num_shards = len(sizes)
    cell_bits = max((CELLS_PER_SHARD * num_shards - 1).bit_length(), 1)
    begin = np.arange(2**cell_bits, dtype=np.uint32) << np.uint32(32 - cell_bits)
    cells, last = (
        (np.searchsorted(thresholds, words, side="right") - 1).astype(np.int32)
        for words in (begin, begin + np.uint32(2 ** (32 - cell_bits) - 1))
    )
    probes = int((last - cells).max())
    starts, room = (np.asarray(a) for a in rooms(sizes, np.int32(num_seats)))
    # Beyond the last shard, no word reaches the threshold (and should one equal it, `find` stays in range).
    return Index(cells, np.pad(thresholds, (0, probes), constant_values=_LAST), starts, room, probes)


def find(where: Index, first: UInt32[Array, " n"]) -> Int32[Array, " n"]:
    """The shard of each key, by the first word of its fingerprint. Cost a key: 1 + probes reads."""
    cell_bits = where.cells.shape[0].bit_length() - 1
    begin = read(where.cells, first >> (32 - cell_bits))
    shard = begin
    for probe in range(1, where.probes + 1):
        shard = shard + (read(where.thresholds, begin + probe) <= first)
    return jnp.minimum(shard, where.starts.shape[0] - 1)


def read(table: Array | np.ndarray, where: Int32[Array, " n"] | UInt32[Array, " n"]) -> Array:
    """Entries of a table; every place must be in it."""
    return jnp.asarray(table).at[where].get(mode="promise_in_bounds")


def rooms(
    sizes: UInt8[Array | np.ndarray, " shards"], num_seats: Int32[Array | np.ndarray | np.int32, ""]
) -> tuple[Int32[Array | np.ndarray, " shards"], Int32[Array | np.ndarray, " shards"]]:
    """First bin and number of bins of each shard: one for each key, and what is left over in equal parts.

    For NumPy's arrays and JAX's, int32.
    """
    keys = sizes.astype(np.int32)
    num_shards = np.int32(sizes.shape[0])
    more = num_seats - keys.sum(dtype=np.int32)
    place = np.arange(num_shards, dtype=np.int32)
    room = keys + more // num_shards + (place < more % num_shards)
    return room.cumsum(dtype=np.int32) - room, room
