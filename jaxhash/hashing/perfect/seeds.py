"""Seeds method: one function for all keys, and a few 16-bit seeds a bucket that are found by search.

The function mixes a key's fingerprint and a seed. There is no network, and nothing is trained: seeds are tried in turn.
A bucket's first seed, its split, sends equally many keys to each of the bucket's leaves; the seed of a leaf gives each
of the leaf's keys a slot of its own. One of s keys is found after s^s / s! trials on average: 7,100 for 11. Where the
seeds of a leaf are used up (1 in 10,000 leaves of 11), the bucket goes on to its next split. Compiled perfect hashes
are built so (Groot Koerkamp 2025, "PtrHash"; Esposito, Mueller Graf, Vigna 2020, "RecSplit").

Only integers are used, and the first seed that serves is taken: the result is the same on every device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, UInt8, UInt16, UInt32

from jaxhash.hashing.keys.fingerprint import mix
from jaxhash.hashing.perfect import buckets
from jaxhash.hashing.perfect.buckets import Buckets, Index, cut, find, index, read
from jaxhash.hashing.perfect.workers import Learned, Learner, Room, Task, at_once, check_ranges, solve, take

CODE_BITS = 16
"""Of what a key's place in its bucket or leaf is made: enough that no place is more probable than another."""
MAX_LEAVES = 6
SEED_BITS = 16
LIMIT = 2**SEED_BITS
AT_ONCE_ON_CPU = 2**10
TRIALS_BETWEEN_REFILLS = 32
"""Seeds tried before groups that are done make room for others."""
_BITS_OF_A_COUNT = 5


@dataclass(frozen=True)
class SeedsConfig:
    """How many keys share a seed. More make a smaller function, and a longer search."""

    keys_per_leaf: int = 10
    """Keys that get their slots by one seed, 1 to 11. Each more makes the search 2.6 times as long."""
    leaves: int = 4
    """Leaves of a bucket, 1 to 6. Each more makes the search for a bucket's split 4 to 9 times as long."""

    def __post_init__(self) -> None:
        check_ranges(self, keys_per_leaf=(1, 11), leaves=(1, MAX_LEAVES))

    @property
    def keys_per_bucket(self) -> int:
        """Keys of a bucket."""
        return self.keys_per_leaf * self.leaves


class Seeds(NamedTuple):
    """The seeds of all buckets."""

    splits: UInt16[Array | np.ndarray, " buckets"]
    """Sends the keys of a bucket to its leaves."""
    seeds: UInt16[Array | np.ndarray, "buckets leaves"]
    """Gives the keys of a leaf a slot each."""
    thresholds: UInt32[Array | np.ndarray, " buckets"]
    """Least first word of a fingerprint in the bucket; 0 for the first bucket."""
    sizes: UInt8[Array | np.ndarray, " buckets"]
    """Keys of the key set in the bucket."""


@dataclass(frozen=True)
class SeedsLookup:
    """Seeds laid out for fast reading."""

    index: Index
    splits: UInt16[Array | np.ndarray, " buckets"]
    seeds: UInt16[Array | np.ndarray, " all_leaves"]
    sizes: UInt8[Array | np.ndarray, " buckets"]
    strides: Int32[Array | np.ndarray, " buckets"]
    """Slots from one key of the bucket to the next, and one more ..."""
    wider: Int32[Array | np.ndarray, " buckets"]
    """... for this many of its first keys."""
    num_leaves: int


jax.tree_util.register_dataclass(
    SeedsLookup, data_fields=["index", "splits", "seeds", "sizes", "strides", "wider"], meta_fields=["num_leaves"]
)


