"""The parts of a training step that are timed alone: NumPy's and Optax's answers."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bench import training_step

RNG = np.random.default_rng(0)
KERNEL, X = (RNG.normal(size=shape).astype(np.float32) for shape in ((5, 7), (12, 7)))
ORDER = np.array([[0, 3], [3, 11]])


def test_products_are_forward_and_the_gradient_of_the_kernel():
    expected = KERNEL
    for _ in ORDER:
        expected = 1e-9 * (expected @ X.T) @ X
    found = training_step.products(*map(jnp.asarray, (KERNEL, ORDER, X)))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_gathering_takes_every_example_of_every_batch():
    expected = X[0] + 2 * X[3] + X[11]
    found = np.asarray(training_step.gathering(jnp.asarray(ORDER), jnp.asarray(X))).sum(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_adam_is_optax_s():
    optimiser, kernel, gradient = optax.adam(1e-2), KERNEL, KERNEL
    state = optimiser.init(kernel)
    for _ in ORDER:
        updates, state = optimiser.update(gradient, state)
        kernel, gradient = kernel + updates, 0.999 * gradient
    found = training_step.adam(jnp.asarray(KERNEL), jnp.asarray(ORDER))
    np.testing.assert_allclose(found, kernel, rtol=1e-4)
    assert float(jnp.abs(found - KERNEL).max()) == pytest.approx(0.02, rel=0.01)
