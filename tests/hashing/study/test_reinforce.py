"""REINFORCE against the exact policy gradient, by enumeration of all outcomes of a table of 3 keys and 3 bins."""

import dataclasses
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import reinforce
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of, sample
from jaxhash.hashing.study.reinforce import CREDITS, ReinforceConfig, Tuning, advantage, policy_gradient_loss

# These programs run for milliseconds: they are compiled without optimisation, which is what takes the time.
QUICKLY = {"xla_backend_optimization_level": "0"}
OUTCOMES = np.array(list(product(range(3), repeat=3)), np.int32)
LOGITS = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def plain_rewards(bins):
    """A Python table: +10 for an empty bin, -10 for an occupied one, in order of arrival."""
    seen, rewards = set(), []
    for chosen in bins:
        rewards.append(-10.0 if int(chosen) in seen else 10.0)
        seen.add(int(chosen))
    return rewards


def probabilities():
    p = np.exp(LOGITS.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    return p, np.array([np.prod(p[range(3), bins]) for bins in OUTCOMES])


def score(bins):
    """d log pi(bins) / d logits, by hand: one-hot less probabilities."""
    return np.eye(3)[bins] - probabilities()[0]


def exact_gradient():
    """d E[return] / d logits = sum over all 27 outcomes of probability * return * score, float64."""
    weights = probabilities()[1]
    return sum(w * sum(plain_rewards(b)) * score(b) for w, b in zip(weights, OUTCOMES, strict=True))


def estimate(bins, credit, baseline=0.0):
    """The learner's estimate of the gradient of the return: -n times the gradient of its loss."""

    def loss(logits):
        return policy_gradient_loss(logits, bins, advantage(bins, 3, credit, Tuning(baseline=baseline)))

    return -3 * jax.grad(loss)(jnp.asarray(LOGITS))


def test_the_exact_gradient_is_the_derivative_of_the_expected_return():
    """The reference itself, against finite differences."""

    def expected_return(logits):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return sum(np.prod(p[range(3), b]) * sum(plain_rewards(b)) for b in OUTCOMES)

    for i, j in product(range(3), repeat=2):
        step = np.zeros((3, 3))
        step[i, j] = 1e-5
        slope = (expected_return(LOGITS + step) - expected_return(LOGITS - step)) / 2e-5
        assert slope == pytest.approx(exact_gradient()[i, j], abs=1e-6)


@pytest.mark.parametrize("credit", ["return", "difference"])
def test_the_estimate_weighted_by_all_outcomes_is_the_policy_gradient(credit):
    estimates = jax.vmap(lambda bins: estimate(bins[None], credit))(jnp.asarray(OUTCOMES))
    mean = np.tensordot(probabilities()[1], np.asarray(estimates, np.float64), 1)
    np.testing.assert_allclose(mean, exact_gradient(), atol=1e-4)


def test_own_rewards_give_the_gradient_of_each_placement_and_not_of_the_return():
    """sum over keys of E[own reward * score of that key]: what later keys lose is left out."""
    estimates = jax.vmap(lambda bins: estimate(bins[None], "own"))(jnp.asarray(OUTCOMES))
    mean = np.tensordot(probabilities()[1], np.asarray(estimates, np.float64), 1)
    own = sum(
        w * np.array(plain_rewards(b))[:, None] * score(b) for w, b in zip(probabilities()[1], OUTCOMES, strict=True)
    )
    np.testing.assert_allclose(mean, own, atol=1e-4)
    assert np.abs(own - exact_gradient()).max() > 0.1


@pytest.mark.parametrize("credit", ["return", "difference"])
@pytest.mark.parametrize("baseline", [0.5, 1.0])
def test_a_baseline_leaves_the_estimate_unbiased(credit, baseline):
    """All 27 * 27 pairs of two episodes, weighted by their probabilities."""
    pairs = jnp.asarray(np.array(list(product(OUTCOMES, OUTCOMES))))
    weights = np.outer(probabilities()[1], probabilities()[1]).ravel()
    estimates = jax.jit(jax.vmap(lambda bins: estimate(bins, credit, baseline)))(pairs)
    mean = np.tensordot(weights, np.asarray(estimates, np.float64), 1)
    np.testing.assert_allclose(mean, exact_gradient(), atol=1e-4)


def test_drawn_estimates_scatter_about_the_policy_gradient_and_a_baseline_narrows_them():
    """What the learner does, drawing included: within 5 standard errors in each entry; 4 episodes, 10,000 times."""

    def draw(key, baseline):
        return estimate(sample(key, jnp.asarray(LOGITS), 4), "return", baseline)

    keys = jax.random.split(jax.random.key(0), 10_000)
    spread = []
    for baseline in (0.0, 1.0):
        drawn = np.asarray(jax.jit(jax.vmap(draw, (0, None)))(keys, baseline), np.float64)
        error = drawn.std(0) / np.sqrt(len(keys))
        assert (np.abs(drawn.mean(0) - exact_gradient()) < 5 * error).all()
        spread.append(drawn.var(0).sum())
    assert spread[1] < spread[0]


def test_credits_are_what_a_plain_table_says():
    for bins in OUTCOMES:
        rewards = plain_rewards(bins)
        assert np.asarray(CREDITS["own"](jnp.asarray(bins), 3)).tolist() == rewards
        assert np.asarray(CREDITS["return"](jnp.asarray(bins), 3)).tolist() == [sum(rewards)] * 3
        without = [sum(rewards) - sum(plain_rewards(np.delete(bins, i))) for i in range(3)]
        assert np.asarray(CREDITS["difference"](jnp.asarray(bins), 3)).tolist() == without


def test_tunings_trained_in_one_program_equal_single_trainings():
    tokens = tokenize(["ab", "ba", "abc", "cab", "bca", "c"])
    config = ReinforceConfig(
        num_bins=6,
        iterations=5,
        batch_size=6,
        batches="in_turn",
        episodes=2,
        credit="difference",
        network=NetworkConfig((8,), alphabet=alphabet_of(tokens)),
    )
    rates, bonuses, baselines = np.array([[1e-3, 1e-2], [0.0, 0.5], [0.0, 1.0]], np.float32)
    train = jax.vmap(reinforce.make_train_tuned(config), (None, None, 0))
    together = jax.jit(train, compiler_options=QUICKLY)(
        jax.random.key(3), tokens, Tuning(*map(jnp.asarray, (rates, bonuses, baselines)))
    )[1]
    alone = dataclasses.replace(config, tuning=Tuning(1e-2, 0.5, 1.0))
    _, history = jax.jit(reinforce.make_train(alone), compiler_options=QUICKLY)(jax.random.key(3), tokens)
    np.testing.assert_allclose(together.loss[1], history.loss, rtol=1e-3, atol=1e-4)
    assert not np.allclose(together.loss[0], together.loss[1])


def test_a_baseline_without_other_episodes_is_refused():
    with pytest.raises(ValueError, match="episodes=1; give episodes=2 or more"):
        ReinforceConfig(tuning=Tuning(baseline=1.0))
