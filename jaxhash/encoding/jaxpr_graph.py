"""Graph of a jaxpr: a traced function as a flat list of operations, in which `jaxhash.encoding.units` finds patterns.

A jaxpr nests: `jnp.where` is a call of its own, `jax.nn.relu` two. Here calls are opened, so that a comparison and
the selection it decides stand side by side; what remains nested is control flow (scan, while, cond, shard_map), each
with a graph per body. Equal expressions become one: an operation that repeats another, of the same inputs, gives the
same values. Of every value the graph knows whether it depends on the examples, and whether it is one number known in
advance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxhash.encoding import equations

# Calls whose inside is all there is to them.
PLAIN_CALLS = {"closed_call", "jit"}
# Calls with a rule of their own (a derivative, rematerialisation): evaluated whole, so that the rule is kept, and
# opened besides, for the units inside. What of the inside is not asked for is never computed.
RULED_CALLS = {"checkpoint", "custom_jvp_call", "custom_vjp_call", "remat2"}
CONTROL_FLOW = {"scan", "while", "cond", "shard_map"}
# Calls that the rules take as one smooth function.
SMOOTH_CALLS = {
    "gelu", "log_sigmoid", "logaddexp", "mish", "sigmoid", "silu", "soft_sign", "softplus", "sparse_plus",
    "sparse_sigmoid", "squareplus", "swish",
}  # fmt: skip
# What stands in these is not one with an equal expression outside of them, of which the rules say something else.
_APART = {"relu", *SMOOTH_CALLS}

# Operations that give back a constant they are given.
_KEEP_CONSTANTS = {
    "broadcast_in_dim", "convert_element_type", "copy", "copy_p", "expand_dims", "pbroadcast", "pcast", "pvary",
    "reduce_precision", "reshape", "sharding_constraint", "squeeze", "stop_gradient", "transpose",
}  # fmt: skip
# Operations that change nothing about a value.
IDENTITIES = {"copy", "copy_p", "name", "pbroadcast", "pcast", "pvary", "sharding_constraint", "stop_gradient"}


@dataclass(eq=False, repr=False)
class Value:
    """An array of the traced function."""

    aval: Any
    """Its shape and dtype."""
    depends: bool = False
    """It depends on the examples."""
    constant: float | None = None
    """The one number that all its entries are, if that is known."""
    producer: "Op | None" = None
    users: list["Op"] = field(default_factory=list)
    inside: "Value | None" = None
    """The same value as computed inside the call that gives it (RULED_CALLS)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.aval.shape)

    @property
    def floating(self) -> bool:
        """It holds floating-point numbers."""
        return jnp.issubdtype(self.aval.dtype, jnp.floating)


@dataclass(eq=False, repr=False)
class Op:
    """An operation: one primitive, and for control flow a graph of each of its bodies."""

    eqn: JaxprEqn
    jaxpr: Jaxpr
    """The jaxpr it is an equation of."""
    inputs: list[Value]
    outputs: list[Value]
    path: str
    """Names of the scopes it stands in, joined by /; empty if there are none."""
    source: str
    """The line of the user's code it comes from, as `file.py:12`; empty if unknown."""
    calls: tuple[str, ...]
    """Names of the opened calls it stands in, outermost first."""
    bodies: "tuple[Graph, ...]" = ()

    @property
    def primitive(self) -> str:
        """Name of the primitive."""
        return self.eqn.primitive.name


@dataclass(eq=False, repr=False)
class Call:
    """An opened call."""

    name: str
    inputs: list[Value]
    outputs: list[Value]
    ops: list[Op]
    """All that stands in it, calls inside calls opened too."""


@dataclass(eq=False, repr=False)
class Graph:
    """Operations in the order of evaluation."""

    inputs: list[Value]
    outputs: list[Value]
    ops: list[Op]
    calls: list[Call]
    arrays: dict[Value, Any]
    """Literals, and arrays that the function closes over."""
    known: dict[Any, list[Value]] = field(default_factory=dict)
    """The outputs of every operation by what it computes."""


