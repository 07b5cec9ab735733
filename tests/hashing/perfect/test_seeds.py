import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.source import KeyList
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect import seeds
from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect, fit
from jaxhash.hashing.perfect.seeds import Groups, Seeds, SeedsConfig, code, lookup, slots
from jaxhash.hashing.perfect.separation import separate
from tests.hashing.perfect.test_sharded import fingerprints, python_mix, words

SMALL = SeedsConfig(keys_per_leaf=6, leaves=3)


def python_code(first, second, number):
    """The function, in Python's integers."""
    turn = python_mix((number + 1) * 0x9E3779B9 & 0xFFFFFFFF) | 1
    return python_mix((first * turn + second) & 0xFFFFFFFF) // 2**16


def python_slot(policy, first, second, num_slots):
    """One key at a time, in Python's integers."""
    splits, seeds, thresholds, sizes = (np.asarray(a).tolist() for a in policy)
    shard = max(s for s in range(len(thresholds)) if thresholds[s] <= first)
    more = num_slots - sum(sizes)
    rooms = [n + more // len(sizes) + (s < more % len(sizes)) for s, n in enumerate(sizes)]
    size, leaves = sizes[shard], len(seeds[0])
    leaf = python_code(first, second, splits[shard]) * leaves // 2**16
    in_leaves = [size // leaves + (i < size % leaves) for i in range(leaves)]
    slot = sum(in_leaves[:leaf]) + python_code(first, second, 2**16 + seeds[shard][leaf]) * in_leaves[leaf] // 2**16
    # Slots stand at even distances, the first ones one bin further apart.
    distances = [rooms[shard] // max(size, 1) + (i < rooms[shard] % max(size, 1)) for i in range(size)]
    return sum(rooms[:shard]) + sum(distances[: min(slot, max(size - 1, 0))])


@pytest.fixture(scope="module")
def fitted():
    keys = load_keys("english", count=500)
    hasher = fit(keys, FitConfig(method="seeds", seeds=SMALL))
    return words(separate(KeyList(keys), 0).numbers), hasher.policy


@pytest.mark.parametrize("num_slots", [500, 513, 40_000, 2**31 - 1])
def test_slots_are_those_of_a_plain_python_loop(fitted, num_slots):
    prints, policy = fitted
    some = np.concatenate([prints[:150], words(fingerprints(150, seed=1))])
    expected = [python_slot(policy, int(a), int(b), num_slots) for a, b in some]
    np.testing.assert_array_equal(slots(lookup(policy, num_slots), jnp.asarray(some)), expected)
    assert 0 <= min(expected) <= max(expected) < num_slots
    assert len(set(expected[:150])) == 150


def test_the_function_is_as_good_as_random():
    """Highest 6 bits of random codes: chi squared of each value, and of pairs of codes under two seeds."""
    prints = jnp.asarray(words(fingerprints(200_000)))
    one, other = (np.asarray(code(prints[:, 0], prints[:, 1], jnp.uint32(z))) >> 10 for z in (7, 8))
    for counts in (np.bincount(one, minlength=64), np.bincount(one * 64 + other, minlength=4096)):
        expected = 200_000 / len(counts)
        chi = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi - len(counts)) < 6 * math.sqrt(2 * len(counts)), chi


@pytest.fixture(scope="module")
def groups():
    """120 leaves of 0 to 6 keys."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2**32, (2, 6, 120), dtype=np.uint32)
    return Groups(*map(jnp.asarray, (first, second, np.arange(120, dtype=np.int32) % 7, np.full(120, 5, np.int32))))


def search(groups, at_once):
    state = seeds.start(groups, at_once)
    return jax.jit(seeds.make_search(seeds.separates))(state, groups, jnp.int32(10**6)).seeds


def test_the_search_finds_the_first_seed_that_serves_for_any_number_at_once(groups):
    found = np.asarray(search(groups, 8))
    np.testing.assert_array_equal(found, search(groups, 50))
    first, second = np.asarray(groups.first), np.asarray(groups.second)
    for g in range(0, 120, 5):
        size = g % 7
        keys = [(int(first[i, g]), int(second[i, g])) for i in range(size)]
        number = 5
        while len({python_code(a, b, 2**16 + number) * size // 2**16 for a, b in keys}) < size:
            number += 1
        assert found[g] == number


def test_keys_that_no_seed_separates_are_given_up(groups):
    twins = groups._replace(first=groups.first[:2, :3] * 0, second=groups.second[:2, :3] * 0)
    twins = twins._replace(sizes=jnp.array([2, 1, 2], jnp.int32), begin=jnp.full(3, seeds.LIMIT - 100, jnp.int32))
    np.testing.assert_array_equal(search(twins, 8), [seeds.LIMIT, seeds.LIMIT - 100, seeds.LIMIT])


def test_a_leaf_takes_as_many_trials_as_a_random_function():
    """s^s / s! on average, each trial an independent one; 2,000 leaves of 6."""
    rng = np.random.default_rng(1)
    first, second = jnp.asarray(rng.integers(0, 2**32, (2, 6, 2_000), dtype=np.uint32))
    groups = Groups(first, second, jnp.full(2_000, 6, jnp.int32), jnp.zeros(2_000, jnp.int32))
    trials = np.asarray(search(groups, 64)) + 1
    expected = 6**6 / math.factorial(6)
    # A geometric distribution has a deviation of its mean.
    assert abs(trials.mean() - expected) < 5 * expected / math.sqrt(2_000)


@pytest.fixture
def few_seeds(monkeypatch):
    """Sets how many seeds there are to try."""

    def limit(count):
        seeds._searches.cache_clear()
        monkeypatch.setattr(seeds, "LIMIT", count)

    yield limit
    seeds._searches.cache_clear()


def test_a_bucket_whose_leaf_is_stuck_goes_on_to_its_next_split(few_seeds):
    keys = load_keys("english", count=600)
    usual = fit(keys, FitConfig(method="seeds", seeds=SMALL)).policy
    few_seeds(240)
    hasher = fit(keys, FitConfig(method="seeds", seeds=SMALL))
    np.testing.assert_array_equal(np.sort(hasher(keys)), np.arange(600))
    stuck = usual.seeds.max(1) >= 240
    assert stuck.any()
    np.testing.assert_array_equal(hasher.policy.splits > usual.splits, stuck)
    few_seeds(4)
    with pytest.raises(NotPerfect) as caught:
        fit(keys, FitConfig(method="seeds", seeds=SMALL))
    found = np.asarray(caught.value.hasher(keys))
    assert caught.value.collisions == 600 - len(np.unique(found)) > 0


def test_size():
    keys = load_keys("english", count=1800)
    hasher = fit(keys, FitConfig(method="seeds", seeds=SMALL))
    assert isinstance(hasher.policy, Seeds)
    # 100 shards of 18 keys: 16 bits a shard and a leaf, 32 its threshold, 8 its size, and the header.
    assert hasher.bits == 100 * (16 + 3 * 16 + 32 + 8) + 96


def test_requests_that_would_search_forever_are_refused():
    with pytest.raises(ValueError, match="keys_per_leaf=12 is not valid: keys_per_leaf must be 1 to 11"):
        SeedsConfig(keys_per_leaf=12)
    with pytest.raises(ValueError, match="leaves=7 is not valid"):
        SeedsConfig(leaves=7)
