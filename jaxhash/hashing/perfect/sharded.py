"""Learning the sharded policy: 32 keys at a time have a tiny policy of their own (`sharded_policy.py`), and all of
these are trained side by side.

Shards are cut so that each holds the same number of keys. Each output of a policy is 1 with probability
sigmoid(logit); the deterministic policy takes the most likely code, the signs of the logits. Codes outnumber bins.

Learning, for each shard at once: of the keys that share a bin, one is shown a good action, the most likely code whose
bin is empty (the study's future work: actions known to be good), and the weights move by the perceptron rule
(Rosenblatt 1958): +-1 towards the bits that were wrong. Weights start large against that step, which keeps the bins of
the other keys where they are. A shard that has not come to zero collisions after some steps starts again with other
inputs.

Only integers are used, in training as well: the result is the same on every device and for any number of lanes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int8, Int16, Int32, UInt8, UInt32

from jaxhash.hashing.keys.fingerprint import mix
from jaxhash.hashing.perfect.buckets import Shards
from jaxhash.hashing.perfect.sharded_lookup import MAX_KEYS, most_likely_code, visible_bits

STEPS_BETWEEN_REFILLS = 16
"""Steps after which shards that are done make room for others."""
_NOTHING = np.uint32(0xFFFFFFFF)
_STEP_BITS = 2
"""Weights of 4 bits count in units of 2^2 learning steps."""


@dataclass(frozen=True)
class ShardedConfig:
    """How large the policy of a shard is, and how long it is trained."""

    keys_per_shard: int = 32
    """Keys that share a policy, 1 to 32. More need more inputs; fewer spend more bits on the bounds of shards."""
    inputs: int = 12
    """Bits of the fingerprint that a policy sees, 1 to 32. Fewer make a smaller function that takes longer to find."""
    outputs: int = 6
    """Bits of a policy's code, 1 to 7: 2^outputs codes for the bins of a shard, at least one for each key."""
    initial_weight: int = 45
    """Weights start between plus and minus this, 1 to 127, in units of the learning step."""
    steps: int = 512
    """Learning steps of one attempt; each moves one key of every shard."""
    weight_bits: Literal[8, 4, 1] = 8
    """Bits of a weight. 4 and 1 make a smaller function that takes longer to find (`experiments/hash_ladder.py`)."""
    attempts: int = 64
    """Attempts at a shard before it is left with collisions, 1 to 255."""

    def __post_init__(self) -> None:
        def check(holds: bool, name: str, rule: str) -> None:
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} is not valid: {name} must be {rule}")

        check(1 <= self.keys_per_shard <= MAX_KEYS, "keys_per_shard", f"1 to {MAX_KEYS}")
        check(1 <= self.inputs <= 32, "inputs", "1 to 32")
        check(1 <= self.outputs <= 7, "outputs", "1 to 7")
        check(
            2**self.outputs >= self.keys_per_shard, "outputs", f"log2 of keys_per_shard={self.keys_per_shard} or more"
        )
        check(1 <= self.initial_weight <= 127, "initial_weight", "1 to 127")
        check(self.weight_bits in (8, 4, 1), "weight_bits", "8, 4 or 1")
        check(self.steps >= 1, "steps", "1 or more")
        check(1 <= self.attempts <= 255, "attempts", "1 to 255")


class TrainState(NamedTuple):
    """Where training stands: shards in the lanes, and the best policy found so far for each shard."""

    shard: Int32[Array, " lanes"]
    """The shard in each lane; the number of shards if there is none left."""
    attempt: Int32[Array, " lanes"]
    age: Int32[Array, " lanes"]
    """Steps made in this attempt."""
    inputs: UInt32[Array, "keys lanes"]
    """What the policies see, one bit an input."""
    weights: Int16[Array, "inputs outputs lanes"]
    """As they are learned; the policy has `quantise` of them."""
    logits: Int16[Array, "outputs keys lanes"]
    next_shard: Int32[Array, ""]
    steps: Int32[Array, ""]
    best_weights: Int8[Array, "shards inputs outputs"]
    best_attempts: UInt8[Array, " shards"]
    collisions: Int32[Array, " shards"]
    """Keys - occupied bins under the best policy so far; untrained, all keys of a shard share its first bin."""


