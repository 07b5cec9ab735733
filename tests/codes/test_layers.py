"""Codes of layers, against slices of the unpacked bits and against the layers' own pre-activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.codes.code import Code, pack
from jaxhash.codes.layers import bit_range, first_layers, single_layer
from jaxhash.models.mlp import ModelConfig, build


def numpy_pack(bits):
    return np.packbits(np.pad(bits, [(0, 0), (0, -bits.shape[1] % 32)]), axis=1, bitorder="little").view("<u4")


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 32), (0, 100), (5, 6), (31, 33), (32, 64), (7, 96), (40, 100), (63, 64)]
)
def test_a_range_of_bits_is_the_slice_of_the_unpacked_bits(start, stop):
    bits = np.random.default_rng(start).random((20, 100)) < 0.5
    np.testing.assert_array_equal(
        bit_range(jnp.asarray(numpy_pack(bits)), start, stop), numpy_pack(bits[:, start:stop])
    )


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (5, 3), (0, 97)])
def test_no_range_is_refused(start, stop):
    with pytest.raises(ValueError, match=f"start={start}, stop={stop} is no range of bits within the 96"):
        bit_range(jnp.zeros((2, 3), jnp.uint32), start, stop)


def test_layers_are_the_signs_of_their_own_pre_activations():
    net = build(ModelConfig(depth=3), 60, 10)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 7)), jnp.float32)
    _, pre_activations = net.apply(net.init(jax.random.key(0), x), x)
    signs = [np.asarray(z) > 0 for z in pre_activations]
    code = Code(pack(jnp.concatenate(pre_activations, 1) > 0), 60)
    for layer in range(3):
        single, first = single_layer(code, net.units, layer), first_layers(code, net.units, layer + 1)
        np.testing.assert_array_equal(single.unpack(), signs[layer])
        np.testing.assert_array_equal(first.unpack(), np.concatenate(signs[: layer + 1], 1))
    np.testing.assert_array_equal(first.words, code.words)


def test_layers_that_are_not_there_are_refused():
    code = Code(jnp.zeros((2, 1), jnp.uint32), 9)
    with pytest.raises(ValueError, match="layer=2 is none of the 2 hidden layers; give 0 to 1"):
        single_layer(code, (4, 5), 2)
    with pytest.raises(ValueError, match=r"count=0 is none of 1 \.\.\. 2"):
        first_layers(code, (4, 5), 0)
    with pytest.raises(ValueError, match=r"units=\(4, 4\) add up to 8, but the codes have 9 bits"):
        single_layer(code, (4, 4), 0)
