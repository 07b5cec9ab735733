"""Codes of models of four libraries, bit by bit against pre-activations captured by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxhash

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(3, 8, 8, 3)).astype(np.float32)
SEQUENCES = RANDOM.normal(size=(3, 5, 4)).astype(np.float32)


def joined(*pre_activations):
    """Bits of the layers side by side, from arrays with the examples first."""
    return np.concatenate([np.asarray(z > 0).reshape(len(z), -1) for z in pre_activations], 1)


def drawn(shapes):
    """Parameters of these shapes, drawn by NumPy: nothing is compiled for them."""

    def draw(path, leaf):
        values = RANDOM.normal(size=leaf.shape).astype(np.float32) / 2
        return np.abs(values) + 0.1 if "var" in jax.tree_util.keystr(path) else values

    return jax.tree_util.tree_map_with_path(draw, shapes)


class Block(linen.Module):
    """A residual block; what its ReLUs are given is sown."""

    channels: int
    stride: int = 1

    @linen.compact
    def __call__(self, x, train):
        norm = partial(linen.BatchNorm, use_running_average=not train)
        conv = partial(linen.Conv, self.channels, use_bias=False)
        y = norm()(conv((3, 3), (self.stride, self.stride))(x))
        self.sow("by_hand", "z", y)
        y = norm()(conv((3, 3))(linen.relu(y)))
        if x.shape != y.shape:
            x = norm()(conv((1, 1), (self.stride, self.stride))(x))
        self.sow("by_hand", "z", x + y)
        return linen.relu(x + y)


class ResNet(linen.Module):
    """Residual, normalised, convolutional, with a rematerialised block and a scanned stack."""

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.GroupNorm(2)(linen.Conv(4, (3, 3))(x))
        self.sow("by_hand", "z", x)
        x = linen.max_pool(linen.relu(x), (2, 2), (2, 2))
        x = Block(4)(x, train)
        x = linen.remat(Block, static_argnums=2)(6, 2)(x, train)
        return linen.Dense(3)(linen.LayerNorm()(x.mean((1, 2))))


@pytest.mark.slow
def test_a_linen_residual_network():
    """With statistics of the batch: the variances that norm layers clip at 0 are no units."""
    model = ResNet()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), IMAGES))
    del variables["by_hand"]

    @jax.jit
    def both(variables, x):
        _, captured = model.apply(variables, x, True, mutable=["batch_stats", "by_hand"])
        encode = jaxhash.encode(partial(model.apply, train=True, mutable=["batch_stats"]))
        return captured["by_hand"], encode(variables, x)

    own, code = both(variables, IMAGES)
    (stem,), first, second = own["z"], own["Block_0"]["z"], own["CheckpointBlock_0"]["z"]
    np.testing.assert_array_equal(code.unpack(), joined(stem, *first, *second))
    names = [layer.name.removeprefix("ResNet/") for layer in code.layers]
    blocks = [f"{block}/relu{i}" for block in ("Block_0", "CheckpointBlock_0") for i in ("", "_1")]
    assert names == ["relu", *blocks]
    assert code.layers[-1].shape == (2, 2, 6)
    # Of the norms: their variance is clipped at 0.
    assert [name for name, reason in code.skipped if "variance" not in reason] == ["ResNet/max_pool"]


class Recurrent(linen.Module):
    """Scans over time and depth, and a map over positions, by Linen's own transformations."""

    @linen.compact
    def __call__(self, x):
        x = linen.RNN(linen.SimpleCell(4, activation_fn=linen.relu), name="rnn")(x)
        layer = linen.scan(
            Residual, variable_axes={"params": 0}, split_rngs={"params": True}, length=2, metadata_params={}
        )
        x, _ = layer(name="stack")(x, None)
        dense = linen.vmap(
            linen.Dense, in_axes=1, out_axes=1, variable_axes={"params": None}, split_rngs={"params": False}
        )
        return linen.relu(dense(2, name="head")(x))


class Residual(linen.Module):
    """x + relu(Wx + b)."""

    @linen.compact
    def __call__(self, x, _):
        return x + linen.relu(linen.Dense(4, name="dense")(x)), None


@pytest.mark.slow
def test_a_linen_recurrent_network():
    model = Recurrent()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(1), SEQUENCES))
    code = jax.jit(jaxhash.encode(partial(model.apply, variables)))(SEQUENCES)
    p = variables["params"]
    h, states, cell = np.zeros((3, 4), np.float32), [], p["SimpleCell_0"]
    times = []
    for t in range(5):
        z = SEQUENCES[:, t] @ cell["i"]["kernel"] + cell["i"]["bias"] + h @ cell["h"]["kernel"]
        h = np.maximum(z, 0)
        times.append(z)
        states.append(h)
    x, depths = np.stack(states, 1), []
    for kernel, bias in zip(p["stack"]["dense"]["kernel"], p["stack"]["dense"]["bias"], strict=True):
        z = x @ kernel + bias
        depths.append(z)
        x = x + np.maximum(z, 0)
    head = x @ p["head"]["kernel"] + p["head"]["bias"]
    np.testing.assert_array_equal(code.unpack(), joined(np.stack(times, 1), np.stack(depths, 1), head))
    assert [layer.shape for layer in code.layers] == [(5, 4), (2, 5, 4), (5, 2)]
    assert "stack" in code.layers[1].name


