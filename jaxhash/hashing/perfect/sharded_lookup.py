"""The sharded policy itself: what it holds, and how the bin of a fingerprint is read from it. `sharded.py` learns it.

The first word of a key's fingerprint chooses the shard (`shards.py`), both words together give the policy's inputs: a
few signs. The policy is one layer of small-integer weights whose outputs are the bits of a code; codes stand for the
shard's bins in order. Only integers are used: the result is the same on every device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int8, Int32, UInt8, UInt32

from jaxhash.hashing.keys.fingerprint import mix
from jaxhash.hashing.perfect import buckets
from jaxhash.hashing.perfect.buckets import Index, find, index, read

MAX_KEYS = 32
"""Keys of a shard at most: which of its bins are taken is one 32-bit word."""


class Sharded(NamedTuple):
    """The policies of all shards."""

    weights: Int8[Array | np.ndarray, "shards inputs outputs"]
    attempts: UInt8[Array | np.ndarray, " shards"]
    """Which of the possible inputs a shard's policy sees."""
    thresholds: UInt32[Array | np.ndarray, " shards"]
    """Least first word of a fingerprint in the shard; 0 for the first shard."""
    sizes: UInt8[Array | np.ndarray, " shards"]
    """Keys of the key set in the shard."""


def check(policy: Sharded, num_keys: int) -> None:
    """Whether arrays of unknown origin are such a policy for so many keys; on the host.

    Raises:
        ValueError: if they are not.
    """
    buckets.check(policy.thresholds, policy.sizes, num_keys)
    weights, attempts = np.asarray(policy.weights), np.asarray(policy.attempts)
    shape = weights.shape
    if weights.dtype != np.int8 or len(shape) != 3 or not (1 <= shape[1] <= 32 and 1 <= shape[2] <= 7):
        raise ValueError(f"weights {weights.dtype}{shape}")
    if attempts.dtype != np.uint8 or not attempts.shape == shape[:1] == np.shape(policy.sizes):
        raise ValueError(f"attempts {attempts.dtype}{attempts.shape} of {shape[0]:,} policies")


@dataclass(frozen=True)
class ShardedLookup:
    """A policy laid out for fast reading."""

    index: Index
    attempts: UInt8[Array | np.ndarray, " shards"]
    weights: Int8[Array | np.ndarray, "shards inputs 8"]
    """Outputs padded to 8, which processors read at once."""
    num_outputs: int


jax.tree_util.register_dataclass(
    ShardedLookup, data_fields=["index", "attempts", "weights"], meta_fields=["num_outputs"]
)


def lookup(policy: Sharded, num_seats: int) -> ShardedLookup:
    """The look-up tables of a policy for `num_seats` bins, at least as many as there are keys; on the host."""
    weights, attempts, thresholds, sizes = (np.asarray(a) for a in policy)
    num_outputs = weights.shape[2]
    padded = np.pad(weights, [(0, 0), (0, 0), (0, 8 - num_outputs)])
    return ShardedLookup(index(thresholds, sizes, num_seats), attempts, padded, num_outputs)


def seats(tables: ShardedLookup, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The bin of each fingerprint.

    Cost a key: that of `find`, inputs * 8 bytes of weights, and as many additions.
    """
    first, second = jnp.asarray(prints)[:, 0], jnp.asarray(prints)[:, 1]
    num_inputs = tables.weights.shape[1]
    shard = find(tables.index, first)
    inputs = visible_bits(first, second, read(tables.attempts, shard), num_inputs)
    signs = ((inputs[:, None] >> jnp.arange(num_inputs, dtype=jnp.uint32)) & 1).astype(jnp.int16) * 2 - 1
    # 32 inputs of 127 at most stay far within 16 bits.
    logits = (read(tables.weights, shard).astype(jnp.int16) * signs[:, :, None]).sum(1, dtype=jnp.int16)
    room = read(tables.index.rooms, shard)
    slot = most_likely_code(logits.T[: tables.num_outputs]) * jnp.minimum(room, MAX_KEYS) >> tables.num_outputs
    # slot * room // 32 without a product that leaves 32 bits; where room <= 32 the slot is the bin.
    spread = slot * (room // MAX_KEYS) + (slot * (room % MAX_KEYS)) // MAX_KEYS
    return read(tables.index.starts, shard) + jnp.where(room > MAX_KEYS, spread, slot)


def visible_bits(first: Array, second: Array, attempt: Array, num_inputs: int) -> UInt32[Array, "*shape"]:
    """What a policy sees of a fingerprint, one bit an input; every attempt sees something else."""
    turned = mix(first + (attempt.astype(jnp.uint32) + 1) * jnp.uint32(0x9E3779B9))
    return mix(turned ^ second) & jnp.uint32(2**num_inputs - 1)


def most_likely_code(logits: Int[Array, "outputs *shape"]) -> Int32[Array, "*shape"]:
    """The most likely code: bit is 1 where its logit is positive, the first output counts most."""
    code = jnp.zeros(logits.shape[1:], jnp.int32)
    for logit in logits:
        code = code * 2 + (logit > 0)
    return code
