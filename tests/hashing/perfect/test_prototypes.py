import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.perfect import prototypes
from jaxhash.hashing.perfect.prototypes import PrototypesConfig

CONFIG = PrototypesConfig(hidden=64)


def prints(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**32, (n, 2), dtype=np.uint32)


def numpy_seats(policy, words):
    """The network in NumPy's 64-bit integers."""
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(np.int64)
    units = 2 * bits - 1
    for weights in (policy.first, policy.second):
        sums = units @ np.asarray(weights, np.int64)
        units = np.where(sums + np.arange(sums.shape[1]) % 2 > 0, 1, -1)
    return (units @ np.asarray(policy.output, np.int64)).argmax(1)


def test_seats_are_those_of_numpy_in_batches_of_any_size(monkeypatch):
    policy = prototypes.start(CONFIG, 100, seed=3)
    words = prints(50)
    expected = numpy_seats(policy, words)
    np.testing.assert_array_equal(prototypes.slots(policy, jnp.asarray(words)), expected)
    monkeypatch.setattr(prototypes, "LOGITS_AT_A_TIME", 700)
    np.testing.assert_array_equal(prototypes.slots(policy, jnp.asarray(words)), expected)
    assert len(np.unique(expected)) > 20


def test_equal_logits_go_to_the_first_bin():
    policy = prototypes.start(CONFIG, 10, seed=0)
    policy = policy._replace(output=jnp.zeros_like(policy.output))
    assert not np.asarray(prototypes.slots(policy, jnp.asarray(prints(20)))).any()


def test_other_seeds_are_other_networks():
    one, two = (prototypes.start(CONFIG, 10, seed=s) for s in (0, 1))
    for a, b in zip(one, two, strict=True):
        assert set(np.unique(a)) == {-1, 1}
        assert 0.3 < (np.asarray(a) == np.asarray(b)).mean() < 0.7


def test_training_shows_every_key_an_empty_bin_and_ends_without_collisions():
    policy, words = prototypes.start(CONFIG, 200, seed=0), jnp.asarray(prints(200))
    units = jax.jit(prototypes.hidden_units)(policy, words)
    train = jax.jit(prototypes.train)
    left = []
    for _ in range(10):
        bins = np.asarray(prototypes.most_likely(policy, units))
        left.append(200 - len(np.unique(bins)))
        if left[-1] == 0:
            break
        policy = train(policy, units, jnp.asarray(bins))
    assert left[0] > 50
    assert left[-1] == 0
    np.testing.assert_array_equal(np.sort(numpy_seats(policy, np.asarray(words))), np.arange(200))


def test_conflicts_are_settled_in_the_order_of_keys_and_by_preference():
    """Against a loop that lets all waiting keys ask, round after round."""
    rng = np.random.default_rng(0)
    units = (rng.integers(0, 2, (30, 64)) * 2 - 1).astype(np.int8)
    output = rng.integers(-3, 4, (64, 40)).astype(np.int8)
    bins = np.where(rng.random(30) < 0.3, np.arange(30), 40).astype(np.int32)
    expected = bins.copy()
    logits = units.astype(int) @ output
    while (waiting := np.flatnonzero(expected == 40)).size:
        free = np.setdiff1d(np.arange(40), expected)
        asked = {}
        for key in waiting:
            asked.setdefault(free[logits[key, free].argmax()], key)
        for place, key in asked.items():
            expected[key] = place
    found = prototypes.settle(jnp.asarray(output), jnp.asarray(units), jnp.asarray(bins))
    np.testing.assert_array_equal(found, expected)


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="hidden=0"):
        PrototypesConfig(hidden=0)
    with pytest.raises(ValueError, match="iterations=-1"):
        PrototypesConfig(iterations=-1)
