"""Which operations are units, and each one's bits against NumPy."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxhash
from jaxhash.encoding.unit_rules import Match

X = np.random.default_rng(0).normal(0, 4, (6, 10)).astype(np.float32)
X[0, :7] = [0.0, -0.0, 6.0, -1.0, 1.0, -3.0, 3.0]  # the corners
EYE = np.eye(10, dtype=np.float32)
PARAMETER = np.random.default_rng(1).random(10).astype(np.float32)


@jax.custom_jvp
def my_relu(x):
    return jnp.maximum(x, 0)


my_relu.defjvp(lambda p, t: (my_relu(*p), t[0] * jnp.where(p[0] > 0, 1.0, 0.0)))

ONE_BIT = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum of a constant": lambda x: jnp.maximum(0.0, x),
    "maximum of a constant array": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    "squared": lambda x: jnp.square(jnp.maximum(x, 0)),
    "where, greater": lambda x: jnp.where(x > 0, x, 0),
    "where, less": lambda x: jnp.where(x < 0, 0.1 * x, x),
    "where, constant first, at most": lambda x: jnp.where(jnp.less_equal(0, x), x, 0),
    "where, constant first, less": lambda x: jnp.where(jnp.greater(0, x), 0.0, x),
    "where, safe": lambda x: jnp.where(x > 0, x, jnp.exp(jnp.where(x > 0, 0, x)) - 1),
    "select": lambda x: jax.lax.select(x > 0, x, jnp.zeros_like(x)),
    "parametric": lambda x: jnp.where(x >= 0, x, PARAMETER * x),
    "mask times x": lambda x: (x > 0).astype(x.dtype) * x,
    "abs": jnp.abs,
    "clipped": lambda x: jnp.clip(x, 0, 6),
    "clamped": lambda x: jax.lax.clamp(0.0, x, 6.0),
    "squared by a power": lambda x: jnp.maximum(x, 0) ** 2.0,
    "divided by one more than itself": lambda x: jnp.maximum(x, 0) / (1 + jnp.maximum(x, 0)),
    "logarithm of one more": lambda x: jnp.log(1 + jnp.maximum(x, 0)),
    "the same product three times": lambda x: jnp.where(x @ EYE > 0, x @ EYE, 0.01 * (x @ EYE)),
    "leaky maximum": lambda x: jnp.maximum(x, 0.1 * x),
    "leaky maximum, the other way round": lambda x: jnp.maximum(x / 10, x),
    "leaky maximum by a parameter": lambda x: jnp.maximum(x, PARAMETER * x),
    "maximum with the negative": lambda x: jnp.maximum(x, -x),
    "by hand": my_relu,
    "half precision": lambda x: jax.nn.relu(x.astype(jnp.bfloat16)),
}


def coded(fns, **options):
    """The codes of several functions, compiled as one."""
    return jax.jit(lambda x: {name: jaxhash.encode(fn, **options)(x) for name, fn in fns.items()})(X)


@pytest.fixture(scope="module")
def one_bit():
    return coded(ONE_BIT)


@pytest.mark.parametrize("name", ONE_BIT)
def test_a_unit_is_on_where_its_input_is_positive(one_bit, name):
    code = one_bit[name]
    np.testing.assert_array_equal(code.unpack(), X > 0)
    assert code.num_bits == 10
    assert [layer.shape for layer in code.layers] == [(10,)]
    assert not code.skipped


def test_units_are_called_by_the_activation_they_belong_to(one_bit):
    for name in ("relu", "relu6", "leaky_relu", "elu", "selu", "celu"):
        (layer,) = one_bit[name].layers
        assert layer.name.endswith(f"/{name}")


TWO_BITS = {
    "hard_tanh": (jax.nn.hard_tanh, (-1, 1)),
    "clip hard_tanh": (lambda x: jnp.clip(x, -1, 1), (-1, 1)),
    "hard_sigmoid": (jax.nn.hard_sigmoid, (-3, 3)),
    "relu6 hard_sigmoid": (lambda x: jax.nn.relu6(x + 3) / 6, (-3, 3)),
    "hard_silu": (jax.nn.hard_swish, (-3, 3)),
}


def test_a_unit_of_three_pieces_has_a_bit_a_corner():
    codes = coded({name: fn for name, (fn, _) in TWO_BITS.items()})
    for name, (_, corners) in TWO_BITS.items():
        bits = codes[name].unpack().reshape(6, 10, 2)
        np.testing.assert_array_equal(bits, np.stack([corner < X for corner in corners], -1), name)
        assert codes[name].layers[0].name.endswith("/" + name.split()[-1])


def test_pieces_of_one_function_are_one_unit_and_the_negated_input_is_another():
    fns = {
        "two": lambda x: jax.nn.relu(x) + jax.nn.relu(-x),
        "one": lambda x: jnp.maximum(x, 0) + 0.2 * jnp.minimum(x, 0),
    }
    codes = coded(fns)
    np.testing.assert_array_equal(codes["two"].unpack(), np.concatenate([X > 0, X < 0], 1))
    np.testing.assert_array_equal(codes["one"].unpack(), X > 0)


GUARD, VARIANCE, NORM = "a guard: it only keeps", "a guard: it clips the variance", "abs in a norm or a test"
NO_UNIT = {
    "softmax": (jax.nn.softmax, []),
    "log_softmax": (jax.nn.log_softmax, []),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, -1), [GUARD]),
    "variance": (
        lambda x: x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).mean(-1) - jnp.square(x.mean(-1)), 0))[:, None],
        [VARIANCE],
    ),
    "variance that is given back": (
        lambda x: jnp.maximum(jnp.square(x).mean(-1) - jnp.square(x.mean(-1)), 0),
        [VARIANCE],
    ),
    "guarded root": (lambda x: jnp.sqrt(jnp.maximum(x.sum(-1), 0) + 1e-6), [GUARD]),
    "guarded power": (lambda x: jnp.maximum(x, 0) ** 0.5, [GUARD]),
    "guarded logarithm": (lambda x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), 0), [GUARD, "it selects"]),
    "guarded division": (lambda x: 1 / (1e-6 + jnp.maximum(x, 0)), [GUARD]),
    "guarded from afar": (lambda x: 1 / jnp.maximum(x, 1e-3), ["a corner at 0.001"]),
    "norm": (lambda x: jnp.abs(x).sum(-1), [NORM]),
    "attention mask": (lambda x: jax.nn.softmax(jnp.where(jnp.arange(10) < 7, x, -jnp.inf)), []),
    "mask of the input": (lambda x: jnp.where((x > 0)[:, :1], x, 0), ["a comparison that is part of no unit"]),
    "mask by another input": (lambda x: jnp.where(x > 0, x[:, ::-1], 0), ["it selects"]),
    "other constant": (lambda x: jnp.maximum(x, 0.5) + jnp.where(x > 2, x, 0), ["a corner at 0.5", "a corner at 2"]),
    "minus infinity": (lambda x: jnp.maximum(x, -jnp.inf), []),
    "integers": (lambda x: jnp.maximum(jnp.argsort(x) - 3, 0), ["an order statistic"]),
    "converted to integers": (lambda x: jnp.maximum(x.astype(jnp.int32), 0), ["a step"]),
    "parameters": (lambda x: x * jax.nn.relu(PARAMETER - 0.5), []),
    "unused": (lambda x: (jax.nn.relu(x), x)[1], []),
    "polynomial": (lambda x: x**3 - x * x, []),
}


@pytest.fixture(scope="module")
def no_unit():
    return coded({name: fn for name, (fn, _) in NO_UNIT.items()})


@pytest.mark.parametrize("name", NO_UNIT)
def test_what_only_looks_like_a_unit_has_no_bits_and_says_why(no_unit, name):
    code = no_unit[name]
    assert code.num_bits == 0
    assert code.words.shape == (6, 0)
    assert code.layers == ()
    for (_, reason), begins in zip(code.skipped, NO_UNIT[name][1], strict=True):
        assert reason.startswith(begins)


def test_equal_expressions_are_one_unit_and_different_ones_are_not():
    def twice(x):
        return jax.nn.relu(x @ EYE).sum() + jax.nn.relu(x @ EYE) + jax.nn.relu(x @ (2 * EYE))

    code = jaxhash.encode(twice)(X)
    assert [layer.shape for layer in code.layers] == [(10,), (10,)]


def test_a_rule_of_the_users_own_comes_first():
    def hinge(op):
        if op.primitive == "max" and op.inputs[1].constant == 0.5:
            return Match("hinge", (op.inputs[0],), score=lambda x: x - 0.5, corners=(0.5,))
        return None

    def fn(x):
        return jnp.maximum(x, 0.5) + jax.nn.relu(x)

    assert jaxhash.encode(fn)(X).num_bits == 10
    for code in (jaxhash.encode(fn, rules=[hinge])(X), jaxhash.encode_with_output(fn, rules=[hinge])(X)[1]):
        assert [layer.name.split("/")[-1] for layer in code.layers] == ["hinge", "relu"]
        np.testing.assert_array_equal(code.unpack(), np.concatenate([X > 0.5, X > 0], 1))
        assert not code.skipped
    inside = jaxhash.encode(lambda x: jax.lax.map(fn, x), rules=[hinge])(X)
    np.testing.assert_array_equal(inside.unpack(), np.concatenate([X > 0.5, X > 0], 1))


SMOOTH = {
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "handwritten gelu": lambda x: 0.5 * x * (1 + jax.lax.erf(x / 2**0.5)),
    "handwritten silu": lambda x: x * jax.lax.logistic(1.7 * x),
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid": jax.nn.log_sigmoid,
    "soft_sign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
    "squareplus": jax.nn.squareplus,
}


@pytest.fixture(scope="module")
def smooth():
    return coded(SMOOTH), coded(SMOOTH, by="sign")


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_activation_is_skipped_unless_its_sign_is_asked_for(smooth, name):
    skipped, signs = smooth
    code = skipped[name]
    assert code.num_bits == 0
    ((place, reason),) = code.skipped
    assert place.endswith("/" + name.split()[-1])
    assert "smooth" in reason
    code = signs[name]
    np.testing.assert_array_equal(code.unpack(), X > 0)
    assert not code.skipped


def test_a_clip_to_other_bounds_is_not_guessed():
    for by in ("units", "sign"):
        code = jaxhash.encode(lambda x: jnp.clip(x, 0, 1), by=by)(X)
        assert code.num_bits == 0
        assert [reason for _, reason in code.skipped] == ["clipped to [0, 1]: no rule says what its bit is"]


def test_winners_of_maxout_are_bits_on_request():
    def fn(x):
        return jnp.maximum(x[:, :5], x[:, 5:]).reshape(6, 5, 1).max(1), x.max(-1)

    assert jaxhash.encode(fn)(X).num_bits == 0
    assert len(jaxhash.encode(fn)(X).skipped) == 3
    code = jax.jit(jaxhash.encode(lambda x: (jnp.maximum(x[:, :5], x[:, 5:]), x.max(-1)), winners=True))(X)
    largest = np.arange(10) == X.argmax(1)[:, None]
    np.testing.assert_array_equal(code.unpack(), np.concatenate([X[:, :5] > X[:, 5:], largest], 1))


def test_winners_of_max_pooling_are_bits_on_request():
    x = np.random.default_rng(2).integers(-2, 3, (3, 5, 4)).astype(np.float32)  # with ties: the first wins

    def pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 2), (1, 2, 2), ((0, 0), (1, 1), (0, 0)))

    code = jax.jit(jaxhash.encode(pool, winners=True))(x)
    expected = np.zeros((3, 3, 2, 6), bool)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    for n, i, j in np.ndindex(3, 3, 2):
        expected[n, i, j, padded[n, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2].ravel().argmax()] = True
    np.testing.assert_array_equal(code.unpack(), expected.reshape(3, -1))
    assert code.layers[0].shape == (3, 2, 6)


def test_an_unknown_by_is_refused():
    with pytest.raises(ValueError, match="by='relu' is not valid: by must be \"units\""):
        inspect.unwrap(jaxhash.encode)(jax.nn.relu, by="relu")  # without the type check of the tests
