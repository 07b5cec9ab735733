"""Sharded method: every 32 keys have a tiny policy of their own, and all of these are trained side by side.

The first word of a key's fingerprint chooses the bucket (`buckets.py`), both words together give the inputs of the
bucket's policy: a few signs. The policy is one layer of small-integer weights. Each of its outputs is a bit of a code,
1 with probability sigmoid(logit); the hasher takes the most likely code, the signs of the logits. Codes stand for the
slots of the bucket in order, and outnumber them.

Learning, for each bucket at once: of the keys that share a slot, one is shown a good action, the most likely code whose
slot is empty (the study's future work: actions known to be good), and the weights move by the perceptron rule
(Rosenblatt 1958): +-1 towards the bits that were wrong. Weights start large against that step, which keeps the slots of
the other keys where they are. A bucket that still has collisions after some steps starts again with other inputs.
Only integers are used, in training as well: the result is the same on every device, however many train at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int8, Int16, Int32, UInt8, UInt32

from jaxhash.hashing.keys.fingerprint import mix
from jaxhash.hashing.perfect import buckets
from jaxhash.hashing.perfect.buckets import Buckets, Index, cut, find, index, read
from jaxhash.hashing.perfect.workers import Learned, Learner, Room, Task, at_once, check_ranges, solve

MAX_KEYS = 32
"""Keys of a bucket at most: which of its slots are taken is one 32-bit word."""
AT_ONCE_ON_CPU = 2**8
STEPS_BETWEEN_REFILLS = 16
"""Steps after which buckets that are done make room for others."""
_NOTHING = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class ShardedConfig:
    """How large the policy of a bucket is, and how long it is trained."""

    keys_per_bucket: int = 32
    """Keys that share a policy, 1 to 32. More need more inputs; fewer spend more bits on the bounds of buckets."""
    inputs: int = 12
    """Bits of the fingerprint that a policy sees, 1 to 32. Fewer make a smaller function that takes longer to find."""
    outputs: int = 6
    """Bits of a policy's code, 1 to 7: 2^outputs codes for the slots of a bucket, at least one for each key."""
    initial_weight: int = 45
    """Weights start between plus and minus this, 1 to 127, in units of the learning step."""
    steps: int = 512
    """Learning steps of one attempt; each moves one key of every bucket."""
    attempts: int = 64
    """Attempts at a bucket before it is left with collisions, 1 to 255."""

    def __post_init__(self) -> None:
        check_ranges(self, keys_per_bucket=(1, MAX_KEYS), inputs=(1, 32), outputs=(1, 7), initial_weight=(1, 127))
        check_ranges(self, steps=(1, 2**31 - 1), attempts=(1, 255))
        if 2**self.outputs < self.keys_per_bucket:
            raise ValueError(
                f"outputs={self.outputs} is not valid: outputs must be log2 of keys_per_bucket={self.keys_per_bucket} "
                "or more"
            )


class Sharded(NamedTuple):
    """The policies of all buckets."""

    weights: Int8[Array | np.ndarray, "buckets inputs outputs"]
    attempts: UInt8[Array | np.ndarray, " buckets"]
    """Which of the possible inputs a bucket's policy sees."""
    thresholds: UInt32[Array | np.ndarray, " buckets"]
    """Least first word of a fingerprint in the bucket; 0 for the first bucket."""
    sizes: UInt8[Array | np.ndarray, " buckets"]
    """Keys of the key set in the bucket."""


@dataclass(frozen=True)
class ShardedLookup:
    """A policy laid out for fast reading."""

    index: Index
    attempts: UInt8[Array | np.ndarray, " buckets"]
    weights: Int8[Array | np.ndarray, "buckets inputs 8"]
    """Outputs padded to 8, which processors read at once."""
    num_outputs: int


jax.tree_util.register_dataclass(
    ShardedLookup, data_fields=["index", "attempts", "weights"], meta_fields=["num_outputs"]
)


