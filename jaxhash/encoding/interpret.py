"""Interpreter of a traced function: evaluates it with its units, inside `scan`, `cond` and `while` too.

scan and map       units of every iteration, stacked
cond and switch    units of all branches, one after another; those of a branch that is not taken are 0
while              units of the last iteration; 0 if there was none
shard_map          units of every device, stacked along one new leading axis per mesh axis on which they differ
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jaxhash.encoding import equations
from jaxhash.encoding.jaxpr_graph import Graph, Op, Value
from jaxhash.encoding.units import Unit, innermost

Emit = Callable[[Unit, Array], Array]
"""What is kept of a unit's pre-activation, as computed at the place where the unit stands: same shape."""


def run(
    graph: Graph, arguments: Sequence[Any], units: Sequence[Unit], emit: Emit, *, outputs: bool
) -> tuple[list[Any], list[Array]]:
    """Evaluate a graph.

    Args:
        graph: the function.
        arguments: of each input.
        units: whose pre-activations are wanted.
        emit: applied to each of them.
        outputs: the outputs of the function are wanted too (else only what the units need is computed).

    Returns:
        The outputs (none if they are not wanted), and an array of shape `unit.shape` for each unit.
    """
    env: dict[Value, Any] = {**graph.arrays, **dict(zip(graph.inputs, arguments, strict=True))}
    found: dict[Unit, Array] = {}
    for op in _needed(graph, units, outputs):
        nested = [unit for unit in units if unit.inner is not None and unit.op is op]
        results, arrays = _evaluate(op, [env[value] for value in op.inputs], nested, emit)
        env.update(zip(op.outputs, results, strict=True))
        found.update(zip(nested, arrays, strict=True))
    for unit in units:
        if unit.inner is None:
            found[unit] = emit(unit, unit.score(*(env[value] for value in unit.values)))
    return [env[value] for value in graph.outputs] if outputs else [], [found[unit] for unit in units]


def _needed(graph: Graph, units: Sequence[Unit], outputs: bool) -> list[Op]:
    """The operations that have to be evaluated, in order."""
    values = {value for unit in units if unit.inner is None for value in unit.values}
    hosts = {unit.op for unit in units if unit.inner is not None}
    if outputs:
        values.update(graph.outputs)
    needed = []
    for op in reversed(graph.ops):
        if op in hosts or not values.isdisjoint(op.outputs) or (outputs and op.eqn.effects):
            needed.append(op)
            values.update(op.inputs)
    return needed[::-1]


def _evaluate(op: Op, inputs: list[Any], units: list[Unit], emit: Emit) -> tuple[list[Any], list[Array]]:
    """One operation: its outputs, and what the units inside it compute."""
    if units:
        return {"scan": _scan, "while": _while, "cond": _cond, "shard_map": _shard_map}[op.primitive](
            op, inputs, units, emit
        )
    # As a function of one equation, for JAX knows best how to bind each primitive.
    variables = [(atom, value) for atom, value in zip(op.eqn.invars, inputs, strict=True) if isinstance(atom, Var)]
    alone = op.jaxpr.replace(
        constvars=[], invars=[atom for atom, _ in variables], outvars=op.eqn.outvars, eqns=[op.eqn]
    )
    return jax.core.eval_jaxpr(alone, (), *(value for _, value in variables)), []


def _scan(op: Op, inputs: list[Any], units: list[Unit], emit: Emit) -> tuple[list[Any], list[Array]]:
    params = op.eqn.params
    _, consts, carried = equations.scan(op.eqn)
    fixed, init, slices = inputs[:consts], inputs[consts : consts + carried], inputs[consts + carried :]

    def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], tuple[list[Any], list[Array]]]:
        results, arrays = run(op.bodies[0], [*fixed, *carry, *x], _inner(units), emit, outputs=True)
        return results[:carried], (results[carried:], arrays)

    carry, (stacked, arrays) = jax.lax.scan(
        body, init, slices, length=params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    return [*carry, *stacked], arrays


def _cond(op: Op, inputs: list[Any], units: list[Unit], emit: Emit) -> tuple[list[Any], list[Array]]:
    shapes = [_emitted(unit, emit) for unit in units]

    def make(body: Graph) -> Callable[..., tuple[list[Any], list[Array]]]:
        own = [unit for unit in units if unit.body is body]

        def branch(*operands: Any) -> tuple[list[Any], list[Array]]:
            results, arrays = run(body, operands, _inner(own), emit, outputs=True)
            taken = dict(zip(own, arrays, strict=True))
            return results, [
                taken[unit] if unit in taken else _zeros(unit, shape) for unit, shape in zip(units, shapes, strict=True)
            ]

        return branch

    index = jnp.asarray(inputs[0], jnp.int32)
    return jax.lax.switch(index, [make(body) for body in op.bodies], *inputs[1:])


def _while(op: Op, inputs: list[Any], units: list[Unit], emit: Emit) -> tuple[list[Any], list[Array]]:
    _, _, tests, consts = equations.while_loop(op.eqn)
    fixed_test, fixed_body, init = inputs[:tests], inputs[tests : tests + consts], inputs[tests + consts :]
    condition, step = op.bodies

    def again(state: tuple[list[Any], list[Array]]) -> Array:
        return run(condition, [*fixed_test, *state[0]], [], emit, outputs=True)[0][0]

    def body(state: tuple[list[Any], list[Array]]) -> tuple[list[Any], list[Array]]:
        return run(step, [*fixed_body, *state[0]], _inner(units), emit, outputs=True)

    nothing = [_zeros(unit, _emitted(unit, emit)) for unit in units]
    return jax.lax.while_loop(again, body, (init, nothing))


def _shard_map(op: Op, inputs: list[Any], units: list[Unit], emit: Emit) -> tuple[list[Any], list[Array]]:
    params = op.eqn.params

    def body(*shards: Any) -> tuple[tuple[Any, ...], list[Array]]:
        results, arrays = run(op.bodies[0], shards, _inner(units), emit, outputs=True)
        stacked = [
            array.reshape((1,) * len(unit.device_axes) + array.shape) for unit, array in zip(units, arrays, strict=True)
        ]
        return tuple(results), stacked

    mapped = jax.shard_map(
        body,
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=(tuple(params["out_specs"]), [PartitionSpec(*unit.mesh_axes) for unit in units]),
        check_vma=params["check_vma"],
        axis_names=set(params["newly_manual_axes"]),
    )
    results, arrays = mapped(*inputs)
    return list(results), arrays


def _inner(units: Sequence[Unit]) -> list[Unit]:
    return [unit.inner for unit in units if unit.inner is not None]


def _emitted(unit: Unit, emit: Emit) -> jax.ShapeDtypeStruct:
    inside = innermost(unit)
    structs = [jax.ShapeDtypeStruct(value.shape, value.aval.dtype) for value in inside.values]
    dtype = jax.eval_shape(lambda *values: emit(inside, inside.score(*values)), *structs).dtype
    return jax.ShapeDtypeStruct(unit.shape, dtype)


def _zeros(unit: Unit, shape: jax.ShapeDtypeStruct) -> Array:
    zeros = jnp.zeros(shape.shape, shape.dtype)
    return jax.lax.pcast(zeros, tuple(sorted(unit.varying)), to="varying") if unit.varying else zeros
