"""Rules of ReLU-like units: which operations of a traced function are units, and what each one's bit is.

A unit is an elementwise function of one floating-point value x that depends on the examples, with a corner at 0, at
another number that stands in this table, or at a parameter: what does not depend on the examples, and is not one number
written in the function. Its bit is 1 where x is greater than the corner (`codes.active` of the difference).

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
| max(x, t) or min(x, t), t a parameter         | jnp.maximum, jnp.clip (one a bound) | x > t                         |
| select on x > t between x and t, or between   | jnp.where(x > t, x, t),             | x > t                         |
| functions of x - t alone, t a parameter       | jnp.where(x > t, x - t, 0)          |                               |
| abs(x)                                        | jnp.abs                             | x > 0                         |
| max or min of several values, `winners` only  | max pooling, maxout, jnp.max        | one a value: it is the winner |
| (two values)                                  | jnp.maximum(a, b)                   | a > b                         |
| smooth, `by="sign"` only; else skipped        | tanh, sigmoid, silu, gelu, softplus | x > 0                         |

Not units: what does not depend on the examples (masks of positions, clipped parameters), what compares integers, max
and min with infinity (masks), the maximum inside softmax, a selection on x == 0, and tests for NaN and infinity.
What looks like a unit and is none, or has steps, stands in `Code.skipped` with the reason:

- a corner at another number than 0, clipping to other bounds, abs in a norm or a test;
- a selection between other values than functions of the one compared, or, at a parameter, than those in the table;
- guards: max(x, 0), max(x, t), a selection or abs that does nothing but keep a root, a logarithm or a denominator in
  bounds, or that clips the variance E[x^2] - E[x]^2 (batch norm, layer norm). A shift by 0.1 or more before the root,
  the logarithm or the division (log(1 + relu(x))) is no guard;
- steps: floor, ceil, round, the remainder, sign, argmax, integers and truths made from floating-point numbers, and
  comparisons that are part of no unit, also where they decide a `cond` or end a `while_loop`;
- order statistics: sort, top_k, cummax, the minimum of each window, the maximum of each segment.

An explicit `jax.nn.relu` is always a unit. Several pieces with the same corner on the same x are one unit, and equal
expressions are one x, however often they are written.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxhash.encoding.expressions import (
    COMPARISONS,
    POLYNOMIAL,
    against_constant,
    against_parameter,
    comparison,
    divides,
    factor,
    guards,
    is_function_of,
    is_softmax,
    is_variance,
    meet,
    scaled,
    selects,
    unscaled,
    users,
)
from jaxhash.encoding.jaxpr_graph import RULED_CALLS, Op, Value, resolve

SMOOTH = {"cos", "erf", "erfc", "logistic", "sin", "tanh"}
STEPS = {"ceil", "floor", "rem", "round"}
ORDER = {
    "approx_top_k", "cummax", "cummin", "pmax", "pmin", "reduce_window_min", "scatter-max", "scatter-min",
    "scatter_max", "scatter_min", "sort", "top_k",
}  # fmt: skip


class Match(NamedTuple):
    """What a rule says of an operation: a unit, or why it is none."""

    kind: str
    """What its layer is called, such as `relu`."""
    values: tuple[Value, ...]
    """What its pre-activation is computed from: inputs of the operation, or values they were computed from."""
    score: Callable[..., Array]
    """The arrays of `values` -> the pre-activation, float, greater than 0 where the bit is 1."""
    corners: tuple[float, ...] = (0.0,)
    """Corners of the function of `values`; pieces with the same corners on the same values are one unit."""
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
    split = against_constant(op)
    if op.primitive not in ("max", "min") or split is None or np.isinf(split[1]):
        return None
    x, corner = split
    other = "min" if op.primitive == "max" else "max"
    kind = "relu" if op.primitive == "max" else "min"
    if "relu" in op.calls:
        return Match("relu", (x,), _plain) if corner == 0 else None
    inner = resolve(x).producer
    if inner is not None and inner.primitive == other and against_constant(inner) is not None:
        return None  # the second half of a clip, seen with the first
    clips = [user for user in users(op.outputs[0]) if user.primitive == other and against_constant(user)]
    if clips:
        bounds = sorted([corner, against_constant(clips[0])[1]])  # type: ignore[index]
        return _two_sided("relu6", x, bounds[0], bounds[1]) if x.depends else None
    if corner != 0:
        return _no_unit(op.primitive, _OTHER_CORNER.format(corner))
    if is_variance(x):
        return _no_unit(op.primitive, _VARIANCE)
    return _no_unit(op.primitive, _GUARD) if guards(op.outputs[0]) else Match(kind, (x,), _plain)


def _at_parameter(op: Op) -> Match | None:
    """max or min of a value and a parameter, or a selection on which is greater between pieces that meet there."""
    compared = resolve(op.inputs[0]).producer if selects(op) and op.outputs[0].floating else op
    if compared is None or compared.primitive not in ({"max", "min"} if compared is op else COMPARISONS):
        return None
    split = against_parameter(compared)
    if split is None:
        return None
    kind = "where" if selects(op) else op.primitive
    if selects(op) and not meet(resolve(split[0]), split[1], *op.inputs[1:]):
        return _no_unit(kind, "it selects at a parameter between values that are not known to meet there")
    if is_variance(split[0]):
        return _no_unit(kind, _VARIANCE)
    return _no_unit(kind, _GUARD) if guards(op.outputs[0]) else Match(kind, split, jnp.subtract)


def _scaled_max(op: Op) -> Match | None:
    """max or min of a value and a multiple of it."""
    if op.primitive not in ("max", "min") or not all(value.depends and value.floating for value in op.inputs):
        return None
    bases = [unscaled(value, by_parameters=True) for value in op.inputs]
    if bases[0] is not bases[1]:
        return None
    low, high = sorted(factor(value, bases[0]) for value in op.inputs)
    if op.primitive == "max" and high == 1:
        return Match("leaky_relu" if low >= 0 else "abs", (bases[0],), _plain)
    return Match(op.primitive, (bases[0],), _plain)


def _clamp(op: Op) -> Match | None:
    if op.primitive != "clamp":
        return None
    low, x, high = op.inputs
    if not x.floating:
        return None
    if low.constant is None or high.constant is None:
        return _no_unit("clip", "clipped to bounds that are no numbers: no rule says what its bit is")
    return _two_sided("relu6", x, low.constant, high.constant)


def _select(op: Op) -> Match | None:
    """A selection on the sign of a value between functions of it."""
    if not selects(op):
        return None
    compared = comparison(op.inputs[0])
    if compared is None or not op.outputs[0].floating:
        return None
    x, corner = compared
    branches = op.inputs[1:]
    if corner in (1, -1):  # hard_tanh: where(x > 1, 1, where(x < -1, -1, x))
        for one, rest in (branches, branches[::-1]):
            inner = resolve(rest).producer
            if one.constant == corner and inner is not None and inner.primitive == "select_n":
                other = comparison(inner.inputs[0])
                if other == (x, -corner) and any(resolve(v) is x for v in inner.inputs[1:]):
                    return Match("hard_tanh", (x,), _pieces(-1.0, 1.0), (-1.0, 1.0))
        if any(comparison(user.inputs[0]) == (x, -corner) for user in users(op.outputs[0]) if selects(user)):
            return None  # the inner half of a hard_tanh, seen with the outer
    if not is_function_of(x, *branches):
        return _no_unit("where", "it selects between other values than functions of the one compared")
    if corner != 0:
        return _no_unit("where", _OTHER_CORNER.format(corner))
    return _no_unit("where", _GUARD) if guards(op.outputs[0]) else Match("where", (x,), _plain)


def _masked(op: Op) -> Match | None:
    """(x > 0) as a number, times a function of x."""
    if op.primitive != "mul":
        return None
    for mask, other in (op.inputs, op.inputs[::-1]):
        producer = resolve(mask).producer
        if producer is None or producer.primitive != "convert_element_type":
            continue
        compared = comparison(producer.inputs[0])
        if compared is not None and compared[1] == 0 and is_function_of(compared[0], other):
            return Match("where", (compared[0],), _plain)
    return None


def _abs(op: Op) -> Match | None:
    if op.primitive != "abs" or not op.inputs[0].floating:
        return None
    x = op.inputs[0]
    uses = list(users(op.outputs[0]))
    if uses and all(user.primitive in {"reduce_sum", "reduce_max", *COMPARISONS} for user in uses):
        return _no_unit("abs", "abs in a norm or a test")
    if uses and all(user.primitive == "add" and divides(user.outputs[0], resolve(x)) for user in uses):
        return smooth_call("soft_sign", [x])
    return _no_unit("abs", _GUARD) if guards(op.outputs[0]) else Match("abs", (x,), _plain)


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
    for user in scaled(op.outputs[0]) if name else ():
        if user.primitive != "mul":
            continue
        for value in user.inputs:
            x = unscaled(value)
            if op.primitive == "tanh" and unscaled(op.inputs[0]) is x:
                continue  # of x + 0.044715 x^3 it is gelu
            if is_function_of(x, op.inputs[0], of=POLYNOMIAL):
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
_VARIANCE = "a guard: it clips the variance E[x^2] - E[x]^2"
_COMPARISON = "a comparison that is part of no unit: a step, or a selection that no rule knows"
_OTHER_CORNER = "a corner at {:g}: only one at 0 is a bit"
ASK_WINNERS = "winners=True takes which of its values it is"


def _sign(op: Op) -> Match | None:
    if op.primitive != "sign" or not op.inputs[0].floating:
        return None
    return Match("sign", (op.inputs[0],), _plain, asks='a step: by="sign" takes its input > 0')


def _maxout(op: Op) -> Match | None:
    if op.primitive not in ("max", "min") or not all(value.depends and value.floating for value in op.inputs):
        return None
    kind = "maxout" if op.primitive == "max" else "min"
    return Match(kind, tuple(op.inputs), lambda a, b: jnp.where(a > b, 1.0, -1.0), (), ASK_WINNERS)


def _reduce_max(op: Op) -> Match | None:
    """Largest, or smallest, of all values along some axes; the first of equals wins."""
    if op.primitive not in ("reduce_max", "reduce_min") or not op.inputs[0].floating or is_softmax(op):
        return None
    axes = tuple(op.eqn.params["axes"])

    def score(x: Array) -> Array:
        last = jnp.moveaxis(x, axes, range(-len(axes), 0))
        flat = last.reshape(*last.shape[: last.ndim - len(axes)], -1)
        winner = flat.argmax(-1) if op.primitive == "reduce_max" else flat.argmin(-1)
        return 2 * jax.nn.one_hot(winner, flat.shape[-1]) - 1

    return Match(op.primitive.removeprefix("reduce_"), (op.inputs[0],), score, (), ASK_WINNERS)


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


def _step(op: Op) -> Match | None:
    """What jumps (rounding, and integers or truths made from floating-point numbers), and what sorts."""
    given = [value for value in op.inputs if value.depends and value.floating]
    if op.primitive in ORDER:
        keys = op.inputs[: op.eqn.params.get("num_keys")]
        return _no_unit(op.primitive, "an order statistic") if any(key in given for key in keys) else None
    if op.primitive not in STEPS:
        continuous = not op.outputs or jnp.issubdtype(op.outputs[0].aval.dtype, jnp.inexact)
        if continuous or op.primitive in RULED_CALLS | {"is_finite"} or _is_read(op):
            return None
    compares = op.primitive in COMPARISONS | {"eq", "ne"}
    return _no_unit(op.primitive, _COMPARISON if compares else "a step") if given else None


def _is_read(op: Op) -> bool:
    """A comparison in a selection or a mask of which another rule speaks, or a test for a single point or for NaN."""
    if op.primitive not in COMPARISONS | {"eq", "ne"}:
        return False
    if resolve(op.inputs[0]) is resolve(op.inputs[1]):
        return True

    def read(user: Op) -> bool:
        if user.primitive == "convert_element_type":
            products = list(users(user.outputs[0]))
            return bool(products) and all(_masked(product) is not None for product in products)
        return selects(user) and user.inputs[0] is op.outputs[0] and user.outputs[0].floating

    uses = [user for user in op.outputs[0].users if user.primitive not in RULED_CALLS]
    return (against_constant(op) or against_parameter(op)) is not None and bool(uses) and all(map(read, uses))


_RULES: tuple[Rule, ...] = (
    _max_min, _at_parameter, _scaled_max, _clamp, _select, _masked, _abs, _smooth, _sign, _maxout, _reduce_max,
    _max_pool, _step,
)  # fmt: skip
