"""The policy that sees the table: its parts against plain Python, and that it is no hash function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import table_reinforce
from jaxhash.hashing.study.networks import NetworkConfig, TablePolicy, alphabet_of
from jaxhash.hashing.study.table_reinforce import (
    TableReinforceConfig,
    draw,
    expected_reward,
    most_probable,
    play,
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
    found = jax.grad(lambda z: expected_reward(z, jnp.asarray(occupied)))(jnp.asarray(logits))
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_a_table_kept_row_by_row_gives_the_logits_of_the_whole_table(trained):
    """Episodes are drawn from exactly the distribution that the gradient is taken at."""
    params, _ = trained
    occupied = np.array([[True, False, False, True, False, True]] * 6)
    whole = POLICY.apply(params, TOKENS, jnp.asarray(occupied))
    rows = np.asarray(params["params"]["of_table"])[[0, 3, 5]].sum(0)
    parts = POLICY.apply(params, POLICY.apply(params, TOKENS, method="read") + rows, method="choose")
    np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_collisions_fall(trained):
    _, history = trained
    chance = 6 * (5 / 6) ** 6
    assert float(history.drawn_collisions[:5].mean()) > 0.7 * chance
    assert float(history.drawn_collisions[-20:].mean()) < 0.3 * chance


def test_it_is_no_function(trained):
    """The same key, another history, another bin: each key's most probable bin at an empty table, and once that very
    bin is taken."""
    params, _ = trained
    empty = np.zeros((6, BINS), bool)
    before = np.asarray(jnp.argmax(POLICY.apply(params, TOKENS, jnp.asarray(empty)), -1))
    taken = empty.copy()
    taken[np.arange(6), before] = True
    after = np.asarray(jnp.argmax(POLICY.apply(params, TOKENS, jnp.asarray(taken)), -1))
    assert (before != after).any()


def test_episodes_played_from_one_key_are_the_same_again(trained):
    params, _ = trained
    first, again = (np.asarray(play(POLICY, params, jax.random.key(4), TOKENS, 3, draw)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 6)


def test_the_most_probable_bins_are_a_loop_of_argmaxes(trained):
    params, history = trained
    found = np.asarray(play(POLICY, params, jax.random.key(4), TOKENS, 1, most_probable))[0]
    occupied = np.zeros((6, BINS), bool)
    for key, chosen in enumerate(found):
        assert chosen == np.argmax(POLICY.apply(params, TOKENS, jnp.asarray(occupied))[key])
        occupied[:, chosen] = True
    assert set(history.collisions.tolist()) <= set(range(6))
