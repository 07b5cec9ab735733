"""The expected occupancy against the sum over all draws, its formula in 60 digits and REINFORCE's mean gradient."""

import decimal
import math
from decimal import Decimal
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.study import reinforce
from jaxhash.hashing.study.expected_return import survey
from jaxhash.hashing.study.occupancy import Aim, Company, ascend, expected_occupied, value
from jaxhash.hashing.study.reinforce import Tuning


def policy(logits):
    weights = np.exp(np.asarray(logits, np.float64) - np.max(logits, 1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def enumerated(logits):
    """Mean occupied bins over all draws, and its gradient by the log-derivative of each draw; float64."""
    p = policy(logits)
    n, bins = p.shape
    mean, gradient = 0.0, np.zeros_like(p)
    for draw in product(range(bins), repeat=n):
        probability = np.prod(p[np.arange(n), draw])
        mean += probability * len(set(draw))
        gradient += probability * len(set(draw)) * (np.eye(bins)[list(draw)] - p)
    return mean, gradient


@pytest.mark.parametrize(("n", "bins", "spread"), [(4, 4, 1.0), (5, 3, 3.0), (3, 5, 0.0), (1, 2, 1.0), (3, 1, 1.0)])
def test_it_is_the_mean_over_all_draws(n, bins, spread):
    logits = np.random.default_rng(n).normal(0, spread, (n, bins)).astype(np.float32)
    mean, gradient = enumerated(logits)
    found, slope = jax.value_and_grad(expected_occupied)(jnp.asarray(logits))
    np.testing.assert_allclose(found, mean, rtol=1e-6)
    np.testing.assert_allclose(slope, gradient, atol=2e-6)


def formula(logits, objective, entropy):
    """The value, in 60 digits: some probabilities here are 1e-30, and some 1 less that."""
    with decimal.localcontext() as context:
        context.prec = 60
        p = []
        for row in logits:
            weights = [(z - max(row)).exp() for z in row]
            p.append([w / sum(weights) for w in weights])
        bins = range(len(p[0]))
        occupied = [1 - math.prod(sum(row[c] for c in bins if c != b) for row in p) for b in bins]
        reached = sum(occupied) if objective == "occupied" else sum(o.ln() for o in occupied)
        spread = -sum(q * q.ln() for row in p for q in row)
        return reached / len(bins) + Decimal(entropy) * spread / len(p)


@pytest.mark.parametrize("objective", ["occupied", "log_occupied"])
@pytest.mark.parametrize("sharp", [1.0, 30.0])
def test_value_and_gradient_are_the_formula_in_60_digits(objective, sharp):
    logits = np.random.default_rng(1).normal(0, sharp, (5, 4)).astype(np.float32)
    found, slope = jax.value_and_grad(lambda z: value(z, Aim(objective, 0.25)))(jnp.asarray(logits))
    exact = [[Decimal(float(z)) for z in row] for row in logits]
    np.testing.assert_allclose(found, float(formula(exact, objective, 0.25)), rtol=1e-5)
    step = Decimal("1e-20")
    for i, b in np.ndindex(logits.shape):
        above, below = ([row[:] for row in exact] for _ in range(2))
        above[i][b] += step
        below[i][b] -= step
        difference = (formula(above, objective, 0.25) - formula(below, objective, 0.25)) / (2 * step)
        np.testing.assert_allclose(slope[i, b], float(difference), rtol=1e-4, atol=1e-7)


def test_settled_keys_have_a_gradient_that_is_a_number():
    logits = jnp.array([[200.0, 0.0, 0.0], [200.0, 0.0, 0.0], [0.0, 200.0, 0.0]])
    for objective in ("occupied", "log_occupied"):
        found, slope = jax.value_and_grad(lambda z, objective=objective: value(z, Aim(objective, 0.1)))(logits)
        assert np.isfinite(found)
        assert np.isfinite(slope).all()


def test_its_gradient_is_the_mean_of_reinforces():
    logits = jnp.asarray(np.random.default_rng(2).normal(0, 1, (6, 5)), jnp.float32)

    def loss(logits, key):
        bins = jax.random.categorical(key, logits, shape=(1, 6))
        credit = reinforce.advantage(bins, 5, "difference", Tuning())
        return reinforce.policy_gradient_loss(logits, bins, credit)

    keys = jax.random.split(jax.random.key(0), 40_000)
    each = np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(logits, keys))
    # The return is 20 * occupied bins - 10 * keys, and the loss a mean over keys.
    expected = -20 / 6 * np.asarray(jax.grad(expected_occupied)(logits))
    error = each.std(0) / np.sqrt(len(keys))
    assert (np.abs(each.mean(0) - expected) <= 5 * error).all()
    assert np.abs(expected).max() > 20 * error.max()


@pytest.mark.parametrize("objective", ["occupied", "log_occupied"])
def test_the_gradient_of_all_keys_is_that_of_its_blocks(objective):
    logits = jnp.asarray(np.random.default_rng(3).normal(0, 2, (7, 6)), jnp.float32)
    aim = Aim(objective, 0.1)
    whole = jax.grad(lambda z: value(z, aim))(logits)
    # Three blocks of three keys; the last two of them only fill the block.
    padded = jnp.concatenate([logits, logits[:2]]).reshape(3, 3, 6)
    present = jnp.arange(9).reshape(3, 3) < 7
    alone = jax.vmap(survey)(padded, present, jax.random.split(jax.random.key(0), 3)).log_empty
    found = [ascend(padded[i], aim, Company(alone.sum(0) - alone[i], 7), present[i]).gradient for i in range(3)]
    np.testing.assert_allclose(jnp.concatenate(found)[:7], whole, rtol=1e-4, atol=1e-6)
    assert (np.asarray(found[2][1:]) == 0).all()


def test_lost_keys_are_those_never_alone_and_empty_bins_draw_them():
    logits = np.array([[12, 0, 0, 0], [12, 0, 0, 0.1], [0, 12, 0, 0], [0, 0, 0.5, 0]], np.float32)
    company = Company(jnp.zeros(4), 4)
    ascent = ascend(jnp.asarray(logits), Aim("occupied", 0.0), company, jnp.ones(4, bool))
    p = policy(logits)
    others = np.array([np.prod(1 - np.delete(p, k, 0), 0) for k in range(4)])
    empty = np.prod(1 - p, 0)
    np.testing.assert_allclose(ascent.alone, (p * others).sum(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ascent.surest, p.max(1), rtol=1e-6)
    gain = others - (p * others).sum(1, keepdims=True)
    np.testing.assert_allclose(ascent.natural, empty * np.maximum(gain, 0) / 4, rtol=1e-4, atol=1e-7)
    # The first two keys share a bin and are sure of it: the gradient hardly knows the empty bins, this one does.
    assert (np.asarray(ascent.alone) < 0.01).tolist() == [True, True, False, False]
    assert np.abs(ascent.gradient[0]).max() < 1e-4 < np.asarray(ascent.natural)[0, 2:].min()
