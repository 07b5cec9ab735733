"""The latent policy: one tiny network for all shards, and a few 16-bit latents a shard that are found by search.

The network is a layer of binary neurons. Its inputs are 31 signs, mixed from a key's fingerprint and a latent; each of
its 6 outputs is the majority of the inputs under weights of -1 and 1, which is a population count. The weights are the
same everywhere and never change: all that a function has learned are its latents. A shard's first latent makes the
policy deal the keys out to leaves, as many to each; the latent of a leaf makes it give the leaf's keys a bin each.

A policy shared by all shards and a pilot a bucket is how compiled perfect hashes are built (Groot Koerkamp 2025,
"PtrHash"; Esposito, Mueller Graf, Vigna 2020, "RecSplit"; there a hash function takes the network's place).
`latent.py` searches.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt8, UInt16, UInt32

from jaxhash.hashing.keys.fingerprint import mix
from jaxhash.hashing.perfect import buckets
from jaxhash.hashing.perfect.buckets import Index, find, index, read

INPUTS = 31
"""An odd number: a majority is never even."""
OUTPUTS = 6
LATENT_BITS = 16
# Rows of a Hadamard matrix, bit i of row j the parity of i & j: any two differ in half of their weights, so that
# outputs are as good as independent.
_WEIGHTS = tuple(
    sum((i & row).bit_count() % 2 << i for i in range(INPUTS)) for row in (1, 2, 4, 8, 16, 31)
)  # fmt: skip


class Latent(NamedTuple):
    """The latents of all shards."""

    splits: UInt16[Array | np.ndarray, " shards"]
    """Deals the keys of a shard out to its leaves."""
    latents: UInt16[Array | np.ndarray, "shards leaves"]
    """Gives the keys of a leaf a bin each."""
    thresholds: UInt32[Array | np.ndarray, " shards"]
    """Least first word of a fingerprint in the shard; 0 for the first shard."""
    sizes: UInt8[Array | np.ndarray, " shards"]
    """Keys of the key set in the shard."""


def check(policy: Latent, num_keys: int) -> None:
    """Whether arrays of unknown origin are such a policy for so many keys; on the host.

    Raises:
        ValueError: if they are not.
    """
    buckets.check(policy.thresholds, policy.sizes, num_keys)
    splits, latents = np.asarray(policy.splits), np.asarray(policy.latents)
    if not splits.dtype == latents.dtype == np.uint16 or splits.shape != np.shape(policy.sizes):
        raise ValueError(f"splits {splits.dtype}{splits.shape} and latents {latents.dtype}")
    if latents.ndim != 2 or latents.shape[0] != len(splits) or not 1 <= latents.shape[1] <= 2**OUTPUTS:
        raise ValueError(f"latents {latents.shape} of {len(splits):,} shards")


@dataclass(frozen=True)
class LatentLookup:
    """A policy laid out for fast reading."""

    index: Index
    splits: UInt16[Array | np.ndarray, " shards"]
    latents: UInt16[Array | np.ndarray, " all_leaves"]
    sizes: UInt8[Array | np.ndarray, " shards"]
    strides: Int32[Array | np.ndarray, " shards"]
    """Bins from one slot of the shard to the next, and one more ..."""
    wider: Int32[Array | np.ndarray, " shards"]
    """... for this many of its first slots."""
    num_leaves: int


jax.tree_util.register_dataclass(
    LatentLookup, data_fields=["index", "splits", "latents", "sizes", "strides", "wider"], meta_fields=["num_leaves"]
)


def lookup(policy: Latent, num_seats: int) -> LatentLookup:
    """The look-up tables of a policy for `num_seats` bins, at least as many as there are keys; on the host."""
    splits, latents, thresholds, sizes = (np.asarray(a) for a in policy)
    where = index(thresholds, sizes, num_seats)
    # Divided here once: two divisions a key would take half of the time of a look-up.
    strides, wider = np.divmod(np.asarray(where.rooms), np.maximum(sizes, 1).astype(np.int32))
    return LatentLookup(where, splits, latents.ravel(), sizes, strides, wider, latents.shape[1])


def seats(tables: LatentLookup, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The bin of each fingerprint. Cost a key: that of `find`, 6 reads, and twice 45 operations of the network."""
    first, second = jnp.asarray(prints)[:, 0], jnp.asarray(prints)[:, 1]
    leaves = tables.num_leaves
    shard = find(tables.index, first)
    size = read(tables.sizes, shard).astype(jnp.int32)
    leaf = leaf_of(first, second, read(tables.splits, shard), leaves)
    begin, room = leaf_rooms(size, leaf, leaves)
    slot = begin + slot_of(first, second, read(tables.latents, shard * leaves + leaf), room)
    # A key that was not in the key set may come to a leaf without a slot.
    slot = jnp.minimum(slot, jnp.maximum(size - 1, 0))
    offset = slot * read(tables.strides, shard) + jnp.minimum(slot, read(tables.wider, shard))
    return read(tables.index.starts, shard) + offset


def leaf_of(first: Array, second: Array, latent: Array, leaves: int) -> Int32[Array, "*shape"]:
    """The leaf that the policy chooses for a key when it sees the latent of a shard."""
    return code(first, second, latent.astype(jnp.uint32)) * leaves >> OUTPUTS


def slot_of(first: Array, second: Array, latent: Array, room: Array) -> Int32[Array, "*shape"]:
    """The slot, 0 ... room - 1, that the policy chooses for a key when it sees the latent of a leaf."""
    return code(first, second, latent.astype(jnp.uint32) + jnp.uint32(2**LATENT_BITS)) * room >> OUTPUTS


def code(
    first: UInt32[Array, "*shape"], second: UInt32[Array, "*shape"], latent: UInt32[Array, "*#shape"]
) -> Int32[Array, "*shape"]:
    """The network: a fingerprint and a latent -> 6 bits, the first output counts most.

    Two fingerprints have the same inputs under one latent in 2^31 at most, on average.
    """
    turn = mix((latent + 1) * jnp.uint32(0x9E3779B9)) | jnp.uint32(1)
    inputs = mix(first * turn + second) & jnp.uint32(2**INPUTS - 1)
    found = jnp.zeros(inputs.shape, jnp.int32)
    for weights in _WEIGHTS:
        ones = jax.lax.population_count(inputs ^ jnp.uint32(weights))
        found = found * 2 + (ones > INPUTS // 2)
    return found


def leaf_rooms(size: Array, leaf: Array, leaves: int) -> tuple[Int32[Array, "*#shape"], Int32[Array, "*#shape"]]:
    """First slot and number of slots of a leaf, in a shard of so many keys: equal shares, the first leaves one more."""
    share, more = size // leaves, size % leaves
    return leaf * share + jnp.minimum(leaf, more), share + (leaf < more)
