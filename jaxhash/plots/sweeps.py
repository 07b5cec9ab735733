"""Figures of a sweep: properties of codes against width, sample size or training time.

Lines are means over repeats, bands one standard deviation either side.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from jaxhash.plots.style import BLUE, GREEN, GREY, LINES, ORANGE, line


def capacity(results: xr.Dataset, title: str) -> Figure:
    """The study's model-capacity figure: redundancy ratio, and the accuracies on codes, against width.

    Of several snapshots and sample sizes it shows the last and largest.
    """
    shown = {name: results[name].max().item() for name in ("epoch", "examples") if name in results.dims}
    results, title = results.sel(shown), ", ".join([title, *(f"{name} {value:,}" for name, value in shown.items())])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    line(left, results["train_redundancy"], "training examples", BLUE, "o")
    line(left, results["test_redundancy"], "test examples", ORANGE, "s")
    left.set(title="Determinism", ylabel="redundancy ratio of the codes")
    line(right, results["knn_accuracy"], "9-NN", BLUE, "o")
    line(right, results["logistic_accuracy"], "logistic regression", GREEN, "^")
    line(right, results["test_kmeans_accuracy"], "K-Means", ORANGE, "s")
    line(right, results["test_accuracy"], "the network itself", GREY, None, "--")
    right.set(title="Categorisation", ylabel="accuracy on test examples")
    for axes in (left, right):
        axes.set(xlabel="width (hidden units)", ylim=(-0.03, 1.03))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def of_grid(results: xr.Dataset, title: str) -> Figure:
    """The figure of any sweep: `capacity` where the grid is widths alone, else a panel for each number.

    Panels are drawn against the first axis of several numbers; every combination of the other axes is a line. Of
    several snapshots and sample sizes it shows the last and largest.
    """
    numbers = [str(name) for name in results.data_vars if results[name].ndim and name not in ("epochs", "diverged")]
    others = [str(name) for name in results.dims if name not in ("repeat", "epoch", "examples")]
    if others == ["width"] and {"knn_accuracy", "logistic_accuracy", "test_kmeans_accuracy"} <= set(numbers):
        return capacity(results, title)
    results = results.sel({name: results[name].max().item() for name in ("epoch", "examples") if name in results.dims})
    if not others:  # repeats alone
        results, others = results.rename(repeat="model").expand_dims("repeat"), ["model"]
    others = [name for name in others if results.sizes[name] > 1] or others[:1]
    numeric = [name for name in others if results[name].dtype.kind in "if"]
    along = next(iter(numeric or others))
    lines = [name for name in others if name != along]
    shown = [name for name in numbers if not name.endswith("loss")] or numbers
    columns = 3 if len(shown) in (3, 5, 6) else min(len(shown), 4)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.1 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    results = results.isel({name: 0 for name in results.dims if name not in (*others, "repeat")})
    for axes, name in zip(panels.flat, shown, strict=False):
        for i, values in enumerate(itertools.product(*(results[axis].values for axis in lines))):
            label = ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in zip(lines, values, strict=True))
            of = results[name].sel(dict(zip(lines, values, strict=True)))
            line(axes, of, label or name, *LINES[i % len(LINES)])
        at = results[along].values
        if along in numeric and at.min() > 0 and at.max() >= 10 * at.min():
            axes.set_xscale("log")
        if name.endswith(("redundancy", "accuracy")):
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -0.03), min(high, 1.03))
        axes.set_title(name.replace("_", " "), fontsize=11)
        axes.grid(alpha=0.25)
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(len(shown) - columns, 0) : len(shown)]:  # those with none below
        axes.set_xlabel(along.replace("_", " "))
        axes.tick_params(labelbottom=True)
    if lines:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    figure.suptitle(title)
    return figure


def against(results: xr.Dataset, dimension: str, panels: Mapping[str, str], title: str) -> Figure:
    """Metrics against one dimension of a sweep, on a logarithmic axis: a panel a metric, a line a width.

    Args:
        results: with the dimensions `repeat`, `width` and `dimension`.
        dimension: `examples`, or `epoch`, whose 0 (untrained) stands left of 1.
        panels: names of the metrics (redundancies and accuracies), and what stands above them.
        title: of the figure.
    """
    columns = 3
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    widths = results["width"].values
    for axes, (name, label) in zip(grid.flat, panels.items(), strict=False):
        for i, width in enumerate(widths):
            colour, marker = LINES[i % len(LINES)]
            line(axes, results[name].sel(width=width), f"width {width}", colour, marker)
        if dimension == "epoch":
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlim(-0.15, results[dimension].values[-1] * 1.15)
        else:
            axes.set_xscale("log")
        ticks = _spread(results[dimension].values)
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_title(label, fontsize=11)
        axes.set_ylim(top=min(1.03, axes.get_ylim()[1]))
        if name.endswith("redundancy"):
            axes.set(ylabel="redundancy ratio", ylim=(min(0.0, axes.get_ylim()[0]), None))
        else:
            axes.set_ylabel("accuracy")
        axes.grid(alpha=0.25)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel(str(results[dimension].attrs.get("long_name", dimension)))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    return figure


def _spread(values: np.ndarray) -> list[int]:
    """Those of the ascending values, the last among them, whose labels do not meet on a logarithmic axis."""
    places = np.log10(np.maximum(values, 0.1))
    apart = (places[-1] - places[0]) / 7
    kept = [0]
    for i, place in enumerate(places):
        if place - places[kept[-1]] >= apart:
            kept.append(i)
    if kept[-1] != len(values) - 1:
        kept = [*kept[: -1 if len(kept) > 1 else None], len(values) - 1]
    return [int(values[i]) for i in kept]
