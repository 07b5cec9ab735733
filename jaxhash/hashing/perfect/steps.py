"""Learning a policy for fingerprints, by each of the methods: step by step, on all devices, from where it was left."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, UInt64

from jaxhash.hashing.perfect import prototypes, seeds, sharded
from jaxhash.hashing.perfect.buckets import cut
from jaxhash.hashing.perfect.prototypes import Single, SingleConfig
from jaxhash.hashing.perfect.quantised_policy import Quantised, pack
from jaxhash.hashing.perfect.seeds import Groups, LatentConfig, SearchState
from jaxhash.hashing.perfect.seeds_lookup import Latent
from jaxhash.hashing.perfect.sharded import ShardedConfig, TrainState
from jaxhash.hashing.perfect.sharded_lookup import Sharded
from jaxhash.hashing.perfect.workers import deal, padded, shares, take, work

MAX_SINGLE_WEIGHTS = 2**28
"""Weights of the single network's output layer at most: they are trained in 4 bytes each."""
# Problems side by side in a part: a processor's cache holds few of them, an accelerator wants many.
_LANES = {"cpu": 2**8}
_LATENT_LANES = {"cpu": 2**10}
_LANES_ON_ACCELERATORS = 2**14

Learned = Mapping[str, np.ndarray]
"""What has been learned so far, as arrays by name: enough to go on from."""


class Task(NamedTuple):
    """What is to be learned."""

    numbers: UInt64[np.ndarray, " n"]
    """Fingerprints in ascending order, all different."""
    num_seats: int
    """Bins, one a key at least."""
    seed: int
    """Of the single network."""


class Learner(NamedTuple):
    """How it is learned."""

    devices: Sequence[jax.Device]
    watch: Callable[[int, int, Callable[[], Learned]], None]
    """Called about five times a second and at the end, with steps made, collisions left, and what tells all that has
    been learned so far, until it is called again; may raise, to stop."""
    compile_hasher: Callable[[Sharded | Latent], None]
    """Called once with an untrained policy, beside the learning."""
    learned: Learned | None
    """Where to go on; None to begin."""


def learn_sharded(config: ShardedConfig, task: Task, learner: Learner) -> Sharded | Quantised:
    """Train a policy for every shard (`sharded.py`).

    Raises:
        ValueError: if a shard cannot be cut.
    """
    shards = cut(task.numbers, task.num_seats, config.keys_per_shard)
    count = int(shards.num_shards)
    fresh = {
        "weights": np.zeros((count, config.inputs, config.outputs), np.int8),
        "attempts": np.zeros(count, np.uint8),
        "collisions": np.maximum(np.asarray(shards.sizes).astype(np.int32) - 1, 0),
        "trained": np.zeros(count, bool),
    }
    learned = _begun(learner.learned, fresh)
    open_shards = np.flatnonzero(~learned["trained"])
    dealt = deal(open_shards, shares(len(open_shards), learner.devices))
    room = padded(len(dealt[0]))
    lanes = min(_LANES.get(learner.devices[0].platform, _LANES_ON_ACCELERATORS), room)
    problems = [take(shards, some, room)._replace(num_shards=np.int32(len(some))) for some in dealt]

    def gathered(states: list[TrainState]) -> Learned:
        """With the shards that are under way left as they were: they begin again."""
        for some, state in zip(dealt, states, strict=True):
            which = sharded.trained(state)[: len(some)]
            trained = some[which]
            for name, found in (
                ("weights", state.best_weights),
                ("attempts", state.best_attempts),
                ("collisions", state.collisions),
            ):
                learned[name][trained] = np.asarray(found)[: len(some)][which]
            learned["trained"][trained] = True
        return learned

    def look(states: list[TrainState], _: int) -> bool:
        left = int(learned["collisions"][begun_trained].sum())
        left += sum(int(np.asarray(state.collisions).sum()) for state in states)
        learner.watch(_steps(states), left, lambda: gathered(states))
        return all(bool(sharded.trained(state)[: len(some)].all()) for state, some in zip(states, dealt, strict=True))

    begun_trained = learned["trained"].copy()

    def policy() -> Sharded:
        return Sharded(learned["weights"], learned["attempts"], np.asarray(shards.thresholds), np.asarray(shards.sizes))

    with ThreadPoolExecutor(1) as beside:
        # The hasher's shapes are known by now: it is compiled while the learner is.
        compiled = beside.submit(learner.compile_hasher, policy())
        parts = [(sharded.start(config, some, lanes), some) for some in problems]
        states = work(_train(config), parts, learner.devices, sharded.STEPS_BETWEEN_REFILLS, look)
        learner.watch(_steps(states), int(gathered(states)["collisions"].sum()), lambda: learned)
        compiled.result()
    return policy() if config.weight_bits == 8 else pack(policy(), config.weight_bits)


