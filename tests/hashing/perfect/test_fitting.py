import dataclasses

import jax
import numpy as np
import pytest

from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect, fit
from jaxhash.hashing.perfect.network import NetworkMethodConfig
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.hashing.perfect.sharded import ShardedConfig

SMALL_NETWORK = NetworkMethodConfig(hidden=128)
SMALL_SEEDS = SeedsConfig(keys_per_leaf=6, leaves=3)


def key_set(name):
    rng = np.random.default_rng(0)
    return {
        "words": load_keys("english", count=700),
        "numbers": [str(i) for i in range(700)],
        "domains": [f"host-{i}.example.org" for i in range(700)],
        "other scripts": [chr(0x4E00 + i) + chr(0x430 + i % 32) for i in range(700)],
        "random bytes": list({rng.bytes(int(length)) for length in rng.integers(1, 12, 800)})[:700],
        "zeros": [b"\0" * i for i in range(70)],
        "one long key": [b"a", b"b", b"c" * 100_000],
    }[name]


@pytest.mark.parametrize(
    "name", ["words", "numbers", "domains", "other scripts", "random bytes", "zeros", "one long key"]
)
def test_minimal_perfect_hash_of_all_sorts_of_keys(name):
    keys = key_set(name)
    bins = np.asarray(fit(keys)(keys))
    np.testing.assert_array_equal(np.sort(bins), np.arange(len(keys)))


@pytest.mark.parametrize("method", ["sharded", "network", "seeds"])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_next_to_no_keys(n, method):
    keys = ["a", "b", "c"][:n]
    hasher = fit(keys, FitConfig(method=method, network=SMALL_NETWORK, seeds=SMALL_SEEDS))
    assert sorted(np.asarray(hasher(keys)).tolist()) == list(range(n))
    assert hasher.num_bins == max(n, 1)
    assert np.asarray(hasher(["unseen", b"\xff"])).max() < max(n, 1)
    assert np.isnan(hasher.bits_per_key) == (n == 0)


@pytest.mark.parametrize("method", ["sharded", "network", "seeds"])
@pytest.mark.parametrize("num_bins", [1, 7, 299, 301, 4000])
def test_any_load(num_bins, method):
    keys = load_keys("english", count=300)
    hasher = fit(keys, FitConfig(num_bins, method, network=SMALL_NETWORK, seeds=SMALL_SEEDS))
    counts = np.bincount(np.asarray(hasher(keys)), minlength=num_bins)
    assert len(counts) == num_bins
    # As even as can be: no bin holds more than one key more than another. With enough bins that is perfect.
    assert counts.max() - counts.min() <= 1
    assert hasher.collisions == max(300 - num_bins, 0)


def test_as_many_bins_as_there_are():
    keys = load_keys("english", count=100)
    bins = np.asarray(fit(keys, FitConfig(2**31 - 1))(keys))
    assert len(np.unique(bins)) == 100
    assert bins.min() >= 0
    # Spread over the whole range, not crowded at its start.
    assert bins.max() > 2**30


def test_single_network():
    keys = load_keys("english", count=1000)
    reports = []
    hasher = fit(keys, FitConfig(method="network"), reports.append)
    np.testing.assert_array_equal(np.sort(hasher(keys)), np.arange(1000))
    assert hasher.policy.output.shape == (300, 1000)
    assert [r.collisions for r in reports] == sorted((r.collisions for r in reports), reverse=True)
    # The untrained policy collides like a random function.
    assert 300 < reports[1].collisions < 600


def test_seeds_give_other_functions_and_the_same_seed_the_same():
    keys = load_keys("english", count=200)
    one, again, other = (np.asarray(fit(keys, FitConfig(seed=seed))(keys)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.9


def test_the_order_of_keys_does_not_matter():
    keys = load_keys("english", count=200)
    one, other = fit(keys), fit(keys[::-1])
    jax.tree.map(np.testing.assert_array_equal, one.policy, other.policy)


@pytest.mark.parametrize(
    "config",
    [
        FitConfig(sharded=ShardedConfig(inputs=3, steps=32, attempts=2)),
        FitConfig(method="network", network=NetworkMethodConfig(hidden=3, iterations=2)),
        FitConfig(num_bins=100, sharded=ShardedConfig(inputs=3, steps=32, attempts=2)),
    ],
)
def test_what_cannot_be_made_perfect_says_how_many_collide_and_gives_the_best(config):
    keys = load_keys("english", count=200)
    with pytest.raises(NotPerfect, match=r"of 200 keys still collide") as caught:
        fit(keys, config)
    hasher, collisions = caught.value.hasher, caught.value.collisions
    assert hasher.collisions == 200 - len(np.unique(np.asarray(hasher(keys))))
    # With fewer bins than keys it is a function of as many seats, dealt out to the bins in turn.
    seats = np.asarray(dataclasses.replace(hasher, num_bins=max(hasher.num_bins, 200))(keys))
    np.testing.assert_array_equal(seats % hasher.num_bins, hasher(keys))
    assert collisions == 200 - len(np.unique(seats)) > 0


def test_bins_that_are_all_occupied_but_not_evenly_are_not_perfect():
    keys = load_keys("english", count=400)
    with pytest.raises(NotPerfect) as caught:
        fit(keys, FitConfig(num_bins=10, sharded=ShardedConfig(inputs=6, steps=16, attempts=1)))
    counts = np.bincount(caught.value.hasher(keys), minlength=10)
    assert counts.min() > 0
    assert counts.max() - counts.min() > 1
    assert caught.value.hasher.collisions == 390


def test_long_keys_are_no_examples():
    keys = ["x" * 1025, "y" * 1024, "z"]
    assert fit(keys, FitConfig(method="seeds", seeds=SMALL_SEEDS)).examples == (b"y" * 1024, b"z")


def test_bad_requests_say_what_to_mend():
    with pytest.raises(ValueError, match=r"repeat"):
        fit(["a", "b", "a"])
    with pytest.raises(TypeError, match="is one str"):
        fit("abc")
    with pytest.raises(ValueError, match="num_bins=0"):
        FitConfig(0)
    with pytest.raises(ValueError, match="seed=-1"):
        FitConfig(seed=-1)


@pytest.mark.slow
def test_the_whole_word_list_of_the_package():
    keys = load_keys("english")
    reports = []
    hasher = fit(keys, callback=reports.append)
    np.testing.assert_array_equal(np.sort(hasher(keys)), np.arange(len(keys)))
    assert reports[-1].collisions == 0
    assert hasher.bits_per_key < 25