@dataclass(frozen=True)
class Scope:
    """Where something stands."""

    path: str = ""
    source: str = ""
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is known of an input of a graph before it is built."""

    depends: bool
    constant: float | None = None


def build(jaxpr: ClosedJaxpr, known: Sequence[Known], scope: Scope = Scope()) -> Graph:
    """The graph of a jaxpr.

    Args:
        jaxpr: the traced function.
        known: of each of its inputs, whether it depends on the examples, and whether it is a known number.
        scope: where all of it stands.
    """
    inputs = [Value(var.aval, what.depends, what.constant) for var, what in zip(jaxpr.jaxpr.invars, known, strict=True)]
    graph = Graph(inputs, [], [], [], {})
    graph.outputs = _open(graph, jaxpr, inputs, scope)
    return graph


def resolve(value: Value) -> Value:
    """The value that stands behind calls and operations that change nothing."""
    while True:
        if value.inside is not None:
            value = value.inside
        elif value.producer is not None and value.producer.primitive in IDENTITIES and value.producer.inputs:
            value = value.producer.inputs[0]
        else:
            return value


def live(graph: Graph) -> set[Op]:
    """The operations that the outputs depend on."""
    values = {resolve(value) for value in graph.outputs} | set(graph.outputs)
    ops = set()
    for op in reversed(graph.ops):
        if not values.isdisjoint(op.outputs):
            ops.add(op)
            values.update(op.inputs)
            values.update(value.inside for value in op.outputs if value.inside is not None)
    return ops


def _open(graph: Graph, jaxpr: ClosedJaxpr, inputs: Sequence[Value], scope: Scope) -> list[Value]:
    """Add the operations of a jaxpr to the graph; gives the values of its outputs."""
    values: dict[Any, Value] = dict(zip(jaxpr.jaxpr.invars, inputs, strict=True))
    for var, array in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True):
        values[var] = _given(graph, var.aval, array)

    def read(atom: Any) -> Value:
        return _given(graph, atom.aval, atom.val) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.jaxpr.eqns:
        arguments = [read(atom) for atom in eqn.invars]
        here = Scope(equations.scope(eqn, scope.path), equations.source(eqn, scope.source), scope.calls)
        name = eqn.primitive.name
        if name in PLAIN_CALLS:
            outputs = _open_call(graph, eqn, arguments, here)
        else:
            opened = _open_call(graph, eqn, arguments, here) if name in RULED_CALLS else []
            outputs = _add(graph, jaxpr.jaxpr, eqn, arguments, here)
            for output, inside in zip(outputs, opened, strict=False):
                output.inside = inside
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.jaxpr.outvars]


def _open_call(graph: Graph, eqn: JaxprEqn, arguments: list[Value], scope: Scope) -> list[Value]:
    inner = next(equations.sub_jaxprs(eqn))
    name = str(eqn.params.get("name", eqn.primitive.name))
    start = len(graph.ops)
    outputs = _open(graph, inner, arguments, replace(scope, calls=(*scope.calls, name)))
    graph.calls.append(Call(name, arguments, outputs, graph.ops[start:]))
    return outputs


def _add(graph: Graph, jaxpr: Jaxpr, eqn: JaxprEqn, inputs: list[Value], scope: Scope) -> list[Value]:
    computes = _computes(eqn, inputs, scope)
    if computes is not None and computes in graph.known:
        return graph.known[computes]
    depends = [any(value.depends for value in inputs)] * len(eqn.outvars)
    op = Op(eqn, jaxpr, inputs, [], scope.path, scope.source, scope.calls)
    if eqn.primitive.name in CONTROL_FLOW:
        op.bodies, depends = _bodies(op)
    constant = inputs[0].constant if eqn.primitive.name in _KEEP_CONSTANTS and inputs else None
    if eqn.primitive.name == "neg" and inputs[0].constant is not None:
        constant = -inputs[0].constant
    op.outputs = [Value(var.aval, flag, constant, op) for var, flag in zip(eqn.outvars, depends, strict=True)]
    for value in inputs:
        value.users.append(op)
    graph.ops.append(op)
    if computes is not None:
        graph.known[computes] = op.outputs
    return op.outputs


def _computes(eqn: JaxprEqn, inputs: list[Value], scope: Scope) -> Any:
    """What two operations that compute the same have in common; None where that cannot be said."""
    if eqn.effects or eqn.primitive.name in CONTROL_FLOW | RULED_CALLS:
        return None
    numbers = [
        (value.constant, value.aval.dtype, value.shape)
        if value.producer is None and value.constant is not None
        else value
        for value in inputs
    ]
    apart = tuple(call for call in scope.calls if call in _APART)
    computes = (eqn.primitive, tuple(sorted(eqn.params.items())), tuple(numbers), apart)
    try:
        hash(computes)
    except TypeError:  # an array or a dictionary among the parameters
        return None
    return computes


def _bodies(op: Op) -> tuple[tuple[Graph, ...], list[bool]]:
    """The graphs of control flow, and which of its outputs depend on the examples."""
    known = [Known(value.depends, value.constant) for value in op.inputs]
    scope = Scope(op.path, op.source, op.calls)

    def graph(jaxpr: ClosedJaxpr, of: Sequence[Known]) -> Graph:
        return build(jaxpr, of, scope)

    match op.primitive:
        case "cond":
            branches = tuple(graph(branch, known[1:]) for branch in equations.sub_jaxprs(op.eqn))
            outputs = zip(*(branch.outputs for branch in branches), strict=True)
            return branches, [known[0].depends or any(value.depends for value in values) for values in outputs]
        case "shard_map":
            body = graph(next(equations.sub_jaxprs(op.eqn)), known)
            return (body,), [value.depends for value in body.outputs]
        case "scan":
            jaxpr, consts, carried = equations.scan(op.eqn)
            carry = [Known(k.depends) for k in known[consts : consts + carried]]
            while True:
                body = graph(jaxpr, [*known[:consts], *carry, *known[consts + carried :]])
                after = [Known(k.depends or v.depends) for k, v in zip(carry, body.outputs, strict=False)]
                if after == carry:
                    return (body,), [value.depends for value in body.outputs]
                carry = after
        case _:  # while
            test, jaxpr, tests, consts = equations.while_loop(op.eqn)
            carry = [Known(k.depends) for k in known[tests + consts :]]
            while True:
                condition = graph(test, [*known[:tests], *carry])
                body = graph(jaxpr, [*known[tests : tests + consts], *carry])
                late = condition.outputs[0].depends  # the number of iterations depends, so all that is carried does
                after = [Known(k.depends or v.depends or late) for k, v in zip(carry, body.outputs, strict=True)]
                if after == carry:
                    return (condition, body), [k.depends for k in carry]
                carry = after


def _given(graph: Graph, aval: Any, array: Any) -> Value:
    """A literal, or an array closed over."""
    known = not isinstance(array, jax.core.Tracer) and np.ndim(array) == 0 and _is_number(aval)
    value = Value(aval, constant=float(array) if known else None)
    graph.arrays[value] = array
    return value


def _is_number(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))
