"""Rules of ReLU-like units: which operations of a traced function are units, and what each one's bit is.

A unit is an elementwise function of one floating-point value x that depends on the examples, with a corner at a
constant that is written in the function. Its bit is 1 where its input x is greater than 0 (`codes.active`).

| in the traced function                        | such as                             | bits per element              |
| --------------------------------------------- | ----------------------------------- | ----------------------------- |
| max(x, 0), either way round; min(x, 0)        | relu, celu, jnp.maximum             | x > 0                         |
| max(x, 0) clipped to 6                        | relu6                               | x > 0                         |
| the same of v + 3                             | hard_sigmoid, hard_swish            | v + 3 > 0 and v + 3 > 6       |
| x clipped to [-1, 1], however it is written   | hard_tanh                           | x + 1 > 0 and x - 1 > 0       |
| select on x >, >=, <, <= 0 between functions  | leaky_relu, elu, selu, PReLU,       | x > 0, whichever way          |
| of x alone; (x > 0) as a number times such    | jnp.where(x > 0, x, 0)              | the comparison is written     |
| max(x, a x) or min(x, a x), a a number or a   | leaky ReLU, PReLU as a maximum      | x > 0                         |
| parameter                                     |                                     |                               |
| abs(x)                                        | jnp.abs                             | x > 0                         |
| max of several values, `winners` only         | max pooling, maxout, jnp.max        | one a value: it is the winner |
| (two values)                                  | jnp.maximum(a, b)                   | a > b                         |
| smooth, `by="sign"` only; else skipped        | tanh, sigmoid, silu, gelu, softplus | x > 0                         |

Not units: what does not depend on the examples (masks of positions, clipped parameters), comparisons of integers, and
the maximum inside softmax. What looks like a unit and is none stands in `Code.skipped` with the reason: a corner at
another constant than 0, clipping to other bounds, a selection between other values than functions of the one compared,
abs in a norm or a test, and guards: max(x, 0), a selection or abs that does nothing but keep a root, a logarithm or a
denominator in bounds, or that clips the variance E[x^2] - E[x]^2 (batch norm, layer norm). A shift by 0.1 or more
before the root, the logarithm or the division (log(1 + relu(x))) is no guard.
An explicit `jax.nn.relu` is always a unit. Several pieces with the same corner on the same x are one unit, and equal
expressions are one x, however often they are written.
"""

from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxhash.encoding.jaxpr_graph import RULED_CALLS, Op, Value, resolve

SMOOTH_CALLS = {
    "gelu", "log_sigmoid", "logaddexp", "mish", "sigmoid", "silu", "soft_sign", "softplus", "sparse_plus",
    "sparse_sigmoid", "squareplus", "swish",
}  # fmt: skip
SMOOTH = {"cos", "erf", "erfc", "logistic", "sin", "tanh"}
_ELEMENTWISE = {
    "abs", "add", "add_any", "clamp", "convert_element_type", "copy", "div", "exp", "exp2", "expm1", "ge", "gt",
    "integer_pow", "le", "log1p", "logistic", "lt", "max", "min", "mul", "neg", "pow", "select_n", "sign", "square",
    "stop_gradient", "sub", "tanh",
}  # fmt: skip
_POLYNOMIAL = {"add", "convert_element_type", "copy", "div", "integer_pow", "mul", "neg", "square", "sub"}
_ROOTS = {"cbrt", "log", "rsqrt", "sqrt"}
_SHAPING = {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "squeeze", "transpose"}
_SUMS = {"dot_general", "psum", "psum_invariant", "reduce_sum"}
_COMPARISONS = {"ge", "gt", "le", "lt"}
SMALLEST_SHIFT = 0.1
"""max(x, 0) + shift with at least this shift is far from 0 without the maximum's help."""


class Match(NamedTuple):
    """What a rule says of an operation: a unit, or why it is none."""

    kind: str
    """What its layer is called, such as `relu`."""
    values: tuple[Value, ...]
    """What its pre-activation is computed from: inputs of the operation, or values they were computed from."""
    score: Callable[..., Array]
    """The arrays of `values` -> the pre-activation, float, greater than 0 where the bit is 1."""
    corners: tuple[float, ...] = (0.0,)
    """Corners of the function of `values[0]`; pieces with the same corners on the same value are one unit."""
    asks: str = ""
    """Why it gives no bit, or none unless asked for; empty for a unit."""


