"""Linear regions of a ReLU network along straight lines, exactly: where each unit switches is solved, not sampled.

Inputs with the same neural code form a convex region in which the network is affine (arXiv 2101.05490, section 3;
Hanin and Rolnick 2019, "Complexity of linear regions in deep networks", arXiv 1901.09021, section 2). A line therefore
meets each region in one piece, and the number of regions along it is the number of its cut points plus one.

    layers = affine_layers(jaxhash.load("runs/mnist", width=50, repeat=0).variables)
    cut_points(layers, a, b).regions       # between a[i] and b[i]
    region_sides(layers, x, direction).diameter

Numerics. `cut_points` and `region_sides` compute in float64 whatever the model was trained in; the pure functions
`line_cuts` and `line_sides` in the dtype of their arguments. A root -c / s carries the rounding of c and s, about
1e-15 / |s| in float64. Cuts closer than `tolerance` (relative to max(1, t)) count as one cut at the first of them, so
units that switch together, as copies of one another do, are counted once. A unit whose pre-activation is exactly 0
along a stretch is off there, as in a code (bit = pre-activation > 0), and cuts nothing.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxhash.models.mlp import NORM_EPSILON

LINES_AT_A_TIME = 64
"""Lines in one tile: a tile's pre-activations, lines x segments x units float64, stay within tens of megabytes."""


# TF32, the default on some GPUs, moves a float32 cut by 2e-3 (seen on an H200).
_product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Affine(NamedTuple):
    """One hidden layer: pre-activation = input @ kernel + bias, followed by a ReLU."""

    kernel: Float[Array, "*models inputs units"] | Float[np.ndarray, "*models inputs units"]
    bias: Float[Array, "*models units"] | Float[np.ndarray, "*models units"]


Layers = Sequence[Affine]
"""The hidden layers of a network, first layer first. The output layer cuts nothing and is left out."""


class Cuts(NamedTuple):
    """Where lines change regions."""

    t: Float[np.ndarray, "*models lines cuts"]
    """Cut points of each line, ascending, strictly inside (0, stop); what is left over is filled with inf."""
    num_cuts: Int[np.ndarray, "*models lines"]
    """Number of cut points of each line."""

    @property
    def regions(self) -> Int[np.ndarray, "*models lines"]:
        """Number of regions that each line goes through."""
        return self.num_cuts + 1


class Sides(NamedTuple):
    """How far the border of an example's region is, both ways along a direction, in input-space length."""

    below: Float[np.ndarray, "*models n"]
    """Against the direction; inf where no unit ever switches."""
    above: Float[np.ndarray, "*models n"]
    """Along the direction; inf where no unit ever switches."""

    @property
    def diameter(self) -> Float[np.ndarray, "*models n"]:
        """Length of the chord of the region through the example; inf if it is unbounded on a side."""
        return self.below + self.above


def affine_layers(variables: dict) -> tuple[Affine, ...]:
    """The hidden layers of an `MLP` from its Flax variables, float64, batch norm in inference mode folded in.

    Raises:
        ValueError: if these are not the variables of such a network.
    """
    params, stats = variables.get("params", {}), variables.get("batch_stats", {})
    if "hidden_0" not in params:
        raise ValueError(f"no layer hidden_0 among {sorted(params)}; give the variables of a jaxhash.models.mlp.MLP")
    layers: list[Affine] = []
    while (name := f"hidden_{len(layers)}") in params:
        own = {key: np.asarray(value, np.float64) for key, value in params[name].items()}
        kernel = own["kernel"]
        bias = own.get("bias", np.zeros(kernel.shape[1]))
        norm = f"norm_{len(layers)}"
        if norm in params:
            scale, offset = (np.asarray(params[norm][key], np.float64) for key in ("scale", "bias"))
            mean, variance = (np.asarray(stats[norm][key], np.float64) for key in ("mean", "var"))
            slope = scale / np.sqrt(variance + NORM_EPSILON)
            kernel, bias = kernel * slope, (bias - mean) * slope + offset
        layers.append(Affine(kernel, bias))
    return tuple(layers)


def stack_models(models: Sequence[Layers]) -> tuple[Affine, ...]:
    """Networks of one depth, of any widths, as one network with a leading axis of models.

    Narrower ones are padded with units of zero kernel and bias, which are off everywhere and cut nothing.

    Raises:
        ValueError: if there are none, or their depths or numbers of input features differ.
    """
    shapes = sorted({(len(layers), layers[0].kernel.shape[0]) for layers in models})
    if len(shapes) != 1:
        raise ValueError(f"networks of (depth, features) {shapes} cannot be stacked; give one or more of one shape")
    stacked = []
    for level in range(shapes[0][0]):
        own = [layers[level] for layers in models]
        inputs, units = (max(layer.kernel.shape[axis] for layer in own) for axis in (0, 1))
        kernel, bias = np.zeros((len(own), inputs, units)), np.zeros((len(own), units))
        for m, layer in enumerate(own):
            kernel[m, : layer.kernel.shape[0], : layer.kernel.shape[1]] = layer.kernel
            bias[m, : len(layer.bias)] = layer.bias
        stacked.append(Affine(kernel, bias))
    return tuple(stacked)


