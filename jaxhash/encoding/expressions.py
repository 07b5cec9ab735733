"""Expressions of a traced function, as the rules of units ask for them.

Is a value a multiple of another, a function of x alone, a variance, or only a guard before a division? Each question
follows the graph of operations (`jaxhash.encoding.jaxpr_graph`) from a value to what it was computed from, or to what
uses it.
"""

from collections.abc import Callable, Iterator, Set

import numpy as np

from jaxhash.encoding.jaxpr_graph import RULED_CALLS, Op, Value, resolve

_ELEMENTWISE = {
    "abs", "add", "add_any", "clamp", "convert_element_type", "copy", "div", "exp", "exp2", "expm1", "ge", "gt",
    "integer_pow", "le", "log1p", "logistic", "lt", "max", "min", "mul", "neg", "pow", "select_n", "sign", "square",
    "stop_gradient", "sub", "tanh",
}  # fmt: skip
POLYNOMIAL = {"add", "convert_element_type", "copy", "div", "integer_pow", "mul", "neg", "square", "sub"}
_ROOTS = {"cbrt", "log", "rsqrt", "sqrt"}
_SHAPING = {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "squeeze", "transpose"}
_SUMS = {"dot_general", "psum", "psum_invariant", "reduce_sum"}
COMPARISONS = {"ge", "gt", "le", "lt"}
SMALLEST_SHIFT = 0.1
"""max(x, 0) + shift with at least this shift is far from 0 without the maximum's help."""


def against_constant(op: Op) -> tuple[Value, float] | None:
    """An operation on a floating-point value that depends on the examples, and a constant: both, either way round."""
    if len(op.inputs) == 2:
        for x, constant in (op.inputs, op.inputs[::-1]):
            if x.depends and x.floating and constant.constant is not None:
                return x, constant.constant
    return None


def against_parameter(op: Op) -> tuple[Value, Value] | None:
    """The same with a parameter: what does not depend on the examples, and is no known number and no mask."""
    if len(op.inputs) == 2:
        for x, other in (op.inputs, op.inputs[::-1]):
            if x.depends and x.floating and not other.depends and other.constant is None and not _is_mask(other):
                return x, other
    return None


def _is_mask(value: Value) -> bool:
    """Infinite, or one of several values of which one is."""
    producer = resolve(value).producer
    shaped = producer is not None and producer.primitive in _SHAPING | {"select_n"}
    return bool(np.isinf(value.constant or 0)) or (shaped and any(map(_is_mask, producer.inputs)))  # type: ignore[union-attr]


def meet(x: Value, parameter: Value, *pieces: Value) -> bool:
    """Pieces of a function on both sides of x = parameter: x and the parameter, or functions of x - parameter."""
    at = _before_broadcast(parameter)
    if any(resolve(a) is x and _before_broadcast(b) == at for a, b in (pieces, pieces[::-1])):
        return True
    shifts = [user for user in x.users if user.primitive == "sub" and resolve(user.inputs[0]) is x]
    return any(_before_broadcast(op.inputs[1]) == at and is_function_of(op.outputs[0], *pieces) for op in shifts)


def _before_broadcast(value: Value) -> tuple[Value, tuple[int, ...]]:
    """The value before it was broadcast, and which axes, counted from the last, its own became."""
    value = resolve(value)
    axes = tuple(range(-len(value.shape), 0))
    while value.producer is not None and value.producer.primitive == "broadcast_in_dim":
        axes = tuple(axes[axis] for axis in value.producer.eqn.params["broadcast_dimensions"])
        value = resolve(value.producer.inputs[0])
    return value, axes


def comparison(value: Value) -> tuple[Value, float] | None:
    """If this is whether x is more (or less) than a constant: x, and the constant."""
    producer = resolve(value).producer
    if producer is None or producer.primitive not in COMPARISONS:
        return None
    split = against_constant(producer)
    return None if split is None else (resolve(split[0]), split[1])


def selects(op: Op) -> bool:
    """One of two values, entry by entry."""
    return op.primitive == "select_n" and len(op.inputs) == 3


def users(value: Value) -> Iterator[Op]:
    """Operations that use a value, through those that only shape it."""
    for user in value.users:
        if user.primitive in _SHAPING:
            yield from users(user.outputs[0])
        elif user.primitive not in RULED_CALLS:  # what is inside such a call uses the value too
            yield user


def guards(value: Value) -> bool:
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
            return small and guards(user.outputs[0])
        case "div" | "max" | "min" | "mul":
            return not any(v.depends for v in others) and guards(user.outputs[0])
        case name:
            return name in _ROOTS or (name in _SHAPING and guards(user.outputs[0]))


def scaled(value: Value) -> Iterator[Op]:
    """Operations that use a value together with another, also after constants are added to it or multiply it."""
    for user in value.users:
        moving = sum(v.depends for v in user.inputs)
        if moving > 1:
            yield user
        elif user.primitive in {"add", "div", "mul", "sub", *_SHAPING}:
            yield from scaled(user.outputs[0])


def unscaled(value: Value, *, by_parameters: bool = False) -> Value:
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


def factor(value: Value, base: Value) -> float:
    """By what a value is the multiple of its base; not a number if that is not known."""
    factor, value = 1.0, resolve(value)
    while value is not base and value.producer is not None:
        constant = _multiplies_by(value.producer)
        factor *= float("nan") if constant is None else constant
        value = resolve(next(v for v in value.producer.inputs if v.depends))
    return factor


def divides(value: Value, x: Value) -> bool:
    """Its only use is x / value."""
    return bool(value.users) and all(
        user.primitive == "div" and user.inputs[1] is value and resolve(user.inputs[0]) is x for user in value.users
    )


def is_variance(x: Value) -> bool:
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


def is_function_of(x: Value, *values: Value, of: Set[str] = _ELEMENTWISE) -> bool:
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


def is_softmax(op: Op) -> bool:
    """The maximum is subtracted from what it is the maximum of, and the exponential is taken of the difference."""
    x = resolve(op.inputs[0])

    def shifts(user: Op) -> bool:
        return (
            user.primitive == "sub" and resolve(user.inputs[0]) is x and _leads_to(user, _exponentiates, {"div", "mul"})
        )

    return _leads_to(op, shifts, {"max", "stop_gradient"})


def _exponentiates(op: Op) -> bool:
    return op.primitive in {"exp", "exp2"}


def _leads_to(op: Op, ends: Callable[[Op], bool], through: Set[str]) -> bool:
    """What the operation gives is used by one that `ends`, after operations `through` that it may pass."""
    return any(
        ends(user) or (user.primitive in _SHAPING | {"select_n"} | through and _leads_to(user, ends, through))
        for user in op.outputs[0].users
    )