def learn(config: ShardedConfig, task: Task, learner: Learner) -> Sharded:
    """Train a policy for every bucket, on all devices, from where it was left.

    Raises:
        ValueError: if a bucket cannot be cut.
    """
    problems = cut(task.numbers, task.num_slots, config.keys_per_bucket)
    sizes, thresholds = np.asarray(problems.sizes), np.asarray(problems.thresholds)
    count = len(sizes)
    fresh = {
        "weights": np.zeros((count, config.inputs, config.outputs), np.int8),
        "attempts": np.zeros(count, np.uint8),
        "collisions": np.maximum(sizes.astype(np.int32) - 1, 0),
        "trained": sizes == 0,
    }
    learned = learner.begin(fresh)
    trained_before = learned["trained"].copy()
    policy = Sharded(learned["weights"], learned["attempts"], thresholds, sizes)
    learner.compile_hasher(policy)

    def gather(states: list[TrainState], parts: list[np.ndarray]) -> Learned:
        """With the buckets that are under way left as they were: they begin again."""
        for part, state in zip(parts, states, strict=True):
            which = trained(state)[: len(part)]
            best = {"weights": state.best_weights, "attempts": state.best_attempts, "collisions": state.collisions}
            for name, found in best.items():
                learned[name][part[which]] = np.asarray(found)[: len(part)][which]
            learned["trained"][part[which]] = True
        return learned

    def look(states: list[TrainState], parts: list[np.ndarray], _: int) -> bool:
        left = int(learned["collisions"][trained_before].sum())
        left += sum(int(np.asarray(state.collisions).sum()) for state in states)
        learner.watch(max(int(state.steps) for state in states), left, lambda: gather(states, parts))
        return all(bool(trained(state)[: len(part)].all()) for state, part in zip(states, parts, strict=True))

    untrained = np.flatnonzero(~trained_before)
    states, parts = solve(
        _train(config),
        lambda some: start(config, some, at_once(learner.devices, AT_ONCE_ON_CPU, some.sizes.shape[0])),
        problems,
        untrained,
        Room.of(len(untrained), learner.devices),
        STEPS_BETWEEN_REFILLS,
        look,
    )
    left = int(gather(states, parts)["collisions"].sum())
    learner.watch(max(int(state.steps) for state in states), left, lambda: learned)
    return policy


def check(policy: Sharded, num_keys: int, num_slots: int) -> None:
    """Whether arrays of unknown origin are such a policy for so many keys; on the host.

    Raises:
        ValueError: if they are not.
    """
    buckets.check(policy.thresholds, policy.sizes, num_keys)
    weights, attempts = np.asarray(policy.weights), np.asarray(policy.attempts)
    shape = weights.shape
    if weights.dtype != np.int8 or len(shape) != 3 or not (1 <= shape[1] <= 32 and 1 <= shape[2] <= 7):
        raise ValueError(f"weights {weights.dtype}{shape}")
    if attempts.dtype != np.uint8 or not attempts.shape == shape[:1] == np.shape(policy.sizes):
        raise ValueError(f"attempts {attempts.dtype}{attempts.shape} of {shape[0]:,} policies")


def lookup(policy: Sharded, num_slots: int) -> ShardedLookup:
    """The look-up tables of a policy for `num_slots` slots, at least as many as there are keys; on the host."""
    weights, attempts, thresholds, sizes = (np.asarray(a) for a in policy)
    num_outputs = weights.shape[2]
    padded = np.pad(weights, [(0, 0), (0, 0), (0, 8 - num_outputs)])
    return ShardedLookup(index(thresholds, sizes, num_slots), attempts, padded, num_outputs)


