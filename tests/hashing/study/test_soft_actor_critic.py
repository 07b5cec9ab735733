"""Soft actor-critic's targets, losses and their gradients against loops in NumPy (arXiv 1910.07207)."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.hashing.study.soft_actor_critic import actor_loss, critic_loss, soft_targets, temperature_loss

N, BINS = 4, 3
RANDOM = np.random.default_rng(1)
LOGITS = RANDOM.normal(size=(N, BINS)).astype(np.float32)
Q = RANDOM.normal(size=(2, N, BINS)).astype(np.float32) * 5
CHOSEN = np.array([2, 0, 1, 2], np.int32)
REWARDS = np.array([10, -10, -10, 10], np.float32)
DONE = np.array([0, 0, 1, 0], np.float32)
TEMPERATURE, DISCOUNT = 0.7, 0.9


def policy(logits):
    p = np.exp(logits.astype(np.float64))
    return p / p.sum(1, keepdims=True)


def numpy_targets():
    targets = []
    for i in range(N):
        value = 0.0
        for b in range(BINS):
            p = policy(LOGITS)[i, b]
            value += p * (min(Q[0, i, b], Q[1, i, b]) - TEMPERATURE * np.log(p))
        targets.append(REWARDS[i] + (0.0 if DONE[i] else DISCOUNT * value))
    return np.array(targets)


def numpy_actor_loss(logits):
    p = policy(logits)
    return np.mean(
        [sum(p[i, b] * (TEMPERATURE * np.log(p[i, b]) - min(Q[:, i, b])) for b in range(BINS)) for i in range(N)]
    )


def test_targets_are_those_of_a_loop_and_are_held_fixed():
    def targets(logits, q):
        return soft_targets(jnp.asarray(REWARDS), jnp.asarray(DONE), logits, q, jnp.asarray(TEMPERATURE), DISCOUNT)

    np.testing.assert_allclose(targets(jnp.asarray(LOGITS), jnp.asarray(Q)), numpy_targets(), rtol=1e-5)
    gradient = jax.grad(lambda *a: targets(*a).sum(), argnums=(0, 1))(jnp.asarray(LOGITS), jnp.asarray(Q))
    assert not any(np.any(part) for part in gradient)


def test_the_critics_loss():
    targets = numpy_targets()
    expected = sum(0.5 * np.mean([(Q[c, i, CHOSEN[i]] - targets[i]) ** 2 for i in range(N)]) for c in range(2))
    found = critic_loss(jnp.asarray(Q), jnp.asarray(CHOSEN), jnp.asarray(targets, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_actors_loss_and_its_slope():
    loss, (slope, of_critics) = jax.value_and_grad(actor_loss, argnums=(0, 1))(
        jnp.asarray(LOGITS), jnp.asarray(Q), jnp.asarray(TEMPERATURE)
    )
    np.testing.assert_allclose(loss, numpy_actor_loss(LOGITS), rtol=1e-5)
    assert not np.any(of_critics)
    for i in range(N):
        for b in range(BINS):
            step = np.zeros((N, BINS))
            step[i, b] = 1e-4
            finite = (numpy_actor_loss(LOGITS + step) - numpy_actor_loss(LOGITS - step)) / 2e-4
            np.testing.assert_allclose(slope[i, b], finite, atol=1e-4)


def test_the_temperature_rises_when_the_entropy_is_too_low_and_only_then():
    entropy = -np.sum(policy(LOGITS) * np.log(policy(LOGITS)), 1).mean()
    for target, sign in ((entropy + 0.2, 1), (entropy - 0.2, -1)):
        loss, (slope, of_actor) = jax.value_and_grad(temperature_loss, argnums=(0, 1))(
            jnp.log(jnp.asarray(TEMPERATURE)), jnp.asarray(LOGITS), float(target)
        )
        np.testing.assert_allclose(loss, TEMPERATURE * (entropy - target), rtol=1e-4)
        # Gradient descent: the log temperature moves against its slope.
        np.testing.assert_allclose(-slope, sign * TEMPERATURE * 0.2, rtol=1e-4)
        assert not np.any(of_actor)
