"""A perfect hash learned: keys -> fingerprints -> a policy that is trained until no two of them share a bin.

bins >= keys   every key has a bin of its own; minimal perfect where they are equal
bins < keys    a minimal perfect hash onto as many seats as keys, and the seats dealt out to the bins in turn:
               no bin is empty, and no two differ by more than one key
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Int32, UInt32, UInt64

from jaxhash.hashing import latent, sharded, single
from jaxhash.hashing.batches import MAX_ROWS, count, pipeline
from jaxhash.hashing.fingerprint import all_distinct, as_numbers, fingerprint
from jaxhash.hashing.hasher import MAX_BINS, Hasher, Policy
from jaxhash.hashing.keys import distinct, encode_keys
from jaxhash.hashing.latent import Groups, LatentConfig, SearchState
from jaxhash.hashing.latent_policy import Latent
from jaxhash.hashing.quantised_policy import Quantised, pack
from jaxhash.hashing.sharded import ShardedConfig
from jaxhash.hashing.sharded_policy import Sharded
from jaxhash.hashing.shards import cut
from jaxhash.hashing.single import Single, SingleConfig

SEEDS = 20
"""Seeds tried for fingerprints without a collision; for 10^9 keys one succeeds with probability 0.97."""
EXAMPLES = 48
"""Keys of the key set that are saved with the hasher, to be checked when it is loaded."""
SECONDS_BETWEEN_REPORTS = 0.2
MAX_SINGLE_WEIGHTS = 2**28
"""Weights of the single network's output layer at most: they are trained in 4 bytes each."""
# Shards trained side by side: a processor's cache holds few of them, an accelerator wants many.
_LANES = {"cpu": 2**8}
_LATENT_LANES = {"cpu": 2**10}
_LANES_ON_ACCELERATORS = 2**14


@dataclass(frozen=True)
class FitConfig:
    """What hash function is wanted, and how it is learned."""

    num_bins: int | None = None
    """Bins; by default as many as there are keys (1 if there is none), a minimal perfect hash."""
    method: Literal["sharded", "single", "latent"] = "sharded"
    """`sharded`: a tiny policy for every 32 keys, all trained side by side; for any number of keys. `single`: one
    network with two hidden layers and a logit for every bin, as in the study; cost grows with keys x bins. `latent`:
    one untrained policy for all keys and 16-bit latents found by search; the smallest, for any number of keys."""
    seed: int = 0
    """Another seed gives another function of the same key set."""
    sharded: ShardedConfig = field(default_factory=ShardedConfig)
    single: SingleConfig = field(default_factory=SingleConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)

    def __post_init__(self) -> None:
        if self.num_bins is not None and not 1 <= self.num_bins <= MAX_BINS:
            raise ValueError(f"num_bins={self.num_bins} is not valid: num_bins must be 1 to {MAX_BINS:,}")
        if self.method not in _LEARNERS:
            raise ValueError(f"method={self.method!r} is not valid: method must be one of {', '.join(_LEARNERS)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is not valid: seed must be 0 to 2^32 - 1")


class Progress(NamedTuple):
    """Where a fit stands."""

    seconds: float
    """Since the fit began."""
    steps: int
    """Learning steps (sharded), iterations (single) or trials of a group of keys (latent) so far."""
    collisions: int
    """Keys - occupied bins among max(keys, bins), under the best function so far."""
    num_keys: int


class NotPerfect(Exception):
    """Training ended before every key had a bin of its own."""

    def __init__(self, hasher: Hasher, collisions: int) -> None:
        super().__init__(
            f"{collisions:,} of {hasher.num_keys:,} keys still collide after training; try another seed, or give the "
            "policy more inputs, steps or attempts"
        )
        self.hasher = hasher
        """The best function found; it works like any other."""
        self.collisions = collisions
        """Keys that share a bin beyond what the number of bins makes necessary."""