def learn(config: SeedsConfig, task: Task, learner: Learner) -> Seeds:
    """Search the seeds of buckets and of their leaves, on all devices, from where it was left.

    Raises:
        ValueError: if a bucket cannot be cut.
    """
    keys = cut(task.numbers, task.num_slots, config.keys_per_bucket)
    sizes, leaves = np.asarray(keys.sizes), config.leaves
    count = len(sizes)
    fresh = {
        "splits": np.zeros(count, np.int32),
        "seeds": np.zeros((leaves, count), np.int32),
        "waiting": sizes > 0,
        "in_leaves": np.zeros(1, bool),
        "tried": np.zeros(1, np.int32),
        # In this round, of a bucket (the first row) or of each of its leaves; -1 where it is not known yet.
        "found": np.full((leaves, count), -1, np.int32),
    }
    learned = learner.begin(fresh)
    splits, waiting, in_leaves = learned["splits"], learned["waiting"], learned["in_leaves"]
    learner.compile_hasher(_policy(learned, keys))
    # For the most groups that a round can have, so that later ones with fewer do not compile again.
    room = Room.of(count, learner.devices)
    room_of_leaves = room._replace(problems=leaves * room.problems)
    search_buckets, search_leaves = _searches(config)
    while waiting.any():
        some = np.flatnonzero(waiting)
        these = take(keys, some, len(some))
        if not in_leaves[0]:
            groups = Groups(these.first, these.second, these.sizes.astype(np.int32), splits[some])
            found = _search_all(search_buckets, learner, learned, groups, some, room)
            # A bucket without a split is left with collisions.
            waiting[some], splits[some] = found < LIMIT, np.where(found < LIMIT, found, splits[some])
        else:
            groups, at = leaf_groups(config, these, splits[some]), (np.arange(leaves)[:, None] * count + some).ravel()
            found = _search_all(search_leaves, learner, learned, groups, at, room_of_leaves).reshape(leaves, -1)
            learned["seeds"][:, some] = np.minimum(found, LIMIT - 1)
            stuck = (found == LIMIT).any(0)
            waiting[some], splits[some] = stuck, splits[some] + stuck
        in_leaves[0], learned["found"][:] = not in_leaves[0], -1
    learner.watch(int(learned["tried"][0]), 0, lambda: learned)
    return _policy(learned, keys)


def _policy(learned: Learned, keys: Buckets) -> Seeds:
    splits, seeds = (learned[name].T.astype(np.uint16) for name in ("splits", "seeds"))
    return Seeds(splits, seeds, np.asarray(keys.thresholds), np.asarray(keys.sizes))


def _search_all(
    search: Callable[..., "SearchState"],
    learner: Learner,
    learned: Learned,
    groups: "Groups",
    at: Int[np.ndarray, " groups"],
    room: Room,
) -> Int32[np.ndarray, " groups"]:
    """The seed of every group, which stands at these places of what has been found."""
    tried_before, found = int(learned["tried"][0]), learned["found"].reshape(-1)

    def gather(states: list[SearchState], parts: list[np.ndarray]) -> Learned:
        for part, state in zip(parts, states, strict=True):
            found[at[part]] = np.asarray(state.seeds)[: len(part)]
        return learned

    def look(states: list[SearchState], parts: list[np.ndarray], trials: int) -> bool:
        unknown = [part[np.asarray(s.seeds)[: len(part)] < 0] for s, part in zip(states, parts, strict=True)]
        learned["tried"][0] = tried_before + trials
        left = sum(int(np.asarray(groups.sizes)[some].sum()) for some in unknown)
        learner.watch(int(learned["tried"][0]), left, lambda: gather(states, parts))
        return not any(len(some) for some in unknown)

    some = at_once(learner.devices, AT_ONCE_ON_CPU, room.problems)
    unknown = np.flatnonzero(found[at] < 0)
    gather(*solve(search, lambda part: start(part, some), groups, unknown, room, TRIALS_BETWEEN_REFILLS, look))
    return found[at]


