"""Meta-learning: the count of iterations against a plain loop, and Reptile's step against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import reptile
from jaxhash.hashing.study.guided import good_bins, imitation_loss
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of, make_network
from jaxhash.hashing.study.reptile import MetaConfig

TOKENS = tokenize(["ab", "ba", "aab", "bab", "bba", "b", "a", "abb"])
CONFIG = MetaConfig(
    num_bins=8,
    keys_per_task=8,
    iterations=1,
    tasks=1,
    inner_steps=2,
    inner_learning_rate=1e-2,
    meta_rate=0.5,
    network=NetworkConfig((16,), alphabet=alphabet_of(TOKENS)),
)


NETWORK, ADAM = make_network(CONFIG.network, 8), optax.adam(1e-2)


@jax.jit
def step(params, state):
    """One step of a plain loop."""

    def loss(params):
        logits = NETWORK.apply(params, TOKENS)
        return imitation_loss(logits, good_bins(jax.lax.stop_gradient(logits)))

    updates, state = ADAM.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state


@pytest.fixture(scope="module")
def loop():
    """Parameters after 0, 1, 2, ... steps of a plain loop, up to the first without collisions."""
    path = [reptile.fresh_params(CONFIG, jax.random.key(1), TOKENS)]
    state = ADAM.init(path[0])
    while len(set(np.asarray(NETWORK.apply(path[-1], TOKENS)).argmax(1).tolist())) < 8:
        after, state = step(path[-1], state)
        path.append(after)
    return path


def test_iterations_are_those_of_a_plain_loop(loop):
    count = jax.jit(lambda params: reptile.iterations_to_perfect(CONFIG, params, TOKENS, 100))
    assert 3 < len(loop) < 100
    assert int(count(loop[0])) == len(loop) - 1
    assert int(count(loop[-1])) == 0
    assert int(reptile.iterations_to_perfect(CONFIG, loop[0], TOKENS, 2)) == 2


def test_reptile_goes_part_of_the_way_to_what_a_key_set_leads_to(loop):
    """One key set, of all keys: initial parameters + meta_rate * (parameters after two steps - initial)."""
    key = jax.random.key(3)
    params, history = jax.jit(reptile.make_train(CONFIG))(key, TOKENS)
    start = reptile.fresh_params(CONFIG, jax.random.split(key)[0], TOKENS)
    after, state = start, ADAM.init(start)
    for _ in range(CONFIG.inner_steps):
        after, state = step(after, state)
    for found, first, last in zip(*map(jax.tree.leaves, (params, start, after)), strict=True):
        np.testing.assert_allclose(found, first + 0.5 * (last - first), atol=1e-5)
    assert history.collisions.shape == (1,)


def test_too_few_keys_are_refused():
    with pytest.raises(ValueError, match="keys_per_task=8 is more than the 2 keys"):
        reptile.make_train(CONFIG)(jax.random.key(0), jax.tree.map(lambda a: jnp.asarray(a)[:2], TOKENS))
