"""Training of one tiny network, against a plain loop; interrupted, resumed."""

import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.models.augment import AugmentConfig
from jaxhash.models.convnets import VGG, as_images
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.training import convnets
from jaxhash.training.convnets import ConvTrainConfig, fit, make_train
from jaxhash.training.mlp import epoch_order

NETWORK = VGG(stages=((4,),), dense=(6,), classes=2, dropout=0.0, norm_momentum=0.9)
STILL = AugmentConfig(rotation=0.0, shift=0.0, flip=False)
CONFIG = ConvTrainConfig(epochs=3, batch_size=16, drop_every=2, l2=1e-3, augment=STILL)
KEY = jax.random.key(3)


@pytest.fixture(scope="module", autouse=True)
def step_by_step():
    """As on CPU: accelerators run several steps in one program, which has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convnets, "MOST_STEPS_A_CALL", 1)
        yield


@pytest.fixture(scope="module")
def examples():
    """Bright in the upper half, or in the lower."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 70).astype(np.int32)
    x = random.random((70, 8, 8, 3)).astype(np.float32)
    x[y == 0, :4] += 0.5
    x[y == 1, 4:] += 0.5
    return x, y


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    told = []
    folder = tmp_path_factory.mktemp("trained")
    return fit(NETWORK, CONFIG, KEY, *examples, folder, report=lambda step, record: told.append(step)), told, folder


def plain_loop(x, y):
    """Adam as the paper (Kingma and Ba) writes it, on the loss written out."""
    variables = jax.jit(NETWORK.init)(KEY, jnp.zeros((1, 8, 8, 3)))
    # Adam itself in NumPy: nothing of it is compiled.
    params, stats = jax.device_get((variables["params"], variables["batch_stats"]))
    mean = jax.tree.map(np.zeros_like, params)
    square = jax.tree.map(np.zeros_like, params)

    @jax.jit
    def gradient(params, stats, x, y):
        def loss(params):
            both = {"params": params, "batch_stats": stats}
            (logits, _), new = NETWORK.apply(both, x, train=True, mutable=["batch_stats"])
            chosen = jax.nn.log_softmax(logits)[jnp.arange(len(y)), y]
            kernels = [params[name]["kernel"] for name in ("conv_01", "dense_02", "output")]
            return -chosen.mean() + 1e-3 * sum((k**2).sum() for k in kernels), new["batch_stats"]

        return jax.value_and_grad(loss, has_aux=True)(params)

    losses, t = [], 0
    for epoch in range(3):
        for batch in epoch_order(KEY, epoch, len(x), 16):
            (loss, stats), g = jax.device_get(gradient(params, stats, x[batch], y[batch]))
            losses.append(float(loss))
            t += 1
            mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, g)
            square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, g)
            rate = 1e-2 * (0.1 if epoch >= 2 else 1)
            params = jax.tree.map(
                lambda p, m, v, t=t, rate=rate: p - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7),
                params,
                mean,
                square,
            )
    return params, stats, np.reshape(losses, (3, -1)).mean(1)


def test_training_is_a_plain_loop_of_adam(examples, trained):
    found, told, _ = trained
    params, stats, losses = plain_loop(*examples)
    assert found.finished
    assert told == list(range(1, 13))
    np.testing.assert_allclose(found.history.loss, losses, rtol=1e-4)
    assert found.history.loss[-1] < found.history.loss[0]
    for own, plain in zip(
        jax.tree.leaves((found.state.params, found.state.batch_stats)), jax.tree.leaves((params, stats)), strict=True
    ):
        np.testing.assert_allclose(own, plain, rtol=1e-3, atol=2e-4)


def test_an_interrupted_training_ends_as_one_that_was_not(examples, trained, tmp_path):
    stop = threading.Event()

    def interrupt(step, record):
        if step == 6:  # in the middle of the second epoch
            stop.set()

    first = fit(NETWORK, CONFIG, KEY, *examples, tmp_path, report=interrupt, stop=stop)
    assert not first.finished
    assert [path.name for path in tmp_path.iterdir()] == ["step-6"]
    with pytest.raises(CheckpointError, match="step-6: holds another training"):
        fit(NETWORK, CONFIG, jax.random.key(99), *examples, tmp_path)
    (tmp_path / "step-7").mkdir()  # damaged: the one before serves
    (tmp_path / "step-7" / "meta.json").write_text("{}")
    found = fit(NETWORK, CONFIG, KEY, *examples, tmp_path)
    assert found.finished
    for own, whole in zip(jax.tree.leaves(found), jax.tree.leaves(trained[0]), strict=True):
        np.testing.assert_array_equal(own, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["step-12"]


def test_a_damaged_final_save_is_replaced(examples, trained, tmp_path):
    """Else every later call trains from the start again."""
    folder = shutil.copytree(trained[2], tmp_path / "saves")
    (folder / "step-12" / "meta.json").write_text("{}")
    for made in (12, 0):
        told = []
        found = fit(NETWORK, CONFIG, KEY, *examples, folder, report=lambda step, record, told=told: told.append(step))
        assert len(told) == made
        for own, whole in zip(jax.tree.leaves(found), jax.tree.leaves(trained[0]), strict=True):
            np.testing.assert_array_equal(own, whole)


def test_steps_in_a_scan_are_the_steps_alone(examples, trained):
    """What an accelerator runs, on CPU; slow there, and the same."""
    learner = make_train(NETWORK, CONFIG, 4, (8, 8, 3))
    state = learner.init(KEY)
    x, y = map(jnp.asarray, examples)
    state, record = jax.jit(learner.advance)(state, KEY, jnp.asarray(epoch_order(KEY, 0, 70, 16)), x, y)
    assert int(state.step) == 4
    assert record.loss.mean() == pytest.approx(trained[0].history.loss[0], rel=1e-4)


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
    with pytest.raises(ValueError, match="rows of 784000 features"):
        as_images(np.zeros((1, 784_000), np.float32))
    with pytest.raises(ValueError, match="rows of 105 features"):
        as_images(np.zeros((1, 105), np.float32))


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="drop_every=0"):
        ConvTrainConfig(drop_every=0)
    with pytest.raises(ValueError, match="batch_size=1"):
        ConvTrainConfig(batch_size=1)