def check(policy: Seeds, num_keys: int, num_slots: int) -> None:
    """Whether arrays of unknown origin are such seeds for so many keys; on the host.

    Raises:
        ValueError: if they are not.
    """
    buckets.check(policy.thresholds, policy.sizes, num_keys)
    splits, seeds = np.asarray(policy.splits), np.asarray(policy.seeds)
    if not splits.dtype == seeds.dtype == np.uint16 or splits.shape != np.shape(policy.sizes):
        raise ValueError(f"splits {splits.dtype}{splits.shape} and seeds {seeds.dtype}")
    if seeds.ndim != 2 or seeds.shape[0] != len(splits) or not 1 <= seeds.shape[1] <= MAX_LEAVES:
        raise ValueError(f"seeds {seeds.shape} of {len(splits):,} buckets")


def lookup(policy: Seeds, num_slots: int) -> SeedsLookup:
    """The look-up tables of seeds for `num_slots` slots, at least as many as there are keys; on the host."""
    splits, seeds, thresholds, sizes = (np.asarray(a) for a in policy)
    where = index(thresholds, sizes, num_slots)
    # Divided here once: two divisions a key would take half of the time of a look-up.
    strides, wider = np.divmod(np.asarray(where.rooms), np.maximum(sizes, 1).astype(np.int32))
    return SeedsLookup(where, splits, seeds.ravel(), sizes, strides, wider, seeds.shape[1])


