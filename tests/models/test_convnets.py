import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxhash.models.augment import AugmentConfig, augment
from jaxhash.models.convnets import GLOROT, ResNet, as_images, build, classifier, cost, initialise


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet20", 269_722),  # He et al. 2016, table 6: 0.27 M
        ("resnet32", 464_154),  # 0.46 M
        ("resnet56", 853_018),  # 0.85 M
        ("resnet18", 11_173_962),  # with a 3 x 3 stem and 10 classes: 11.17 M
    ],
)
def test_residual_networks_have_the_published_number_of_parameters(name, parameters):
    assert cost(build(name, 10)).parameters == parameters


@pytest.mark.parametrize(
    ("name", "convolutions", "multiply_adds"),
    # Keras' applications without top: 14,714,688 and 20,024,384 parameters; VGG-11's 8 convolutions: 9,220,480.
    # Each bias is here the offset of a batch norm, which has a scale of the same size besides.
    [("vgg11", 9_220_480, 152.9e6), ("vgg16", 14_714_688, 313.2e6), ("vgg19", 20_024_384, 398.1e6)],
)
def test_vgg_has_the_published_convolutions(name, convolutions, multiply_adds):
    network = build(name, 10)
    biases = sum(sum(stage) for stage in network.stages)
    dense = (512 + 2) * 512 + (512 + 2) * 512 + 513 * 10
    found = cost(network)
    assert found.parameters == convolutions + biases + dense
    assert found.forward_flops == pytest.approx(2 * (multiply_adds + 2 * 512 * 512), rel=2e-3)


def test_code_lengths_are_the_sizes_of_the_maps():
    bits = cost(build("vgg16", 10)).code_bits
    maps = [64 * 32**2] * 2 + [128 * 16**2] * 2 + [256 * 8**2] * 3 + [512 * 4**2] * 3 + [512 * 2**2] * 3 + [512] * 2
    assert list(bits.values()) == maps
    assert list(bits) == sorted(bits)
    bits = cost(build("resnet20", 10)).code_bits
    assert list(bits.values()) == [16 * 32**2] * 7 + [32 * 16**2] * 6 + [64 * 8**2] * 6


def conv(x, kernel, stride=1):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_hand(params, stats, x, widths, blocks):
    """A residual network with option A, layer by layer, in inference mode."""

    def layer(x, name, stride=1):
        norm, kept = params[f"norm_{name}"], stats[f"norm_{name}"]
        z = conv(x, params[name]["kernel"], stride)
        return (z - kept["mean"]) / np.sqrt(kept["var"] + 1e-3) * norm["scale"] + norm["bias"]

    found = [layer(x, "conv_01")]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            x = np.maximum(found[-1], 0)
            stride = 2 if stage and not block else 1
            name = f"conv_{len(found) + 1:02d}"
            found.append(layer(x, name, stride))
            last = layer(np.maximum(found[-1], 0), f"conv_{len(found) + 1:02d}")
            kept = x[:, ::stride, ::stride]
            found.append(last + np.pad(kept, [(0, 0)] * 3 + [(0, width - kept.shape[-1])]))
    return np.maximum(found[-1], 0).mean((1, 2)) @ params["output"]["kernel"] + params["output"]["bias"], found


def test_a_small_residual_network_is_the_paper_walked_by_hand():
    network = ResNet(widths=(3, 4), blocks=1, shortcut="pad", classes=5)
    shapes = jax.eval_shape(lambda key: initialise(network, key, (8, 8, 2)), jax.random.key(0))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.random(leaf.shape) + 0.2, jnp.float32), shapes)
    x = random.normal(size=(4, 8, 8, 2)).astype(np.float32)
    logits, found = jax.jit(network.apply)(variables, x)
    expected_logits, expected = by_hand(variables["params"], variables["batch_stats"], x, (3, 4), 1)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4)
    assert len(found) == len(expected) == 5
    for (name, z), hand in zip(found.items(), expected, strict=True):
        np.testing.assert_allclose(z, hand, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_network_keeps_its_layers_when_it_is_made_thin():
    for name in ("vgg11", "resnet8"):
        thin, full = cost(build(name, 10, width_factor=1 / 4)), cost(build(name, 10))
        assert {layer: 4 * bits for layer, bits in thin.code_bits.items()} == full.code_bits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "vgg17"}, "vgg17.*vgg16"),
        ({"width_factor": 0.0}, "width_factor=0"),
        ({"classes": 1}, "classes=1"),
        ({"norm_momentum": 1.0}, "norm_momentum=1"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(**{"name": "vgg16", "classes": 10, **wrong})


def test_images_are_enlarged_and_framed():
    digits = np.random.default_rng(0).random((2, 64)).astype(np.float32)
    images = as_images(digits)
    assert images.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(images[:, 2::4, 1::4, 2], digits.reshape(2, 8, 8))
    mnist = np.random.default_rng(0).random((2, 784)).astype(np.float32)
    images = as_images(mnist)
    np.testing.assert_array_equal(images[:, 2:30, 2:30, 1], mnist.reshape(2, 28, 28))
    assert images.sum() == pytest.approx(3 * mnist.sum(), rel=1e-5)
    colour = np.random.default_rng(0).random((2, 3072)).astype(np.float32)
    np.testing.assert_array_equal(as_images(colour).reshape(2, -1), colour)
    for rows in (digits, mnist, colour):
        np.testing.assert_array_equal(as_images(jnp.asarray(rows)), as_images(rows))
    with pytest.raises(ValueError, match="rows of 784000 features"):
        as_images(np.zeros((1, 784_000), np.float32))
    with pytest.raises(ValueError, match="rows of 105 features"):
        as_images(np.zeros((1, 105), np.float32))


def test_a_classifier_is_the_authors_network_of_moved_images():
    """Projections and Glorot kernels; in training the images of `augment` under the key of Flax, else as they are."""
    model = classifier("resnet8", 3, width_factor=0.25, norm_momentum=0.9)
    assert (model.network.shortcut, model.network.kernel_init) == ("project", GLOROT)
    rows = jnp.asarray(np.random.default_rng(0).random((4, 64)), jnp.float32)
    keys = {"params": jax.random.key(0), "augment": jax.random.key(1)}
    variables = model.init(keys, rows)
    inner = {name: of["network"] for name, of in variables.items()}
    images = jnp.asarray(as_images(rows))
    np.testing.assert_allclose(model.apply(variables, rows), model.network.apply(inner, images)[0], rtol=1e-6)
    limit = np.sqrt(6 / (9 * 3 + 9 * 4))
    kernel = np.abs(variables["params"]["network"]["conv_01"]["kernel"])
    assert 0.9 * limit < kernel.max() <= limit
    moved = []

    def note(config, key, images):
        moved.append(augment(config, key, images))
        return moved[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxhash.models.convnets.augment", note)
        logits, _ = model.apply(variables, rows, train=True, rngs=keys, mutable=["batch_stats"])
    (seen,) = moved
    assert not np.allclose(seen, images)
    theirs, _ = model.network.apply(inner, seen, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, theirs[0], rtol=1e-5, atol=1e-6)
    assert model.move == AugmentConfig()
