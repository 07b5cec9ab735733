"""The expected return trained to the end, on several seeds and sizes of the network."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.study import expected_return
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of, make_network, output_layer

WORDS = tokenize(load_keys("english")[:40])
NETWORK = NetworkConfig((60, 60), alphabet=alphabet_of(WORDS))


def test_more_keys_count_as_lost_as_fewer_expect_company():
    def company_of(share):
        return jnp.log(jnp.full(50, share))

    many, few = (expected_return.pace(jnp.asarray(9), company_of(share), 50) for share in (0.5, 0.002))
    assert (float(many.step), float(many.lost)) == pytest.approx((1.0, 0.003))
    assert (float(few.step), float(few.lost)) == pytest.approx((math.sqrt(0.1), 0.3), rel=1e-3)
    assert float(expected_return.pace(jnp.asarray(0), company_of(0.5), 50).step) == pytest.approx(1 / 6)
    assert float(expected_return.pace(jnp.asarray(9), company_of(1e-6), 50).lost) == 0.5


def test_words_that_are_sure_of_one_bin_find_the_others():
    """Each other bin has a probability of exp(-200), which is 0 in float32, and so is the gradient."""
    config = ExpectedReturnConfig(num_bins=40, entropy=0.0, network=NETWORK)
    params = expected_return.draw(config, jax.random.key(0), WORDS)
    state = expected_return.start(config, params, WORDS)
    name, output = output_layer(state.policy.params)
    together = {"kernel": jnp.zeros_like(output["kernel"]), "bias": jnp.zeros(40).at[7].set(200.0)}
    layers = state.policy.params["params"] | {name: together}
    state = state._replace(policy=state.policy._replace(params={"params": layers}))
    moved, _ = expected_return.make_iteration(config)(state, jax.random.key(1), jnp.asarray(0), WORDS)
    bias = np.asarray(output_layer(moved.policy.params)[1]["bias"])
    assert (np.delete(bias, 7) > 1e-3).all()


@pytest.mark.parametrize("units", [12, 60, 200])
def test_words_get_a_perfect_hash_on_every_seed(units):
    network = replace(NETWORK, hidden=(units, units))
    config = ExpectedReturnConfig(num_bins=40, iterations=100, network=network)
    train = jax.jit(jax.vmap(expected_return.make_train(config), (0, None)))
    state, history = train(jax.random.split(jax.random.key(0), 3), WORDS)
    assert (history.collisions[:, -1] == 0).all()
    assert (history.collisions[:, 0] > 8).all()
    for seed in range(3):
        logits = make_network(network, 40).apply(jax.tree.map(lambda a, seed=seed: a[seed], state.params), WORDS)
        assert len(set(np.argmax(logits, 1).tolist())) == 40


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_bins": 0}, "num_bins=0 is not valid"),
        ({"iterations": 0}, "iterations=0 is not valid"),
        ({"entropy": -0.1}, "entropy=-0.1 is not valid"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is not valid"),
        ({"deviation": -1.0}, "deviation=-1.0 is not valid"),
        ({"blocks": 0}, "blocks=0 is not valid"),
        ({"decay": -1.0}, "decay=-1.0 is not valid"),
        ({"hidden_rate": -1.0}, "hidden_rate=-1.0 is not valid"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ExpectedReturnConfig(**wrong)