def cut_points(
    layers: Layers,
    start: Float[np.ndarray, "lines features"],
    end: Float[np.ndarray, "lines features"],
    *,
    stop: float = 1.0,
    tolerance: float = 1e-9,
    capacity: int | None = None,
) -> Cuts:
    """Every t in (0, stop) at which some unit switches on start + t (end - start); float64.

    Args:
        layers: of one network, or of several as `stack_models` gives them: results then have a leading axis of models.
        start: where the lines begin, t = 0.
        end: where they are at t = 1.
        stop: where they end; inf makes them rays.
        tolerance: cuts closer than tolerance * max(1, t) count as one.
        capacity: segments a line is given room for at first. It decides the time, never the result: when a line
            needs more, all are solved again with twice what it needed. By default one more than the network has
            units, which one hidden layer cannot exceed.

    Cost: each layer of w units takes capacity * inputs * w multiply-adds twice, and sorts capacity * w roots, a line.

    Raises:
        ValueError: if shapes do not fit, or `stop`, `tolerance` or `capacity` is out of range.
    """
    _check_points(layers, start=start, end=end)
    if not stop > 0 or not 0 <= tolerance < 1:
        raise ValueError(f"stop={stop} must be more than 0, and tolerance={tolerance} in [0, 1)")
    capacity = 1 + sum(layer.bias.shape[-1] for layer in layers) if capacity is None else capacity
    if capacity < 1:
        raise ValueError(f"capacity={capacity} is less than 1; a line has at least one segment")
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    with jax.enable_x64(True):
        arguments = _as_float64(layers), start, end - start, np.float64(stop), np.float64(tolerance)
        while True:
            solved = jax.tree.map(np.asarray, _solve(*arguments, capacity=capacity))
            needed = int(solved.needed.max(initial=1))
            if needed <= capacity:
                break
            capacity = 2 * needed
    return Cuts(solved.t[..., : int(solved.num_cuts.max(initial=0))], solved.num_cuts)


def region_sides(
    layers: Layers, x: Float[np.ndarray, "n features"], direction: Float[np.ndarray, "n features"]
) -> Sides:
    """How far each example's region reaches along and against its direction; float64.

    An example on a border (a pre-activation of exactly 0) belongs to the region where that unit is off, and is at
    distance 0 from its border.

    Args:
        layers: of one network, or of several as `stack_models` gives them: results then have a leading axis of models.
        x: examples.
        direction: of any length but 0, one an example.

    Cost: two passes through the network an example; exact for any depth, and with nothing that could overflow.

    Raises:
        ValueError: if shapes do not fit, or a direction is 0.
    """
    _check_points(layers, x=x, direction=direction)
    x, direction = np.asarray(x, np.float64), np.asarray(direction, np.float64)
    length = np.linalg.norm(direction, axis=1)
    if not (length > 0).all():
        raise ValueError(f"direction {int((length > 0).argmin())} is 0; give directions of some length")
    with jax.enable_x64(True):
        sides = _all_sides(_as_float64(layers), x, direction / length[:, None])
    return Sides(*map(np.asarray, sides))


class LineCuts(NamedTuple):
    """What `line_cuts` gives."""

    t: Float[Array, " cuts"]
    """Ascending, filled up with inf; `min(capacity, product of (units + 1)) - 1` places."""
    num_cuts: Int[Array, ""]
    """How many of them there are."""
    needed: Int[Array, ""]
    """Segments that some layer needed. If that is more than `capacity`, the cuts are not all there (and a layer
    behind may need more still)."""


def line_cuts(
    layers: Layers,
    origin: Float[Array, " features"],
    direction: Float[Array, " features"],
    stop: Float[Array, ""],
    tolerance: Float[Array, ""],
    *,
    capacity: int,
) -> LineCuts:
    """The cut points of one line origin + t direction, 0 < t < stop: pure, to jit and to vmap.

    Layer by layer: on each segment between the cuts so far a layer's input is affine in t, hence its pre-activations
    c + s t are, and each unit cuts the segment at most once, at -c / s.
    """
    low = jnp.zeros(1, origin.dtype)  # where segments begin; those beyond `segments` begin and end at `stop`
    segments = needed = jnp.ones((), jnp.int32)
    constant, slope = origin[None], direction[None]
    for kernel, bias in layers:
        high = jnp.append(low[1:], stop)
        c, s = _product(constant, kernel) + bias, _product(slope, kernel)
        roots = _roots(c, s, low[:, None], high[:, None], tolerance)

        # A segment becomes as many as it has roots, and one more.
        pieces = jnp.where(jnp.arange(len(low)) < segments, 1 + jnp.isfinite(roots).sum(1, dtype=jnp.int32), 0)
        ends = jnp.cumsum(pieces)
        segments, room = ends[-1], min(capacity, len(low) * (len(bias) + 1))
        needed = jnp.maximum(needed, segments)
        piece = jnp.arange(room, dtype=jnp.int32)
        parent = jnp.minimum(jnp.searchsorted(ends, piece, side="right"), len(low) - 1)
        place = jnp.clip(piece - (ends - pieces)[parent], 0, len(bias))
        low = jnp.concatenate([low[:, None], roots], axis=1)[parent, place]
        low = jnp.where(piece < segments, low, stop)

        c, s = c[parent], s[parent]
        on = c + s * _inside(low, jnp.append(low[1:], stop))[:, None] > 0
        constant, slope = jnp.where(on, c, 0), jnp.where(on, s, 0)
    cut = (jnp.arange(1, len(low)) < segments) & (low[1:] < stop)
    return LineCuts(jnp.where(cut, low[1:], jnp.inf), cut.sum(dtype=jnp.int32), needed)