def start(config: ShardedConfig, shards: Shards, lanes: int) -> TrainState:
    """Training before its first step: no shard in a lane yet. On the host."""
    num_shards = shards.sizes.shape[0]

    def zeros(*shape: int, dtype: type) -> Array:
        return jnp.asarray(np.zeros(shape, dtype))  # made by NumPy: nothing to compile

    return TrainState(
        shard=jnp.asarray(np.full(lanes, num_shards, np.int32)),
        attempt=zeros(lanes, dtype=np.int32),
        age=zeros(lanes, dtype=np.int32),
        inputs=zeros(config.keys_per_shard, lanes, dtype=np.uint32),
        weights=zeros(config.inputs, config.outputs, lanes, dtype=np.int16),
        logits=zeros(config.outputs, config.keys_per_shard, lanes, dtype=np.int16),
        next_shard=zeros(dtype=np.int32),
        steps=zeros(dtype=np.int32),
        best_weights=zeros(num_shards, config.inputs, config.outputs, dtype=np.int8),
        best_attempts=zeros(num_shards, dtype=np.uint8),
        collisions=jnp.asarray(np.maximum(np.asarray(shards.sizes).astype(np.int32) - 1, 0)),
    )


def make_train(config: ShardedConfig) -> Callable[[TrainState, Shards, Array], TrainState]:
    """The learner: `train(state, shards, steps)` makes at most `steps` more steps, fewer if all is done.

    Every lane of the state trains a shard of its own, and takes the next when it is done; how many lanes there are
    does not change the result.
    """
    start_weights = jnp.asarray(_start_weights(config))
    num_codes = 2**config.outputs

    def seat(state: TrainState, shards: Shards, leave: Array, retry: Array) -> TrainState:
        """Give the lanes that are left the next shards, and those that try again other inputs."""
        num_shards = state.collisions.shape[0]
        waiting = state.next_shard + jnp.cumsum(leave, dtype=jnp.int32) - 1
        shard = jnp.where(leave, jnp.where(waiting < shards.num_shards, waiting, num_shards), state.shard)
        attempt = jnp.where(leave, 0, state.attempt + retry)
        fresh = leave | retry
        place = jnp.minimum(shard, num_shards - 1)
        first, second = (jnp.asarray(words)[:, place] for words in (shards.first, shards.second))
        seen = visible_bits(first, second, attempt, config.inputs)
        inputs = jnp.where(fresh, seen, state.inputs)
        signs = _signs(inputs, config.inputs).astype(jnp.int16)
        started = (quantise(start_weights, config.weight_bits)[:, :, None, None] * signs[:, None]).sum(
            0, dtype=jnp.int16
        )
        return state._replace(
            shard=shard,
            attempt=attempt,
            age=jnp.where(fresh, 0, state.age),
            inputs=inputs,
            weights=jnp.where(fresh, start_weights[:, :, None], state.weights),
            logits=jnp.where(fresh, started, state.logits),
            next_shard=jnp.minimum(state.next_shard + leave.sum(dtype=jnp.int32), shards.num_shards),
        )

    def learn(state: TrainState, real: Bool[Array, "keys lanes"], slots: Int32[Array, " lanes"]) -> TrainState:
        """One step: in every lane, one of the colliding keys is shown the most likely code whose bin is empty."""
        slot = most_likely_code(state.logits) * slots >> config.outputs
        taken, shared = _occupancy(slot, real)
        key = _one_of((shared >> slot.astype(jnp.uint32)) & real, state.age)
        active = key < config.keys_per_shard
        chosen = jnp.arange(config.keys_per_shard, dtype=jnp.int32)[:, None] == key
        seen = jnp.where(chosen, state.inputs, 0).sum(0, dtype=jnp.uint32)
        logits = jnp.where(chosen, state.logits, 0).sum(1, dtype=jnp.int16).astype(jnp.int32)
        codes = jnp.arange(num_codes, dtype=jnp.int32)[:, None]
        free = (taken >> (codes * slots >> config.outputs).astype(jnp.uint32)) & 1 == 0
        # Minus the log-odds of a code against the most likely one, where logits count in units of the step.
        unlikely = jnp.where(free, _surprise(logits) * num_codes + codes, jnp.int32(2**30))
        code = unlikely.min(0) & (num_codes - 1)
        places = jnp.arange(config.outputs, dtype=jnp.int32)[::-1, None]
        wanted = (code >> places) & 1
        wrong = (wanted != (logits > 0)) & active
        push = jnp.where(wrong, 2 * wanted - 1, 0).astype(jnp.int16)
        weights = state.weights + push * _signs(seen, config.inputs).astype(jnp.int16)[:, None]
        change = change_of_logits(state, weights, push, seen)
        return state._replace(age=state.age + 1, weights=weights, logits=state.logits + change)

    def change_of_logits(
        state: TrainState, weights: Array, push: Array, seen: Array
    ) -> Int16[Array, "outputs keys lanes"]:
        if config.weight_bits == 8:
            differ = jax.lax.population_count(state.inputs ^ seen).astype(jnp.int16)
            return push[:, None] * (config.inputs - 2 * differ)
        change = quantise(weights, config.weight_bits) - quantise(state.weights, config.weight_bits)
        signs = _signs(state.inputs, config.inputs).astype(jnp.int16)
        return sum((c[:, None] * s for c, s in zip(change, signs, strict=True)), jnp.zeros_like(state.logits))

    def refill(state: TrainState, shards: Shards, real: Array, slots: Array) -> TrainState:
        """Keep what is better than before, and let go of what is done."""
        num_shards = state.collisions.shape[0]
        taken, _ = _occupancy(most_likely_code(state.logits) * slots >> config.outputs, real)
        left = real.sum(0, dtype=jnp.int32) - jax.lax.population_count(taken).astype(jnp.int32)
        kept_weights = quantise(state.weights, config.weight_bits)
        # Beyond int8 a policy cannot be kept.
        storable = jnp.abs(kept_weights).max((0, 1)) <= 127
        busy = state.shard < num_shards
        best = state.collisions.at[state.shard].get(mode="fill", fill_value=0)
        better = busy & storable & (left < best)
        place = jnp.where(better, state.shard, num_shards)
        weights = jnp.moveaxis(kept_weights, -1, 0).astype(jnp.int8)
        kept = state._replace(
            collisions=state.collisions.at[place].set(left, mode="drop"),
            best_weights=state.best_weights.at[place].set(weights, mode="drop"),
            best_attempts=state.best_attempts.at[place].set(state.attempt.astype(jnp.uint8), mode="drop"),
        )
        solved = storable & (left == 0)
        over = state.age >= config.steps
        leave = busy & (solved | (over & (state.attempt + 1 >= config.attempts)))
        return seat(kept, shards, leave | ~busy, busy & over & ~leave)

    def train(state: TrainState, shards: Shards, steps: Int32[Array, ""]) -> TrainState:
        def lanes_of(state: TrainState) -> tuple[Array, Array]:
            sizes = jnp.asarray(shards.sizes).at[state.shard].get(mode="fill", fill_value=0).astype(jnp.int32)
            room = jnp.asarray(shards.rooms).at[state.shard].get(mode="fill", fill_value=0)
            return jnp.arange(config.keys_per_shard, dtype=jnp.int32)[:, None] < sizes, jnp.minimum(room, MAX_KEYS)

        def go_on(carry: tuple[Array, TrainState]) -> Array:
            return (carry[0] < steps) & ~done(carry[1], shards)

        def some_steps(carry: tuple[Array, TrainState]) -> tuple[Array, TrainState]:
            state = refill(carry[1], shards, *lanes_of(carry[1]))
            real, slots = lanes_of(state)
            state = jax.lax.fori_loop(0, STEPS_BETWEEN_REFILLS, lambda _, s: learn(s, real, slots), state)
            return carry[0] + STEPS_BETWEEN_REFILLS, state._replace(steps=state.steps + STEPS_BETWEEN_REFILLS)

        return jax.lax.while_loop(go_on, some_steps, (jnp.zeros((), jnp.int32), state))[1]

    return train


