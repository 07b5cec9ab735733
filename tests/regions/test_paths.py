"""Cut points against exact fractions, bisection between dense samples, and the codes of the segments between them."""

from fractions import Fraction
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.codes import distinct
from jaxhash.regions import paths
from jaxhash.regions.paths import Affine, affine_layers, cut_points, line_cuts, line_sides, region_sides, stack_models

FEATURES = 6


def network(seed, *units):
    """Random layers whose weights are multiples of 1/64, so that fractions of them stay short."""
    rng = np.random.default_rng(seed)
    sizes = (FEATURES, *units)
    draw = lambda *shape: np.round(rng.normal(size=shape) * 64) / 64  # noqa: E731
    return tuple(Affine(draw(m, n), draw(n)) for m, n in pairwise(sizes))


def lines(seed, n):
    rng = np.random.default_rng(seed)
    return tuple(np.round(rng.normal(size=(n, FEATURES)) * 64) / 64 for _ in range(2))


def code(layers, x):
    """The code of each row of x by plain NumPy."""
    bits = []
    for kernel, bias in layers:
        z = x @ kernel + bias
        bits.append(z > 0)
        x = np.maximum(z, 0)
    return np.concatenate(bits, axis=1)


def codes_along(layers, start, end, t):
    """The codes at many points of one line."""
    return code(layers, start + t[:, None] * (end - start))


def exact_cuts(layers, a, b, stop):
    """The cut points in exact arithmetic: segment by segment, unit by unit, with fractions in plain loops."""
    a = [Fraction(float(v)) for v in a]
    b = [Fraction(float(v)) for v in b]
    pieces = [(Fraction(0), Fraction(stop), a, [q - p for p, q in zip(a, b, strict=True)])]
    for kernel, bias in layers:
        weights = [[Fraction(float(w)) for w in row] for row in kernel]
        refined = []
        for low, high, constant, slope in pieces:
            units = []
            for u in range(len(bias)):
                c = sum((p * row[u] for p, row in zip(constant, weights, strict=True)), Fraction(float(bias[u])))
                units.append((c, sum(p * row[u] for p, row in zip(slope, weights, strict=True))))
            roots = {-c / s for c, s in units if s != 0}
            edges = [low, *sorted(t for t in roots if low < t < high), high]
            for left, right in pairwise(edges):
                middle = (left + right) / 2
                on = [c + s * middle > 0 for c, s in units]
                refined.append((left, right, *([v[i] * o for v, o in zip(units, on, strict=True)] for i in (0, 1))))
        pieces = refined
    return [float(low) for low, *_ in pieces[1:]]


def found(cuts):
    """The cut points of each line as arrays of their own length."""
    for t, n in zip(cuts.t, cuts.num_cuts, strict=True):
        assert np.isinf(t[n:]).all()
        yield t[:n]


@pytest.mark.parametrize(("units", "stop"), [((9,), 1.0), ((5, 6), 3.0), ((4, 3, 4), 0.5)])
def test_cuts_are_those_of_exact_arithmetic(units, stop):
    layers, (a, b) = network(len(units), *units), lines(7, 6)
    cuts = cut_points(layers, a, b, stop=stop)
    expected = [exact_cuts(layers, *line, stop) for line in zip(a, b, strict=True)]
    assert max(map(len, expected)) > 3
    for t, exact in zip(found(cuts), expected, strict=True):
        np.testing.assert_allclose(t, exact, rtol=1e-12, atol=1e-13)


@pytest.fixture(scope="module")
def deep():
    """A network of three layers, 20 lines through it, and their cuts."""
    layers, (a, b) = network(3, 12, 10, 8), lines(4, 20)
    return layers, a, b, cut_points(layers, a, b)


def test_segments_have_one_code_each_and_no_two_the_same(deep):
    layers, a, b, cuts = deep
    for start, end, t in zip(a, b, found(cuts), strict=True):
        edges = np.concatenate([[0], t, [1]])
        low, width = edges[:-1], np.diff(edges)
        assert (width > 0).all()
        inside = [codes_along(layers, start, end, low + f * width) for f in (0.001, 0.5, 0.999)]
        np.testing.assert_array_equal(inside[0], inside[1])
        np.testing.assert_array_equal(inside[2], inside[1])
        assert len(np.unique(inside[1], axis=0)) == len(t) + 1