def learn_latent(config: LatentConfig, task: Task, learner: Learner) -> Latent:
    """Search the latents of shards and of their leaves (`latent.py`).

    Raises:
        ValueError: if a shard cannot be cut.
    """
    shards = cut(task.numbers, task.num_seats, config.keys_per_shard)
    count, leaves = int(shards.num_shards), config.leaves
    sizes = np.asarray(shards.sizes)
    fresh = {
        "splits": np.zeros(count, np.int32),
        "latents": np.zeros((leaves, count), np.int32),
        "waiting": sizes > 0,
        "in_leaves": np.zeros(1, bool),
        "tried": np.zeros(1, np.int32),
    }
    learned = _begun(learner.learned, fresh)
    # Of the waiting shards, or of their leaves; -1 where it is not known yet.
    groups_open = int(learned["waiting"].sum()) * (leaves if learned["in_leaves"][0] else 1)
    learned |= _begun(learner.learned, {"found": np.full(groups_open, -1, np.int32)})
    splits, latents, waiting, in_leaves, tried = (
        learned[name] for name in ("splits", "latents", "waiting", "in_leaves", "tried")
    )
    # The most groups that a round can have, so that later ones with fewer do not compile again.
    parts = shares(count, learner.devices)
    room = padded(-(-count // parts))

    def find(search: Callable[..., SearchState], groups: Groups, room: int) -> None:
        """The latent of every group, into `learned`."""
        open_groups = np.flatnonzero(learned["found"] < 0)
        dealt = deal(open_groups, parts)
        some = [take(groups, share, room) for share in dealt]
        lanes = min(_LATENT_LANES.get(learner.devices[0].platform, _LANES_ON_ACCELERATORS), room)
        before = int(tried[0])

        def gathered(states: list[SearchState]) -> Learned:
            for share, state in zip(dealt, states, strict=True):
                learned["found"][share] = np.asarray(state.latents)[: len(share)]
            return learned

        def look(states: list[SearchState], trials: int) -> bool:
            unknown = [np.asarray(s.latents)[: len(share)] < 0 for s, share in zip(states, dealt, strict=True)]
            tried[0] = before + trials
            left = sum(int(np.asarray(g.sizes)[: len(u)][u].sum()) for g, u in zip(some, unknown, strict=True))
            learner.watch(int(tried[0]), left, lambda: gathered(states))
            return not any(u.any() for u in unknown)

        gathered(
            work(
                search,
                [(seeds.start(g, lanes), g) for g in some],
                learner.devices,
                seeds.TRIALS_BETWEEN_REFILLS,
                look,
            )
        )

    def policy() -> Latent:
        kept = (splits.astype(np.uint16), latents.T.astype(np.uint16), np.asarray(shards.thresholds), sizes)
        return Latent(*kept)

    search_shards, search_leaves = _searches(config)
    with ThreadPoolExecutor(1) as beside:
        # The hasher's shapes are known by now: it is compiled while the latents are searched.
        compiled = beside.submit(learner.compile_hasher, policy())
        while waiting.any():
            some = np.flatnonzero(waiting)
            if not in_leaves[0]:
                find(search_shards, seeds.shard_groups(take(shards, some, len(some)), splits[some]), room)
                found = learned["found"]
                # A shard without a split is left with collisions.
                waiting[some[found >= seeds.LIMIT]] = False
                splits[some] = np.where(found < seeds.LIMIT, found, splits[some])
                some = np.flatnonzero(waiting)
                in_leaves[0], learned["found"] = True, np.full(len(some) * leaves, -1, np.int32)
                if not len(some):
                    break
            find(search_leaves, seeds.leaf_groups(config, take(shards, some, len(some)), splits[some]), leaves * room)
            found = learned["found"].reshape(leaves, -1)
            latents[:, some] = np.minimum(found, seeds.LIMIT - 1)
            stuck = (found == seeds.LIMIT).any(0)
            waiting[some], splits[some] = stuck, splits[some] + stuck
            in_leaves[0], learned["found"] = False, np.full(int(stuck.sum()), -1, np.int32)
        learner.watch(int(tried[0]), 0, lambda: learned)
        compiled.result()
    return policy()


def learn_single(config: SingleConfig, task: Task, learner: Learner) -> Single:
    """Train one network for all keys (`single.py`), on one device.

    Raises:
        ValueError: if it would be too large.
    """
    weights = task.num_seats * config.hidden
    if weights > MAX_SINGLE_WEIGHTS:
        raise ValueError(
            f"a single network with {task.num_seats:,} bins has {weights:,} weights, more than {MAX_SINGLE_WEIGHTS:,}; "
            "use method='sharded', or fewer hidden units"
        )
    n = len(task.numbers)
    policy = prototypes.start(config, task.num_seats, task.seed)
    if n == 0:
        return policy
    fresh = {
        "output": policy.output,
        "best": policy.output,
        "fewest": np.array([n], np.int32),
        "iteration": np.zeros(1, np.int32),
    }
    begun = _begun(learner.learned, fresh)
    policy, best = (policy._replace(output=begun[name]) for name in ("output", "best"))
    fewest, begin = int(begun["fewest"][0]), int(begun["iteration"][0])
    prints = np.stack([task.numbers >> np.uint64(32), task.numbers], 1).astype(np.uint32)
    units = jax.jit(prototypes.hidden_units)(policy, prints)
    most_likely, train = jax.jit(prototypes.most_likely), jax.jit(prototypes.train)
    for iteration in range(begin, config.iterations + 1):
        bins = most_likely(policy, units)
        collisions = n - len(np.unique(np.asarray(bins)))
        if collisions < fewest:
            best, fewest = policy, collisions

        now = {"output": policy.output, "best": best.output}
        now |= {"fewest": np.array([fewest], np.int32), "iteration": np.array([iteration], np.int32)}
        learner.watch(iteration, fewest, partial(jax.tree.map, np.asarray, now))
        if collisions == 0 or iteration == config.iterations:
            break
        policy = train(policy, units, bins)
    return best


def _begun(learned: Learned | None, fresh: Mapping[str, Array | np.ndarray]) -> dict[str, np.ndarray]:
    """What was learned, to be gone on with: arrays like these, which are what it begins with.

    Raises:
        ValueError: if it does not fit.
    """
    if learned is None:
        return {name: np.asarray(array) for name, array in fresh.items()}
    for name, array in fresh.items():
        found = learned.get(name, np.asarray(array) if array.size == 0 else None)
        if found is None or (found.shape, found.dtype) != (array.shape, array.dtype):
            raise ValueError(f"what is kept of an unfinished fit does not fit it ({name}); delete it to begin anew")
    return {name: np.array(learned.get(name, array)) for name, array in fresh.items()}


def _steps(states: list[TrainState]) -> int:
    return max(int(state.steps) for state in states)


@cache
def _train(config: ShardedConfig) -> Callable[..., TrainState]:
    return jax.jit(sharded.make_train(config), donate_argnums=0)


@cache
def _searches(config: LatentConfig) -> tuple[Callable[..., SearchState], Callable[..., SearchState]]:
    """For the latents of shards, and for those of leaves."""
    of_shards, of_leaves = (seeds.make_search(s) for s in (seeds.splits_evenly(config), seeds.separates))
    return jax.jit(of_shards, donate_argnums=0), jax.jit(of_leaves, donate_argnums=0)