def quantise(weights: Int16[Array, "*shape"], weight_bits: int) -> Int16[Array, "*shape"]:
    """Learned weights -> those of the policy, with fewer bits; a learning step changes few of them, or none."""
    if weight_bits == 8:
        return weights
    if weight_bits == 1:
        return jnp.where(weights >= 0, 1, -1).astype(jnp.int16)
    return jnp.clip(weights >> _STEP_BITS, -(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1) - 1)


def done(state: TrainState, shards: Shards) -> Bool[Array, ""]:
    """Whether every shard has been trained, with success or without."""
    return (state.next_shard >= shards.num_shards) & (state.shard >= shards.sizes.shape[0]).all()


def trained(state: TrainState) -> Bool[np.ndarray, " shards"]:
    """Which shards have been trained, with success or without; on the host."""
    which = np.arange(len(state.collisions)) < np.asarray(state.next_shard)
    lanes = np.asarray(state.shard)
    which[lanes[lanes < len(which)]] = False
    return which


def _signs(inputs: UInt32[Array, "*shape"], num_inputs: int) -> Int8[Array, "inputs *shape"]:
    """Bits as -1 and 1, the lowest first."""
    places = jnp.arange(num_inputs, dtype=jnp.uint32).reshape(-1, *[1] * inputs.ndim)
    return (((inputs[None] >> places) & 1).astype(jnp.int8) * 2 - 1).astype(jnp.int8)


