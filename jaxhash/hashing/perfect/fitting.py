"""A perfect hash learned: keys -> fingerprints -> a policy that is trained until no two of them share a bin.

bins >= keys   every key has a bin of its own; minimal perfect where they are equal
bins < keys    a minimal perfect hash onto as many seats as keys, and the seats dealt out to the bins in turn:
               no bin is empty, and no two differ by more than one key
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Int32

from jaxhash.hashing.keys.lines import Flat, key_of
from jaxhash.hashing.keys.source import KeyFile, KeyList, KeySource
from jaxhash.hashing.keys.tokens import listed_keys
from jaxhash.hashing.perfect import resume
from jaxhash.hashing.perfect.hasher import MAX_BINS, Hasher, Policy
from jaxhash.hashing.perfect.prototypes import SingleConfig
from jaxhash.hashing.perfect.resume import Unfinished
from jaxhash.hashing.perfect.seeds import LatentConfig
from jaxhash.hashing.perfect.seeds_lookup import Latent
from jaxhash.hashing.perfect.separation import separate
from jaxhash.hashing.perfect.sharded import ShardedConfig
from jaxhash.hashing.perfect.sharded_lookup import Sharded
from jaxhash.hashing.perfect.steps import Learned, Learner, Task, learn_latent, learn_sharded, learn_single
from jaxhash.runtime import devices

EXAMPLES = 48
"""Keys of the key set that are saved with the hasher, to be checked when it is loaded."""
MAX_EXAMPLE_BYTES = 2**10
"""Longer ones are not: the description stays small."""
SECONDS_BETWEEN_SAVES = 60.0
_METHODS: dict[str, Callable[..., Policy]] = {
    "sharded": learn_sharded,
    "single": learn_single,
    "latent": learn_latent,
}


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
        if self.method not in _METHODS:
            raise ValueError(f"method={self.method!r} is not valid: method must be one of {', '.join(_METHODS)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is not valid: seed must be 0 to 2^32 - 1")


class Progress(NamedTuple):
    """Where a fit stands."""

    seconds: float
    """Since the fit began."""
    stage: Literal["reading", "fitting", "checking"]
    steps: int
    """Learning steps (sharded), iterations (single) or trials of a group of keys (latent), since the fit began or went
    on."""
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
        """Keys - occupied seats, where seats are the bins, or as many as keys if these are more."""


class Interrupted(Exception):
    """The fit was asked to stop, and has."""

    def __init__(self, saved: bool) -> None:
        super().__init__(f"{'what was learned' if saved else 'nothing'} was saved")
        self.saved = saved
        """Whether the same fit would go on from here."""


def fit(
    keys: Iterable[str | bytes] | KeyFile,
    config: FitConfig | None = None,
    report: Callable[[Progress], None] | None = None,
    *,
    drop_duplicates: bool = False,
    mesh: str = "auto",
    kept: Unfinished | None = None,
    stop: threading.Event | None = None,
) -> Hasher:
    """A hash function for a key set, checked on every key.

    A shard's policy depends on the keys of the shard alone and only integers are used: the function is the same bits on
    any number of devices, and however often the fit was interrupted.

    Args:
        keys: n different keys; n may be 0. Those of a `KeyFile` are read block by block, and may take more room than
            there is memory: some 70 bytes are needed a key, whatever its length.
        config: by default, a minimal perfect hash by the sharded policy.
        report: called now and then while it reads, learns and checks, and at the end.
        drop_duplicates: drop repeated keys, instead of refusing them. Each of those is held in memory once.
        mesh: the devices of this process that learn, as `devices.places` takes them; the single policy takes the first.
        kept: an open folder (`unfinished.opened`) where once a minute, and when stopped, what has been learned is
            saved; the same fit goes on from what it finds there.
        stop: set it to stop after the step under way.

    Raises:
        NotPerfect: with the best function found, if keys still collide.
        Interrupted: after `stop` was set.
        ValueError: if keys repeat, or the network would be too large; if what is kept is damaged or another fit's
            (`CheckpointError`).
        TypeError: if keys are not `str` or `bytes`.
        OSError: if what was learned cannot be saved, or a `KeyFile` changes meanwhile.
    """
    config = FitConfig() if config is None else config
    source = keys if isinstance(keys, KeyFile) else KeyList(listed_keys(keys))
    on = [device for place in devices.places(mesh) for device in place.devices]
    stop = threading.Event() if stop is None else stop
    began = time.monotonic()

    def tell(stage: Literal["reading", "fitting", "checking"], steps: int, collisions: int, keys: int) -> None:
        if report is not None:
            report(Progress(time.monotonic() - began, stage, steps, collisions, keys))

    def tell_read(entries: int) -> None:
        tell("reading", 0, max(entries - 1, 0), entries)
        if stop.is_set():
            raise Interrupted(saved=kept is not None and kept.holds_something)

    state_of_source = source.state()
    seed, numbers, entries = separate(source, config.seed, drop_duplicates, tell_read)
    n = len(numbers)
    num_bins = max(n, 1) if config.num_bins is None else config.num_bins
    num_seats = max(n, num_bins)
    this_fit: dict[str, Any] = {}
    if kept is not None:
        this_fit = {
            "method": config.method,
            "setting of the method": dataclasses.asdict(getattr(config, config.method)),
            "seed": config.seed,
            "number of bins": num_bins,
            "key set": resume.digest(numbers),
        }
    saved = time.monotonic()
    so_far: Callable[[], Learned] = dict

    def watch(steps: int, collisions: int, learned: Callable[[], Learned]) -> None:
        nonlocal saved, so_far
        tell("fitting", steps, collisions, n)
        so_far = learned
        if stop.is_set():
            save_and_stop()
        if kept is not None and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
            kept.save(learned(), this_fit)
            saved = time.monotonic()

    def save_and_stop() -> NoReturn:
        if kept is not None:
            kept.save(so_far(), this_fit)
        raise Interrupted(saved=kept is not None)

    def checked(keys: int) -> None:
        tell("checking", 0, 0, keys)
        if stop.is_set():
            save_and_stop()

    def compile_hasher(untrained: Sharded | Latent) -> None:
        like_the_result = Hasher(untrained, n, num_bins, seed)
        for flat in source.blocks():
            few = Flat(flat.text, flat.starts[:EXAMPLES], flat.lengths[:EXAMPLES])
            like_the_result(few)
            like_the_result(flat)
            break

    learner = Learner(on, watch, compile_hasher, None if kept is None else kept.load(this_fit))
    policy = _METHODS[config.method](getattr(config, config.method), Task(numbers, num_seats, config.seed), learner)
    del numbers
    seats, examples = _seats(Hasher(policy, n, num_seats, seed), source, entries, checked)
    if source.state() != state_of_source:
        raise OSError(f"{source.name}: changed while it was read; fit again")
    seats_taken, bins_taken = _num_distinct(seats), _num_distinct(seats % num_bins)
    hasher = Hasher(policy, n, num_bins, seed, dataclasses.asdict(config), n - bins_taken, examples)
    if n > seats_taken:
        raise NotPerfect(hasher, n - seats_taken)
    return hasher


def _seats(
    hasher: Hasher, source: KeySource, entries: int, tell: Callable[[int], None]
) -> tuple[Int32[np.ndarray, " entries"], tuple[bytes, ...]]:
    """The bin of every key, and some of the keys.

    Raises:
        OSError: if there are not as many keys as before.
    """
    seats = np.empty(entries, np.int32)
    step = max(entries // EXAMPLES, 1)
    examples, done = [], 0
    for flat in source.blocks():
        start, done = done, done + len(flat.lengths)
        if done > entries:
            break
        seats[start:done] = np.asarray(hasher(flat))
        some = range(-start % step, done - start, step)
        examples += [key_of(flat, i) for i in some if flat.lengths[i] <= MAX_EXAMPLE_BYTES]
        tell(done)
    if done != entries:
        raise OSError(f"{source.name}: changed while it was read; fit again")
    return seats, tuple(examples[:EXAMPLES])


def _num_distinct(places: Int32[np.ndarray, " n"]) -> int:
    places.sort()
    return int((places[1:] != places[:-1]).sum()) + min(len(places), 1)