def slots(tables: SeedsLookup, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The slot of each fingerprint. Cost a key: that of `find`, 6 reads, and twice 12 operations of the function."""
    first, second = jnp.asarray(prints)[:, 0], jnp.asarray(prints)[:, 1]
    leaves = tables.num_leaves
    bucket = find(tables.index, first)
    size = read(tables.sizes, bucket).astype(jnp.int32)
    leaf = leaf_of(first, second, read(tables.splits, bucket), leaves)
    begin, room = leaf_rooms(size, leaf, leaves)
    rank = begin + rank_of(first, second, read(tables.seeds, bucket * leaves + leaf), room)
    # A key that was not in the key set may come to a leaf without a slot.
    rank = jnp.minimum(rank, jnp.maximum(size - 1, 0))
    offset = rank * read(tables.strides, bucket) + jnp.minimum(rank, read(tables.wider, bucket))
    return read(tables.index.starts, bucket) + offset


def leaf_of(first: Array, second: Array, split: Array, leaves: int) -> Int32[Array, "*shape"]:
    """The leaf that a bucket's split sends a key to."""
    return code(first, second, split.astype(jnp.uint32)) * leaves >> CODE_BITS


def rank_of(first: Array, second: Array, seed: Array, room: Array) -> Int32[Array, "*shape"]:
    """A key's rank in its leaf, 0 ... room - 1, under the leaf's seed."""
    return code(first, second, seed.astype(jnp.uint32) + jnp.uint32(2**SEED_BITS)) * room >> CODE_BITS


def code(
    first: UInt32[Array, "*shape"], second: UInt32[Array, "*shape"], seed: UInt32[Array, "*#shape"]
) -> Int32[Array, "*shape"]:
    """The function: a fingerprint and a seed -> 16 bits, as good as drawn at random."""
    turn = mix((seed + 1) * jnp.uint32(0x9E3779B9)) | jnp.uint32(1)
    return (mix(first * turn + second) >> (32 - CODE_BITS)).astype(jnp.int32)


def leaf_rooms(size: Array, leaf: Array, leaves: int) -> tuple[Int32[Array, "*#shape"], Int32[Array, "*#shape"]]:
    """First rank and number of ranks of a leaf, in a bucket of so many keys: equal shares, the first ones one more."""
    share, more = size // leaves, size % leaves
    return leaf * share + jnp.minimum(leaf, more), share + (leaf < more)


class Groups(NamedTuple):
    """Groups of keys, each in want of a seed; groups along the last axis. Padding groups have size 0."""

    first: UInt32[Array | np.ndarray, "keys groups"]
    second: UInt32[Array | np.ndarray, "keys groups"]
    sizes: Int32[Array | np.ndarray, " groups"]
    begin: Int32[Array | np.ndarray, " groups"]
    """The first seed to try."""


class SearchState(NamedTuple):
    """Where a search stands: the groups that are searched at once, a column each, and the seeds found so far."""

    group: Int32[Array, " at_once"]
    """The group in each column; the number of groups if there is none left."""
    seed: Int32[Array, " at_once"]
    """The next seed to try."""
    first: UInt32[Array, "keys at_once"]
    second: UInt32[Array, "keys at_once"]
    sizes: Int32[Array, " at_once"]
    found: Int32[Array, " at_once"]
    """The seed found for this group, `LIMIT` if there is none; -1 while it is searched."""
    next_group: Int32[Array, ""]
    seeds: Int32[Array, " groups"]
    """The seed of each group, `LIMIT` if none serves; -1 where it is not known yet."""


def leaf_groups(config: SeedsConfig, keys: Buckets, splits: Int32[np.ndarray, " buckets"]) -> Groups:
    """The leaves of buckets under their splits, as groups, the first leaf of every bucket first; on the host."""
    first, second, sizes = (np.asarray(a) for a in (keys.first, keys.second, keys.sizes))
    real = np.arange(config.keys_per_bucket)[:, None] < sizes
    leaf = np.where(real, np.asarray(_leaf_of(first, second, splits, config.leaves)), config.leaves)
    order = np.argsort(leaf, axis=0, kind="stable")
    ordered = [np.take_along_axis(words, order, 0) for words in (first, second)]
    leaves = np.arange(config.leaves, dtype=np.int32)[:, None]
    begin, room = (np.asarray(a) for a in leaf_rooms(jnp.asarray(sizes, jnp.int32), jnp.asarray(leaves), config.leaves))
    # [keys_per_leaf, leaves, buckets]: the keys of a leaf stand together in their bucket's column.
    rows = np.minimum(begin + np.arange(config.keys_per_leaf)[:, None, None], config.keys_per_bucket - 1)
    taken = [np.take_along_axis(words, rows.reshape(-1, rows.shape[2]), 0) for words in ordered]
    first, second = (words.reshape(config.keys_per_leaf, -1) for words in taken)
    return Groups(first, second, room.astype(np.int32).ravel(), np.zeros(room.size, np.int32))


def start(groups: Groups, at_once: int) -> SearchState:
    """A search before its first trial. On the host."""
    keys, num_groups = groups.first.shape

    def full(value: int, *shape: int, dtype: type = np.int32) -> Array:
        return jnp.asarray(np.full(shape, value, dtype))  # made by NumPy: nothing to compile

    return SearchState(
        group=full(num_groups, at_once),
        seed=full(0, at_once),
        first=full(0, keys, at_once, dtype=np.uint32),
        second=full(0, keys, at_once, dtype=np.uint32),
        sizes=full(0, at_once),
        found=full(LIMIT, at_once),
        next_group=full(0),
        # A group without keys takes whatever comes first, and need not be waited for.
        seeds=jnp.asarray(np.where(np.asarray(groups.sizes) > 0, -1, np.asarray(groups.begin)).astype(np.int32)),
    )


Serves = Callable[[Array, Array, Array, Array], Bool[Array, " at_once"]]
"""(first, second [keys at_once], sizes, seeds [at_once]) -> under which of the seeds the groups are as wanted."""


def splits_evenly(config: SeedsConfig) -> Serves:
    """Whether a seed sends the keys of a bucket to its leaves as `leaf_rooms` wants it."""

    def serves(first: Array, second: Array, sizes: Array, seed: Array) -> Array:
        def count(total: Array, keys: tuple[Array, Array, Array]) -> tuple[Array, None]:
            for first, second, row in zip(*keys, strict=True):
                leaf = leaf_of(first, second, seed, config.leaves)
                one = jnp.uint32(1) << (leaf * _BITS_OF_A_COUNT).astype(jnp.uint32)
                total = total + jnp.where(row < sizes, one, 0)
            return total, None

        # A leaf's worth of keys at a time: all of them in one loop would take long to compile.
        parts = (config.leaves, config.keys_per_leaf)
        rows = jnp.arange(config.keys_per_bucket, dtype=jnp.int32)
        keys = (first.reshape(*parts, -1), second.reshape(*parts, -1), rows.reshape(*parts))
        total, _ = jax.lax.scan(count, jnp.zeros(sizes.shape, jnp.uint32), keys)
        wanted = jnp.zeros(sizes.shape, jnp.uint32)
        for leaf in range(config.leaves):
            room = leaf_rooms(sizes, jnp.int32(leaf), config.leaves)[1].astype(jnp.uint32)
            wanted = wanted | room << (_BITS_OF_A_COUNT * leaf)
        # A count that left its bits would have to be 32 more than wanted, which no leaf can be short of.
        return total == wanted

    return serves


def separates(first: Array, second: Array, sizes: Array, seed: Array) -> Bool[Array, " at_once"]:
    """Whether a seed gives every key of a leaf a slot of its own."""
    taken = jnp.zeros(sizes.shape, jnp.uint32)
    for row in range(first.shape[0]):
        rank = rank_of(first[row], second[row], seed, sizes)
        taken = taken | jnp.where(row < sizes, jnp.uint32(1) << rank.astype(jnp.uint32), 0)
    return jax.lax.population_count(taken).astype(jnp.int32) == sizes


def make_search(serves: Serves) -> Callable[[SearchState, Groups, Array], SearchState]:
    """`search(state, groups, trials)` tries about `trials` more seeds for each group at work, fewer if all is done.

    A group that is done makes room for the next; how many are searched at once does not change the result.
    """

    def refill(state: SearchState, groups: Groups) -> SearchState:
        """Note what was found, and go on to the next groups where one is done."""
        num_groups = groups.sizes.shape[0]
        done = state.found >= 0
        seeds = state.seeds.at[jnp.where(done, state.group, num_groups)].set(state.found, mode="drop")
        waiting = state.next_group + jnp.cumsum(done, dtype=jnp.int32) - 1
        group = jnp.where(done, jnp.minimum(waiting, num_groups), state.group)
        column = jnp.minimum(group, num_groups - 1)
        return SearchState(
            group=group,
            seed=jnp.where(done, groups.begin[column], state.seed),
            first=jnp.where(done, groups.first[:, column], state.first),
            second=jnp.where(done, groups.second[:, column], state.second),
            sizes=jnp.where(done, groups.sizes[column], state.sizes),
            found=jnp.where(group < num_groups, -1, LIMIT),
            next_group=jnp.minimum(state.next_group + done.sum(dtype=jnp.int32), num_groups),
            seeds=seeds,
        )

    def search(state: SearchState, groups: Groups, trials: Int32[Array, ""]) -> SearchState:
        def go_on(carry: tuple[Array, SearchState]) -> Array:
            return (carry[0] < trials) & (carry[1].seeds < 0).any()

        def some_trials(carry: tuple[Array, SearchState]) -> tuple[Array, SearchState]:
            state = refill(carry[1], groups)

            def try_one(trial: Array, found: Array) -> Array:
                seed = state.seed + trial
                good = serves(state.first, state.second, state.sizes, seed)
                return jnp.where((found < 0) & good & (seed < LIMIT), seed, found)

            found = jax.lax.fori_loop(0, TRIALS_BETWEEN_REFILLS, try_one, state.found)
            seed = state.seed + TRIALS_BETWEEN_REFILLS
            found = jnp.where((found < 0) & (seed >= LIMIT), LIMIT, found)
            return carry[0] + TRIALS_BETWEEN_REFILLS, state._replace(seed=seed, found=found)

        return jax.lax.while_loop(go_on, some_trials, (jnp.zeros((), jnp.int32), state))[1]

    return search


_leaf_of = jax.jit(leaf_of, static_argnums=3)


@cache
def _searches(config: SeedsConfig) -> tuple[Callable[..., SearchState], Callable[..., SearchState]]:
    """For the seeds of buckets, and for those of leaves."""
    of_buckets, of_leaves = (make_search(serves) for serves in (splits_evenly(config), separates))
    return jax.jit(of_buckets, donate_argnums=0), jax.jit(of_leaves, donate_argnums=0)
