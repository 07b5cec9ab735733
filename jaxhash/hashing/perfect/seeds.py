"""Searching the latents of the latent policy (`latent_policy.py`): nothing is trained, the latents are tried in turn.

All shards at once, first the latent that deals a shard's keys out to its leaves evenly, then that of every leaf under
which no two of its keys share a slot. One of s keys in s slots is found after s^s / s! trials on average: 7,100 for 11.
Where the latents of a leaf are used up (1 in 10,000 leaves of 11), the shard goes on to its next split.

Only integers are used, and the first latent that serves is taken: the result is the same on every device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt32

from jaxhash.hashing.perfect.buckets import Shards
from jaxhash.hashing.perfect.seeds_lookup import LATENT_BITS, leaf_of, leaf_rooms, slot_of

LIMIT = 2**LATENT_BITS
TRIALS_BETWEEN_REFILLS = 32
"""Latents tried before lanes that are done take another group of keys."""
_BITS_OF_A_COUNT = 5


@dataclass(frozen=True)
class LatentConfig:
    """How many keys share a latent. More make a smaller function, and a longer search."""

    keys_per_leaf: int = 10
    """Keys that get their bins by one latent, 1 to 11. Each more makes the search 2.6 times as long."""
    leaves: int = 4
    """Leaves of a shard, 1 to 6. Each more makes the search for a shard's own latent 4 to 9 times as long."""

    def __post_init__(self) -> None:
        if not 1 <= self.keys_per_leaf <= 11:
            raise ValueError(f"keys_per_leaf={self.keys_per_leaf} is not valid: keys_per_leaf must be 1 to 11")
        if not 1 <= self.leaves <= 6:
            raise ValueError(f"leaves={self.leaves} is not valid: leaves must be 1 to 6")

    @property
    def keys_per_shard(self) -> int:
        """Keys of a shard."""
        return self.keys_per_leaf * self.leaves


class Groups(NamedTuple):
    """Groups of keys, each in want of a latent; groups along the last axis. Padding groups have size 0."""

    first: UInt32[Array | np.ndarray, "keys groups"]
    second: UInt32[Array | np.ndarray, "keys groups"]
    sizes: Int32[Array | np.ndarray, " groups"]
    begin: Int32[Array | np.ndarray, " groups"]
    """The first latent to try."""


class SearchState(NamedTuple):
    """Where a search stands: groups in the lanes, and the latents found so far."""

    group: Int32[Array, " lanes"]
    """The group in each lane; the number of groups if there is none left."""
    latent: Int32[Array, " lanes"]
    """The next latent to try."""
    first: UInt32[Array, "keys lanes"]
    second: UInt32[Array, "keys lanes"]
    sizes: Int32[Array, " lanes"]
    found: Int32[Array, " lanes"]
    """The latent found in this lane, `LIMIT` if there is none; -1 while it is searched."""
    next_group: Int32[Array, ""]
    latents: Int32[Array, " groups"]
    """The latent of each group, `LIMIT` if none serves; -1 where it is not known yet."""


Serves = Callable[[Array, Array, Array, Array], Bool[Array, " lanes"]]
"""(first, second [keys lanes], sizes, latents [lanes]) -> under which of the latents the groups are as wanted."""


def splits_evenly(config: LatentConfig) -> Serves:
    """Whether a latent deals the keys of a shard out to its leaves as `leaf_rooms` wants it."""

    def serves(first: Array, second: Array, sizes: Array, latent: Array) -> Array:
        def count(total: Array, keys: tuple[Array, Array, Array]) -> tuple[Array, None]:
            for first, second, place in zip(*keys, strict=True):
                leaf = leaf_of(first, second, latent, config.leaves)
                one = jnp.uint32(1) << (leaf * _BITS_OF_A_COUNT).astype(jnp.uint32)
                total = total + jnp.where(place < sizes, one, 0)
            return total, None

        # A leaf's worth of keys at a time: all of them in one loop would take long to compile.
        parts = (config.leaves, config.keys_per_leaf)
        places = jnp.arange(config.keys_per_shard, dtype=jnp.int32)
        keys = (first.reshape(*parts, -1), second.reshape(*parts, -1), places.reshape(*parts))
        total, _ = jax.lax.scan(count, jnp.zeros(sizes.shape, jnp.uint32), keys)
        wanted = jnp.zeros(sizes.shape, jnp.uint32)
        for leaf in range(config.leaves):
            room = leaf_rooms(sizes, jnp.int32(leaf), config.leaves)[1].astype(jnp.uint32)
            wanted = wanted | room << (_BITS_OF_A_COUNT * leaf)
        # A count that left its bits would have to be 32 more than wanted, which no leaf can be short of.
        return total == wanted

    return serves


def separates(first: Array, second: Array, sizes: Array, latent: Array) -> Bool[Array, " lanes"]:
    """Whether a latent gives every key of a leaf a slot of its own."""
    taken = jnp.zeros(sizes.shape, jnp.uint32)
    for place in range(first.shape[0]):
        slot = slot_of(first[place], second[place], latent, sizes)
        taken = taken | jnp.where(place < sizes, jnp.uint32(1) << slot.astype(jnp.uint32), 0)
    return jax.lax.population_count(taken).astype(jnp.int32) == sizes


