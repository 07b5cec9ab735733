"""Hash table of the study: bins, the reward of a bin, collisions, and what chance would give.

Keys arrive one after another. A key that falls into an empty bin earns +10 and occupies it, a key that falls into an
occupied bin earns -10 (A. Museth, "Neural Hash Functions", CS285). A bin outside 0 ... num_bins - 1 is no bin: its
key earns -10, occupies nothing and counts as colliding.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int, Int32

REWARD_EMPTY = 10.0
"""Reward of a key that falls into an empty bin."""
REWARD_OCCUPIED = -10.0
"""Reward of a key that falls into an occupied bin."""


class Placement(NamedTuple):
    """What became of a batch of keys, and of the table."""

    rewards: Float32[Array, " n"]
    occupied: Bool[Array, " bins"]


def place_key(
    occupied: Bool[Array, " bins"], chosen: Int[Array, ""]
) -> tuple[Bool[Array, " bins"], Float32[Array, ""]]:
    """One key falls into bin `chosen`: the table afterwards, and the key's reward. A step for `lax.scan`."""
    inside = (chosen >= 0) & (chosen < len(occupied))
    empty = inside & ~occupied[jnp.clip(chosen, 0, len(occupied) - 1)]
    return _mark(occupied, chosen), jnp.where(empty, REWARD_EMPTY, REWARD_OCCUPIED).astype(jnp.float32)


@partial(jax.jit, static_argnames="num_bins")
def place(bins: Int[Array, " n"], num_bins: int, occupied: Bool[Array, " bins"] | None = None) -> Placement:
    """A batch of keys falls into its bins, in order of arrival: the same as `place_key` for one after another.

    Cost: one scatter and two gathers of n.

    Args:
        bins: the bin of each key.
        num_bins: bins in the table, 1 or more.
        occupied: the table before; by default empty.

    Raises:
        ValueError: if `num_bins` is less than 1 or not the table's.
    """
    _check(num_bins)
    if occupied is None:
        occupied = jnp.zeros(num_bins, bool)
    if occupied.shape != (num_bins,):
        raise ValueError(f"num_bins={num_bins} but occupied has shape {occupied.shape}; give occupied [num_bins]")
    arrival = jnp.arange(len(bins), dtype=jnp.int32)
    first = jnp.full(num_bins, len(bins), jnp.int32)
    first = first.at[bins].min(arrival, mode="drop", wrap_negative_indices=False)
    # A key outside the table is the first of no bin.
    known = jnp.clip(bins, 0, num_bins - 1)
    empty = (first[known] == arrival) & ~occupied[known]
    rewards = jnp.where(empty, REWARD_EMPTY, REWARD_OCCUPIED).astype(jnp.float32)
    return Placement(rewards, _mark(occupied, bins))


def rewards(
    bins: Int[Array, " n"], num_bins: int, occupied: Bool[Array, " bins"] | None = None
) -> Float32[Array, " n"]:
    """The rewards of `place`."""
    return place(bins, num_bins, occupied).rewards


@partial(jax.jit, static_argnames="num_bins")
def occupancy(bins: Int[Array, " n"], num_bins: int) -> Int32[Array, " bins"]:
    """Number of keys in each bin.

    Raises:
        ValueError: if `num_bins` is less than 1.
    """
    _check(num_bins)
    return jnp.zeros(num_bins, jnp.int32).at[bins].add(1, mode="drop", wrap_negative_indices=False)


@partial(jax.jit, static_argnames="num_bins")
def collisions(bins: Int[Array, " n"], num_bins: int) -> Int32[Array, ""]:
    """Keys - occupied bins.

    Raises:
        ValueError: if `num_bins` is less than 1.
    """
    return (len(bins) - (occupancy(bins, num_bins) > 0).sum()).astype(jnp.int32)


@partial(jax.jit, static_argnames="num_bins")
def largest_bin(bins: Int[Array, " n"], num_bins: int) -> Int32[Array, ""]:
    """Number of keys in the fullest bin.

    Raises:
        ValueError: if `num_bins` is less than 1.
    """
    return occupancy(bins, num_bins).max()


def load_factor(num_keys: int, num_bins: int) -> float:
    """Keys a bin.

    Raises:
        ValueError: if `num_keys` is negative or `num_bins` less than 1.
    """
    _check(num_bins, num_keys)
    return num_keys / num_bins


def expected_collisions(num_keys: int, num_bins: int) -> float:
    """Mean collisions when each key falls into a bin of its own drawing, uniformly: n - m (1 - (1 - 1/m)^n).

    A bin stays empty with probability (1 - 1/m)^n (Feller, "An Introduction to Probability Theory", vol. 1, II.5).

    Raises:
        ValueError: as `load_factor`.
    """
    _check(num_bins, num_keys)
    return num_keys + num_bins * math.expm1(_log_all_avoid(num_bins, num_keys))


def collision_deviation(num_keys: int, num_bins: int) -> float:
    """Standard deviation of the collisions when each key falls into a bin of its own drawing, uniformly.

    Collisions and empty bins differ by the constant n - m, and the indicators of two empty bins have the covariance
    (1 - 2/m)^n - (1 - 1/m)^(2n) (Feller, as above).

    Raises:
        ValueError: as `load_factor`.
    """
    _check(num_bins, num_keys)
    if num_bins == 1:
        return 0.0
    log_empty = _log_all_avoid(num_bins, num_keys)
    empty = math.exp(log_empty)
    # (1 - 2/m) / (1 - 1/m)^2 = 1 - 1 / (m - 1)^2, so that the covariance is this fraction of (1 - 1/m)^(2n).
    joint = math.expm1(num_keys * math.log1p(-1 / (num_bins - 1) ** 2)) if num_bins > 2 else -float(num_keys > 0)
    variance = num_bins * empty * -math.expm1(log_empty) + num_bins * (num_bins - 1) * empty**2 * joint
    return math.sqrt(max(variance, 0.0))


def _log_all_avoid(num_bins: int, num_keys: int) -> float:
    """Logarithm of the probability that no key falls into a given bin: n log(1 - 1/m)."""
    if num_keys == 0:
        return 0.0
    return num_keys * math.log1p(-1 / num_bins) if num_bins > 1 else -math.inf


def _mark(occupied: Bool[Array, " bins"], bins: Int[Array, "..."]) -> Bool[Array, " bins"]:
    return occupied.at[bins].set(True, mode="drop", wrap_negative_indices=False)


def _check(num_bins: int, num_keys: int = 0) -> None:
    if num_bins < 1:
        raise ValueError(f"num_bins={num_bins} is less than 1; a table needs a bin")
    if num_keys < 0:
        raise ValueError(f"num_keys={num_keys} is negative; it is a number of keys")
