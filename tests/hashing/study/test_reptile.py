"""Meta-learning: the count of iterations against a plain loop, and Reptile's step against its formula."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import expected_return, reptile
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of, make_network
from jaxhash.hashing.study.reptile import MetaConfig

TOKENS = tokenize(["ab", "ba", "aab", "bab", "bba", "b", "a", "abb", "aba", "bb"])
NETWORK = NetworkConfig((16,), alphabet=alphabet_of(TOKENS))
LEARNER = ExpectedReturnConfig(num_bins=10, blocks=1, learning_rate=2e-3, network=NETWORK)
CONFIG = MetaConfig(keys_per_task=10, iterations=1, tasks=1, inner_steps=2, layers="all", learner=LEARNER)
ITERATION = jax.jit(expected_return.make_iteration(LEARNER))


def collisions(params):
    """Of the plain network, counted by Python."""
    return 10 - len(set(np.asarray(make_network(NETWORK, 10).apply(params, TOKENS)).argmax(1).tolist()))


def path(start, iterations):
    """Networks after 0, 1, 2, ... iterations of a plain loop, until one is perfect or so many are done."""
    state, found = expected_return.start(LEARNER, start, TOKENS), []
    for number in range(iterations + 1):
        found.append(expected_return.folded(state.policy))
        if collisions(found[-1]) == 0:
            break
        state, _ = ITERATION(state, jax.random.key(7), jnp.asarray(number), TOKENS)
    return found


def test_iterations_are_those_of_a_plain_loop():
    start = expected_return.draw(LEARNER, jax.random.key(1), TOKENS)
    loop = path(start, 200)
    assert 4 < len(loop) < 200
    count = jax.jit(lambda params, most: reptile.iterations_to_perfect(LEARNER, params, TOKENS, most))
    assert int(count(start, 200)) == len(loop) - 1
    assert int(count(start, 2)) == 2


def test_reptile_goes_part_of_the_way_to_what_a_key_set_leads_to():
    """One key set, of all keys: initial parameters + meta_rate * (parameters after two iterations - initial)."""
    key = jax.random.key(3)
    params, history = jax.jit(reptile.make_train(CONFIG))(key, TOKENS)
    start = expected_return.draw(LEARNER, jax.random.split(key)[0], TOKENS)
    after = path(start, CONFIG.inner_steps)[-1]
    for found, first, last in zip(*map(jax.tree.leaves, (params, start, after)), strict=True):
        off = np.abs(found - (first + 0.5 * (last - first)))
        # Adam divides by the gradient's size: where it is rounding alone, a step may go either way.
        assert np.quantile(off, 0.9) < 1e-3
        assert off.max() < 0.05
    assert history.collisions.tolist() == [collisions(after)]


def test_a_last_layer_that_is_not_learned_is_drawn_anew():
    params = expected_return.draw(LEARNER, jax.random.key(1), TOKENS)
    first, second = (
        reptile.begin(replace(CONFIG, layers="hidden"), params, jax.random.key(seed), TOKENS) for seed in (2, 3)
    )
    for layer in params["params"]:
        same = np.array_equal(*(some["params"][layer]["kernel"] for some in (first, second)))
        assert same == (layer != "Dense_1")
    assert reptile.begin(CONFIG, params, jax.random.key(2), TOKENS) is params


def test_too_few_keys_are_refused():
    with pytest.raises(ValueError, match="keys_per_task=10 is more than the 2 keys"):
        reptile.make_train(CONFIG)(jax.random.key(0), jax.tree.map(lambda a: jnp.asarray(a)[:2], TOKENS))
