"""The sharded policy itself: what it holds, and how the bin of a fingerprint is read from it. `sharded.py` learns it.

The first word of a key's fingerprint chooses the shard (shards are ranges of it), both words together give the policy's
inputs: a few signs. The policy is one layer of small-integer weights whose outputs are the bits of a code; codes stand
for the shard's bins in order. Only integers are used: the result is the same on every device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int8, Int32, UInt8, UInt32

from jaxhash.hashing.fingerprint import mix

MAX_KEYS = 32
"""Keys of a shard at most: which of its bins are taken is one 32-bit word."""
CELLS_PER_SHARD = 2
_LAST = np.uint32(0xFFFFFFFF)


class Sharded(NamedTuple):
    """The policies of all shards. Shard s takes the fingerprints from its threshold up to the next one's."""

    weights: Int8[Array | np.ndarray, "shards inputs outputs"]
    attempts: UInt8[Array | np.ndarray, " shards"]
    """Which of the possible inputs a shard's policy sees."""
    thresholds: UInt32[Array | np.ndarray, " shards"]
    """Least first word of a fingerprint in the shard; 0 for the first shard."""
    sizes: UInt8[Array | np.ndarray, " shards"]
    """Keys of the key set in the shard."""


@dataclass(frozen=True)
class Lookup:
    """A policy laid out for fast reading: `seats` finds shards in it without a search."""

    cells: Int32[Array | np.ndarray, " cells"]
    """The 32-bit words cut into equal cells: the shard in which each of them begins."""
    thresholds: UInt32[Array | np.ndarray, " padded"]
    attempts: UInt8[Array | np.ndarray, " shards"]
    weights: Int8[Array | np.ndarray, "shards inputs 8"]
    """Outputs padded to 8, which processors read at once."""
    starts: Int32[Array | np.ndarray, " shards"]
    """First bin of each shard."""
    rooms: Int32[Array | np.ndarray, " shards"]
    """Bins of each shard."""
    probes: int
    """Shards that begin within a cell, at most."""
    num_outputs: int


jax.tree_util.register_dataclass(
    Lookup,
    data_fields=["cells", "thresholds", "attempts", "weights", "starts", "rooms"],
    meta_fields=["probes", "num_outputs"],
)


def lookup(policy: Sharded, num_seats: int) -> Lookup:
    """The look-up tables of a policy for `num_seats` bins, at least as many as there are keys; on the host."""
    weights, attempts, thresholds, sizes = (np.asarray(a) for a in policy)
    num_shards, _, num_outputs = weights.shape
    cell_bits = max((CELLS_PER_SHARD * num_shards - 1).bit_length(), 1)
    begin = np.arange(2**cell_bits, dtype=np.uint32) << np.uint32(32 - cell_bits)
    cells, last = (
        (np.searchsorted(thresholds, words, side="right") - 1).astype(np.int32)
        for words in (begin, begin + np.uint32(2 ** (32 - cell_bits) - 1))
    )
    probes = int((last - cells).max())
    starts, room = (np.asarray(a) for a in rooms(sizes, np.int32(num_seats)))
    return Lookup(
        cells,
        # Beyond the last shard, no word reaches the threshold (and should one equal it, `seats` stays in range).
        np.pad(thresholds, (0, probes), constant_values=_LAST),
        attempts,
        np.pad(weights, [(0, 0), (0, 0), (0, 8 - num_outputs)]),
        starts,
        room,
        probes,
        num_outputs,
    )


def seats(tables: Lookup, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The bin of each fingerprint.

    Cost a key: 1 + probes reads to find the shard, inputs * 8 bytes of weights, and as many additions.
    """
    first, second = jnp.asarray(prints)[:, 0], jnp.asarray(prints)[:, 1]
    num_shards, num_inputs, _ = tables.weights.shape

    def read(table: Array | np.ndarray, index: Array) -> Array:
        return jnp.asarray(table).at[index].get(mode="promise_in_bounds")

    cell_bits = tables.cells.shape[0].bit_length() - 1
    begin = read(tables.cells, first >> (32 - cell_bits))
    shard = begin
    for probe in range(1, tables.probes + 1):
        shard = shard + (read(tables.thresholds, begin + probe) <= first)
    shard = jnp.minimum(shard, num_shards - 1)
    inputs = visible_bits(first, second, read(tables.attempts, shard), num_inputs)
    signs = ((inputs[:, None] >> jnp.arange(num_inputs, dtype=jnp.uint32)) & 1).astype(jnp.int16) * 2 - 1
    # 32 inputs of 127 at most stay far within 16 bits.
    logits = (read(tables.weights, shard).astype(jnp.int16) * signs[:, :, None]).sum(1, dtype=jnp.int16)
    mine = read(tables.rooms, shard)
    slot = most_likely_code(logits.T[: tables.num_outputs]) * jnp.minimum(mine, MAX_KEYS) >> tables.num_outputs
    # slot * mine // 32 without a product that leaves 32 bits; where mine <= 32 the slot is the bin.
    spread = slot * (mine // MAX_KEYS) + (slot * (mine % MAX_KEYS)) // MAX_KEYS
    return read(tables.starts, shard) + jnp.where(mine > MAX_KEYS, spread, slot)


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


def rooms(
    sizes: UInt8[Array | np.ndarray, " shards"], num_seats: Int32[Array | np.ndarray | np.int32, ""]
) -> tuple[Int32[Array | np.ndarray, " shards"], Int32[Array | np.ndarray, " shards"]]:
    """First bin and number of bins of each shard: one for each key, and what is left over in equal parts.

    For NumPy's arrays and JAX's, int32.
    """
    keys = sizes.astype(np.int32)
    num_shards = np.int32(sizes.shape[0])
    more = num_seats - keys.sum(dtype=np.int32)
    index = np.arange(num_shards, dtype=np.int32)
    room = keys + more // num_shards + (index < more % num_shards)
    return room.cumsum(dtype=np.int32) - room, room
