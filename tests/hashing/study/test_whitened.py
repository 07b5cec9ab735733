"""Whitened output layers: decorrelated features, a start of a given spread, and the plain network that comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.study import whitened as study
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of, make_network

WORDS = tokenize(load_keys("english")[:500])
NETWORK = NetworkConfig((40, 20), alphabet=alphabet_of(WORDS))
PARAMS = make_network(NETWORK, 50).init(jax.random.key(0), WORDS)


def test_logits_of_each_bin_have_mean_zero_and_the_deviation():
    logits = study.logits(NETWORK, study.whitened(NETWORK, PARAMS, WORDS, 3.0), WORDS)
    np.testing.assert_allclose(logits.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(logits.std(0), 3, rtol=1e-4)


def test_features_are_uncorrelated_but_for_the_ridge():
    features = np.asarray(study.features(NETWORK, study.whitened(NETWORK, PARAMS, WORDS, 3.0), WORDS), np.float64)
    hidden = np.asarray(study.features(NETWORK, study.plain(PARAMS), WORDS), np.float64)
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-4)
    # A direction of variance v is scaled to v / (v + ridge), whatever the basis.
    variances = np.linalg.eigvalsh(np.cov(hidden.T, bias=True))
    expected = variances / (variances + study.RIDGE * variances.mean())
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(features.T, bias=True)), np.sort(expected), atol=1e-3)


@pytest.mark.parametrize("start", ["whitened", "plain"])
def test_a_plain_network_comes_out(start):
    policy = study.whitened(NETWORK, PARAMS, WORDS, 3.0) if start == "whitened" else study.plain(PARAMS)
    name = "Dense_2"
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.arange(leaf.shape[-1]), policy.params["params"][name])
    policy = policy._replace(params={"params": policy.params["params"] | {name: moved}})
    plain = make_network(NETWORK, 50).apply(study.folded(policy), WORDS)
    np.testing.assert_allclose(plain, study.logits(NETWORK, policy, WORDS), rtol=1e-3, atol=1e-3)


def test_plain_is_the_network():
    expected = make_network(NETWORK, 50).apply(PARAMS, WORDS)
    np.testing.assert_allclose(study.logits(NETWORK, study.plain(PARAMS), WORDS), expected, atol=1e-6)


def test_a_softmax_of_the_sharp_deviation_rests_on_few_bins():
    logits = np.random.default_rng(0).normal(0, study.sharp_deviation(2000), (200, 2000))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    entropy = -(p * np.log(p)).sum(1).mean()
    assert 0.2 < entropy / np.log(2000) < 0.5