def line_sides(
    layers: Layers, x: Float[Array, " features"], direction: Float[Array, " features"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The smallest t >= 0 at which x - t direction, and x + t direction, leaves the region of x: pure, as `line_cuts`.

    Inside the region all units keep their state, so pre-activations are affine in t and the first to change sign ends
    it.
    """
    below = above = jnp.full((), jnp.inf, x.dtype)
    value, slope = x, direction
    for kernel, bias in layers:
        z, dz = _product(value, kernel) + bias, _product(slope, kernel)
        on = z > 0
        distance = jnp.abs(z) / jnp.where(dz == 0, 1, jnp.abs(dz))
        # A unit that is on leaves where it falls to 0, one that is off where it rises above 0.
        above = jnp.minimum(above, jnp.where(jnp.where(on, dz < 0, dz > 0), distance, jnp.inf).min(initial=jnp.inf))
        below = jnp.minimum(below, jnp.where(jnp.where(on, dz > 0, dz < 0), distance, jnp.inf).min(initial=jnp.inf))
        value, slope = jnp.where(on, z, 0), jnp.where(on, dz, 0)
    return below, above


def _roots(c: Array, s: Array, low: Array, high: Array, tolerance: Array) -> Array:
    """Zeros of c + s t inside each segment, away from its ends and from one another: [segments, units], inf behind."""
    root = jnp.where(s != 0, -c / jnp.where(s != 0, s, 1), jnp.inf)
    margin = tolerance * jnp.maximum(1, jnp.abs(root))
    roots = jnp.sort(jnp.where((root > low + margin) & (root < high - margin), root, jnp.inf), axis=1)
    before = roots[:, :-1]
    same = roots[:, 1:] <= before + tolerance * jnp.maximum(1, before)
    return jnp.sort(roots.at[:, 1:].set(jnp.where(same, jnp.inf, roots[:, 1:])), axis=1)


def _inside(low: Array, high: Array) -> Array:
    """A point of each segment: its middle, or a point well beyond the last cut of a ray."""
    beyond = jnp.where(jnp.isfinite(low), 2 * low + 1, 0)
    return jnp.where(jnp.isfinite(high), (low + high) / 2, beyond)


@partial(jax.jit, static_argnames="capacity")
def _solve(
    layers: Layers, origin: Array, direction: Array, stop: Array, tolerance: Array, *, capacity: int
) -> LineCuts:
    n, features = origin.shape
    tile = max(min(n, LINES_AT_A_TIME), 1)
    rows = [jnp.pad(a, ((0, -n % tile), (0, 0))).reshape(-1, tile, features) for a in (origin, direction)]

    def lines(layers: Layers) -> LineCuts:
        def one(origin: Array, direction: Array) -> LineCuts:
            return line_cuts(layers, origin, direction, stop, tolerance, capacity=capacity)

        solved = jax.lax.map(lambda rows: jax.vmap(one)(*rows), rows)
        return jax.tree.map(lambda a: jax.lax.collapse(a, 0, 2)[:n], solved)

    return lines(layers) if layers[0].kernel.ndim == 2 else jax.lax.map(lines, layers)


@jax.jit
def _all_sides(layers: Layers, x: Array, direction: Array) -> tuple[Array, Array]:
    def examples(layers: Layers) -> tuple[Array, Array]:
        return jax.vmap(partial(line_sides, layers))(x, direction)

    return examples(layers) if layers[0].kernel.ndim == 2 else jax.lax.map(examples, layers)


def _as_float64(layers: Layers) -> Layers:
    return tuple(Affine(np.asarray(kernel, np.float64), np.asarray(bias, np.float64)) for kernel, bias in layers)


def _check_points(layers: Layers, **points: np.ndarray) -> None:
    (name, a), (other, b) = points.items()
    features = layers[0].kernel.shape[-2] if layers else math.nan
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != features:
        raise ValueError(
            f"{name} has shape {a.shape} and {other} {b.shape}; give both as [n, {features}], one row a line, "
            "for a network of one or more hidden layers"
        )
    for label, values in points.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{label} holds NaN or infinite numbers; give finite ones")
