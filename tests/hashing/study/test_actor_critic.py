"""The critic's targets and losses against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.hashing.study.actor_critic import critic_loss, standardise, td_errors, td_targets

REWARDS = np.array([10, -10, 10, 10, -10], np.float32)
VALUES = np.array([3.0, -1.5, 0.25, 8.0, -2.0], np.float32)


def numpy_targets(discount):
    targets = []
    for i, reward in enumerate(REWARDS):
        following = VALUES[i + 1] if i + 1 < len(VALUES) else 0.0
        targets.append(reward + discount * following)
    return np.array(targets)


def test_targets_and_errors_are_those_of_a_loop():
    for discount in (0.0, 0.9, 1.0):
        targets = td_targets(jnp.asarray(REWARDS), jnp.asarray(VALUES), discount)
        np.testing.assert_allclose(targets, numpy_targets(discount), rtol=1e-6)
        errors = td_errors(jnp.asarray(REWARDS), jnp.asarray(VALUES), discount)
        np.testing.assert_allclose(errors, numpy_targets(discount) - VALUES, rtol=1e-6)


def test_true_values_have_no_error_left():
    """With the discounted sums of rewards to come as values, every advantage is 0 and so is the critic's loss."""
    values = np.zeros(5)
    for i in reversed(range(5)):
        values[i] = REWARDS[i] + (0.9 * values[i + 1] if i < 4 else 0.0)
    errors = td_errors(jnp.asarray(REWARDS), jnp.asarray(values, jnp.float32), 0.9)
    np.testing.assert_allclose(errors, np.zeros(5), atol=1e-5)


def test_the_critics_loss_moves_values_and_not_targets():
    targets = numpy_targets(0.9).astype(np.float32)
    loss, gradient = jax.value_and_grad(critic_loss, argnums=(0, 1))(jnp.asarray(VALUES), jnp.asarray(targets))
    np.testing.assert_allclose(loss, np.mean((VALUES - targets) ** 2), rtol=1e-6)
    np.testing.assert_allclose(gradient[0], 2 * (VALUES - targets) / 5, rtol=1e-5)
    assert not np.any(gradient[1])


def test_advantages_are_standardised():
    scaled = np.asarray(standardise(jnp.asarray(VALUES)))
    np.testing.assert_allclose(scaled, (VALUES - VALUES.mean()) / VALUES.std(), rtol=1e-5)
    assert not np.any(standardise(jnp.full(4, 7.0)))