Rule = Callable[[Op], Match | None]
"""What an operation is by one rule; None if the rule does not speak of it."""


def match(op: Op) -> Match | None:
    """What an operation with an input that depends on the examples is by the table above, if anything."""
    return next((found for rule in _RULES if (found := rule(op)) is not None), None)


def _no_unit(kind: str, reason: str) -> Match:
    """What looks like a unit and gives no bit."""
    return Match(kind, (), _plain, (), reason)


def _plain(x: Array) -> Array:
    return x


def _pieces(*corners: float) -> Callable[[Array], Array]:
    # x - corner > 0 exactly where x > corner: the difference of close floats is exact.
    return lambda x: jnp.stack([x - jnp.asarray(corner, x.dtype) for corner in corners], -1)


def _two_sided(kind: str, x: Value, low: float, high: float) -> Match:
    """x clipped to [low, high]."""
    if (low, high) == (-1, 1):
        return Match("hard_tanh", (x,), _pieces(-1.0, 1.0), (-1.0, 1.0))
    if (low, high) == (0, 6):
        source = resolve(x).producer
        if source is not None and source.primitive == "add" and any(v.constant == 3 for v in source.inputs):
            return Match("hard_sigmoid", (x,), _pieces(0.0, 6.0), (0.0, 6.0))
        return Match(kind, (x,), _plain)
    return _no_unit("clip", f"clipped to [{low:g}, {high:g}]: no rule says what its bit is")


def _max_min(op: Op) -> Match | None:
    """max or min of a value and a constant."""
    split = _against_constant(op)
    if op.primitive not in ("max", "min") or split is None or np.isinf(split[1]):
        return None
    x, corner = split
    other = "min" if op.primitive == "max" else "max"
    kind = "relu" if op.primitive == "max" else "min"
    if "relu" in op.calls:
        return Match("relu", (x,), _plain) if corner == 0 else None
    inner = resolve(x).producer
    if inner is not None and inner.primitive == other and _against_constant(inner) is not None:
        return None  # the second half of a clip, seen with the first
    clips = [user for user in _users(op.outputs[0]) if user.primitive == other and _against_constant(user)]
    if clips:
        bounds = sorted([corner, _against_constant(clips[0])[1]])  # type: ignore[index]
        return _two_sided("relu6", x, bounds[0], bounds[1]) if x.depends else None
    if corner != 0:
        return _no_unit(op.primitive, _OTHER_CORNER.format(corner))
    if _is_variance(x):
        return _no_unit(op.primitive, "a guard: it clips the variance E[x^2] - E[x]^2")
    return _no_unit(op.primitive, _GUARD) if _guards(op.outputs[0]) else Match(kind, (x,), _plain)


def _scaled_max(op: Op) -> Match | None:
    """max or min of a value and a multiple of it."""
    if op.primitive not in ("max", "min") or not all(value.depends and value.floating for value in op.inputs):
        return None
    bases = [_unscaled(value, by_parameters=True) for value in op.inputs]
    if bases[0] is not bases[1]:
        return None
    low, high = sorted(_factor(value, bases[0]) for value in op.inputs)
    if op.primitive == "max" and high == 1:
        return Match("leaky_relu" if low >= 0 else "abs", (bases[0],), _plain)
    return Match(op.primitive, (bases[0],), _plain)


def _clamp(op: Op) -> Match | None:
    if op.primitive != "clamp":
        return None
    low, x, high = op.inputs
    if low.constant is None or high.constant is None or not (x.depends and x.floating):
        return None
    return _two_sided("relu6", x, low.constant, high.constant)