def test_bisection_between_dense_samples_finds_the_same_cuts(deep):
    layers, a, b, cuts = deep
    grid = np.linspace(0, 1, 2001)
    for start, end, t in zip(a, b, found(cuts), strict=True):
        at = partial(codes_along, layers, start, end)
        sampled = at(grid)
        low = np.flatnonzero((sampled[1:] != sampled[:-1]).any(1))
        ends = grid[low], grid[low + 1]
        for _ in range(30):
            middle = (ends[0] + ends[1]) / 2
            left = (at(middle) == sampled[low]).all(1)
            ends = np.where(left, middle, ends[0]), np.where(left, ends[1], middle)
        # Bisection finds the first cut of each gap of the grid.
        first = t[np.diff(np.searchsorted(grid, t), prepend=-1) > 0]
        np.testing.assert_allclose(ends[0], first, atol=1e-10)
        assert len(np.unique(sampled, axis=0)) == len(t) + 1 - (len(t) - len(first))


def test_a_small_first_guess_at_the_room_changes_nothing(deep):
    layers, a, b, cuts = deep
    small = cut_points(layers, a, b, capacity=1)
    np.testing.assert_array_equal(small.num_cuts, cuts.num_cuts)
    np.testing.assert_array_equal(small.t, cuts.t)


def test_the_pure_function_says_when_room_is_short_and_vmaps_in_float32(deep):
    layers, a, b, cuts = deep
    solve = jax.jit(jax.vmap(lambda a, d: line_cuts(single, a, d, jnp.float32(1), jnp.float32(1e-5), capacity=room)))
    single = jax.tree.map(jnp.float32, layers)
    room = int(cuts.regions.max()) - 2
    short = solve(jnp.float32(a), jnp.float32(b - a))
    np.testing.assert_array_equal(short.needed > room, cuts.regions > room)
    enough = np.asarray(cuts.regions <= room)
    assert short.t.dtype == jnp.float32
    assert 0 < enough.sum() < len(a)
    np.testing.assert_array_equal(short.num_cuts[enough], cuts.num_cuts[enough])
    width = cuts.t.shape[1]
    np.testing.assert_allclose(short.t[enough, :width], cuts.t[enough, : short.t.shape[1]], atol=1e-4)


def test_no_product_is_left_to_the_precision_of_a_gpu(deep):
    layers, a, b, _ = deep
    single = jax.tree.map(jnp.float32, layers)
    with jax.default_matmul_precision("default"):
        cuts = jax.make_jaxpr(lambda a, d: line_cuts(single, a, d, jnp.float32(1), jnp.float32(1e-5), capacity=9))
        sides = jax.make_jaxpr(lambda x, d: line_sides(single, x, d))
        programs = f"{cuts(a[0], b[0])} {sides(a[0], b[0])}"
    assert programs.count("precision=(Precision.HIGHEST") == programs.count("dot_general[") > 0


def test_models_of_different_widths_stack(deep):
    layers, a, b, cuts = deep
    other = network(5, 3, 14, 2)
    both = cut_points(stack_models([layers, other]), a, b)
    alone = cut_points(other, a, b)
    np.testing.assert_array_equal(both.num_cuts, [cuts.num_cuts, alone.num_cuts])
    np.testing.assert_allclose(both.t[0, :, : cuts.t.shape[1]], cuts.t, rtol=1e-12)
    np.testing.assert_allclose(both.t[1, :, : alone.t.shape[1]], alone.t, rtol=1e-12)
    direction = lines(9, len(a))[1]
    sides = region_sides(stack_models([layers, other]), a, direction)
    for m, model in enumerate((layers, other)):
        np.testing.assert_allclose(sides.diameter[m], region_sides(model, a, direction).diameter, rtol=1e-12)


def test_sides_are_the_nearest_cuts_of_the_two_rays(deep):
    layers, a, _, _ = deep
    direction = lines(11, len(a))[1]
    length = np.linalg.norm(direction, axis=1)
    sides = region_sides(layers, a, direction)
    for distance, sign in ((sides.above, 1), (sides.below, -1)):
        rays = cut_points(layers, a, a + sign * direction, stop=np.inf)
        nearest = np.append(rays.t, np.full((len(a), 1), np.inf), axis=1)[:, 0]
        np.testing.assert_allclose(distance, nearest * length, rtol=1e-10)
    assert np.isfinite(sides.diameter).any()


def plane(*weights, bias):
    """One hidden layer on two features."""
    return (Affine(np.array(weights, float).T, np.array(bias, float)),)


