"""Network method: one network for all keys, trained by the policy gradient, read in small integers.

The network of "Neural Hash Functions" (A. Museth, CS285), figure 6: two hidden layers of 300 ReLUs, and a logit a slot.
It is trained as in the study, by the return alone (`network_training.py`). Its inputs are the 64 bits of a key's
fingerprint, as signs, so that keys may be of any bytes and length. Weights are rounded to as few bits as leave every
key its slot, and hidden units to integers below 2^10: who reads the function adds 32-bit integers and compares them, on
any device the same.

The network has a logit for each key, whatever the slots: where these are more, keys stand at even distances.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int8, Int32, UInt32

from jaxhash.hashing.perfect.workers import check_ranges

FINGERPRINT_BYTES = 8
UNIT_BITS = 10
"""Of a hidden unit: it is below 2^10. With weights of 11 bits and 1,023 units, sums stay within 31 bits."""
WEIGHT_BITS = range(2, 12)
"""Bits of a weight, its sign among them, the fewest first."""
MAX_HIDDEN = 2**UNIT_BITS - 1
LOGITS_AT_A_TIME = 2**22
"""Logits in memory at once, 4 bytes each."""
ROWS_WHERE_OPEN = 2**6
"""Keys at a time in a function that is exported for any number of keys: a few keys cost as much as these."""

Weights = Int[Array | np.ndarray, "inputs outputs"]
Biases = Int32[Array | np.ndarray, " outputs"]


@dataclass(frozen=True)
class NetworkMethodConfig:
    """How wide the network is, and how long it is trained."""

    hidden: int = 300
    """Units of each of the two hidden layers, 1 to 1,023."""
    iterations: int = 400
    """Times that all keys are placed, at most."""

    def __post_init__(self) -> None:
        check_ranges(self, hidden=(1, MAX_HIDDEN), iterations=(1, 2**31 - 1))


class Network(NamedTuple):
    """The network in integers: weights int8, or int16 where they have more than 8 bits."""

    first: Weights
    """[64, hidden]"""
    second: Weights
    output: Weights
    """[hidden, keys]"""
    first_bias: Biases
    second_bias: Biases
    output_bias: Biases
    shifts: Int8[Array | np.ndarray, "2"]
    """By how many bits the sums of each hidden layer are shifted to the right: units are 10 bits of them."""


def of_no_key(hidden: int) -> Network:
    """The network of an empty key set."""

    def zeros(*shape: int, dtype: type = np.int8) -> np.ndarray:
        return np.zeros(shape, dtype)

    kernels = zeros(8 * FINGERPRINT_BYTES, hidden), zeros(hidden, hidden), zeros(hidden, 1)
    hidden_bias, output_bias = zeros(hidden, dtype=np.int32), zeros(1, dtype=np.int32)
    return Network(*kernels, hidden_bias, hidden_bias, output_bias, zeros(2))


def rounded(params: Any, bits: int, prints: UInt32[np.ndarray, "n 2"]) -> Network:
    """The network in integers, of so many bits a weight; on the host.

    Args:
        params: of the network as it was trained, two hidden layers (`networks.make_network`).
        bits: of a weight, its sign among them.
        prints: the keys' fingerprints, whose largest unit in each layer comes to just below 2^10.
    """
    layers = [params["params"][f"Dense_{i}"] for i in range(3)]
    units, scale = _signs(jnp.asarray(prints)), 1.0
    kernels: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    shifts: list[int] = []
    for layer in layers:
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
        step = (2 ** (bits - 1) - 1) / max(np.abs(kernel).max(), 1e-30)
        kernels.append(np.rint(kernel * step).astype(np.int8 if bits <= 8 else np.int16))
        scale *= step
        biases.append(np.clip(np.rint(bias * scale), -(2**30), 2**30).astype(np.int32))
        if len(shifts) < 2:
            sums = _layer(units, kernels[-1], biases[-1])
            shifts.append(max(int(sums.max(initial=0)).bit_length() - UNIT_BITS, 0))
            units, scale = _units(sums, shifts[-1]), scale / 2 ** shifts[-1]
    return Network(*[*kernels, *biases, np.array(shifts, np.int8)])


def weight_bits(policy: Network) -> int:
    """Bits that the weights of the output layer need, the sign among them."""
    return int(np.abs(np.asarray(policy.output, np.int32)).max(initial=0)).bit_length() + 1


def check(policy: Network, num_keys: int, num_slots: int) -> None:
    """Whether arrays of unknown origin are such a network for so many keys; on the host.

    Raises:
        ValueError: if they are not.
    """
    arrays = [np.asarray(a) for a in policy]
    hidden = arrays[0].shape[-1] if arrays[0].ndim else 0
    if not 1 <= hidden <= MAX_HIDDEN:
        raise ValueError(f"{hidden} hidden units")
    columns = max(num_keys, 1)
    for array, shape in zip(
        arrays[:3], ((8 * FINGERPRINT_BYTES, hidden), (hidden, hidden), (hidden, columns)), strict=True
    ):
        if array.dtype not in (np.int8, np.int16) or array.shape != shape:
            raise ValueError(f"weights {array.dtype}{array.shape} where int8{shape} or int16 are expected")
        if np.abs(array.astype(np.int32)).max(initial=0) >= 2 ** (WEIGHT_BITS[-1] - 1):
            raise ValueError(f"weights of more than {WEIGHT_BITS[-1]} bits")
    for array, units in zip(arrays[3:6], (hidden, hidden, columns), strict=True):
        if array.dtype != np.int32 or array.shape != (units,) or np.abs(array.astype(np.int64)).max(initial=0) > 2**30:
            raise ValueError(f"biases {array.dtype}{array.shape} where int32({units},) are expected")
    shifts = arrays[6]
    if shifts.dtype != np.int8 or shifts.shape != (2,) or not ((shifts >= 0) & (shifts < 31)).all():
        raise ValueError(f"shifts {shifts.tolist()}")


@dataclass(frozen=True)
class Lookup:
    """A network, and among how many slots its keys stand."""

    network: Network
    num_slots: Int32[Array | np.ndarray, ""]


jax.tree_util.register_dataclass(Lookup, data_fields=["network", "num_slots"], meta_fields=[])


def lookup(policy: Network, num_slots: int) -> Lookup:
    """The network for `num_slots` slots, at least as many as there are keys."""
    return Lookup(policy, np.asarray(num_slots, np.int32))


def slots(tables: Lookup, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The slot of each fingerprint: that of the highest logit, the first of equals. Cost a key: hidden * keys
    additions."""
    network = tables.network
    units = _signs(prints)
    for kernel, bias, shift in (
        (network.first, network.first_bias, network.shifts[0]),
        (network.second, network.second_bias, network.shifts[1]),
    ):
        units = _units(_layer(units, kernel, bias), shift)
    n, hidden = units.shape
    output, bias = jnp.asarray(network.output), jnp.asarray(network.output_bias)
    columns = output.shape[1]
    rows = max(min(LOGITS_AT_A_TIME // columns, n if isinstance(n, int) else ROWS_WHERE_OPEN), 1)
    blocks = -(-n // rows)
    padded = jnp.pad(units, [(0, blocks * rows - n), (0, 0)]).reshape(blocks, rows, hidden)
    rank = jax.lax.map(lambda some: jnp.argmax(_layer(some, output, bias), axis=1).astype(jnp.int32), padded)
    rank = rank.reshape(blocks * rows)[:n]
    # Even distances, the first ones one slot more.
    distance, more = tables.num_slots // columns, tables.num_slots % columns
    return rank * distance + jnp.minimum(rank, more)


def _signs(prints: UInt32[Array, "n 2"]) -> Int32[Array, "n bits"]:
    """The network's inputs: the bits of a fingerprint as -1 and 1, the lowest of each word first."""
    bits = (prints[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return bits.reshape(-1, 8 * FINGERPRINT_BYTES).astype(jnp.int32) * 2 - 1


def _layer(units: Int32[Array, "n inputs"], kernel: Weights, bias: Biases) -> Int32[Array, "n outputs"]:
    return jax.lax.dot(units, jnp.asarray(kernel).astype(jnp.int32)) + jnp.asarray(bias)


def _units(sums: Int32[Array, "n hidden"], shift: Any) -> Int32[Array, "n hidden"]:
    """A hidden layer: ReLU, and the highest bits of it. Keys of no key set may be beyond."""
    return jnp.minimum(jnp.maximum(sums, 0) >> jnp.asarray(shift).astype(jnp.int32), 2**UNIT_BITS - 1)
