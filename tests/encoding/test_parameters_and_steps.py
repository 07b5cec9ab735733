"""Corners at parameters are units, and what jumps or sorts stands in `skipped`: nothing of both vanishes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhash

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 8)).astype(np.float32)
W = RANDOM.normal(size=(8, 16)).astype(np.float32)
THETA = np.linspace(-1, 1, 16, dtype=np.float32)
Z = np.asarray(jnp.asarray(X) @ W)
Z_ON, HIGH = Z > THETA, np.abs(THETA)

UNITS = {
    "max": (lambda t, x: jnp.maximum(x @ W, t), [Z_ON]),
    "max, the other way round": (lambda t, x: jnp.maximum(t, x @ W), [Z_ON]),
    "max with an array closed over": (lambda t, x: jnp.maximum(x @ W, THETA), [Z_ON]),
    "max with a scalar": (lambda t, x: jnp.maximum(x @ W, t[3]), [THETA[3] < Z]),
    "min": (lambda t, x: jnp.minimum(x @ W, t), [Z_ON]),
    "both": (lambda t, x: jnp.maximum(x @ W, t) - jnp.minimum(x @ W, t), [Z_ON]),
    "two parameters": (lambda t, x: jnp.maximum(x @ W, t) * jnp.maximum(x @ W, t[::-1]), [Z_ON, THETA[::-1] < Z]),
    "where": (lambda t, x: jnp.where(x @ W > t, x @ W, t), [Z_ON]),
    "where, less": (lambda t, x: jnp.where(x @ W <= t, t, x @ W), [Z_ON]),
    "where, parameter first": (lambda t, x: jnp.where(t < x @ W, x @ W, t), [Z_ON]),
    "where of the difference": (lambda t, x: jnp.where(x @ W > t, x @ W - t, 0.1 * (x @ W - t)), [Z_ON]),
    "where of one example": (lambda t, x: jax.vmap(lambda r: jnp.where(r @ W > t, r @ W, t))(x), [Z_ON]),
    "where and max": (lambda t, x: jnp.where(x @ W > t, x @ W, t) * jnp.maximum(x @ W, t), [Z_ON]),
    "abs": (lambda t, x: jnp.abs(x @ W - t), [Z_ON]),
    "relu": (lambda t, x: jax.nn.relu(x @ W - t), [Z_ON]),
    "clip": (lambda t, x: jnp.clip(x @ W, -jnp.abs(t), jnp.abs(t)), [-HIGH < Z, HIGH < Z]),
    "clip from 0": (lambda t, x: jnp.clip(x @ W, 0, jnp.abs(t)), [Z > 0, HIGH < Z]),
    "in a scan": (
        lambda t, x: jax.lax.scan(lambda h, u: (jnp.maximum(h, u), None), x @ W, jnp.stack([t, t + 1]))[0],
        [np.stack([Z_ON, np.maximum(Z, THETA) > THETA + 1], 1)],
    ),
    "in a mapped example": (lambda t, x: jax.lax.map(lambda r: jnp.maximum(r @ W, t), x), [Z_ON]),
    "beside a smooth function": (lambda t, x: jax.nn.softplus(x @ W) * jax.nn.relu(x @ W), [Z > 0]),
    "beside a smooth function, by hand": (lambda t, x: jax.nn.softplus(x @ W) * jnp.maximum(x @ W, 0.0), [Z > 0]),
}


@pytest.fixture(scope="module")
def codes():
    every = {**{name: fn for name, (fn, _) in UNITS.items()}, **{name: fn for name, (fn, _) in SKIPPED.items()}}
    return jax.jit(lambda t, x: {name: jaxhash.encode(fn)(t, x) for name, fn in every.items()})(THETA, X)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_at_a_parameter_is_on_where_its_input_is_greater(codes, name):
    bits = np.concatenate([layer.reshape(6, -1) for layer in UNITS[name][1]], 1)
    np.testing.assert_array_equal(codes[name].unpack(), bits)
    assert [reason for _, reason in codes[name].skipped if "smooth" not in reason] == []


GUARD, STEP, ORDER = "a guard: it only keeps", "a step", "an order statistic"
COMPARISON, WINNER = "a comparison that is part of no unit", "winners=True takes"
OTHER, JUMP = "it selects between other values", "it selects at a parameter between values that are not known to meet"
SKIPPED = {
    "a jump at a parameter": (lambda t, x: jnp.where(x @ W > t, x @ W, 0), [JUMP]),
    "another parameter": (lambda t, x: jnp.where(x @ W > t, x @ W, t[::-1]), [JUMP]),
    "the parameter along another axis": (
        lambda t, x: jnp.where(x.reshape(-1, 2, 2) > t[:2, None], x.reshape(-1, 2, 2), t[:2]),
        [JUMP],
    ),
    "another number": (lambda t, x: jnp.where(x @ W > 0.5, x @ W, 0), ["a corner at 0.5"]),
    "another number, filled": (lambda t, x: jnp.maximum(x @ W, jnp.full(16, 0.5)), ["a corner at 0.5"]),
    "clamped": (lambda t, x: jax.lax.clamp(t[0], x @ W, t[1]), ["clipped to bounds that are no numbers"]),
    "guarded by a parameter": (lambda t, x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1), t[15])[:, None], [GUARD]),
    "guarded by a clip": (lambda t, x: 1 / jnp.clip(jnp.square(x).sum(-1), t[14], t[15]), [GUARD] * 2),
    "maximum with minus infinity": (lambda t, x: jnp.maximum(x @ W, -jnp.inf), []),
    "minimum as a mask": (lambda t, x: jnp.minimum(x @ W, jnp.where(t > 0, jnp.inf, -jnp.inf)), []),
    "attention": (lambda t, x: jax.nn.softmax(jnp.where(t > 0, x @ W, -jnp.inf)), []),
    "softmax by hand": (lambda t, x: jnp.exp((x - jax.lax.stop_gradient(x.max(-1, keepdims=True))) / t[1]), []),
    "selection by a parameter": (lambda t, x: jax.lax.cond(t[0] > 0, lambda: x @ W, lambda: -2 * x @ W), []),
    "no division by 0": (lambda t, x: jnp.where(x == 0, 0.0, 1 / jnp.where(x == 0, 1.0, x)), []),
    "no NaN": (lambda t, x: jnp.nan_to_num(x @ W), []),
    "dropout": (lambda t, x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, (16,)), x @ W, 0), []),
    "sums so far": (lambda t, x: jnp.cumsum(x @ W, -1), []),
    "floor": (lambda t, x: jnp.floor(x @ W), [STEP]),
    "ceil": (lambda t, x: jnp.ceil(x @ W), [STEP]),
    "round": (lambda t, x: x @ W + jax.lax.stop_gradient(jnp.round(x @ W) - x @ W), [STEP]),
    "remainder": (lambda t, x: jax.lax.rem(x @ W, jnp.ones((6, 16))), [STEP]),
    "converted to integers": (lambda t, x: (x @ W).astype(jnp.int32) * 0.5, [STEP]),
    "sign bit": (lambda t, x: jnp.signbit(x @ W), [STEP]),
    "argmax": (lambda t, x: jax.nn.one_hot(jnp.argmax(x @ W, -1), 16), [STEP]),
    "argmin": (lambda t, x: jnp.argmin(x @ W, -1), [STEP]),
    "number": (lambda t, x: (x @ W > 0).astype(jnp.float32), [COMPARISON]),
    "number at a parameter": (lambda t, x: (x @ W > t) * 2.0, [COMPARISON]),
    "truth": (lambda t, x: x @ W > 0, [COMPARISON]),
    "any": (lambda t, x: (x @ W > 0).any(-1), [COMPARISON]),
    "two conditions": (lambda t, x: jnp.where((x @ W > -1) & (x @ W < 1), x @ W, 0), [COMPARISON] * 2),
    "integers chosen": (lambda t, x: jnp.where(x @ W > 0, 1, 2), [COMPARISON]),
    "two values": (lambda t, x: jnp.where(x > x[:, ::-1], x, 0), [COMPARISON]),
    "winner takes all": (lambda t, x: jnp.where(x == x.max(-1, keepdims=True), x, 0), [WINNER, COMPARISON]),
    "values chosen": (lambda t, x: jnp.where(x @ W > 0, 1.0, -1.0), [OTHER]),
    "minimum": (lambda t, x: jnp.minimum(x, x[:, ::-1]).min(-1), [WINNER] * 2),
    "scaled to [0, 1]": (lambda t, x: (x - x.min()) / (x.max() - x.min()), [WINNER] * 2),
    "sort": (lambda t, x: jnp.sort(x @ W, -1)[:, :3], [ORDER]),
    "median": (lambda t, x: jnp.median(x @ W, -1), [ORDER]),
    "top_k": (lambda t, x: jax.lax.top_k(x @ W, 3)[0], [ORDER]),
    "cummax": (lambda t, x: jax.lax.cummax(x @ W, axis=1), [ORDER]),
    "cummin": (lambda t, x: jax.lax.cummin(x @ W, axis=1), [ORDER]),
    "sorted by something else": (lambda t, x: jax.lax.sort((jnp.broadcast_to(THETA, (6, 16)), x @ W), num_keys=1), []),
    "segment_max": (lambda t, x: jax.ops.segment_max((x @ W).T, jnp.arange(16) // 4, num_segments=4), [ORDER]),
    "min pooling": (
        lambda t, x: jax.lax.reduce_window(x, jnp.inf, jax.lax.min, (1, 2), (1, 2), "VALID"),
        [ORDER],
    ),
    "a reduction of its own": (
        lambda t, x: jax.lax.reduce(x, -jnp.inf, lambda a, b: jnp.maximum(a, b) + 0.0, (1,)),
        ["its inside, with units or steps"],
    ),
    "cond": (
        lambda t, x: jax.lax.map(lambda r: jax.lax.cond(r.sum() > 0, lambda: r, lambda: -2 * r), x),
        [COMPARISON],
    ),
    "mapped cond": (
        lambda t, x: jax.vmap(lambda r: jax.lax.cond(r.sum() > 0, lambda: r @ W, lambda: -2 * (r @ W)))(x),
        [COMPARISON],
    ),
    "switch": (
        lambda t, x: jax.lax.map(lambda r: jax.lax.switch(jnp.argmax(r) // 4, [lambda: r, lambda: -2 * r]), x),
        [STEP],
    ),
    "while": (
        lambda t, x: jax.lax.while_loop(lambda c: jax.nn.relu(c - 1).sum() > 1, lambda c: c / 2, x),
        [COMPARISON, "in the test of a while loop"],
    ),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_jumps_or_sorts_gives_no_bits_and_says_why(codes, name):
    code, begins = codes[name], SKIPPED[name][1]
    assert code.num_bits == 0
    assert len(code.skipped) == len(begins)
    for (_, reason), begin in zip(sorted(code.skipped, key=lambda one: one.reason), sorted(begins), strict=True):
        assert reason.startswith(begin)


def test_the_smallest_of_several_values_is_a_bit_on_request():
    code = jax.jit(jaxhash.encode(lambda x: (jnp.minimum(x[:, :4], x[:, 4:]), x.min(-1)), winners=True))(X)
    smallest = np.arange(8) == X.argmin(1)[:, None]
    np.testing.assert_array_equal(code.unpack(), np.concatenate([X[:, :4] > X[:, 4:], smallest], 1))
