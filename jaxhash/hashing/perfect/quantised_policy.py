"""The sharded policy with weights of 4 bits or 1, packed: what is kept of it. It is unpacked to be read."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int8, UInt8, UInt32

from jaxhash.hashing.perfect import sharded_lookup
from jaxhash.hashing.perfect.sharded_lookup import Sharded


class Quantised(NamedTuple):
    """A sharded policy whose weights are -8 ... 7 (4 bits) or -1 and 1 (1 bit)."""

    weights: UInt8[Array | np.ndarray, "shards bytes"]
    """The weights of a shard one after another, outputs fastest, the lowest bit first; unused bits are 0."""
    attempts: UInt8[Array | np.ndarray, " shards"]
    thresholds: UInt32[Array | np.ndarray, " shards"]
    sizes: UInt8[Array | np.ndarray, " shards"]
    shape: UInt8[Array | np.ndarray, "3"]
    """Inputs, outputs, bits of a weight."""


def pack(policy: Sharded, weight_bits: int) -> Quantised:
    """The policy with `weight_bits` bits a weight, 4 or 1; on the host.

    Raises:
        ValueError: if a weight does not fit.
    """
    weights = np.asarray(policy.weights)
    shards, inputs, outputs = weights.shape
    numbers = _numbers(weights, weight_bits)
    fits = (numbers >= 0) & (numbers < 2**weight_bits) & (_weights(numbers, weight_bits) == weights)
    if not fits.all():
        raise ValueError(f"weights {weights.min()} ... {weights.max()} do not fit weight_bits={weight_bits}")
    planes = (numbers[..., None] >> np.arange(weight_bits)) & 1
    packed = np.packbits(planes.reshape(shards, -1).astype(np.uint8), axis=1, bitorder="little")
    attempts, thresholds, sizes = (np.asarray(a) for a in policy[1:])
    return Quantised(packed, attempts, thresholds, sizes, np.array([inputs, outputs, weight_bits], np.uint8))


def check(policy: Quantised, num_keys: int) -> None:
    """Whether arrays of unknown origin are such a policy for so many keys; on the host.

    Raises:
        ValueError: if they are not.
    """
    shape, weights = np.asarray(policy.shape), np.asarray(policy.weights)
    if shape.dtype != np.uint8 or shape.shape != (3,) or shape[2] not in (1, 4):
        raise ValueError(f"shape {shape.dtype}{shape.tolist()}")
    if weights.dtype != np.uint8 or weights.ndim != 2 or weights.shape[1] != -(-int(np.prod(shape, dtype=int)) // 8):
        raise ValueError(f"weights {weights.dtype}{weights.shape} for shape {shape.tolist()}")
    sharded_lookup.check(unpack(policy), num_keys)


def unpack(policy: Quantised) -> Sharded:
    """The same function with a byte a weight; on the host."""
    inputs, outputs, weight_bits = np.asarray(policy.shape).tolist()
    packed = np.asarray(policy.weights)
    planes = np.unpackbits(packed, axis=1, count=inputs * outputs * weight_bits, bitorder="little")
    numbers = (planes.reshape(-1, weight_bits) << np.arange(weight_bits)).sum(1)
    weights = _weights(numbers, weight_bits).reshape(len(packed), inputs, outputs)
    return Sharded(weights, *(np.asarray(a) for a in (policy.attempts, policy.thresholds, policy.sizes)))


def _numbers(weights: Int8[np.ndarray, "*shape"], weight_bits: int) -> np.ndarray:
    """Weights as numbers from 0 on."""
    return weights > 0 if weight_bits == 1 else weights.astype(np.int64) + 2 ** (weight_bits - 1)


def _weights(numbers: np.ndarray, weight_bits: int) -> Int8[np.ndarray, "*shape"]:
    """The inverse of `_numbers`."""
    weights = 2 * numbers.astype(np.int64) - 1 if weight_bits == 1 else numbers - 2 ** (weight_bits - 1)
    return weights.astype(np.int8)
