"""The single policy: one network with two hidden layers for all keys, and one logit a bin, as in the study.

"Neural Hash Functions" (A. Museth, CS285), Figure 6: two hidden layers of 300. Here the inputs are the 64 bits of a
key's fingerprint as signs, hidden units are signs of sums, weights are small integers. The hidden layers stay as drawn;
the output layer learns. It is competitive learning: every key is shown a good action, its own bin if it came first to
it, else the empty bin that the policy likes best (conflicts settled in rounds). The weights of that bin move towards
the key unless they stand well apart already; those of a bin that it shared move away from it if that is not enough.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int8, Int32, UInt32

from jaxhash.hashing.keys.fingerprint import mix

FINGERPRINT_BITS = 64
LOGITS_AT_A_TIME = 2**22
"""Logits in memory at once, 4 bytes each."""
ROWS_WHERE_OPEN = 2**6
"""Keys at a time in a function that is exported for any number of keys: a few keys cost as much as these."""


@dataclass(frozen=True)
class SingleConfig:
    """How wide the network is, and how long it is trained."""

    hidden: int = 300
    """Units of each of the two hidden layers, 1 to 10,000."""
    iterations: int = 30
    """Times that all keys are shown a bin, at most."""

    def __post_init__(self) -> None:
        if not 1 <= self.hidden <= 10_000:
            raise ValueError(f"hidden={self.hidden} is not valid: hidden must be 1 to 10,000")
        if self.iterations < 0:
            raise ValueError(f"iterations={self.iterations} is not valid: iterations must be 0 or more")


class Single(NamedTuple):
    """The network."""

    first: Int8[Array | np.ndarray, "bits hidden"]
    second: Int8[Array | np.ndarray, "hidden hidden"]
    output: Int8[Array | np.ndarray, "hidden seats"]


def check(policy: Single, num_seats: int) -> None:
    """Whether arrays of unknown origin are such a policy for so many bins; on the host.

    Raises:
        ValueError: if they are not.
    """
    first, second, output = (np.asarray(a) for a in policy)
    hidden = first.shape[-1] if first.ndim else 0
    shapes = ((FINGERPRINT_BITS, hidden), (hidden, hidden), (hidden, num_seats))
    for array, shape in zip((first, second, output), shapes, strict=True):
        if array.dtype != np.int8 or array.shape != shape:
            raise ValueError(f"weights {array.dtype}{array.shape} where int8{shape} are expected")


def start(config: SingleConfig, num_seats: int, seed: int) -> Single:
    """The untrained network: weights -1 or 1."""

    return _draw(jnp.uint32(seed), config.hidden, num_seats)


def hidden_units(policy: Single, prints: UInt32[Array, "n 2"]) -> Int8[Array, "n hidden"]:
    """The second hidden layer, -1 or 1."""
    bits = (prints[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    units = (bits.reshape(-1, FINGERPRINT_BITS).astype(jnp.int8) * 2 - 1).astype(jnp.int8)
    for weights in (policy.first, policy.second):
        # Every other unit takes a sum of 0 for positive, so that units are as often 1 as -1.
        sums = _product(units, jnp.asarray(weights)) + jnp.arange(weights.shape[1], dtype=jnp.int32) % 2
        units = jnp.where(sums > 0, 1, -1).astype(jnp.int8)
    return units


def most_likely(policy: Single, units: Int8[Array, "n hidden"]) -> Int32[Array, " n"]:
    """The bin with the highest logit, the first of equals. Cost a key: hidden * seats additions."""
    output = jnp.asarray(policy.output)
    n, hidden = units.shape
    at_most = n if isinstance(n, int) else ROWS_WHERE_OPEN
    rows = max(min(LOGITS_AT_A_TIME // max(output.shape[1], 1), at_most), 1)
    blocks = -(-n // rows)
    padded = jnp.pad(units, [(0, blocks * rows - n), (0, 0)]).reshape(blocks, rows, hidden)
    bins = jax.lax.map(lambda some: jnp.argmax(_product(some, output), axis=1).astype(jnp.int32), padded)
    return bins.reshape(blocks * rows)[:n]


def seats(policy: Single, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The bin of each fingerprint."""
    return most_likely(policy, hidden_units(policy, prints))


