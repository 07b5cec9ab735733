from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.models.mlp import ModelConfig, build
from jaxhash.training.population import Block, forward, init_block, model_key, plan_blocks, split
from tests.training import QUICKLY

REPEAT = jax.random.key(7)


@pytest.mark.parametrize("model", [ModelConfig(), ModelConfig(depth=3), ModelConfig(depth=2, batch_norm=False)])
def test_every_model_starts_and_computes_as_flax_alone(model):
    block = Block((6, 9, 20), model, features=12, classes=4)
    params, stats = jax.jit(init_block, static_argnums=0, compiler_options=QUICKLY)(block, REPEAT)
    x = jax.random.normal(jax.random.key(1), (8, 12))
    out = jax.jit(partial(forward, block, train=False), compiler_options=QUICKLY)(params, stats, x)
    for m, (width, variables) in enumerate(zip(block.widths, split(block, params, stats), strict=True)):
        net = build(model, width, 4)
        alone = jax.jit(net.init, compiler_options=QUICKLY)(model_key(REPEAT, width), x)
        jax.tree.map(np.testing.assert_array_equal, variables, dict(alone))
        logits, pre_activations = jax.jit(net.apply, compiler_options=QUICKLY)(alone, x)
        np.testing.assert_allclose(out.logits[m].T, logits, rtol=1e-5, atol=1e-5)
        for ours, flax in zip(out.pre_activations, pre_activations, strict=True):
            np.testing.assert_allclose(ours[m, : model.units(width)].T, flax, rtol=1e-5, atol=1e-5)


def test_the_first_layer_has_no_padding():
    block = Block((3, 10, 50), ModelConfig(), features=784, classes=10)
    params, stats = jax.eval_shape(lambda key: init_block(block, key), REPEAT)
    with jax.default_device(jax.devices("cpu")[0]):  # GPUs do not say what a program costs
        program = jax.jit(partial(forward, block, train=True)).lower(params, stats, jnp.zeros((64, 784)))
    products = 2 * 64 * (63 * 784 + 3 * 50 * 10)  # the output layers are padded to the widest
    assert products <= program.cost_analysis()["flops"] < 1.05 * products


def test_blocks_hold_every_width_once_and_keep_to_the_limit():
    widths = (100, 3, 7, 10, 50, 53, 90, 20)
    blocks = plan_blocks(widths, ModelConfig(), 784, 10, units_per_block=110)
    assert sorted(w for b in blocks for w in b.widths) == sorted(widths)
    assert all(sum(b.units) <= 110 for b in blocks)
    wide = plan_blocks((500, 3), ModelConfig(), 784, 10, units_per_block=110)
    assert [b.widths for b in wide] == [(3,), (500,)]


def test_a_width_given_twice_is_refused():
    with pytest.raises(ValueError, match="width 7 is given more than once"):
        plan_blocks((7, 3, 7), ModelConfig(), 784, 10, units_per_block=100)
