"""Example axis (batch axis) of an array: which entries of a unit belong to which example.

A function of many examples may keep them on any axis (vmap does), on an axis with something else (positions folded
into the examples), or spread over devices (shard_map). Rather than follow every primitive, the function is traced a
second time for twice as many examples: the axis that doubles is theirs. Nothing is guessed: where that does not say
enough, an error does.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array

from jaxhash.encoding.jaxpr_graph import RULED_CALLS, Value
from jaxhash.encoding.units import Unit, innermost

ONE_BY_ONE = (
    "encode it as a function of one example instead, jax.vmap(encode(fn, batch_axis=None)), or leave such layers out "
    "by layers=..."
)

# What keeps the entries along an axis in their order, if the axis keeps its size.
_KEEP_ORDER = {
    "abs", "add", "add_any", "broadcast_in_dim", "clamp", "conv_general_dilated", "convert_element_type", "copy",
    "cos", "div", "dot_general", "erf", "exp", "expm1", "integer_pow", "log", "log1p", "logistic", "max", "min", "mul",
    "name", "neg", "pow", "pvary", "reduce_max", "reduce_sum", "reduce_window_max", "rsqrt", "select_n",
    "sharding_constraint", "sin", "sqrt", "square", "stop_gradient", "sub", "tanh", "transpose",
} | RULED_CALLS  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Where the examples are in the array of a unit."""

    axis: int
    n: int
    minor: int = 1
    """Entries of `axis` for each example, next to one another."""
    devices: tuple[int, ...] = ()
    """Axes that number the devices over which the examples are spread, most significant first."""

    def place(self, array: Array) -> Array:
        """The array with the examples first."""
        before, size, after = array.shape[: self.axis], array.shape[self.axis], array.shape[self.axis + 1 :]
        if self.devices or size == self.n:
            order = (*self.devices, self.axis)
            first = jnp.moveaxis(array, order, range(len(order)))
            return first.reshape(self.n, *first.shape[len(order) :])
        apart = array.reshape(*before, size // (self.n * self.minor), self.n, self.minor, *after)
        return jnp.moveaxis(apart, self.axis + 1, 0).reshape(self.n, *before, size // self.n, *after)


def locate(name: str, unit: Unit, doubled: Unit, n: int) -> Layout:
    """Where the examples are in the array of a unit.

    Args:
        name: what errors call it.
        unit: the unit, of the function traced for n examples.
        doubled: the same unit, of the function traced for 2 n examples; for 1 if n is 0.
        n: number of examples.

    Raises:
        ValueError: if that cannot be said.
    """
    problem = f"layer {name!r} has shape {unit.shape} for {n} examples"
    changed = _changed(unit.shape, doubled.shape)
    if changed is None or len(changed) > 1:
        raise ValueError(f"{problem} and {doubled.shape} for {2 * n}: its axes mix examples; {ONE_BY_ONE}")
    if not changed:
        raise ValueError(f"{problem}, and no axis that numbers them: it belongs to no one example; {ONE_BY_ONE}")
    axis = changed[0]
    size = unit.shape[axis]
    if size == n and doubled.shape[axis] == (2 * n or 1):
        return Layout(axis, n)
    if n > 0 and doubled.shape[axis] == 2 * size:
        devices = _devices(unit, doubled)
        if devices and math.prod(unit.shape[device] for device in devices) * size == n:
            return Layout(axis, n, devices=devices)
        inner, other = innermost(unit), innermost(doubled)
        inside = axis - len(unit.shape) + len(inner.shape)
        if not devices and size % n == 0 and inner.shape[: len(inner.values[0].shape)] == inner.values[0].shape:
            minor = _minor(inner.values[0], other.values[0], inside, n)
            if minor is not None:
                return Layout(axis, n, minor)
    raise ValueError(f"{problem}: its axis {axis} numbers not only examples; {ONE_BY_ONE}")


def _changed(shape: tuple[int, ...], doubled: tuple[int, ...]) -> list[int] | None:
    """The axes whose sizes differ; None if there are more or fewer axes."""
    if len(shape) != len(doubled):
        return None
    return [axis for axis, (size, other) in enumerate(zip(shape, doubled, strict=True)) if size != other]


def _devices(unit: Unit, doubled: Unit) -> tuple[int, ...]:
    """The axes of a unit inside shard_map that number the devices over which its examples are spread."""
    outer, other = unit, doubled
    while outer.inner is not None and other.inner is not None and outer.op.primitive != "shard_map":
        outer, other = outer.inner, other.inner
    if outer.op.primitive != "shard_map":
        return ()
    spread: set[tuple[str, ...]] = set()
    for value, twin, spec in zip(outer.op.inputs, other.op.inputs, outer.op.eqn.params["in_specs"], strict=True):
        for axis in _changed(value.shape, twin.shape) or []:
            names = spec[axis] if axis < len(spec) else None
            spread.add(() if names is None else (names,) if isinstance(names, str) else tuple(names))
    if len(spread) != 1:
        return ()
    places = dict(zip(outer.mesh_axes, unit.device_axes, strict=False))
    return tuple(places[name] for name in spread.pop() if name in places)


def _minor(value: Value, twin: Value, axis: int, n: int) -> int | None:
    """How many neighbouring entries of an axis, that counts examples times something else, belong to one example.

    The axis is followed back, by its size, to the reshape that folded the examples into it.
    """
    while True:
        size = value.shape[axis]
        op, other = value.producer, twin.producer
        if op is None or other is None or op.primitive != other.primitive:
            return None
        if op.primitive == "reshape":
            before, after = op.inputs[0], other.inputs[0]
            changed = _changed(before.shape, after.shape)
            if changed is None or len(changed) != 1:
                return None
            (examples,) = changed
            if before.shape[examples] == size:  # the folding lies further back
                value, twin, axis = before, after, examples
                continue
            # The entries behind an entry of the axis, and behind an example, count the rest of each in C order.
            behind_axis = math.prod(value.shape[axis + 1 :])
            behind_example = math.prod(before.shape[examples + 1 :])
            if before.shape[examples] != n or behind_example % behind_axis:
                return None
            minor = behind_example // behind_axis
            return minor if size % (n * minor) == 0 else None
        if op.primitive not in _KEEP_ORDER:
            return None
        for before, after in zip(op.inputs, other.inputs, strict=True):
            changed = _changed(before.shape, after.shape)
            if changed is not None and len(changed) == 1 and before.shape[changed[0]] == size:
                value, twin, axis = before, after, changed[0]
                break
        else:
            return None
