"""Maps of convolutions as fewer bits, against NumPy, through `encode`."""

import jax
import numpy as np
import pytest

import jaxhash
from jaxhash.encoding import reductions

MAPS = np.random.default_rng(0).normal(size=(4, 5, 4, 3)).astype(np.float32)  # rows, columns, channels
DENSE = MAPS[:, 0, 0]


def model(x):
    with jax.named_scope("conv"):
        maps = jax.nn.relu(x)
    with jax.named_scope("dense"):
        return maps.sum((1, 2)), jax.nn.relu(x[:, 0, 0])


# How, what is added to the maps so that bits differ, and the same in NumPy.
CASES = {
    "any": (reductions.any_position(), -1.8, lambda x: (x > 0).any((1, 2))),
    "all": (reductions.all_positions(), 1.8, lambda x: (x > 0).all((1, 2))),
    "centre": (reductions.centre_position(), 0, lambda x: x[:, 2, 2] > 0),
    "channel sum": (reductions.channel_sum(), 0, lambda x: x.sum((1, 2)) > 0),
    "any, rows as channels": (reductions.any_position(channel_axis=0), -1.8, lambda x: (x > 0).any((2, 3))),
    "centre, rows as channels": (reductions.centre_position(channel_axis=0), 0, lambda x: x[:, :, 2, 1] > 0),
}


@pytest.fixture(scope="module")
def reduced():
    return jax.jit(
        lambda x: {
            name: jaxhash.encode(model, reduce={"conv/*": how})(x + shift) for name, (how, shift, _) in CASES.items()
        }
    )(MAPS)


@pytest.mark.parametrize("name", CASES)
def test_a_map_is_reduced_and_other_layers_are_not(reduced, name):
    code, (_, shift, numpy) = reduced[name], CASES[name]
    shifted = MAPS + np.float32(shift)
    expected = numpy(shifted)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(code.unpack(), np.concatenate([expected, shifted[:, 0, 0] > 0], 1))
    layers = [(layer.name, layer.shape) for layer in code.layers]
    assert layers == [("conv/relu", expected.shape[1:]), ("dense/relu", (3,))]


def test_a_sample_is_the_same_units_of_every_example():
    how = reductions.sample(7, jax.random.key(0))
    code = jax.jit(jaxhash.encode(model, layers="conv/*", reduce=how))(MAPS)
    flat = MAPS.reshape(4, -1) > 0
    matches = (np.asarray(code.unpack())[:, :, None] == flat[:, None, :]).all(0)
    chosen = np.sort(np.asarray(jax.random.choice(jax.random.key(0), 60, (7,), replace=False)))
    assert len(set(chosen)) == 7
    assert matches[np.arange(7), chosen].all()
    with pytest.raises(ValueError, match="num_bits=61 is more than the 60 units of the layer"):
        jaxhash.encode(model, layers="conv/*", reduce=reductions.sample(61, jax.random.key(0)))(MAPS)
    with pytest.raises(ValueError, match="num_bits=0 is not valid"):
        reductions.sample(0, jax.random.key(0))


def test_a_reduction_sees_the_units_of_every_iteration():
    """A scan stacks numbers where a reduction wants them, and the axis of iterations is one of positions."""

    def stacked(x):
        return jax.lax.scan(lambda h, _: (jax.nn.relu(h) - 0.5, None), x, length=2)[0]

    code = jax.jit(jaxhash.encode(stacked, reduce=reductions.channel_sum()))(DENSE)
    second = np.maximum(DENSE, 0) - np.float32(0.5)
    np.testing.assert_array_equal(code.unpack(), DENSE + second > 0)


def test_a_single_example_is_reduced_alike():
    how = reductions.any_position()
    one = jaxhash.encode(jax.nn.relu, batch_axis=None, reduce=how)
    single, batch = jax.jit(lambda x: (jax.vmap(one)(x), jaxhash.encode(jax.nn.relu, reduce=how)(x)))(MAPS)
    np.testing.assert_array_equal(single.unpack(), (MAPS > 0).any((1, 2)))
    np.testing.assert_array_equal(single.words, batch.words)