def slots(tables: ShardedLookup, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The slot of each fingerprint. Cost a key: that of `find`, inputs * 8 bytes of weights, and as many additions."""
    first, second = jnp.asarray(prints)[:, 0], jnp.asarray(prints)[:, 1]
    num_inputs = tables.weights.shape[1]
    bucket = find(tables.index, first)
    inputs = visible_bits(first, second, read(tables.attempts, bucket), num_inputs)
    signs = ((inputs[:, None] >> jnp.arange(num_inputs, dtype=jnp.uint32)) & 1).astype(jnp.int16) * 2 - 1
    # 32 inputs of 127 at most stay far within 16 bits.
    logits = (read(tables.weights, bucket).astype(jnp.int16) * signs[:, :, None]).sum(1, dtype=jnp.int16)
    room = read(tables.index.rooms, bucket)
    slot = most_likely_code(logits.T[: tables.num_outputs]) * jnp.minimum(room, MAX_KEYS) >> tables.num_outputs
    # slot * room // 32 without a product that leaves 32 bits; up to 32 slots the policy chooses among all of them.
    spread = slot * (room // MAX_KEYS) + (slot * (room % MAX_KEYS)) // MAX_KEYS
    return read(tables.index.starts, bucket) + jnp.where(room > MAX_KEYS, spread, slot)


def visible_bits(first: Array, second: Array, attempt: Array, num_inputs: int) -> UInt32[Array, "*shape"]:
    """What a policy sees of a fingerprint, one bit an input; every attempt sees something else."""
    turned = mix(first + (attempt.astype(jnp.uint32) + 1) * jnp.uint32(0x9E3779B9))
    return mix(turned ^ second) & jnp.uint32(2**num_inputs - 1)


def most_likely_code(logits: Int[Array, "outputs *shape"]) -> Int32[Array, "*shape"]:
    """The most likely code: bit is 1 where its logit is positive, the first output counts most."""
    code = jnp.zeros(logits.shape[1:], jnp.int32)
    for logit in logits:
        code = code * 2 + (logit > 0)
    return code


class TrainState(NamedTuple):
    """Where training stands: the buckets that train at once, and the best policy found so far for each bucket."""

    bucket: Int32[Array, " at_once"]
    """The bucket in each column; the number of buckets if there is none left."""
    attempt: Int32[Array, " at_once"]
    age: Int32[Array, " at_once"]
    """Steps made in this attempt."""
    inputs: UInt32[Array, "keys at_once"]
    """What the policies see, one bit an input."""
    weights: Int16[Array, "inputs outputs at_once"]
    logits: Int16[Array, "outputs keys at_once"]
    next_bucket: Int32[Array, ""]
    steps: Int32[Array, ""]
    best_weights: Int8[Array, "buckets inputs outputs"]
    best_attempts: UInt8[Array, " buckets"]
    collisions: Int32[Array, " buckets"]
    """Keys - occupied slots under the best policy so far; untrained, all keys of a bucket share its first slot."""


def start(config: ShardedConfig, problems: Buckets, at_once: int) -> TrainState:
    """Training before its first step, with no bucket in any of the columns. On the host."""
    count = problems.sizes.shape[0]

    def zeros(*shape: int, dtype: type) -> Array:
        return jnp.asarray(np.zeros(shape, dtype))  # made by NumPy: nothing to compile

    return TrainState(
        bucket=jnp.asarray(np.full(at_once, count, np.int32)),
        attempt=zeros(at_once, dtype=np.int32),
        age=zeros(at_once, dtype=np.int32),
        inputs=zeros(config.keys_per_bucket, at_once, dtype=np.uint32),
        weights=zeros(config.inputs, config.outputs, at_once, dtype=np.int16),
        logits=zeros(config.outputs, config.keys_per_bucket, at_once, dtype=np.int16),
        next_bucket=zeros(dtype=np.int32),
        steps=zeros(dtype=np.int32),
        best_weights=zeros(count, config.inputs, config.outputs, dtype=np.int8),
        best_attempts=zeros(count, dtype=np.uint8),
        collisions=jnp.asarray(np.maximum(np.asarray(problems.sizes).astype(np.int32) - 1, 0)),
    )


def make_train(config: ShardedConfig) -> Callable[[TrainState, Buckets, Array], TrainState]:
    """The learner: `train(state, problems, steps)` makes at most `steps` more steps, fewer if all is done.

    Every column of the state trains a bucket of its own, and takes the next when it is done; how many columns there are
    does not change the result.
    """

    drawn = np.asarray(mix(jnp.arange(1, config.inputs * config.outputs + 1, dtype=jnp.uint32))).astype(np.int64)
    weights = drawn % (2 * config.initial_weight + 1) - config.initial_weight  # all policies start from these
    start_weights = jnp.asarray(weights.astype(np.int16).reshape(config.inputs, config.outputs))

    def train(state: TrainState, problems: Buckets, steps: Int32[Array, ""]) -> TrainState:
        count = (jnp.asarray(problems.sizes) > 0).sum(dtype=jnp.int32)

        def go_on(carry: tuple[Array, TrainState]) -> Array:
            done = (carry[1].next_bucket >= count) & (carry[1].bucket >= problems.sizes.shape[0]).all()
            return (carry[0] < steps) & ~done

        def some_steps(carry: tuple[Array, TrainState]) -> tuple[Array, TrainState]:
            state = _refill(config, start_weights, carry[1], problems, count)
            real, room = _columns(config, state, problems)
            state = jax.lax.fori_loop(0, STEPS_BETWEEN_REFILLS, lambda _, s: _step(config, s, real, room), state)
            return carry[0] + STEPS_BETWEEN_REFILLS, state._replace(steps=state.steps + STEPS_BETWEEN_REFILLS)

        return jax.lax.while_loop(go_on, some_steps, (jnp.zeros((), jnp.int32), state))[1]

    return train


def trained(state: TrainState) -> Bool[np.ndarray, " buckets"]:
    """Which buckets have been trained, with success or without; on the host."""
    which = np.arange(len(state.collisions)) < np.asarray(state.next_bucket)
    under_way = np.asarray(state.bucket)
    which[under_way[under_way < len(which)]] = False
    return which


def _columns(
    config: ShardedConfig, state: TrainState, problems: Buckets
) -> tuple[Bool[Array, "keys at_once"], Int32[Array, " at_once"]]:
    """Which rows of each column are keys, and among how many slots their policy chooses."""
    sizes = jnp.asarray(problems.sizes).at[state.bucket].get(mode="fill", fill_value=0).astype(jnp.int32)
    room = jnp.asarray(problems.rooms).at[state.bucket].get(mode="fill", fill_value=0)
    return jnp.arange(config.keys_per_bucket, dtype=jnp.int32)[:, None] < sizes, jnp.minimum(room, MAX_KEYS)


def _step(
    config: ShardedConfig, state: TrainState, real: Bool[Array, "keys at_once"], room: Int32[Array, " at_once"]
) -> TrainState:
    """In every bucket, one of the colliding keys is shown the most likely code whose slot is empty."""
    num_codes = 2**config.outputs
    slot = most_likely_code(state.logits) * room >> config.outputs
    taken, shared = _occupancy(slot, real)
    key = _one_of((shared >> slot.astype(jnp.uint32)) & real, state.age)
    active = key < config.keys_per_bucket
    chosen = jnp.arange(config.keys_per_bucket, dtype=jnp.int32)[:, None] == key
    seen = jnp.where(chosen, state.inputs, 0).sum(0, dtype=jnp.uint32)
    logits = jnp.where(chosen, state.logits, 0).sum(1, dtype=jnp.int16).astype(jnp.int32)
    codes = jnp.arange(num_codes, dtype=jnp.int32)[:, None]
    free = (taken >> (codes * room >> config.outputs).astype(jnp.uint32)) & 1 == 0
    # Minus the log-odds of a code against the most likely one, where logits count in units of the step.
    unlikely = jnp.where(free, _surprise(logits) * num_codes + codes, jnp.int32(2**30))
    code = unlikely.min(0) & (num_codes - 1)
    bits = jnp.arange(config.outputs, dtype=jnp.int32)[::-1, None]
    wanted = (code >> bits) & 1
    wrong = (wanted != (logits > 0)) & active
    push = jnp.where(wrong, 2 * wanted - 1, 0).astype(jnp.int16)
    differ = jax.lax.population_count(state.inputs ^ seen).astype(jnp.int16)
    return state._replace(
        age=state.age + 1,
        weights=state.weights + push * _signs(seen, config.inputs).astype(jnp.int16)[:, None],
        logits=state.logits + push[:, None] * (config.inputs - 2 * differ),
    )


def _refill(
    config: ShardedConfig, start_weights: Array, state: TrainState, problems: Buckets, count: Int32[Array, ""]
) -> TrainState:
    """Keep what is better than before; buckets that are done make room for the next, others try other inputs."""
    real, room = _columns(config, state, problems)
    nothing = state.collisions.shape[0]  # no bucket
    taken, _ = _occupancy(most_likely_code(state.logits) * room >> config.outputs, real)
    left = real.sum(0, dtype=jnp.int32) - jax.lax.population_count(taken).astype(jnp.int32)
    # Beyond int8 a policy cannot be kept.
    storable = jnp.abs(state.weights).max((0, 1)) <= 127
    busy = state.bucket < nothing
    better = busy & storable & (left < state.collisions.at[state.bucket].get(mode="fill", fill_value=0))
    to = jnp.where(better, state.bucket, nothing)
    over = state.age >= config.steps
    ended = busy & ((storable & (left == 0)) | (over & (state.attempt + 1 >= config.attempts)))
    leave, retry = ended | ~busy, busy & over & ~ended

    waiting = state.next_bucket + jnp.cumsum(leave, dtype=jnp.int32) - 1
    bucket = jnp.where(leave, jnp.where(waiting < count, waiting, nothing), state.bucket)
    attempt = jnp.where(leave, 0, state.attempt + retry)
    fresh = leave | retry
    first, second = (jnp.asarray(w)[:, jnp.minimum(bucket, nothing - 1)] for w in (problems.first, problems.second))
    inputs = jnp.where(fresh, visible_bits(first, second, attempt, config.inputs), state.inputs)
    signs = _signs(inputs, config.inputs).astype(jnp.int16)
    started = (start_weights[:, :, None, None] * signs[:, None]).sum(0, dtype=jnp.int16)
    best = jnp.moveaxis(state.weights, -1, 0).astype(jnp.int8)
    return TrainState(
        bucket=bucket,
        attempt=attempt,
        age=jnp.where(fresh, 0, state.age),
        inputs=inputs,
        weights=jnp.where(fresh, start_weights[:, :, None], state.weights),
        logits=jnp.where(fresh, started, state.logits),
        next_bucket=jnp.minimum(state.next_bucket + leave.sum(dtype=jnp.int32), count),
        steps=state.steps,
        best_weights=state.best_weights.at[to].set(best, mode="drop"),
        best_attempts=state.best_attempts.at[to].set(state.attempt.astype(jnp.uint8), mode="drop"),
        collisions=state.collisions.at[to].set(left, mode="drop"),
    )


def _signs(inputs: UInt32[Array, "*shape"], num_inputs: int) -> Int8[Array, "inputs *shape"]:
    """Bits as -1 and 1, the lowest first."""
    bits = jnp.arange(num_inputs, dtype=jnp.uint32).reshape(-1, *[1] * inputs.ndim)
    return (((inputs[None] >> bits) & 1).astype(jnp.int8) * 2 - 1).astype(jnp.int8)


def _surprise(logits: Int32[Array, "outputs at_once"]) -> Int32[Array, "codes at_once"]:
    """For every code, the sum of |logit| over the bits in which it differs from the most likely code."""
    total = jnp.zeros((1, logits.shape[1]), jnp.int32)
    for logit in logits:
        zero, one = jnp.maximum(logit, 0), jnp.maximum(1 - logit, 0)
        total = jnp.stack([total + zero, total + one], 1).reshape(-1, logits.shape[1])
    return total


def _occupancy(
    slot: Int32[Array, "keys at_once"], real: Bool[Array, "keys at_once"]
) -> tuple[UInt32[Array, " at_once"], UInt32[Array, " at_once"]]:
    """Which slots are taken, and which by more than one key, one bit a slot."""
    bit = jnp.where(real, jnp.uint32(1) << slot.astype(jnp.uint32), 0)
    nothing = jnp.uint32(0)

    def both(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] | b[0], a[1] | b[1] | (a[0] & b[0])

    return jax.lax.reduce((bit, jnp.zeros_like(bit)), (nothing, nothing), both, (0,))


def _one_of(colliding: UInt32[Array, "keys at_once"], age: Int32[Array, " at_once"]) -> Int32[Array, " at_once"]:
    """One key for which the lowest bit is set, another at every step; a number past all keys if there is none."""
    keys = jnp.arange(colliding.shape[0], dtype=jnp.uint32)[:, None]
    rank = mix(age.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + keys) & ~jnp.uint32(63)
    return (jnp.where(colliding & 1 == 1, rank | keys, _NOTHING).min(0) & 63).astype(jnp.int32)


@cache
def _train(config: ShardedConfig) -> Callable[..., TrainState]:
    return jax.jit(make_train(config), donate_argnums=0)
