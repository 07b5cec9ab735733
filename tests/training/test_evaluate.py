import jax
import numpy as np
import optax

from jaxhash.codes.code import unpack
from jaxhash.models.mlp import ModelConfig, build
from jaxhash.training import evaluate
from jaxhash.training.population import Block, init_block, split
from tests.training import QUICKLY

BLOCK = Block((5, 70), ModelConfig(depth=2), features=12, classes=4)


def test_every_model_is_evaluated_as_flax_does_in_whole_and_partial_chunks(monkeypatch):
    params, stats = jax.jit(init_block, static_argnums=0, compiler_options=QUICKLY)(BLOCK, jax.random.key(7))
    x = jax.random.normal(jax.random.key(1), (103, 12))
    y = jax.random.randint(jax.random.key(2), (103,), 0, 4)
    alone = {width: jax.jit(build(BLOCK.model, width, 4).apply, compiler_options=QUICKLY) for width in BLOCK.widths}
    for at_a_time in (2048, 50):
        monkeypatch.setattr(evaluate, "EXAMPLES_AT_A_TIME", at_a_time)
        found = jax.jit(evaluate.make_evaluate(BLOCK), compiler_options=QUICKLY)(params, stats, x, y)
        for m, (width, variables) in enumerate(zip(BLOCK.widths, split(BLOCK, params, stats), strict=True)):
            logits, pre_activations = alone[width](variables, x)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
            np.testing.assert_allclose(found.loss[m], loss, rtol=1e-5)
            np.testing.assert_allclose(found.accuracy[m], (logits.argmax(1) == y).mean(), rtol=1e-6)
            z = np.concatenate(pre_activations, 1)
            bits = np.asarray(unpack(found.words[m], z.shape[1]))
            # Pre-activations of size 0 up to rounding may fall on either side.
            np.testing.assert_array_equal(bits[np.abs(z) > 1e-5], (z > 0)[np.abs(z) > 1e-5])
            assert not np.asarray(unpack(found.words[m], 96))[:, z.shape[1] :].any()
        assert found.words.shape == (2, 103, 3)