class Attention(nnx.Module):
    """A transformer block: layer norm, causal attention, a ReLU and a GELU MLP."""

    def __init__(self, rngs):
        self.norm, self.attend = nnx.LayerNorm(4, rngs=rngs), nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def before(self, x):
        x = x + self.attend(self.norm(x), mask=nnx.make_causal_mask(x[..., 0]))
        return self.up(self.norm(x))

    def __call__(self, x):
        return nnx.gelu(self.down(self.dropout(nnx.relu(self.before(x)))))


@pytest.mark.slow
def test_an_nnx_transformer_block():
    structure, shapes = nnx.split(nnx.eval_shape(lambda: Attention(nnx.Rngs(0))))
    model = nnx.merge(structure, drawn(shapes))
    model.eval()
    by_hand, code = jax.jit(lambda x: (model.before(x), jaxhash.encode(model)(x)))(SEQUENCES)
    np.testing.assert_array_equal(code.unpack(), joined(by_hand))
    assert code.layers[0].name.startswith("test_encode_models.py:")
    assert [name.rsplit("/")[-1] for name, reason in code.skipped if "variance" not in reason] == ["gelu"]


@pytest.mark.slow
def test_an_equinox_network():
    eqx = pytest.importorskip("equinox")
    make = lambda key: (eqx.nn.Conv2d(3, 4, 3, key=key), eqx.nn.MLP(36, 2, 5, 2, key=key))  # noqa: E731
    arrays, rest = eqx.partition(eqx.filter_eval_shape(make, jax.random.key(2)), lambda leaf: hasattr(leaf, "shape"))
    conv, mlp = eqx.combine(drawn(arrays), rest)
    pool, norm = eqx.nn.MaxPool2d(2, 2), eqx.nn.GroupNorm(2, 4)

    def model(x):
        return mlp(pool(jax.nn.leaky_relu(norm(conv(x)))).ravel())

    def by_hand(x):
        stem = norm(conv(x))
        x = pool(jnp.where(stem >= 0, stem, 0.01 * stem)).ravel()
        hidden = []
        for layer in mlp.layers[:-1]:
            hidden.append(layer.weight @ x + layer.bias)
            x = jnp.maximum(hidden[-1], 0)
        return stem, *hidden

    @jax.jit
    def both(x):
        batched = jaxhash.encode(jax.vmap(eqx.filter_checkpoint(model)))(x)
        single = jax.vmap(jaxhash.encode(eqx.filter_jit(model), batch_axis=None))(x)
        return jax.vmap(by_hand)(x), batched, single

    pre_activations, code, single = both(IMAGES.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(code.unpack(), joined(*pre_activations))
    np.testing.assert_array_equal(code.words, single.words)
    assert [layer.name for layer in code.layers][1:] == ["eqx.nn.MLP/relu", "eqx.nn.MLP/relu_1"]


@pytest.mark.slow
def test_a_haiku_network():
    hk = pytest.importorskip("haiku")

    def model(x):
        x = hk.BatchApply(hk.nets.MLP([4, 5, 4]))(x.swapaxes(0, 1))  # time first, folded
        x, _ = hk.dynamic_unroll(hk.VanillaRNN(4), x, jnp.zeros((x.shape[1], 4)))
        return hk.remat(lambda x: jax.nn.relu(hk.LayerNorm(-1, True, True)(hk.Linear(3)(x))))(x)

    transformed = hk.without_apply_rng(hk.transform(model))
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(3), SEQUENCES))
    code = jax.jit(jaxhash.encode(transformed.apply))(params, SEQUENCES)
    hidden, x = [], SEQUENCES
    for i in range(2):
        hidden.append(x @ params[f"mlp/~/linear_{i}"]["w"] + params[f"mlp/~/linear_{i}"]["b"])
        x = np.maximum(hidden[-1], 0)
    x = x @ params["mlp/~/linear_2"]["w"] + params["mlp/~/linear_2"]["b"]
    h, times = np.zeros((3, 4), np.float32), []
    into, out = params["vanilla_rnn/linear"], params["vanilla_rnn/linear_1"]
    for t in range(5):
        times.append(x[:, t] @ into["w"] + into["b"] + h @ out["w"] + out["b"])
        h = np.maximum(times[-1], 0)
    times = np.stack(times, 1)
    last = np.maximum(times, 0) @ params["linear"]["w"] + params["linear"]["b"]
    last = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    last = last * params["layer_norm"]["scale"] + params["layer_norm"]["offset"]
    np.testing.assert_array_equal(code.unpack(), joined(*hidden, times, last))
    assert [layer.name for layer in code.layers][:3] == ["mlp/relu", "mlp/relu_1", "vanilla_rnn/relu"]


def test_the_models_of_the_sweeps():
    """The project's own models, whose code the sweep takes from the pre-activations they return."""
    from jaxhash.models.mlp import ModelConfig, build

    model = build(ModelConfig(depth=2), 12, 3)
    x = jnp.asarray(SEQUENCES.reshape(3, 20))
    variables = drawn(jax.eval_shape(model.init, jax.random.key(4), x))
    code, (_, pre_activations) = jax.jit(
        lambda x: (jaxhash.encode(lambda x: model.apply(variables, x)[0])(x), model.apply(variables, x))
    )(x)
    np.testing.assert_array_equal(code.unpack(), joined(*pre_activations))