def start(groups: Groups, lanes: int) -> SearchState:
    """A search before its first trial. On the host."""
    keys, num_groups = groups.first.shape

    def full(value: int, *shape: int, dtype: type = np.int32) -> Array:
        return jnp.asarray(np.full(shape, value, dtype))  # made by NumPy: nothing to compile

    return SearchState(
        group=full(num_groups, lanes),
        latent=full(0, lanes),
        first=full(0, keys, lanes, dtype=np.uint32),
        second=full(0, keys, lanes, dtype=np.uint32),
        sizes=full(0, lanes),
        found=full(LIMIT, lanes),
        next_group=full(0),
        # A group without keys takes whatever comes first, and need not be waited for.
        latents=jnp.asarray(np.where(np.asarray(groups.sizes) > 0, -1, np.asarray(groups.begin)).astype(np.int32)),
    )


def make_search(serves: Serves) -> Callable[[SearchState, Groups, Array], SearchState]:
    """`search(state, groups, trials)` tries about `trials` more latents in every lane, fewer if all is done.

    Every lane searches the latent of a group of its own, and takes the next when it is done; how many lanes there are
    does not change the result.
    """

    def seat(state: SearchState, groups: Groups) -> SearchState:
        """Note what was found, and give the lanes that are done the next groups."""
        num_groups = groups.sizes.shape[0]
        done = state.found >= 0
        latents = state.latents.at[jnp.where(done, state.group, num_groups)].set(state.found, mode="drop")
        waiting = state.next_group + jnp.cumsum(done, dtype=jnp.int32) - 1
        group = jnp.where(done, jnp.minimum(waiting, num_groups), state.group)
        place = jnp.minimum(group, num_groups - 1)
        return SearchState(
            group=group,
            latent=jnp.where(done, groups.begin[place], state.latent),
            first=jnp.where(done, groups.first[:, place], state.first),
            second=jnp.where(done, groups.second[:, place], state.second),
            sizes=jnp.where(done, groups.sizes[place], state.sizes),
            found=jnp.where(group < num_groups, -1, LIMIT),
            next_group=jnp.minimum(state.next_group + done.sum(dtype=jnp.int32), num_groups),
            latents=latents,
        )

    def search(state: SearchState, groups: Groups, trials: Int32[Array, ""]) -> SearchState:
        def go_on(carry: tuple[Array, SearchState]) -> Array:
            return (carry[0] < trials) & (carry[1].latents < 0).any()

        def some_trials(carry: tuple[Array, SearchState]) -> tuple[Array, SearchState]:
            state = seat(carry[1], groups)

            def try_one(trial: Array, found: Array) -> Array:
                latent = state.latent + trial
                good = serves(state.first, state.second, state.sizes, latent)
                return jnp.where((found < 0) & good & (latent < LIMIT), latent, found)

            found = jax.lax.fori_loop(0, TRIALS_BETWEEN_REFILLS, try_one, state.found)
            latent = state.latent + TRIALS_BETWEEN_REFILLS
            found = jnp.where((found < 0) & (latent >= LIMIT), LIMIT, found)
            return carry[0] + TRIALS_BETWEEN_REFILLS, state._replace(latent=latent, found=found)

        return jax.lax.while_loop(go_on, some_trials, (jnp.zeros((), jnp.int32), state))[1]

    return search


def shard_groups(shards: Shards, begin: Int32[np.ndarray, " shards"]) -> Groups:
    """Shards as groups; on the host."""
    return Groups(shards.first, shards.second, np.asarray(shards.sizes).astype(np.int32), begin)


def leaf_groups(config: LatentConfig, shards: Shards, splits: Int32[np.ndarray, " shards"]) -> Groups:
    """The leaves of shards under their splits, as groups, the first leaf of every shard first; on the host."""
    first, second, sizes = (np.asarray(a) for a in (shards.first, shards.second, shards.sizes))
    real = np.arange(config.keys_per_shard)[:, None] < sizes
    leaf = np.where(real, np.asarray(_leaf_of(first, second, splits, config.leaves)), config.leaves)
    order = np.argsort(leaf, axis=0, kind="stable")
    ordered = [np.take_along_axis(words, order, 0) for words in (first, second)]
    leaves = np.arange(config.leaves, dtype=np.int32)[:, None]
    begin, room = (np.asarray(a) for a in leaf_rooms(jnp.asarray(sizes, jnp.int32), jnp.asarray(leaves), config.leaves))
    # [keys_per_leaf, leaves, shards]: the keys of a leaf stand together in their shard's column.
    rows = np.minimum(begin + np.arange(config.keys_per_leaf)[:, None, None], config.keys_per_shard - 1)
    taken = [np.take_along_axis(words, rows.reshape(-1, rows.shape[2]), 0) for words in ordered]
    first, second = (words.reshape(config.keys_per_leaf, -1) for words in taken)
    return Groups(first, second, room.astype(np.int32).ravel(), np.zeros(room.size, np.int32))


_leaf_of = jax.jit(leaf_of, static_argnums=3)
