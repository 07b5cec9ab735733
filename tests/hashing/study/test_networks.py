"""Networks that read keys, and draws from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study.networks import (
    NetworkConfig,
    alphabet_of,
    entropy,
    log_probability,
    make_network,
    sample,
    take,
)

WORDS = ["a", "a\0", "", "ab", "ba", "zebra"]


def test_the_alphabet_holds_the_bytes_of_the_keys_and_not_the_padding():
    assert bytes(alphabet_of(tokenize(["ab", "b", "cab"]))) == b"abc"
    assert bytes(alphabet_of(tokenize(WORDS))) == b"\0aberz"


def test_one_hot_positions_are_those_of_a_plain_loop():
    """The first layer's kernel, one row for each position and letter, added up by a Python loop."""
    tokens = tokenize(WORDS)
    letters = alphabet_of(tokens)
    network = make_network(NetworkConfig((4,), alphabet=letters), 3)
    params = network.init(jax.random.key(0), tokens)
    layers = params["params"]
    rows = np.asarray(layers["Dense_0"]["kernel"]).reshape(5, len(letters) + 1, 4)
    for word, found in zip(WORDS, np.asarray(network.apply(params, tokens)), strict=True):
        hidden = sum((rows[i, letters.index(byte)] for i, byte in enumerate(word.encode())), np.zeros(4))
        expected = np.maximum(hidden, 0) @ np.asarray(layers["Dense_1"]["kernel"])
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("reader", ["one_hot", "embedding"])
def test_different_keys_are_different_to_the_network_whatever_stands_beside_them(reader):
    tokens = tokenize(WORDS)
    network = make_network(NetworkConfig((16,), reader, alphabet=alphabet_of(tokens)), 8)
    params = network.init(jax.random.key(0), tokens)
    logits = np.asarray(network.apply(params, tokens))
    assert len(np.unique(logits, axis=0)) == len(WORDS)
    some = np.asarray(network.apply(params, take(tokens, jnp.array([4, 1]))))
    np.testing.assert_allclose(some, logits[[4, 1]], atol=1e-6)


@pytest.mark.parametrize("bins", [3, 40])
def test_draws_follow_the_policy(bins):
    """A chi-square test a row, at a level of 1e-6 (drawn from one fixed key), and no draw of an impossible bin."""
    logits = np.random.default_rng(2).normal(size=(3, bins)).astype(np.float32)
    logits[:, 1] = -np.inf
    draws = np.asarray(jax.jit(sample, static_argnums=2)(jax.random.key(5), jnp.asarray(logits), 20_000))
    assert draws.shape == (20_000, 3)
    assert draws.min() >= 0
    assert draws.max() < bins
    possible = np.arange(bins) != 1
    for row in range(3):
        counts = np.bincount(draws[:, row], minlength=bins)
        assert counts[1] == 0
        p = np.exp(logits[row, possible].astype(np.float64))
        assert stats.chisquare(counts[possible], 20_000 * p / p.sum()).pvalue > 1e-6


def test_log_probabilities_and_entropy_are_scipys():
    logits = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    bins = np.array([[0, 4, 2, 1], [3, 3, 0, 0]], np.int32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = log_probability(jnp.asarray(logits), jnp.asarray(bins))
    np.testing.assert_allclose(found, np.log(p[np.arange(4), bins]), rtol=1e-5)
    np.testing.assert_allclose(entropy(jnp.asarray(logits)), stats.entropy(p, axis=1), rtol=1e-5)


def test_networks_without_layers_or_letters_are_refused():
    with pytest.raises(ValueError, match="one or more layers"):
        NetworkConfig(())
    with pytest.raises(ValueError, match="each from 0 to 255"):
        NetworkConfig(alphabet=(97, 300))
