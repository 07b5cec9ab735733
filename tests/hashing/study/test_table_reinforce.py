"""The policy that sees the table: its parts against plain Python, and that it is no hash function."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import table_reinforce
from jaxhash.hashing.study.networks import NetworkConfig, TablePolicy, alphabet_of, take
from jaxhash.hashing.study.table_reinforce import (
    TableReinforceConfig,
    expected_reward_loss,
    play,
    return_loss,
    tables_before,
)

TOKENS = tokenize(["ab", "ba", "abc", "cab", "bca", "c"])
BINS = 6
NETWORK = NetworkConfig((32, 16), alphabet=alphabet_of(TOKENS))
POLICY = TablePolicy(NETWORK, BINS)


@pytest.fixture(scope="module")
def trained():
    config = TableReinforceConfig(
        num_bins=BINS, batch_size=6, iterations=300, episodes=8, learning_rate=5e-3, network=NETWORK
    )
    # Compiled without optimisation: compiling is what takes the time.
    train = jax.jit(table_reinforce.make_train(config), compiler_options={"xla_backend_optimization_level": "0"})
    state, history = train(jax.random.key(0), TOKENS)
    return state.params, history


def test_tables_before_each_key_are_those_of_a_loop():
    bins, seen = [2, 0, 2, 5], set()
    for chosen, found in zip(bins, np.asarray(tables_before(jnp.array(bins), BINS)), strict=True):
        assert set(np.flatnonzero(found).tolist()) == seen
        seen.add(chosen)


def test_the_gradient_of_the_expected_reward_is_the_policy_gradient_by_enumeration():
    logits = np.random.default_rng(0).normal(size=4).astype(np.float32)
    occupied = np.array([True, False, False, True])
    p = np.exp(logits) / np.exp(logits).sum()
    exact = sum(p[b] * (-10.0 if occupied[b] else 10.0) * (np.eye(4)[b] - p) for b in range(4))
    drawn = jnp.zeros((1, 1), jnp.int32)
    slope = jax.grad(lambda z: expected_reward_loss(z[None, None], drawn, jnp.asarray(occupied)[None, None]))
    np.testing.assert_allclose(slope(jnp.asarray(logits)), -exact, atol=1e-5)


EPISODES = np.array(list(product(range(3), repeat=3)), np.int32)
OF_KEYS, OF_TABLE = np.random.default_rng(0).normal(size=(2, 3, 3))
"""A policy of three keys and three bins: logits = a row a key + the sum of a row for each occupied bin."""


def probability(of_keys, of_table, episode):
    """Of all draws of an episode, in plain float64; each key is placed at the table that those before it left."""
    found, occupied = 1.0, np.zeros(3)
    for logits, chosen in zip(of_keys, episode, strict=True):
        p = np.exp(logits + occupied @ of_table)
        found *= p[chosen] / p.sum()
        occupied[chosen] = 1.0
    return found


def test_reinforces_estimate_weighted_by_all_episodes_is_the_slope_of_the_expected_return():
    """The slope by finite differences, what later keys find in the table included."""

    def expected_return(parameters):
        returns = [20.0 * len(set(episode.tolist())) - 30.0 for episode in EPISODES]
        return sum(r * probability(*parameters, episode) for r, episode in zip(returns, EPISODES, strict=True))

    def loss(parameters, episode):
        occupied = tables_before(episode, 3)
        logits = parameters[0] + occupied.astype(jnp.float32) @ parameters[1]
        return return_loss(logits[None], episode[None], occupied[None])

    parameters = np.stack([OF_KEYS, OF_TABLE])
    estimates = -3 * jax.vmap(jax.grad(loss), (None, 0))(jnp.asarray(parameters, jnp.float32), jnp.asarray(EPISODES))
    weights = [probability(OF_KEYS, OF_TABLE, episode) for episode in EPISODES]
    mean = np.tensordot(weights, np.asarray(estimates, np.float64), 1)
    for where in np.ndindex(parameters.shape):
        step = np.zeros_like(parameters)
        step[where] = 1e-5
        slope = (expected_return(parameters + step) - expected_return(parameters - step)) / 2e-5
        assert mean[where] == pytest.approx(slope, abs=1e-4)


def test_episodes_are_drawn_from_the_policy_at_the_tables_they_meet():
    """All 27 episodes of three keys in three bins, as often as the whole network says; 5 standard errors."""
    policy, batch = TablePolicy(NETWORK, 3), take(TOKENS, jnp.arange(3))
    params = policy.init(jax.random.key(1), batch, jnp.zeros((3, 3), bool))
    tables = np.array([[[b in episode[:key] for b in range(3)] for key in range(3)] for episode in EPISODES])
    p = np.asarray(jax.nn.softmax(policy.apply(params, batch, jnp.asarray(tables))), np.float64)
    p = np.take_along_axis(p, EPISODES[..., None], -1).prod((1, 2))
    drawn = np.asarray(play(policy, params, jax.random.key(2), batch, 20_000)[0])
    found = (drawn == EPISODES[:, None]).all(-1).mean(-1)
    assert (np.abs(found - p) < 5 * np.sqrt(p * (1 - p) / len(drawn))).all()


def test_collisions_fall(trained):
    _, history = trained
    chance = 6 * (5 / 6) ** 6
    assert float(history.drawn_collisions[:5].mean()) > 0.7 * chance
    assert float(history.drawn_collisions[-20:].mean()) < 0.3 * chance


def test_it_is_no_function(trained):
    """The same keys in another order fall into other bins; they do not if the policy does not read the table."""
    params, _ = trained
    blind = jax.tree.map(jnp.copy, params)
    blind["params"]["of_table"] = jnp.zeros_like(params["params"]["of_table"])
    order = np.arange(6)[::-1]
    moved = {}
    for name, policy_params in (("sees", params), ("blind", blind)):
        there, back = (
            np.asarray(play(POLICY, policy_params, jax.random.key(4), take(TOKENS, jnp.asarray(index)), 1)[1])
            for index in (np.arange(6), order)
        )
        moved[name] = (there != back[order]).sum()
    assert moved["sees"] > 0
    assert moved["blind"] == 0


def test_episodes_played_from_one_key_are_the_same_again(trained):
    params, _ = trained
    first, again = (np.asarray(play(POLICY, params, jax.random.key(4), TOKENS, 3)[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 6)


def test_the_most_probable_bins_are_a_loop_of_argmaxes(trained):
    params, history = trained
    found = np.asarray(play(POLICY, params, jax.random.key(4), TOKENS, 1)[1])
    occupied = np.zeros((6, BINS), bool)
    for key, chosen in enumerate(found):
        assert chosen == np.argmax(POLICY.apply(params, TOKENS, jnp.asarray(occupied))[key])
        occupied[:, chosen] = True
    assert set(history.collisions.tolist()) <= set(range(6))
