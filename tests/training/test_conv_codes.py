import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.models.convnets import VGG, initialise
from jaxhash.training.conv_codes import (
    channel_sums,
    every_position,
    layers_of,
    make_encode,
    sampled_positions,
    write_codes,
)

IMAGE = (8, 8, 3)
NETWORK = VGG(stages=((3,), (5, 4)), dense=(6,), classes=2)


@pytest.fixture(scope="module")
def variables():
    """Random kernels, fresh batch norms; without a program to compile."""
    random = np.random.default_rng(1)

    def fill(path, leaf):
        name = path[-1].key
        value = random.normal(0, 0.3, leaf.shape) if name == "kernel" else np.full(leaf.shape, name in ("scale", "var"))
        return jnp.asarray(value, jnp.float32)

    shapes = jax.eval_shape(lambda key: initialise(NETWORK, key, IMAGE), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(7, *IMAGE)).astype(np.float32)


@pytest.fixture(scope="module")
def by_hand(variables, images):
    """Bits of each layer in NumPy: convolution as a sum over the nine shifts; fresh batch norm only scales."""
    params, x, bits = variables["params"], images.astype(np.float64), {}
    for name in ("conv_01", "conv_02", "conv_03"):
        kernel = np.asarray(params[name]["kernel"])
        height, width = x.shape[1:3]
        around = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        z = sum(around[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
        bits[name] = z > 0
        x = np.maximum(z, 0) / np.sqrt(1 + 1e-3)
        if name != "conv_02":
            x = x.reshape(len(x), height // 2, 2, width // 2, 2, -1).max((2, 4))
    z = x.reshape(len(x), -1) @ np.asarray(params["dense_04"]["kernel"])
    bits["dense_04"] = z > 0
    return bits


def read(codes):
    """Bits of each layer of a file, unpacked by NumPy."""
    found = {}
    for layer in codes.layers:
        words = codes.layer(layer.name).rows(slice(None))
        found[layer.name] = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, : layer.bits].astype(bool)
    return found


def test_codes_in_a_file_are_the_network_walked_by_hand(tmp_path, variables, images, by_hand):
    told = []
    codes, logits = write_codes(tmp_path / "codes.npy", NETWORK, variables, images, batch_size=3, report=told.append)
    assert told == [3, 6, 7]
    assert [(layer.name, layer.bits) for layer in codes.layers] == [
        ("conv_01", 3 * 64),
        ("conv_02", 5 * 16),
        ("conv_03", 4 * 16),
        ("dense_04", 6),
    ]
    assert codes.num_words == 6 + 3 + 2 + 1
    for name, bits in read(codes).items():
        np.testing.assert_array_equal(bits, by_hand[name].reshape(7, -1), err_msg=name)
        assert 0.1 < bits.mean() < 0.9
    np.testing.assert_allclose(logits, jax.jit(NETWORK.apply)(variables, jnp.asarray(images))[0], rtol=1e-5, atol=1e-6)


def test_channel_sums_are_the_sums_of_the_relus_outputs():
    z = np.random.default_rng(0).normal(-2.5, 1, (50, 6, 6, 4)).astype(np.float32)
    bits = np.asarray(channel_sums("conv_01", jnp.asarray(z)))
    np.testing.assert_array_equal(bits, np.maximum(z, 0).sum((1, 2)) > 0)
    assert 0 < bits.mean() < 1
    np.testing.assert_array_equal(channel_sums("dense_02", jnp.asarray(z[:, 0, 0])), z[:, 0, 0] > 0)


def test_sampled_positions_are_positions_of_the_map_the_same_for_all_images():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(40, 5, 6, 2)), jnp.float32)
    bits = np.asarray(sampled_positions(4, seed=1)("conv_01", z)).reshape(40, 4, 2)
    maps = np.asarray(z > 0).reshape(40, 30, 2)
    found = [np.flatnonzero((maps == bits[:, [i]]).all((0, 2))) for i in range(4)]
    assert [len(where) for where in found] == [1] * 4
    assert len({int(where[0]) for where in found}) == 4
    other = np.asarray(sampled_positions(4, seed=1)("conv_02", z)).reshape(40, 4, 2)
    assert (other != bits).any()
    np.testing.assert_array_equal(sampled_positions(30, seed=1)("conv_01", z), every_position("conv_01", z))


def test_reductions_say_how_many_bits_they_leave(variables):
    names = ["conv_01", "conv_02", "conv_03", "dense_04"]
    for reduce, bits in ((channel_sums, [3, 5, 4, 6]), (sampled_positions(2, 0), [6, 10, 8, 6])):
        assert [tuple(layer) for layer in layers_of(NETWORK, reduce, variables, IMAGE)] == list(
            zip(names, bits, strict=True)
        )


def test_unpacked_bits_of_all_layers_never_stand_side_by_side(variables):
    """The largest array that the traced program makes is one layer's, not the whole code's."""
    jaxpr = jax.make_jaxpr(make_encode(NETWORK, every_position))(variables, np.zeros((4, *IMAGE), np.float32))
    sizes = [out.aval.size for equation in jaxpr.jaxpr.eqns for out in equation.outvars if out.aval.dtype == bool]
    assert max(sizes) == 4 * 3 * 64


def test_nothing_to_encode_is_refused(tmp_path, variables, images):
    with pytest.raises(ValueError, match="0 images in batches of 3"):
        write_codes(tmp_path / "codes.npy", NETWORK, variables, images[:0], batch_size=3)
    with pytest.raises(ValueError, match="count=0 positions"):
        sampled_positions(0, seed=0)