def _select(op: Op) -> Match | None:
    """A selection on the sign of a value between functions of it."""
    if not _selects(op):
        return None
    compared = _comparison(op.inputs[0])
    if compared is None or not op.outputs[0].floating:
        return None
    x, corner = compared
    branches = op.inputs[1:]
    if corner in (1, -1):  # hard_tanh: where(x > 1, 1, where(x < -1, -1, x))
        for one, rest in (branches, branches[::-1]):
            inner = resolve(rest).producer
            if one.constant == corner and inner is not None and inner.primitive == "select_n":
                other = _comparison(inner.inputs[0])
                if other == (x, -corner) and any(resolve(v) is x for v in inner.inputs[1:]):
                    return Match("hard_tanh", (x,), _pieces(-1.0, 1.0), (-1.0, 1.0))
        if any(_comparison(user.inputs[0]) == (x, -corner) for user in _users(op.outputs[0]) if _selects(user)):
            return None  # the inner half of a hard_tanh, seen with the outer
    if not _is_function_of(x, *branches):
        return _no_unit("where", "it selects between other values than functions of the one compared")
    if corner != 0:
        return _no_unit("where", _OTHER_CORNER.format(corner))
    return _no_unit("where", _GUARD) if _guards(op.outputs[0]) else Match("where", (x,), _plain)


def _masked(op: Op) -> Match | None:
    """(x > 0) as a number, times a function of x."""
    if op.primitive != "mul":
        return None
    for mask, factor in (op.inputs, op.inputs[::-1]):
        producer = resolve(mask).producer
        if producer is None or producer.primitive != "convert_element_type":
            continue
        compared = _comparison(producer.inputs[0])
        if compared is not None and compared[1] == 0 and _is_function_of(compared[0], factor):
            return Match("where", (compared[0],), _plain)
    return None


def _abs(op: Op) -> Match | None:
    if op.primitive != "abs" or not op.inputs[0].floating:
        return None
    x = op.inputs[0]
    users = list(_users(op.outputs[0]))
    if users and all(user.primitive in {"reduce_sum", "reduce_max", *_COMPARISONS} for user in users):
        return _no_unit("abs", "abs in a norm or a test")
    if users and all(user.primitive == "add" and _divides(user.outputs[0], resolve(x)) for user in users):
        return smooth_call("soft_sign", [x])
    return _no_unit("abs", _GUARD) if _guards(op.outputs[0]) else Match("abs", (x,), _plain)


def _smooth(op: Op) -> Match | None:
    if op.primitive not in SMOOTH or not op.inputs[0].floating:
        return None
    gated = _gated(op)
    if gated is not None:
        return smooth_call(*gated)
    # erfc falls where the others rise.
    score = jnp.negative if op.primitive == "erfc" else _plain
    corners = () if op.primitive == "erfc" else (0.0,)
    name = "sigmoid" if op.primitive == "logistic" else op.primitive
    return smooth_call(name, [op.inputs[0]])._replace(score=score, corners=corners)  # type: ignore[union-attr]


def _gated(op: Op) -> tuple[str, list[Value]] | None:
    """The gate of x times a function of x, as gelu and silu are written: the name of the whole, and x."""
    name = {"logistic": "silu", "tanh": "gelu", "erf": "gelu", "erfc": "gelu"}.get(op.primitive)
    for user in _scaled(op.outputs[0]) if name else ():
        if user.primitive != "mul":
            continue
        for value in user.inputs:
            x = _unscaled(value)
            if op.primitive == "tanh" and _unscaled(op.inputs[0]) is x:
                continue  # of x + 0.044715 x^3 it is gelu
            if _is_function_of(x, op.inputs[0], of=_POLYNOMIAL):
                return str(name), [x]
    return None


def smooth_call(name: str, inputs: list[Value]) -> Match | None:
    """A call of a smooth activation, by the inputs of it that depend on the examples."""
    if len(inputs) != 1:
        return None  # a smooth maximum of two values, say: no activation
    return Match(
        name, (inputs[0],), _plain, asks='smooth: no bit says which piece it is on; by="sign" takes its input > 0'
    )


_GUARD = "a guard: it only keeps a root, a logarithm or a denominator in bounds"
_OTHER_CORNER = "a corner at {:g}: only one at 0 is a bit"
ASK_WINNERS = "winners=True takes which of its values is the largest"