def test_ties_dead_units_and_touching_units():
    start, end = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    copies = plane([4, 0], [8, 0], [-2, 0], bias=[-1, -2, 0.5])  # all of them switch at 1/4
    assert cut_points(copies, start, end).t.tolist() == [[0.25]]
    # Never on the line, always 0, parallel to it, and switching at its ends only.
    silent = plane([1, 0], [0, 0], [0, 3], [1, 0], [1, 0], bias=[-2, 0, 0, 0, -1])
    assert cut_points(silent, start, end).num_cuts.tolist() == [0]
    # The second layer's unit touches 0 where the first layer's switches: |t - 1/2| made of two ReLUs.
    touching = (*plane([1, 0], [-1, 0], bias=[-0.5, 0.5]), Affine(np.array([[1.0], [1.0]]), np.zeros(1)))
    assert cut_points(touching, start, end).t.tolist() == [[0.5]]
    close = plane([1, 0], [1, 0], bias=[-0.5, -0.5 - 1e-7])
    assert cut_points(close, start, end).num_cuts.tolist() == [2]
    assert cut_points(close, start, end, tolerance=1e-6).num_cuts.tolist() == [1]


def test_sides_on_a_border_and_without_one():
    x, direction = np.zeros((1, 2)), np.array([[2.0, 0.0]])
    border = region_sides(plane([1, 0], [1, 0], bias=[0, 3]), x, direction)
    assert (border.below.item(), border.above.item()) == (3, 0)  # the first unit is off at 0, and on right beyond
    one_sided = region_sides(plane([-1, 5], bias=[1.5]), x, direction)
    assert (one_sided.below.item(), one_sided.above.item()) == (np.inf, 1.5)
    assert np.isinf(one_sided.diameter.item())


def test_folded_layers_of_a_trained_model_have_its_codes_and_regions(trained):
    model, x = trained.model(40), trained.data.x_test
    layers = affine_layers(model.variables)
    own = np.asarray(model.codes(x).unpack())
    margin = np.abs(np.asarray(x, np.float64) @ layers[0].kernel + layers[0].bias)
    assert (code(layers, x) == own)[margin > 1e-5].all()
    start, end = x[:5], x[5:10]
    cuts = cut_points(layers, start, end)
    grid = np.linspace(0, 1, 4001)[:, None]
    for a, b, t in zip(start, end, found(cuts), strict=True):
        sampled = int(distinct(model.codes(a + grid * (b - a))))
        seen = len(np.unique(np.searchsorted(t, grid)))  # a region narrower than the grid can be missed
        assert len(t) > 5
        assert abs(sampled - seen) <= 1  # a sample within float32 rounding of a cut


def test_layers_without_batch_norm_keep_their_biases():
    kernel, bias = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0])
    (layer,) = affine_layers({"params": {"hidden_0": {"kernel": kernel, "bias": bias}}})
    np.testing.assert_array_equal(layer.kernel, kernel)
    np.testing.assert_array_equal(layer.bias, bias)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, x: cut_points(n, x[:, :2], x[:, :2]), r"start has shape \(3, 2\) and end .* both as \[n, 6\]"),
        (lambda n, x: cut_points(n, x, x * np.nan), "end holds NaN or infinite"),
        (lambda n, x: cut_points(n, x, x, stop=0.0), "stop=0.0 must be more than 0"),
        (lambda n, x: cut_points(n, x, x, capacity=0), "capacity=0 is less than 1"),
        (lambda n, x: region_sides(n, x, np.array([[1.0] * 6, [0] * 6, [1] * 6])), "direction 1 is 0"),
        (lambda n, x: stack_models([n, n * 2]), r"\[\(1, 6\), \(2, 6\)\] cannot be stacked"),
        (lambda n, x: affine_layers({"params": {"dense": {}}}), r"no layer hidden_0 among \['dense'\]"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(network(0, 4), np.ones((3, FEATURES)))


def test_lines_come_in_any_number():
    layers, (a, b) = network(2, 5), lines(1, paths.LINES_AT_A_TIME + 2)
    cuts, last = cut_points(layers, a, b), cut_points(layers, a[-1:], b[-1:])
    assert last.num_cuts == cuts.num_cuts[-1]
    np.testing.assert_array_equal(cuts.t[-1:, : last.num_cuts.item()], last.t)
    assert cut_points(layers, a[:0], b[:0]).num_cuts.shape == (0,)