def train(policy: Single, units: Int8[Array, "n hidden"], bins: Int32[Array, " n"]) -> Single:
    """One iteration: every key is shown one bin. There are at least as many bins as keys.

    Args:
        policy: the network.
        units: of its second hidden layer, for each key.
        bins: the most likely bin of each key.
    """
    output = jnp.asarray(policy.output)
    n, num_seats = len(bins), output.shape[1]
    order = jnp.arange(n, dtype=jnp.int32)
    owner = jnp.full(num_seats, n, jnp.int32).at[bins].min(order)
    settled = owner[bins] == order
    shown = settle(output, units, jnp.where(settled, bins, num_seats))
    weights = output.astype(jnp.int32).T
    units = units.astype(jnp.int32)
    liked, worth = ((weights[b] * units).sum(1, dtype=jnp.int32) for b in (bins, shown))
    # Columns stay short, for a long one draws keys from everywhere: only what one step towards the key does not mend
    # is pushed away, and a key that is well apart from the others is left as it is.
    one_step = units.shape[1]
    towards = jnp.where(~settled | (worth < one_step), shown, num_seats)
    away = jnp.where(~settled & (worth + one_step <= liked), bins, num_seats)
    weights = weights.at[towards].add(units, mode="drop").at[away].add(-units, mode="drop")
    return policy._replace(output=jnp.clip(weights, -127, 127).T.astype(jnp.int8))


def settle(
    output: Int8[Array, "hidden seats"], units: Int8[Array, "n hidden"], bins: Int32[Array, " n"]
) -> Int32[Array, " n"]:
    """Keys without a bin (`bins` = seats) each get the empty bin with the highest logit, in rounds.

    In a round, some of these keys ask for the empty bin that they like best; of those that ask for the same one the
    first gets it. At least one key is settled in a round.
    """
    n, num_seats = len(bins), output.shape[1]
    rows = max(min(LOGITS_AT_A_TIME // (4 * max(num_seats, 1)), n), 1)

    def waiting(bins: Array) -> Bool[Array, ""]:
        return (bins == num_seats).any()

    def settle_some(bins: Array) -> Array:
        (asking,) = jnp.nonzero(bins == num_seats, size=rows, fill_value=n)
        asking = asking.astype(jnp.int32)
        full = jnp.zeros(num_seats, bool).at[bins].set(True, mode="drop")
        logits = _product(units.at[asking].get(mode="clip"), output)
        liked = jnp.argmax(jnp.where(full, jnp.iinfo(jnp.int32).min, logits), axis=1).astype(jnp.int32)
        first = jnp.full(num_seats, n, jnp.int32).at[liked].min(asking)
        served = jnp.where(first[liked] == asking, asking, n)
        return bins.at[served].set(liked, mode="drop")

    return jax.lax.while_loop(waiting, settle_some, bins)


@partial(jax.jit, static_argnums=(1, 2))
def _draw(seed: UInt32[Array, ""], hidden: int, num_seats: int) -> Single:
    shapes = ((FINGERPRINT_BITS, hidden), (hidden, hidden), (hidden, num_seats))
    layers = []
    for layer, (rows, columns) in enumerate(shapes, 1):
        stream = mix(seed ^ mix(jnp.uint32(layer)))
        words = mix(jnp.arange(1, rows * columns + 1, dtype=jnp.uint32) + stream)
        layers.append(((words >> 31).astype(jnp.int8) * 2 - 1).astype(jnp.int8).reshape(rows, columns))
    return Single(*layers)


def _product(a: Int8[Array, "n k"], b: Int8[Array, "k m"]) -> Int32[Array, "n m"]:
    return jax.lax.dot(a, b, preferred_element_type=jnp.int32)
