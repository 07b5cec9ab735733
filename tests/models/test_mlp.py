import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxhash.models.mlp import ModelConfig, build, glorot_limit, glorot_uniform

KEY = jax.random.key(0)


def test_forward_is_dense_norm_relu_written_out():
    net = build(ModelConfig(depth=2), 6, 3)
    x = jax.random.normal(KEY, (5, 4))
    variables = net.init(KEY, x)
    logits, pre_activations = net.apply(variables, x)
    p = variables["params"]
    h = x
    for layer in range(2):
        # In inference the fresh running statistics are mean 0 and variance 1.
        z = (h @ p[f"hidden_{layer}"]["kernel"]) / np.sqrt(1 + 1e-3)
        np.testing.assert_allclose(pre_activations[layer], z, rtol=1e-5, atol=1e-6)
        h = np.maximum(z, 0)
    np.testing.assert_allclose(logits, h @ p["output"]["kernel"], rtol=1e-5, atol=1e-6)


def test_kernels_are_glorot_uniform():
    kernel = np.asarray(glorot_uniform(KEY, (60, 40)))
    limit = np.sqrt(6 / 100)
    assert np.abs(kernel).max() <= limit
    assert np.abs(kernel).max() > 0.99 * limit
    # Flax's own initialiser has the same variance; 2,400 draws tell it to a few per cent.
    flax = np.asarray(nn.initializers.glorot_uniform()(KEY, (60, 40)))
    np.testing.assert_allclose(kernel.std(), flax.std(), rtol=0.05)
    assert abs(kernel.mean()) < 0.02 * limit * 3
    np.testing.assert_allclose(glorot_limit(60, 40), limit, rtol=1e-6)


def test_width_is_the_total_number_of_hidden_units():
    assert build(ModelConfig(depth=5), 53, 10).units == (10,) * 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(depth=0), "depth=0"),
        (lambda: ModelConfig(dropout=1.0), "dropout=1.0"),
        (lambda: ModelConfig(depth=5).units(3), "width=3 leaves no unit for each of 5"),
        (lambda: ModelConfig().units(0), "width=0"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dropout_in_training_needs_a_key():
    net = build(ModelConfig(dropout=0.5), 6, 3)
    x = jnp.ones((4, 4))
    variables = net.init(KEY, x)
    with pytest.raises(ValueError, match="dropout_key"):
        net.apply(variables, x, train=True, mutable=["batch_stats"])
