"""`jaxhash.encode` as a transformation: what it composes with, what it costs, and what it refuses."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import jaxhash
from jaxhash.codes import drop_constant, varying

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(4, 8)).astype(np.float32)
SEQUENCES = RANDOM.normal(size=(4, 5, 8)).astype(np.float32)
W, V = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((8, 8), (8, 6)))
STACK = RANDOM.normal(size=(3, 8, 8)).astype(np.float32) / 2


def mlp(x):
    return jax.nn.relu(jax.nn.relu(x @ W) @ V)


def mlp_bits(x):
    first = x @ W
    return np.concatenate([first > 0, np.maximum(first, 0) @ V > 0], -1)


def mlp_of_one(x):
    return jax.nn.relu(V.T @ jax.nn.relu(W.T @ x))


def recurrent(x):
    def step(h, w):
        h = jax.nn.relu(h @ w - 0.1)
        return h, h.sum(-1)

    return jax.lax.scan(step, x, STACK)


def recurrent_bits(x):
    bits = []
    for w in STACK:
        before = x @ w - np.float32(0.1)
        x = np.maximum(before, 0)
        bits.append(before > 0)
    return np.stack(bits, 1)


@jax.custom_vjp
def with_vjp(x):
    return mlp(x)


with_vjp.defvjp(lambda x: (mlp(x), None), lambda _, g: (g @ np.ones((6, 8), np.float32),))


@jax.custom_jvp
def with_jvp(x):
    return mlp(x)


with_jvp.defjvp(lambda p, t: (mlp(*p), 5 * t[0] @ V))


FORMS = {
    "plain": mlp,
    "jit": jax.jit(mlp),
    "remat": jax.checkpoint(mlp),
    "custom_vjp": with_vjp,
    "custom_jvp": with_jvp,
    "vmap": jax.vmap(mlp_of_one),
    "all three": jax.vmap(jax.jit(jax.checkpoint(mlp_of_one))),
    "map": lambda x: jax.lax.map(mlp_of_one, x),
    "vmap along axis 1": lambda x: jax.vmap(mlp_of_one, in_axes=1, out_axes=1)(x.T),
    "pytree": lambda x: {"outputs": (mlp(x), None)},
}


@pytest.fixture(scope="module")
def forms():
    return jax.jit(lambda x: {name: jaxhash.encode(fn)(x) for name, fn in FORMS.items()})(X)


@pytest.mark.parametrize("name", FORMS)
def test_calls_and_maps_are_looked_into(forms, name):
    code = forms[name]
    np.testing.assert_array_equal(code.unpack(), mlp_bits(X))
    assert [(layer.start, layer.size, layer.shape) for layer in code.layers] == [(0, 8, (8,)), (8, 6, (6,))]
    assert all(layer.source.startswith("test_transform.py:") for layer in code.layers)


def test_the_code_of_an_example_is_a_code_of_the_batch():
    one = jaxhash.encode(mlp_of_one, batch_axis=None)
    assert jax.eval_shape(lambda x: one(x).words, X[0]).shape == (1,)
    mapped, batched, columns = jax.jit(
        lambda x: (
            jax.vmap(one)(x),
            jaxhash.encode(jax.vmap(mlp_of_one))(x),
            jaxhash.encode(lambda x: mlp(x.T), batch_axis=1)(x.T),
        )
    )(X)
    np.testing.assert_array_equal(mapped.words, batched.words)
    assert (mapped.num_bits, mapped.layers) == (batched.num_bits, batched.layers)
    np.testing.assert_array_equal(columns.words, batched.words)


def test_units_of_every_iteration_of_a_scan_are_stacked():
    output, code = jax.jit(jaxhash.encode_with_output(recurrent))(X)
    np.testing.assert_array_equal(code.unpack().reshape(4, 3, 8), recurrent_bits(X))
    assert code.layers[0].shape == (3, 8)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), output, recurrent(X))


def test_units_of_the_branch_not_taken_are_0():
    def one(x, which):
        branches = [lambda x: jnp.maximum(x @ W, 0).sum(), lambda x: x.sum(), lambda x: jax.nn.relu(x - 1).sum()]
        return jax.lax.switch(which, branches, x)

    encode = jax.jit(jax.vmap(jaxhash.encode(one, batch_axis=None, argnums=0)))
    bits = encode(X, jnp.arange(4)).unpack()
    nothing = np.zeros((4, 8), bool)
    nothing[2:] = X[2:] > 1  # an index beyond the branches takes the last
    np.testing.assert_array_equal(bits[:, 8:], nothing)
    np.testing.assert_array_equal(bits[:, :8], np.where(np.arange(4)[:, None] == 0, X @ W > 0, False))


def test_units_of_the_last_iteration_of_a_while_loop_are_kept():
    def one(x, steps):
        return jax.lax.while_loop(lambda c: c[0] < steps, lambda c: (c[0] + 1, jax.nn.relu(c[1] @ W) - 0.5), (0, x))

    bits = jax.jit(jax.vmap(jaxhash.encode(one, batch_axis=None, argnums=0)))(X, jnp.arange(4)).unpack()
    expected = np.zeros((4, 8), bool)
    for n, x in enumerate(X):
        for _ in range(n):
            expected[n] = x @ W > 0
            x = np.maximum(x @ W, 0) - np.float32(0.5)
    np.testing.assert_array_equal(bits, expected)


def test_positions_folded_into_the_examples_are_unfolded():
    def folded(x):
        h = jax.nn.relu(x.reshape(-1, 8) @ W)
        return jax.nn.relu(h @ V).reshape(*x.shape[:2], 6)

    expected = np.concatenate([b.reshape(4, -1) for b in np.split(mlp_bits(SEQUENCES), [8], -1)], 1)
    time_first = jaxhash.encode(lambda x: folded(x.swapaxes(0, 1)))
    for code in jax.jit(lambda x: (jaxhash.encode(folded)(x), time_first(x)))(SEQUENCES):
        np.testing.assert_array_equal(code.unpack(), expected)


def test_a_state_has_its_examples_on_another_axis_than_its_inputs():
    def unrolled(w, state, inputs):
        cell = lambda h, x: (jnp.tanh(h @ w + x), jax.nn.relu(h @ w + x))  # noqa: E731
        return jax.lax.scan(cell, state, inputs)[1]

    times = SEQUENCES.swapaxes(0, 1)
    code = jaxhash.encode(unrolled, argnums=(1, 2), batch_axis=(0, 1))(W, X, times)
    h, bits = X, []
    for x in times:
        bits.append(h @ W + x > 0)
        h = np.tanh(h @ W + x)
    np.testing.assert_array_equal(code.unpack(), np.concatenate(bits, 1))
    with pytest.raises(ValueError, match=r"cannot be traced for 8 examples.*\(a state\), name it in argnums"):
        jaxhash.encode(unrolled, batch_axis=1)(W, X, times)
    with pytest.raises(ValueError, match=r"batch_axis=\(1,\) gives 1 axes for argnums=\(1, 2\)"):
        jaxhash.encode(unrolled, argnums=(1, 2), batch_axis=(1,))(W, X, times)


def test_parameters_are_the_arguments_before_the_last():
    def apply(params, x, scale=1.0):
        return jax.nn.relu(x @ jax.nn.relu(params["w"]) * scale)

    code = jaxhash.encode(apply)({"w": W}, X, scale=-1.0)
    np.testing.assert_array_equal(code.unpack(), -(X @ np.maximum(W, 0)) > 0)
    swapped = jaxhash.encode(lambda x, w, flag: apply(w, x) if flag else x, argnums=0)(X, {"w": W}, True)
    np.testing.assert_array_equal(swapped.unpack(), X @ np.maximum(W, 0) > 0)


def flops(fn, *args):
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


def test_there_is_no_second_forward_pass():
    x = jnp.ones((64, 256))
    weights = [jnp.full((256, 256), 0.1)] * 3

    def deep(x):
        for w in weights:
            x = jax.nn.relu(x @ w)
        return x

    once = flops(deep, x)
    assert once >= 3 * 2 * 64 * 256 * 256
    assert flops(jaxhash.encode(deep), x) < 1.03 * once
    assert flops(lambda x: (deep(x), jaxhash.encode(deep)(x)), x) < 1.03 * once
    assert flops(jaxhash.encode_with_output(jax.checkpoint(deep)), x) < 1.03 * once
    # What comes after the last unit is not computed for a code.
    assert flops(jaxhash.encode(lambda x: deep(x) @ weights[0]), x) < 1.03 * once


def test_a_scan_is_evaluated_once_with_its_output():
    x = jnp.ones((64, 256))

    def loop(x):
        return jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, jnp.full((3, 256, 256), 0.1))[0]

    assert flops(jaxhash.encode_with_output(loop), x) < 1.05 * flops(loop, x)


def test_compiled_once_and_traced_no_more():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return mlp(x)

    encode = jax.jit(jaxhash.encode(counted))
    for shift in range(3):
        encode(X + shift)
    assert calls == [(4, 8), (8, 8)]  # once for the code, once for where the examples are


def test_derivatives_of_the_output_are_those_of_the_function():
    for fn in (with_jvp, with_vjp, lambda x: recurrent(x)[0]):
        with_code = jax.grad(lambda x, fn=fn: jaxhash.encode_with_output(fn)(x)[0].sum())
        ours, plain = jax.jit(lambda x, fn=fn, ours=with_code: (ours(x), jax.grad(lambda x: fn(x).sum())(x)))(X)
        np.testing.assert_allclose(ours, plain, rtol=1e-5)


def test_layers_are_chosen_by_name():
    def named(x):
        for i in range(3):
            with jax.named_scope(f"block_{i}"):
                x = jax.nn.relu(x @ W)
        return jax.nn.relu(x)

    encode = partial(jaxhash.encode, named)
    whole = jax.jit(encode())(X)
    line = whole.layers[3].source
    assert [layer.name for layer in whole.layers] == [*(f"block_{i}/relu" for i in range(3)), f"{line}/relu"]
    for layers in ("block_1*", ["*_0/*", "block_2/relu"]):
        some = jax.jit(encode(layers=layers))(X)
        starts = [layer.start for layer in whole.layers if layer.name in {chosen.name for chosen in some.layers}]
        expected = np.concatenate([whole.unpack()[:, start : start + 8] for start in starts], 1)
        np.testing.assert_array_equal(some.unpack(), expected)
    with pytest.raises(ValueError, match=r"layers='head\*' fits none of the layers, which are block_0/relu, "):
        encode(layers="head*")(X)


def test_bits_that_never_change_are_dropped_and_the_layers_follow():
    shifts = np.where(np.arange(8) < 3, 99, 0).astype(np.float32)
    code = jax.jit(jaxhash.encode(lambda x: (jax.nn.relu(x), jax.nn.relu(x + shifts))))(X)
    kept = drop_constant(code, varying(code))
    vary = [((X + shift > 0).any(0) & (X + shift <= 0).any(0)) for shift in (0, shifts)]
    sizes = [int(v.sum()) for v in vary]
    assert sizes[0] > sizes[1] > 0
    assert [(layer.start, layer.size) for layer in kept.layers] == [(0, sizes[0]), (sizes[0], sizes[1])]
    np.testing.assert_array_equal(kept.unpack(), code.unpack()[:, np.concatenate(vary)])


def test_the_code_is_a_pytree_that_keeps_its_layers():
    code = jaxhash.encode(mlp)(X)
    leaves, tree = jax.tree.flatten(code)
    assert len(leaves) == 1
    assert jax.tree.unflatten(tree, leaves).layers == code.layers
    assert jax.jit(lambda code: code)(code).layers == code.layers
    assert {tree: 1}[jax.tree.structure(jaxhash.encode(mlp)(X))] == 1


def test_an_unknown_call_is_evaluated_and_said_to_be_unknown():
    def solve(x):
        return jax.lax.custom_linear_solve(lambda v: jax.nn.relu(v), x, lambda _, b: b)

    assert jaxhash.encode(solve)(X).skipped[0].name.endswith("custom_linear_solve")
    seen = []
    fn = lambda x: (io_callback(lambda v: seen.append(v.shape), None, x), jax.nn.relu(x))[1]  # noqa: E731
    _, code = jaxhash.encode_with_output(fn)(X)
    jax.effects_barrier()
    assert seen == [(4, 8)]
    np.testing.assert_array_equal(code.unpack(), X > 0)


@pytest.mark.parametrize(
    ("fn", "problem"),
    [
        (lambda x: jax.nn.relu(x.mean(0)), r"shape \(8,\) for 4 examples, and no axis that numbers them"),
        (lambda x: jax.nn.relu(x @ x.T), r"shape \(4, 4\) for 4 examples and \(8, 8\) for 8: its axes mix examples"),
        (lambda x: jax.nn.relu(x.T.ravel()[::-1]), "its axis 0 numbers not only examples"),
        (lambda x: jax.nn.relu(x + RANDOM.normal(size=(4, 1))), "cannot be traced for 8 examples"),
    ],
)
def test_what_belongs_to_no_one_example_is_refused(fn, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        jaxhash.encode(fn)(X)
    assert "jax.vmap(encode(fn, batch_axis=None))" in str(caught.value)


def test_no_examples_have_no_codes():
    code = jaxhash.encode(jax.vmap(mlp_of_one))(X[:0])
    assert code.words.shape == (0, 1)
    assert code.num_bits == 14


def test_arguments_without_examples_are_refused():
    with pytest.raises(ValueError, match="argnums=-1: no array there"):
        jaxhash.encode(lambda x, flag: mlp(x))(X, True)
    with pytest.raises(ValueError, match="argnums=2 names an argument that is not there"):
        jaxhash.encode(mlp, argnums=2)(X)
    with pytest.raises(ValueError, match="each needs the same number of examples"):
        jaxhash.encode(lambda x, y: mlp(x), argnums=(0, 1))(X, X[:2])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jaxhash
x, w, v = (np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate([(8, 8), (8, 8), (8, 6)]))
first = x @ w
expected = np.concatenate([first > 0, np.maximum(first, 0) @ v > 0], 1)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        put = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, P(*spec)))
        xs, ws, vs = put(x, "data", None), put(w, None, "model"), put(v, "model", None)
        def shard(x, w, v):
            return jax.nn.relu(jax.lax.psum(jax.nn.relu(x @ w) @ v, "model"))
        split = jax.shard_map(shard, in_specs=(P("data"), P(None, "model"), P("model")), out_specs=P("data"))
        plain = lambda x: jax.nn.relu(jax.nn.relu(x @ w) @ v)
        two = put(x, ("model", "data"), None)
        both = jax.shard_map(plain, in_specs=P(("model", "data")), out_specs=P(("model", "data")))
        cases = [(lambda x: split(x, ws, vs), xs), (plain, xs), (both, two)]
        for fn, examples in cases[: 3 if kind == AxisType.Auto else 1]:
            code = jax.jit(jaxhash.encode(fn))(examples)
            np.testing.assert_array_equal(code.unpack(), expected)
            assert not code.words.sharding.is_fully_replicated, (kind, code.words.sharding)
print("same")
"""


@pytest.mark.slow
def test_sharded_examples_and_shard_map_give_the_same_codes():
    command = [sys.executable, "-c", SHARDED]
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(command, env={"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    assert done.stdout == "same\n", done.stderr[-3000:]