def _sign(op: Op) -> Match | None:
    if op.primitive != "sign" or not op.inputs[0].floating:
        return None
    return Match("sign", (op.inputs[0],), _plain, asks='a step: by="sign" takes its input > 0')


def _maxout(op: Op) -> Match | None:
    if op.primitive != "max" or not all(value.depends and value.floating for value in op.inputs):
        return None
    return Match("maxout", tuple(op.inputs), lambda a, b: jnp.where(a > b, 1.0, -1.0), (), ASK_WINNERS)


def _reduce_max(op: Op) -> Match | None:
    """Largest of all values along some axes; the first of equals wins."""
    if op.primitive != "reduce_max" or not op.inputs[0].floating or _is_softmax(op):
        return None
    axes = tuple(op.eqn.params["axes"])

    def score(x: Array) -> Array:
        last = jnp.moveaxis(x, axes, range(-len(axes), 0))
        flat = last.reshape(*last.shape[: last.ndim - len(axes)], -1)
        return 2 * jax.nn.one_hot(flat.argmax(-1), flat.shape[-1]) - 1

    return Match("max", (op.inputs[0],), score, (), ASK_WINNERS)


def _max_pool(op: Op) -> Match | None:
    """Largest of each window; the first of equals wins. A bit per window and place in the window."""
    if op.primitive != "reduce_window_max" or not op.inputs[0].floating:
        return None
    params = op.eqn.params
    window, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    if any(step != 1 for step in (*params["base_dilation"], *params["window_dilation"])):
        return _no_unit("max_pool", "a dilated window: no rule says what its bits are")
    shape = op.outputs[0].shape

    def score(x: Array) -> Array:
        padded = jnp.pad(x, padding, constant_values=-jnp.inf)
        places = [
            jax.lax.slice(
                padded, place, [p + (n - 1) * s + 1 for p, n, s in zip(place, shape, strides, strict=True)], strides
            )
            for place in np.ndindex(*window)
        ]
        return 2 * jax.nn.one_hot(jnp.stack(places, -1).argmax(-1), len(places)) - 1

    return Match("max_pool", (op.inputs[0],), score, (), ASK_WINNERS)


_RULES: tuple[Rule, ...] = (
    _max_min, _scaled_max, _clamp, _select, _masked, _abs, _smooth, _sign, _maxout, _reduce_max, _max_pool,
)  # fmt: skip


def _against_constant(op: Op) -> tuple[Value, float] | None:
    """An operation on a floating-point value that depends on the examples, and a constant: both, either way round."""
    if len(op.inputs) == 2:
        for x, constant in (op.inputs, op.inputs[::-1]):
            if x.depends and x.floating and constant.constant is not None:
                return x, constant.constant
    return None


def _comparison(value: Value) -> tuple[Value, float] | None:
    """If this is whether x is more (or less) than a constant: x, and the constant."""
    producer = resolve(value).producer
    if producer is None or producer.primitive not in _COMPARISONS:
        return None
    split = _against_constant(producer)
    return None if split is None else (resolve(split[0]), split[1])


def _selects(op: Op) -> bool:
    return op.primitive == "select_n" and len(op.inputs) == 3


def _users(value: Value) -> Iterator[Op]:
    """Operations that use a value, through those that only shape it."""
    for user in value.users:
        if user.primitive in _SHAPING:
            yield from _users(user.outputs[0])
        elif user.primitive not in RULED_CALLS:  # what is inside such a call uses the value too
            yield user


def _guards(value: Value) -> bool:
    """All that uses the value, shaped, scaled or shifted a little, is a root, a logarithm or a division by it."""
    users = [user for user in value.users if user.primitive not in RULED_CALLS]
    return bool(users) and all(_is_guarded(user, value) for user in users)


def _is_guarded(user: Op, value: Value) -> bool:
    others = [v for v in user.inputs if v is not value]
    match user.primitive:
        case "div" if user.inputs[1] is value:
            return user.inputs[0] is not value
        case "pow":
            # A power of 1 or more has no pole and no infinite slope at 0.
            exponent = user.inputs[1].constant
            return user.inputs[0] is value and (exponent is None or exponent < 1)
        case "add" | "sub":
            small = all(not v.depends and (v.constant is None or abs(v.constant) < SMALLEST_SHIFT) for v in others)
            return small and _guards(user.outputs[0])
        case "div" | "mul":
            return not any(v.depends for v in others) and _guards(user.outputs[0])
        case name:
            return name in _ROOTS or (name in _SHAPING and _guards(user.outputs[0]))


