"""Fit a perfect hash: keys -> fingerprints, all different -> a method's policy -> a hasher, checked on every key.

bins >= keys   every key has a bin of its own; minimal perfect where they are equal
bins < keys    a minimal perfect hash onto as many slots as keys, and slot % bins is the bin: no bin is empty, and no
               two differ by more than one key
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int32

from jaxhash.hashing.keys.lines import Flat, key_of
from jaxhash.hashing.keys.source import KeyFile, KeyList, KeySource
from jaxhash.hashing.keys.tokens import listed_keys
from jaxhash.hashing.perfect import resume
from jaxhash.hashing.perfect.hasher import MAX_BINS, Hasher
from jaxhash.hashing.perfect.methods import METHODS, Policy
from jaxhash.hashing.perfect.network import NetworkMethodConfig
from jaxhash.hashing.perfect.resume import Unfinished
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.hashing.perfect.separation import Separation, separate
from jaxhash.hashing.perfect.sharded import ShardedConfig
from jaxhash.hashing.perfect.workers import Learned, Learner, Task
from jaxhash.runtime import devices
from jaxhash.storage.saves import Interrupted

EXAMPLES = 48
"""Keys of the key set that are saved with the hasher, to be checked when it is loaded."""
MAX_EXAMPLE_BYTES = 2**10
"""Longer ones are not: the description stays small."""
Stage = Literal["reading", "fitting", "checking"]


@dataclass(frozen=True)
class FitConfig:
    """What hash function is wanted, and how it is learned."""

    num_bins: int | None = None
    """Bins; by default as many as there are keys (1 if there is none), a minimal perfect hash."""
    method: Literal["sharded", "seeds", "network"] = "sharded"
    """`sharded`: a tiny policy for every 32 keys, all trained side by side; for any number of keys. `seeds`: 16-bit
    seeds found by search, nothing is trained; the smallest, for any number of keys. `network`: the study's network
    with two hidden layers and a logit for every key, trained by the policy gradient; its cost grows with the square of
    the keys, and of many thousand some may still collide."""
    seed: int = 0
    """Another seed gives another function of the same key set."""
    sharded: ShardedConfig = field(default_factory=ShardedConfig)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    network: NetworkMethodConfig = field(default_factory=NetworkMethodConfig)

    def __post_init__(self) -> None:
        if self.num_bins is not None and not 1 <= self.num_bins <= MAX_BINS:
            raise ValueError(f"num_bins={self.num_bins} is not valid: num_bins must be 1 to {MAX_BINS:,}")
        # The type checks of the tests come first.
        if self.method not in METHODS:  # pragma: no cover
            raise ValueError(f"method={self.method!r} is not valid: method must be one of {', '.join(METHODS)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is not valid: seed must be 0 to 2^32 - 1")


class Progress(NamedTuple):
    """Where a fit stands."""

    seconds: float
    """Since the fit began."""
    stage: Stage
    steps: int
    """Learning steps (sharded), trials of a group of keys (seeds) or iterations (network), since the fit began or
    went on."""
    collisions: int
    """Keys - occupied bins among max(keys, bins), under the best function so far."""
    num_keys: int
    """Keys; while they are read or checked, those so far."""


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
        """Keys - occupied slots, where slots are the bins, or as many as keys if these are more."""


def fit(
    keys: Iterable[str | bytes] | KeyFile,
    config: FitConfig | None = None,
    callback: Callable[[Progress], None] | None = None,
    *,
    drop_duplicates: bool = False,
    mesh: str = "auto",
    unfinished: Unfinished | None = None,
    stop: threading.Event | None = None,
) -> Hasher:
    """A hash function for a key set, checked on every key.

    A bucket's policy depends on the keys of the bucket alone and only integers are used: the function is the same bits
    on any number of devices, and however often the fit was interrupted.

    Args:
        keys: n different keys; n may be 0. Those of a `KeyFile` are read block by block, and may take more room than
            there is memory: some 70 bytes are needed a key, whatever its length.
        config: by default, a minimal perfect hash by the sharded method.
        callback: called now and then while it reads, learns and checks, and at the end.
        drop_duplicates: drop repeated keys, instead of refusing them. Each of those is held in memory once.
        mesh: the devices of this process that learn, as `devices.places` takes them; a network takes the first.
        unfinished: an open folder (`resume.opened`) where what has been learned is saved once a minute, and at a stop
            after the first minute; the same fit goes on from what it finds there.
        stop: set it to stop after the step under way.

    Raises:
        NotPerfect: with the best function found, if keys still collide.
        Interrupted: after `stop` was set.
        ValueError: if keys repeat, or the network would be too large; if what was saved is another fit's
            (`CheckpointError`).
        TypeError: if keys are not `str` or `bytes`.
        OSError: if what was learned cannot be saved, or a `KeyFile` changes meanwhile.

    >>> hasher = fit(["fig", "pear", "plum"])
    >>> sorted(hasher(["fig", "pear", "plum"]).tolist())
    [0, 1, 2]
    """
    config = FitConfig() if config is None else config
    source = keys if isinstance(keys, KeyFile) else KeyList(listed_keys(keys))
    watch = _Watch(callback, unfinished, threading.Event() if stop is None else stop)
    state_of_source = source.state()
    separated = separate(source, config.seed, drop_duplicates, watch.read)
    n = len(separated.numbers)
    num_bins = max(n, 1) if config.num_bins is None else config.num_bins
    policy = _learn(source, config, separated, num_bins, mesh, watch)
    hasher = Hasher(policy, n, max(n, num_bins), separated.seed)
    slots, examples = _slots(hasher, source, separated.entries, watch.checked)
    if source.state() != state_of_source:
        raise OSError(f"{source.name}: changed while it was read; fit again")
    slots_taken, bins_taken = _num_distinct(slots), _num_distinct(slots % num_bins)
    hasher = Hasher(policy, n, num_bins, separated.seed, dataclasses.asdict(config), n - bins_taken, examples)
    if n > slots_taken:
        raise NotPerfect(hasher, n - slots_taken)
    return hasher


class _Watch:
    """Tells how the fit stands, saves what it has learned, and stops it when asked to."""

    def __init__(
        self, callback: Callable[[Progress], None] | None, unfinished: Unfinished | None, stop: threading.Event
    ) -> None:
        self._callback, self._unfinished, self._stop = callback, unfinished, stop
        self._began, self._num_keys = time.monotonic(), 0
        self._learned: Callable[[], Learned] | None = None

    def begin(self, num_keys: int, fit: Callable[[], dict[str, Any]], fresh: Learned) -> Learned:
        """Once the keys are read: what the same fit has saved, or what it begins with."""
        self._num_keys = num_keys
        return fresh if self._unfinished is None else self._unfinished.load(fit(), fresh)

    def read(self, keys: int) -> None:
        self._tell("reading", 0, max(keys - 1, 0), keys)

    def learning(self, steps: int, collisions: int, learned: Callable[[], Learned]) -> None:
        self._learned = learned
        self._tell("fitting", steps, collisions, self._num_keys)
        if self._unfinished is not None:
            self._unfinished.save(learned)

    def checked(self, keys: int) -> None:
        self._tell("checking", 0, 0, keys)

    def _tell(self, stage: Stage, steps: int, collisions: int, keys: int) -> None:
        if self._unfinished is not None:
            self._unfinished.note(stage, keys, steps, collisions)
        if self._callback is not None:
            self._callback(Progress(time.monotonic() - self._began, stage, steps, collisions, keys))
        if self._stop.is_set():
            if self._unfinished is not None and self._learned is not None:
                self._unfinished.save(self._learned, last=True)
            raise Interrupted


def _learn(
    source: KeySource, config: FitConfig, separated: Separation, num_bins: int, mesh: str, watch: _Watch
) -> Policy:
    """The policy, by the method that is asked for."""
    numbers, method = separated.numbers, getattr(config, config.method)

    def this_fit() -> dict[str, Any]:
        return {
            "method": config.method,
            "setting of the method": dataclasses.asdict(method),
            "seed": config.seed,
            "number of bins": num_bins,
            "key set": resume.digest(numbers),
        }

    def compile_for(policy: Policy) -> None:
        like_the_result = Hasher(policy, len(numbers), num_bins, separated.seed)
        for flat in source.blocks():
            like_the_result(Flat(flat.text, flat.starts[:EXAMPLES], flat.lengths[:EXAMPLES]))
            like_the_result(flat)
            break

    on = [device for place in devices.places(mesh) for device in place.devices]
    compiled = []
    with ThreadPoolExecutor(1) as beside:
        # The hasher's shapes are known before its arrays: it is compiled while the method learns.
        learner = Learner(
            on,
            watch.learning,
            lambda policy: compiled.append(beside.submit(compile_for, policy)),
            lambda fresh: watch.begin(len(numbers), this_fit, fresh),
        )
        policy = METHODS[config.method].learn(method, Task(numbers, max(len(numbers), num_bins), config.seed), learner)
    for waited_for in compiled:
        waited_for.result()
    return policy


def _slots(
    hasher: Hasher, source: KeySource, entries: int, callback: Callable[[int], None]
) -> tuple[Int32[np.ndarray, " entries"], tuple[bytes, ...]]:
    """The slot of every key, and some of the keys.

    Raises:
        OSError: if there are not as many keys as before.
    """
    slots = np.empty(entries, np.int32)
    step = max(entries // EXAMPLES, 1)
    examples, done = [], 0
    for flat in source.blocks():
        start, done = done, done + len(flat.lengths)
        if done > entries:
            break
        slots[start:done] = np.asarray(hasher(flat))
        some = range(-start % step, done - start, step)
        examples += [key_of(flat, i) for i in some if flat.lengths[i] <= MAX_EXAMPLE_BYTES]
        callback(done)
    if done != entries:
        raise OSError(f"{source.name}: changed while it was read; fit again")
    return slots, tuple(examples[:EXAMPLES])


def _num_distinct(slots: Int32[np.ndarray, " n"]) -> int:
    slots.sort()
    return int((slots[1:] != slots[:-1]).sum()) + min(len(slots), 1)