def _surprise(logits: Int32[Array, "outputs lanes"]) -> Int32[Array, "codes lanes"]:
    """For every code, the sum of |logit| over the bits in which it differs from the most likely code."""
    total = jnp.zeros((1, logits.shape[1]), jnp.int32)
    for logit in logits:
        zero, one = jnp.maximum(logit, 0), jnp.maximum(1 - logit, 0)
        total = jnp.stack([total + zero, total + one], 1).reshape(-1, logits.shape[1])
    return total


def _occupancy(
    slot: Int32[Array, "keys lanes"], real: Bool[Array, "keys lanes"]
) -> tuple[UInt32[Array, " lanes"], UInt32[Array, " lanes"]]:
    """Which slots are taken, and which by more than one key, one bit a slot."""
    bit = jnp.where(real, jnp.uint32(1) << slot.astype(jnp.uint32), 0)
    nothing = jnp.uint32(0)

    def both(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] | b[0], a[1] | b[1] | (a[0] & b[0])

    return jax.lax.reduce((bit, jnp.zeros_like(bit)), (nothing, nothing), both, (0,))


def _one_of(colliding: UInt32[Array, "keys lanes"], age: Int32[Array, " lanes"]) -> Int32[Array, " lanes"]:
    """One key for which the lowest bit is set, another at every step; a number past all keys if there is none."""
    keys = jnp.arange(colliding.shape[0], dtype=jnp.uint32)[:, None]
    rank = mix(age.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + keys) & ~jnp.uint32(63)
    return (jnp.where(colliding & 1 == 1, rank | keys, _NOTHING).min(0) & 63).astype(jnp.int32)


def _start_weights(config: ShardedConfig) -> Int16[np.ndarray, "inputs outputs"]:
    """The weights all policies start from, uniform."""
    count = config.inputs * config.outputs
    drawn = np.asarray(mix(jnp.arange(1, count + 1, dtype=jnp.uint32))).astype(np.int64)
    return (
        (drawn % (2 * config.initial_weight + 1) - config.initial_weight)
        .astype(np.int16)
        .reshape(config.inputs, config.outputs)
    )