def _scaled(value: Value) -> Iterator[Op]:
    """Operations that use a value together with another, also after constants are added to it or multiply it."""
    for user in value.users:
        moving = sum(v.depends for v in user.inputs)
        if moving > 1:
            yield user
        elif user.primitive in {"add", "div", "mul", "sub", *_SHAPING}:
            yield from _scaled(user.outputs[0])


def _unscaled(value: Value, *, by_parameters: bool = False) -> Value:
    """The value before it was multiplied by a constant (or by what does not depend on the examples)."""
    value = resolve(value)
    while value.producer is not None and value.producer.primitive in {"div", "mul", "neg"}:
        moving = [v for v in value.producer.inputs if v.depends]
        if len(moving) != 1 or not (by_parameters or _multiplies_by(value.producer) is not None):
            break
        if moving[0].shape != value.shape or (value.producer.primitive == "div" and value.producer.inputs[1].depends):
            break
        value = resolve(moving[0])
    return value


def _multiplies_by(op: Op) -> float | None:
    """The constant by which an operation multiplies what depends on the examples, if that is known."""
    if op.primitive == "neg":
        return -1.0
    constant = next((v.constant for v in op.inputs if v.constant is not None), None)
    return 1 / constant if constant and op.primitive == "div" else constant


def _factor(value: Value, base: Value) -> float:
    """By what a value is the multiple of its base; not a number if that is not known."""
    factor, value = 1.0, resolve(value)
    while value is not base and value.producer is not None:
        constant = _multiplies_by(value.producer)
        factor *= float("nan") if constant is None else constant
        value = resolve(next(v for v in value.producer.inputs if v.depends))
    return factor


def _divides(value: Value, x: Value) -> bool:
    """Its only use is x / value."""
    return bool(value.users) and all(
        user.primitive == "div" and user.inputs[1] is value and resolve(user.inputs[0]) is x for user in value.users
    )


def _is_variance(x: Value) -> bool:
    """E[a] - E[b]^2."""
    producer = resolve(x).producer
    if producer is None or producer.primitive != "sub":
        return False
    square = resolve(producer.inputs[1]).producer
    if square is None or square.primitive not in {"square", "integer_pow", "mul"}:
        return False
    return _is_mean(producer.inputs[0]) and all(_is_mean(value) for value in square.inputs)


def _is_mean(value: Value) -> bool:
    producer = resolve(value).producer
    while producer is not None and producer.primitive in {"div", "mul", *_SHAPING}:
        moving = [v for v in producer.inputs if v.depends]
        producer = resolve(moving[0]).producer if moving else None
    return producer is not None and producer.primitive in _SUMS


def _is_function_of(x: Value, *values: Value, of: Set[str] = _ELEMENTWISE) -> bool:
    """Values computed entry by entry (by operations `of`) from x, constants and parameters: x is in one at least.

    Roots, logarithms and divisions by x mark a guard, and are no part of such a function.
    """
    waiting = [resolve(value) for value in values]
    seen: set[Value] = set()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value is x or not value.depends:
            continue
        producer = value.producer
        if producer is None or producer.primitive not in of:
            return False
        if producer.primitive == "div" and producer.inputs[1].depends:
            return False
        waiting += [resolve(v) for v in producer.inputs]
    return x in seen


def _is_softmax(op: Op) -> bool:
    """The maximum is subtracted from what it is the maximum of."""
    x = resolve(op.inputs[0])

    def subtracted(value: Value) -> bool:
        return any(
            (user.primitive == "sub" and resolve(user.inputs[0]) is x)
            or (user.primitive in _SHAPING | {"max", "select_n", "stop_gradient"} and subtracted(user.outputs[0]))
            for user in value.users
        )

    return subtracted(op.outputs[0])
