"""Figures of variants of a sweep: small multiples, one panel for each factor, or for each way to cut a code."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhash.plots import style
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.variants import BASELINE, Factor, get_field, label

COLUMNS = 4
"""Panels side by side."""
SHORT = {
    "train_redundancy": "training redundancy",
    "test_redundancy": "test redundancy",
    "knn_accuracy": "9-NN accuracy",
    "test_kmeans_accuracy": "K-Means accuracy",
    "logistic_accuracy": "logistic regression",
    "test_accuracy": "network's accuracy",
}
"""Names of variables as labels of axes."""


def factors(
    results: xr.Dataset, baseline: SweepConfig, changed: Sequence[Factor], metrics: Sequence[str], title: str
) -> Figure:
    """Each metric against each factor, a line a width; the last panels show width itself, in the baseline.

    Args:
        results: of `variants.run`, by variant, repeat and width.
        baseline: the configuration that the variants are changes of.
        changed: the factors; each panel shows the values in their order, evenly spaced.
        metrics: names of those to draw, one below the other.
        title: of the figure.
    """
    bands = -(-(len(changed) + 1) // COLUMNS)
    figure = Figure(figsize=(2.9 * COLUMNS, 0.6 + 2.1 * bands * len(metrics)), layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    panels: dict[str, list[Axes]] = {}
    names = [factor.name for factor in changed] + ["width (hidden units)"]
    for band, part in enumerate(figure.subfigures(bands, 1, squeeze=False)[:, 0]):
        grid = part.subplots(len(metrics), COLUMNS, sharey="row", squeeze=False)
        for column, axes in enumerate(grid.T):
            at = band * COLUMNS + column
            if at < len(names):
                panels[names[at]] = list(axes)
            else:
                for empty in axes:
                    empty.set_axis_off()
        _label_rows(grid, metrics)
    for factor in changed:
        values = [factor.variant(baseline, value) for value in factor.values]
        now = factor.values.index(get_field(baseline, factor.field))
        for axes, metric in zip(panels[factor.name], metrics, strict=True):
            _lines(axes, results[metric].sel(variant=values).rename(variant="position"), "width")
            axes.axvline(now, color=style.GREY, linewidth=0.8, linestyle=":")
        _ticks(panels[factor.name], factor.name, [label(value) for value in factor.values])
    for axes, metric in zip(panels[names[-1]], metrics, strict=True):
        along = results[metric].sel(variant=BASELINE).rename(width="position")
        style.line(axes, _evenly(along), "baseline", "black", "D")
    _ticks(panels[names[-1]], names[-1], [str(width) for width in results["width"].values])
    lines, labels = panels[names[0]][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="upper right", ncols=len(labels), frameon=False)
    return figure


def depths(whole: xr.Dataset, layers: xr.Dataset, width: int, metrics: Sequence[str], title: str) -> Figure:
    """Each metric against depth for whole codes, and against the layer for codes of layers of models of one width.

    Args:
        whole: by depth, repeat and width.
        layers: by part ("single layer", "first layers"), depth, repeat, width and layer (from 1).
        width: of the models whose layers are shown.
        metrics: names of those to draw, one below the other.
        title: of the figure.
    """
    figure = Figure(figsize=(11, 0.6 + 2.2 * len(metrics)), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(metrics), 3, sharey="row", squeeze=False)
    for row, metric in zip(grid, metrics, strict=True):
        _lines(row[0], whole[metric].rename(depth="position"), "width")
        for axes, part in zip(row[1:], ("single layer", "first layers"), strict=True):
            _lines(axes, layers[metric].sel(part=part, width=width).rename(layer="position"), "depth")
    _label_rows(grid, metrics)
    names = (
        "all layers: depth",
        f"one layer alone: its number (width {width})",
        f"the first k layers: k (width {width})",
    )
    for column, name, along in zip(grid.T, names, (whole["depth"], layers["layer"], layers["layer"]), strict=True):
        _ticks(list(column), name, [str(value) for value in along.values])
        column[0].legend(frameon=False, fontsize="small")
    return figure


def _lines(axes: Axes, values: xr.DataArray, each: str) -> None:
    """A line for each value of one dimension, against `position`."""
    for i, one in enumerate(values[each].values):
        colour, marker = style.LINES[i % len(style.LINES)]
        style.line(axes, _evenly(values.sel({each: one}, drop=True)), f"{each} {one}", colour, marker)


def _evenly(values: xr.DataArray) -> xr.DataArray:
    """The same with positions 0, 1, 2, ... in place of the values of `position`: a grid with 0 has no log axis."""
    return values.assign_coords(position=np.arange(values.sizes["position"]))


def _label_rows(grid: np.ndarray, metrics: Sequence[str]) -> None:
    """Every panel has its label, for the notes that go with the picture; shown are those on the left."""
    for row, metric in zip(grid, metrics, strict=True):
        for axes in row:
            axes.set_ylabel(SHORT.get(metric, metric))
            axes.yaxis.label.set_visible(axes is row[0])


def _ticks(column: list[Axes], name: str, labels: list[str]) -> None:
    for axes in column:
        axes.set_ylim(-0.03, 1.03)
        axes.grid(alpha=0.25)
        axes.set_xticks(range(len(labels)), labels if axes is column[-1] else [""] * len(labels))
        axes.set_xlabel(name)
        axes.xaxis.label.set_visible(axes is column[-1])
