"""The activation hash phase chart as heat maps with contours."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jaxhash.plots.style import BLUE, GREY, ORANGE
from jaxhash.sweeps.phase import NAMES, Thresholds

COLOURS = ("#F4C7A1", "#F5EDC8", "#BFE0CF")
"""Of the three regimes, light enough to read numbers on."""
LABELS = {"epoch": "epochs of training", "examples": "training examples"}
MOST_PANELS = 6


def phase_chart(chart: xr.Dataset, thresholds: Thresholds, panels: str, title: str) -> Figure:
    """Redundancy ratio, 9-NN accuracy and regime, a column a sample size or a training time.

    Args:
        chart: as `regimes.chart` gives it, over `width`, `examples` and `epoch`.
        thresholds: drawn as contours.
        panels: `examples` or `epoch`: the dimension that goes along the columns, at most six of its values; the other
            goes up the axes, `width` along them.
        title: of the figure.
    """
    up = "epoch" if panels == "examples" else "examples"
    values = chart[panels].values
    shown = [values[round(i * (len(values) - 1) / (MOST_PANELS - 1))] for i in range(MOST_PANELS)]
    shown = list(values) if len(values) <= MOST_PANELS else shown
    figure = Figure(figsize=(2.0 + 2.3 * len(shown), 7.2), layout="constrained")
    grid = figure.subplots(3, len(shown), squeeze=False, sharex=True, sharey=True)
    best = chart.attrs["best_knn_accuracy"]
    redundancies = (thresholds.low_redundancy, thresholds.high_redundancy)
    accuracies = (thresholds.poor_accuracy * best, best - thresholds.plateau)
    regimes = ListedColormap(list(COLOURS))
    for column, value in enumerate(shown):
        part = chart.sel({panels: value}).transpose(up, "width")
        redundancy, accuracy, regime = grid[:, column]
        heat = _map(redundancy, part["test_redundancy"], "Oranges")
        _contours(redundancy, part["test_redundancy"], redundancies, "black")
        near = _map(accuracy, part["knn_accuracy"], "Blues")
        _contours(accuracy, part["knn_accuracy"], accuracies, "black")
        known = part["regime"].where(part["regime"] >= 0)
        regime.pcolormesh(known.values, cmap=regimes, norm=BoundaryNorm([-0.5, 0.5, 1.5, 2.5], 3))
        _contours(regime, part["test_redundancy"], redundancies, ORANGE)
        _contours(regime, part["knn_accuracy"], accuracies, BLUE)
        unit = "examples" if panels == "examples" else "epochs"
        redundancy.set_title(f"{value:,} {unit}", fontsize=10)
        regime.set_xlabel("width")
        for axes in grid[:, column]:
            _ticks(axes, part, up)
    for row, label in enumerate(("test redundancy", "9-NN accuracy", "regime")):
        grid[row, 0].set_ylabel(f"{label}\n\n{LABELS[up]}")
    figure.colorbar(heat, ax=grid[0], pad=0.01)
    figure.colorbar(near, ax=grid[1], pad=0.01)
    handles = [Patch(facecolor=COLOURS[flag], edgecolor=GREY, label=name) for flag, name in NAMES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"{title}\ncontours: test redundancy {redundancies[0]:g} and {redundancies[1]:g} (below: orange), "
        f"9-NN {accuracies[0]:.2f} and {accuracies[1]:.2f} (below: blue)",
        fontsize=11,
    )
    return figure


def _map(axes: Axes, values: xr.DataArray, colours: str) -> QuadMesh:
    """A cell a grid point: the grids are uneven, so the axes count points."""
    return axes.pcolormesh(values.values, cmap=colours, vmin=0, vmax=1)


def _contours(axes: Axes, values: xr.DataArray, levels: tuple[float, ...], colour: str) -> None:
    rows, columns = values.shape
    low, high = float(values.min()), float(values.max())
    crossed = [level for level in levels if low < level < high]
    if rows > 1 and columns > 1 and crossed:
        x, y = [i + 0.5 for i in range(columns)], [i + 0.5 for i in range(rows)]
        axes.contour(x, y, values.values, crossed, colors=colour, linewidths=1.2)


def _ticks(axes: Axes, part: xr.Dataset, up: str) -> None:
    for axis, name in ((axes.xaxis, "width"), (axes.yaxis, up)):
        values = part[name].values
        axis.set_ticks([i + 0.5 for i in range(len(values))], [f"{value:,}" for value in values])
    axes.tick_params(axis="x", labelrotation=90, labelsize=8)
    axes.tick_params(axis="y", labelsize=8)