def fit(
    keys: Iterable[str | bytes], config: FitConfig | None = None, report: Callable[[Progress], None] | None = None
) -> Hasher:
    """A hash function for a key set, checked on every key.

    Args:
        keys: n different keys; n may be 0.
        config: by default, a minimal perfect hash by the sharded policy.
        report: called now and then while it trains, and at the end.

    Raises:
        NotPerfect: with the best function found, if keys still collide.
        ValueError: if keys repeat, or the network would be too large.
        TypeError: if they are not `str` or `bytes`.
    """
    config = FitConfig() if config is None else config
    began = time.monotonic()
    listed = distinct(encode_keys(keys))
    n = len(listed)
    num_bins = max(n, 1) if config.num_bins is None else config.num_bins
    num_seats = max(n, num_bins)

    def tell(steps: int, collisions: int) -> None:
        if report is not None:
            report(Progress(time.monotonic() - began, steps, collisions, n))

    tell(0, max(n - 1, 0))
    seed, numbers = separate(listed, config.seed)

    def compile_hasher(untrained: Sharded | Latent) -> None:
        like_the_result = Hasher(untrained, n, num_bins, seed)
        like_the_result(listed[:EXAMPLES])
        like_the_result(listed[:MAX_ROWS])

    policy = _LEARNERS[config.method](config, numbers, num_seats, tell, compile_hasher)
    step = max(n // EXAMPLES, 1)
    hasher = Hasher(policy, n, num_bins, seed, dataclasses.asdict(config), examples=tuple(listed[::step][:EXAMPLES]))
    collisions = n - len(np.unique(np.asarray(hasher(listed))))
    hasher = dataclasses.replace(hasher, collisions=collisions)
    if needless := collisions - max(n - num_bins, 0):
        raise NotPerfect(hasher, needless)
    return hasher


def separate(keys: Sequence[bytes], seed: int) -> tuple[int, UInt64[np.ndarray, " n"]]:
    """The first seed from `seed` on that gives different keys different fingerprints, and these in ascending order.

    Raises:
        ValueError: if no seed does, which for different keys has a probability next to nothing.
    """
    for attempt in range(SEEDS):
        tried = (seed + attempt) % 2**32
        numbers = np.sort(as_numbers(fingerprints(keys, tried)))
        if all_distinct(numbers):
            return tried, numbers
    raise ValueError(f"{SEEDS} seeds from {seed} on all give two of the keys the same fingerprint; do keys repeat?")


def fingerprints(keys: Sequence[bytes], seed: int) -> UInt32[np.ndarray, "n 2"]:
    """The fingerprint of each key, on the host."""
    found = [(places, _fingerprint(tokens, np.uint32(seed))) for places, tokens in pipeline(keys)]
    prints = np.empty((len(keys), 2), np.uint32)
    for places, some in found:
        prints[places] = np.asarray(some)[: count(places)]
    return prints


_fingerprint = jax.jit(fingerprint)


@functools.cache
def _sharded_train(config: ShardedConfig) -> Callable[..., sharded.TrainState]:
    return jax.jit(sharded.make_train(config), donate_argnums=0)


def _learn_sharded(
    config: FitConfig,
    numbers: UInt64[np.ndarray, " n"],
    num_seats: int,
    tell: Callable[[int, int], None],
    compile_hasher: Callable[[Sharded | Latent], None],
) -> Sharded | Quantised:
    shards = cut(numbers, num_seats, config.sharded.keys_per_shard)
    lanes = _LANES.get(jax.default_backend(), _LANES_ON_ACCELERATORS)
    state = sharded.start(config.sharded, shards, lanes)
    train = _sharded_train(config.sharded)
    steps = sharded.STEPS_BETWEEN_REFILLS
    with ThreadPoolExecutor(1) as beside:
        # The hasher's shapes are known by now: it is compiled while the learner is.
        compiled = beside.submit(compile_hasher, sharded.policy_of(state, shards))
        while not bool(sharded.done(state, shards)):
            before = time.monotonic()
            state = train(state, shards, np.int32(steps))
            tell(int(state.steps), int(np.asarray(state.collisions).sum()))
            # As many steps as fit between two reports, so that neither a report nor Ctrl-C waits long.
            quick = time.monotonic() - before < SECONDS_BETWEEN_REPORTS
            steps = min(2 * steps, 2**20) if quick else max(steps // 2, 1)
        compiled.result()
    policy, weight_bits = sharded.policy_of(state, shards), config.sharded.weight_bits
    return policy if weight_bits == 8 else pack(policy, weight_bits)


@functools.cache
def _latent_searches(config: LatentConfig) -> tuple[Callable[..., SearchState], Callable[..., SearchState]]:
    """For the latents of shards, and for those of leaves."""
    of_shards, of_leaves = (latent.make_search(s) for s in (latent.splits_evenly(config), latent.separates))
    return jax.jit(of_shards, donate_argnums=0), jax.jit(of_leaves, donate_argnums=0)


def _learn_latent(
    config: FitConfig,
    numbers: UInt64[np.ndarray, " n"],
    num_seats: int,
    tell: Callable[[int, int], None],
    compile_hasher: Callable[[Sharded | Latent], None],
) -> Latent:
    shards = cut(numbers, num_seats, config.latent.keys_per_shard)
    count, leaves = int(shards.num_shards), config.latent.leaves
    sizes = np.asarray(shards.sizes)
    splits, latents = np.zeros(len(sizes), np.int32), np.zeros((leaves, len(sizes)), np.int32)
    tried = 0

    def policy() -> Latent:
        kept = (splits.astype(np.uint16), latents.T.astype(np.uint16), np.asarray(shards.thresholds), sizes)
        return Latent(*(a[:count] for a in kept))

    def report_shards(trials: int, _: int) -> None:
        tell(tried + trials, int(sizes[waiting].sum()))

    def report_leaves(trials: int, keys: int) -> None:
        tell(tried + trials, keys)

    search_shards, search_leaves = _latent_searches(config.latent)
    with ThreadPoolExecutor(1) as beside:
        # The hasher's shapes are known by now: it is compiled while the latents are searched.
        compiled = beside.submit(compile_hasher, policy())
        waiting = sizes > 0
        while waiting.any():
            found, trials = _find_latents(search_shards, latent.shard_groups(shards, splits, waiting), report_shards)
            tried += trials
            # A shard without a split is left with collisions.
            waiting &= found < latent.LIMIT
            splits = np.where(waiting, found, splits)
            found, trials = _find_latents(
                search_leaves, latent.leaf_groups(config.latent, shards, splits, waiting), report_leaves
            )
            tried += trials
            found = found.reshape(leaves, -1)
            latents = np.where(waiting, np.minimum(found, latent.LIMIT - 1), latents)
            waiting &= (found == latent.LIMIT).any(0)
            splits = splits + waiting
        compiled.result()
    return policy()


def _find_latents(
    search: Callable[..., SearchState], groups: Groups, report: Callable[[int, int], None]
) -> tuple[Int32[np.ndarray, " groups"], int]:
    """The latent of every group, and how many were tried in a lane; every device (on CPU, core) searches its share."""
    on_cpu = jax.default_backend() == "cpu"
    devices = jax.local_devices()
    shares = max(len(os.sched_getaffinity(0)) if on_cpu else 1, len(devices))
    lanes = _LATENT_LANES.get(jax.default_backend(), _LANES_ON_ACCELERATORS)
    parts = [Groups(*(a[..., part::shares] for a in groups)) for part in range(shares)]
    states = [latent.start(part, lanes) for part in parts]
    if len(devices) > 1:
        for part in range(shares):
            parts[part], states[part] = jax.device_put((parts[part], states[part]), devices[part % len(devices)])
    trials, tried = latent.TRIALS_BETWEEN_REFILLS, 0
    with ThreadPoolExecutor(shares) as pool:
        while True:
            before = time.monotonic()
            futures = [pool.submit(search, *pair, np.int32(trials)) for pair in zip(states, parts, strict=True)]
            states = [jax.block_until_ready(future.result()) for future in futures]
            tried += trials
            open_groups = [np.asarray(s.latents) < 0 for s in states]
            report(tried, sum(int(np.asarray(p.sizes)[o].sum()) for p, o in zip(parts, open_groups, strict=True)))
            if not any(o.any() for o in open_groups):
                break
            quick = time.monotonic() - before < SECONDS_BETWEEN_REPORTS
            trials = min(2 * trials, 2**20) if quick else max(trials // 2, latent.TRIALS_BETWEEN_REFILLS)
    found = np.empty(groups.sizes.shape, np.int32)
    for part, state in enumerate(states):
        found[part::shares] = np.asarray(state.latents)
    return found, tried


def _learn_single(
    config: FitConfig,
    numbers: UInt64[np.ndarray, " n"],
    num_seats: int,
    tell: Callable[[int, int], None],
    compile_hasher: Callable[[Sharded | Latent], None],
) -> Single:
    del compile_hasher  # a few tenths of a second, beside seconds
    weights = num_seats * config.single.hidden
    if weights > MAX_SINGLE_WEIGHTS:
        raise ValueError(
            f"a single network with {num_seats:,} bins has {weights:,} weights, more than {MAX_SINGLE_WEIGHTS:,}; use "
            "method='sharded', or fewer hidden units"
        )
    n = len(numbers)
    policy = single.start(config.single, num_seats, config.seed)
    if n == 0:
        return policy
    prints = np.stack([numbers >> np.uint64(32), numbers], 1).astype(np.uint32)
    units = jax.jit(single.hidden_units)(policy, prints)
    most_likely, train = jax.jit(single.most_likely), jax.jit(single.train)
    best, fewest = policy, n
    for iteration in range(config.single.iterations + 1):
        bins = most_likely(policy, units)
        collisions = n - len(np.unique(np.asarray(bins)))
        if collisions < fewest:
            best, fewest = policy, collisions
        tell(iteration, fewest)
        if collisions == 0 or iteration == config.single.iterations:
            break
        policy = train(policy, units, bins)
    return best


_LEARNERS: dict[str, Callable[..., Policy]] = {
    "sharded": _learn_sharded,
    "single": _learn_single,
    "latent": _learn_latent,
}
