"""Figures from labelled results. Lines are means over repeats, bands one standard deviation either side."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too; every line has a marker of its own besides.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (GREY, "v"))


def capacity(results: xr.Dataset, title: str) -> Figure:
    """The study's model-capacity figure: redundancy ratio, and the accuracies on codes, against width."""
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


def against(results: xr.Dataset, dimension: str, panels: Mapping[str, str], title: str) -> Figure:
    """Numbers against one dimension of a sweep, on a logarithmic axis: a panel a number, a line a width.

    Args:
        results: with the dimensions `repeat`, `width` and `dimension`.
        dimension: `examples`, or `epoch`, whose 0 (untrained) stands left of 1.
        panels: names of the numbers (redundancies and accuracies), and what stands above them.
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


def line(axes: Axes, values: xr.DataArray, label: str, colour: str, marker: str | None, style: str = "-") -> None:
    """One variable against its last dimension: mean over `repeat`, and one standard deviation either side.

    Models that diverged (NaN) are left out of both.
    """
    (along,) = (str(name) for name in values.dims if name != "repeat")
    x = values[along].values
    mean, spread = values.mean("repeat").values, values.std("repeat").values
    axes.plot(x, mean, style, color=colour, marker=marker, markersize=4, label=label)
    axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, 150 dots an inch, and into it as text what it shows and where it comes from (`notes`)."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, metadata=notes(figure))


def notes(figure: Figure) -> dict[str, str]:
    """Title, Description (what each panel shows), Software with versions, and Command, if an experiment's drew it."""
    panels = [
        f"{axes.get_title()}: {axes.get_ylabel()} against {axes.get_xlabel()}".removeprefix(": ")
        for axes in figure.axes
        if axes.get_xlabel() and axes.get_ylabel()
    ]
    found = {
        "Title": figure.get_suptitle(),
        "Description": "; ".join(dict.fromkeys(panels)),
        "Software": ", ".join(f"{name} {version(name)}" for name in ("jaxhash", "jax", "numpy", "matplotlib")),
        "Command": command_line(sys.orig_argv),
    }
    return {name: text for name, text in found.items() if text}


def command_line(argv: Sequence[str]) -> str:
    """`python -m experiments.<name> ...` as it was typed, if a process began so; empty if it is another program."""
    _, *arguments = argv
    if "-m" not in arguments or not arguments[arguments.index("-m") + 1].startswith(("experiments.", "bench.")):
        return ""
    return shlex.join(["python", *arguments[arguments.index("-m") :]])


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
