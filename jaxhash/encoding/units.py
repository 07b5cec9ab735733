"""ReLU-like units of a traced function, found by the rules of `jaxhash.encoding.unit_rules`, in control flow too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
from jaxtyping import Array, Float

from jaxhash.codes.code import Skipped
from jaxhash.encoding import equations
from jaxhash.encoding.jaxpr_graph import (
    CONTROL_FLOW,
    RULED_CALLS,
    SMOOTH_CALLS,
    Graph,
    Known,
    Op,
    Value,
    build,
    live,
    resolve,
)
from jaxhash.encoding.unit_rules import ASK_WINNERS, Match, Rule, match, smooth_call

# Names that a unit is called by where it stands in a call of that name.
_ACTIVATIONS = {
    "celu", "elu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "relu", "relu6", "selu",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Unit:
    """A place whose pre-activations are bits of the code."""

    kind: str
    path: str
    source: str
    op: Op
    values: tuple[Value, ...]
    """What the pre-activation is computed from."""
    score: Callable[..., Float[Array, "..."]]
    """The pre-activation, positive where the bit is 1."""
    shape: tuple[int, ...]
    inner: "Unit | None" = None
    """The unit in a body of `op`, if that is control flow."""
    body: Graph | None = None
    """The body it stands in."""
    varying: frozenset[str] = frozenset()
    """Mesh axes, inside shard_map, along which it differs."""
    mesh_axes: tuple[str, ...] = ()
    """Names of the mesh axes that shard_map (`op`) stacks it along, first axes of `shape`."""
    device_axes: tuple[int, ...] = ()
    """All axes of `shape` that number devices."""


def find(graph: Graph, *, by: str, winners: bool, rules: Sequence[Rule] = ()) -> tuple[list[Unit], list[Skipped]]:
    """The units that a function's outputs depend on, in the order of evaluation, and the activations that are none.

    Args:
        graph: the function.
        by: "units", or "sign" to take smooth activations too, by the sign of their input.
        winners: take maxima of several values by their winner.
        rules: asked before the library's own, of every operation with an input that depends on the examples.
    """
    units: list[Unit] = []
    skipped: list[Skipped] = []
    seen: set[tuple[tuple[Value, ...], tuple[float, ...]]] = set()
    smooth = {call.ops[0]: call for call in graph.calls if call.name in SMOOTH_CALLS and call.ops}
    inside = {op for call in smooth.values() for op in call.ops}
    outermost = {op for op in smooth if not any(op in call.ops and call.ops[0] is not op for call in smooth.values())}
    alive = live(graph)
    for op in graph.ops:
        depends = op in alive and any(value.depends for value in op.inputs)
        asked = next((own for rule in rules if (own := rule(op)) is not None), None) if depends else None
        if not depends:
            found = None
        elif asked is not None:
            found = asked
        elif op in outermost:
            call = smooth[op]
            found = smooth_call(call.name, [value for value in call.inputs if value.depends and value.floating])
        elif op in inside:
            found = None
        elif op.bodies:
            for body in op.bodies:
                nested, left = find(body, by=by, winners=winners, rules=rules)
                skipped += left
                if op.primitive == "while" and body is op.bodies[0]:
                    skipped += [Skipped(_name(unit.op, unit.kind), "in the test of a while loop") for unit in nested]
                else:
                    units += [_nest(op, body, unit) for unit in nested]
            continue
        else:
            found = match(op)
            if found is None and _holds_units(op):
                skipped.append(Skipped(_name(op, op.primitive), "its inside, with units or steps, is not looked into"))
        if found is None:
            continue
        kind = found.kind if asked else next((call for call in op.calls if call in _ACTIVATIONS), found.kind)
        if kind == "relu6" and len(found.corners) > 1:  # of v + 3
            kind = found.kind
        wanted = not found.asks or (winners if found.asks == ASK_WINNERS else by == "sign")
        if not wanted or not found.values:
            skipped.append(Skipped(_name(op, kind), found.asks))
            continue
        corner = (tuple(resolve(value) for value in found.values), found.corners)
        if found.corners and corner in seen:
            continue
        seen.add(corner)
        units.append(_unit(kind, op, found))
    return units, skipped


def innermost(unit: Unit) -> Unit:
    """The unit itself, where control flow is around it."""
    while unit.inner is not None:
        unit = unit.inner
    return unit


def _unit(kind: str, op: Op, found: Match) -> Unit:
    structs = [jax.ShapeDtypeStruct(value.shape, value.aval.dtype) for value in found.values]
    shape = jax.eval_shape(found.score, *structs).shape
    varying = frozenset[str]().union(*(equations.varying_axes(value.aval) for value in found.values))
    return Unit(kind, op.path, op.source, op, found.values, found.score, shape, varying=varying)


def _nest(op: Op, body: Graph, unit: Unit) -> Unit:
    """A unit of a body, seen from outside."""
    params = op.eqn.params
    outer = replace(unit, op=op, inner=unit, body=body, mesh_axes=())
    if op.primitive == "scan":
        return replace(
            outer, shape=(params["length"], *unit.shape), device_axes=tuple(axis + 1 for axis in unit.device_axes)
        )
    if op.primitive == "shard_map":
        manual = params["newly_manual_axes"]
        # Without check_vma nobody knows along which axes a value differs: along all of them, then.
        axes = manual & unit.varying if params["check_vma"] else manual
        sizes = {name: size for name, size in params["mesh"].shape.items() if name in axes}
        return replace(
            outer,
            shape=(*sizes.values(), *unit.shape),
            varying=unit.varying - manual,
            mesh_axes=tuple(sizes),
            device_axes=(*range(len(sizes)), *(axis + len(sizes) for axis in unit.device_axes)),
        )
    return outer


def _holds_units(op: Op) -> bool:
    """An operation with a jaxpr in it that this module does not know, and that holds units or steps."""
    if op.primitive in CONTROL_FLOW | RULED_CALLS:
        return False
    for jaxpr in equations.sub_jaxprs(op.eqn):
        inner = build(jaxpr, [Known(depends=True)] * len(jaxpr.jaxpr.invars))
        if any(find(inner, by="sign", winners=False)):
            return True
    return False


def _name(op: Op, kind: str) -> str:
    return f"{op.path or op.source or 'function'}/{kind}"
