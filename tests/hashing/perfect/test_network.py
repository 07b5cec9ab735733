import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect import network, network_training
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.network import Network, NetworkMethodConfig
from jaxhash.hashing.study import expected_return

CONFIG = NetworkMethodConfig(hidden=64)


def prints(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**32, (n, 2), dtype=np.uint32)


def drawn_network(columns, seed=0, hidden=20):
    rng = np.random.default_rng(seed)
    kernels = [rng.integers(-7, 8, s).astype(np.int8) for s in ((64, hidden), (hidden, hidden), (hidden, columns))]
    biases = [rng.integers(-50, 50, kernel.shape[1]).astype(np.int32) for kernel in kernels]
    return Network(*kernels, *biases, np.array([1, 3], np.int8))


def numpy_rank(policy, words):
    """The network in NumPy's 64-bit integers."""
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(np.int64)
    units = 2 * bits - 1
    for kernel, bias, shift in zip(policy[:2], policy[3:5], np.asarray(policy.shifts).tolist(), strict=True):
        sums = units @ np.asarray(kernel, np.int64) + bias
        units = np.minimum(np.maximum(sums, 0) // 2**shift, 1023)
    return (units @ np.asarray(policy.output, np.int64) + policy.output_bias).argmax(1)


def test_slots_are_those_of_numpy_in_batches_of_any_size(monkeypatch):
    policy, words = drawn_network(100), prints(50)
    expected = numpy_rank(policy, words)
    tables = network.lookup(policy, 100)
    np.testing.assert_array_equal(network.slots(tables, jnp.asarray(words)), expected)
    monkeypatch.setattr(network, "LOGITS_AT_A_TIME", 700)
    np.testing.assert_array_equal(network.slots(tables, jnp.asarray(words)), expected)
    assert len(np.unique(expected)) > 10


def test_equal_logits_go_to_the_first_slot():
    policy = drawn_network(10)
    policy = policy._replace(output=np.zeros_like(policy.output), output_bias=np.zeros(10, np.int32))
    assert not np.asarray(network.slots(network.lookup(policy, 10), jnp.asarray(prints(20)))).any()


@pytest.mark.parametrize("num_slots", [100, 101, 250, 2**31 - 1])
def test_more_slots_than_keys_stand_at_even_distances(num_slots):
    policy, words = drawn_network(100), prints(200)
    starts = np.cumsum([0] + [num_slots // 100 + (i < num_slots % 100) for i in range(99)])
    found = network.slots(network.lookup(policy, num_slots), jnp.asarray(words))
    np.testing.assert_array_equal(found, starts[numpy_rank(policy, words)])


def test_no_sum_leaves_31_bits():
    """Of the widest network, the largest weights and biases and units that are all at their most."""
    largest = 2 ** (network.WEIGHT_BITS[-1] - 1) - 1
    assert network.MAX_HIDDEN * (2**network.UNIT_BITS - 1) * largest + 2**30 < 2**31
    hidden = network.MAX_HIDDEN
    kernels = [np.full(s, largest, np.int16) for s in ((64, hidden), (hidden, hidden), (hidden, 2))]
    kernels[2][:, 0] -= 1
    policy = Network(*kernels, *(np.full(k.shape[1], 0, np.int32) for k in kernels), np.array([0, 20], np.int8))
    words = np.full((1, 2), 2**32 - 1, np.uint32)
    np.testing.assert_array_equal(network.slots(network.lookup(policy, 2), jnp.asarray(words)), [1])
    np.testing.assert_array_equal(numpy_rank(policy, words), [1])


@pytest.fixture(scope="module")
def fitted():
    keys = load_keys("english", count=100)
    return keys, fit(keys, FitConfig(method="network", network=CONFIG))


def test_a_fit_is_perfect_in_integers_of_few_bits(fitted):
    keys, hasher = fitted
    np.testing.assert_array_equal(np.sort(hasher(keys)), np.arange(100))
    assert [leaf.shape for leaf in hasher.policy[:3]] == [(64, 64), (64, 64), (64, 100)]
    largest = np.abs(np.asarray(hasher.policy.output, int)).max()
    assert (
        2 ** (network.weight_bits(hasher.policy) - 2) <= largest < 2 ** (network.weight_bits(hasher.policy) - 1) <= 64
    )
    assert hasher.policy.output.dtype == np.int8
    network.check(hasher.policy, 100, 100)


def test_rounding_takes_the_fewest_bits_that_leave_every_key_its_slot():
    """Against the float network: with a bit less, a key goes elsewhere."""
    words, study = prints(60), network_training.study_config(CONFIG, 60)
    tokens = network_training.as_tokens(words)
    state = expected_return.start(study, expected_return.draw(study, jax.random.key(1), tokens), tokens)
    found = network_training.rounded_to_fewest_bits(CONFIG, state, words)
    wanted = expected_return.logits(study.network, state.policy, tokens).argmax(1)
    np.testing.assert_array_equal(numpy_rank(found, words), wanted)
    bits = int(np.abs(np.asarray(found.output, int)).max()).bit_length() + 1
    fewer = network.WEIGHT_BITS[network.WEIGHT_BITS.index(bits) - 1]
    plain = network.rounded(expected_return.folded(state.policy), fewer, words)
    assert (numpy_rank(plain, words) != np.asarray(wanted)).any()


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="hidden=0"):
        NetworkMethodConfig(hidden=0)
    with pytest.raises(ValueError, match="iterations=0"):
        NetworkMethodConfig(iterations=0)
    good = drawn_network(10)
    network.check(good, 10, 30)
    for bad, told in (
        (good._replace(output=good.output[:, :9]), "weights int8"),
        (good._replace(first=good.first.astype(np.int32)), "weights int32"),
        (good._replace(second=np.full_like(good.second, 2**11, dtype=np.int16)), "more than 11 bits"),
        (good._replace(output_bias=good.output_bias + 2**30 + 99), "biases"),
        (good._replace(shifts=np.array([0, 31], np.int8)), "shifts"),
    ):
        with pytest.raises(ValueError, match=told):
            network.check(bad, 10, 30)


def test_too_many_keys_are_refused(monkeypatch):
    monkeypatch.setattr(network_training, "MAX_KEYS", 2)
    with pytest.raises(ValueError, match="takes 2 keys at most; use method='sharded'"):
        fit(["a", "b", "c"], FitConfig(method="network"))
