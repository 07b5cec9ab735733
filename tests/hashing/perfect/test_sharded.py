import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.perfect import sharded
from jaxhash.hashing.perfect.buckets import cut
from jaxhash.hashing.perfect.sharded import Sharded, ShardedConfig, lookup, slots

SMALL = ShardedConfig(keys_per_bucket=8, inputs=10, outputs=4)


def fingerprints(n, seed=0):
    return np.sort(np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64))


def words(numbers):
    return np.stack([numbers >> np.uint64(32), numbers], 1).astype(np.uint32)


def python_mix(x):
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def python_slot(policy, first, second, num_slots):
    """One key at a time, in Python's integers."""
    weights, attempts, thresholds, sizes = (np.asarray(a).tolist() for a in policy)
    shard = max(s for s in range(len(thresholds)) if thresholds[s] <= first)
    more, begin = num_slots - sum(sizes), 0
    rooms = [n + more // len(sizes) + (s < more % len(sizes)) for s, n in enumerate(sizes)]
    begin, room = sum(rooms[:shard]), rooms[shard]
    seen = python_mix(python_mix((first + (attempts[shard] + 1) * 0x9E3779B9) & 0xFFFFFFFF) ^ second)
    outputs = len(weights[0][0])
    code = 0
    for output in range(outputs):
        logit = sum((1 if seen >> i & 1 else -1) * row[output] for i, row in enumerate(weights[shard]))
        code = 2 * code + (logit > 0)
    slots = min(room, 32)
    slot = code * slots // 2**outputs
    return begin + slot * room // slots


def train(config, numbers, num_slots, at_once):
    shards = cut(numbers, num_slots, config.keys_per_bucket)
    state = sharded.start(config, shards, at_once)
    state = jax.jit(sharded.make_train(config))(state, shards, jnp.int32(10**6))
    assert bool(sharded.trained(state).all())
    return state, policy_of(state, shards)


def policy_of(state, shards):
    return Sharded(*map(np.asarray, (state.best_weights, state.best_attempts, shards.thresholds, shards.sizes)))


@pytest.fixture(scope="module")
def trained():
    numbers = fingerprints(1000)
    return numbers, *train(SMALL, numbers, 1000, 16)


@pytest.mark.parametrize(
    "thresholds",
    [
        [0],
        [0, 1, 2, 3, 5],
        [0, 2**31 - 1, 2**31, 2**31 + 1],
        [0, 7, 2**32 - 2, 2**32 - 1],
        [0, *range(10**9, 10**9 + 9)],
    ],
)
def test_shards_are_found_however_they_are_cut(thresholds):
    rng = np.random.default_rng(0)
    count = len(thresholds)
    weights = rng.integers(-127, 128, (count, 10, 4)).astype(np.int8)
    sizes, attempts = np.full(count, 3, np.uint8), np.arange(count).astype(np.uint8)
    policy = Sharded(weights, attempts, np.array(thresholds, np.uint32), sizes)
    edges = {min(max(t + by, 0), 2**32 - 1) for t in [*thresholds, 2**32 - 1] for by in (-1, 0, 1)}
    some = np.array([(first, second) for first in sorted(edges) for second in (0, 12345)], np.uint32)
    expected = [python_slot(policy, int(a), int(b), 3 * count + 1) for a, b in some]
    np.testing.assert_array_equal(slots(lookup(policy, 3 * count + 1), jnp.asarray(some)), expected)


def test_every_key_has_a_seat_of_its_own_and_every_seat_a_key(trained):
    numbers, state, policy = trained
    assert int(state.collisions.sum()) == 0
    found = slots(lookup(policy, 1000), jnp.asarray(words(numbers)))
    np.testing.assert_array_equal(np.sort(found), np.arange(1000))


@pytest.mark.parametrize("num_slots", [1000, 1013, 5000, 2**31 - 1])
def test_seats_are_those_of_a_plain_python_loop(trained, num_slots):
    _, _, policy = trained
    some = words(fingerprints(300, seed=1))
    expected = [python_slot(policy, int(a), int(b), num_slots) for a, b in some]
    np.testing.assert_array_equal(slots(lookup(policy, num_slots), jnp.asarray(some)), expected)
    assert 0 <= min(expected) <= max(expected) < num_slots


def test_the_number_at_once_does_not_change_the_result(trained):
    numbers, _, policy = trained
    _, other = train(SMALL, numbers, 1000, 50)
    jax.tree.map(np.testing.assert_array_equal, policy, other)


def test_collisions_reported_are_those_of_the_function_while_it_trains(trained):
    numbers, _, _ = trained
    shards = cut(numbers, 1000, SMALL.keys_per_bucket)
    state = sharded.start(SMALL, shards, 16)
    step = jax.jit(sharded.make_train(SMALL))
    before = 1000
    for _ in range(4):
        state = step(state, shards, jnp.int32(64))
        policy = policy_of(state, shards)
        found = np.asarray(slots(lookup(policy, 1000), jnp.asarray(words(numbers))))
        left = int(np.asarray(state.collisions).sum())
        assert left == 1000 - len(np.unique(found)) < before
        before = left
    assert int(state.steps) == 256


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 33, 1000])
def test_shards_hold_all_keys_in_order(n):
    numbers = fingerprints(n)
    shards = cut(numbers, max(n, 1), 8)
    count = int((np.asarray(shards.sizes) > 0).sum())
    sizes = np.asarray(shards.sizes)
    assert sizes.sum() == n
    assert (sizes[:count] > 0).all() or n == 0
    together = [
        (int(a) << 32) | int(b)
        for s in range(count)
        for a, b in zip(shards.first[: sizes[s], s], shards.second[: sizes[s], s], strict=True)
    ]
    np.testing.assert_array_equal(np.array(together, np.uint64), numbers)
    assert int(shards.thresholds[0]) == 0


def test_keys_with_the_same_first_word_stay_in_one_shard():
    numbers = np.array([(w << 32) | i for w in range(20) for i in range(3)], np.uint64)
    shards = cut(numbers, 60, 8)
    # 8 do not hold 3 triples: two triples a shard.
    np.testing.assert_array_equal(np.asarray(shards.sizes), [6] * 10)
    with pytest.raises(ValueError, match="more than 8 keys share 32 bits"):
        cut(np.arange(9, dtype=np.uint64), 9, 8)


def test_a_shard_without_room_is_given_up_with_the_fewest_collisions_seen():
    """One input tells two sorts of keys apart: 2 of 8 bins at most."""
    config = ShardedConfig(keys_per_bucket=8, inputs=1, outputs=4, steps=32, attempts=2)
    numbers = fingerprints(16)
    state, policy = train(config, numbers, 16, 16)
    found = np.asarray(slots(lookup(policy, 16), jnp.asarray(words(numbers))))
    assert int(np.asarray(state.collisions).sum()) == 16 - len(np.unique(found)) == 12


def test_policies_that_cannot_hold_a_shard_are_refused():
    with pytest.raises(ValueError, match="outputs=4 is not valid: outputs must be log2 of keys_per_bucket=32 or more"):
        ShardedConfig(outputs=4)
    for wrong in ({"keys_per_bucket": 33}, {"inputs": 0}, {"outputs": 8}, {"attempts": 256}, {"steps": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            ShardedConfig(**wrong)
    assert Sharded._fields == ("weights", "attempts", "thresholds", "sizes")
