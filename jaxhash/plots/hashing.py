"""Figures of the learners of hash functions, from labelled histories: a line a learner.

Lines are means over seeds, bands go from the lowest seed to the highest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxhash.plots import style as plots

COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE)
STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Panel:
    """One variable of the histories, against iterations."""

    variable: str
    label: str
    """What the vertical axis says."""
    reference: float | None = None
    """A horizontal line to compare with, such as chance."""
    reference_label: str = ""
    log: bool = False
    """A logarithmic vertical axis."""


def curves(rows: Sequence[tuple[str, xr.Dataset]], panels: Sequence[Sequence[Panel]], title: str) -> Figure:
    """A row of panels for each dataset [learner, repeat, iteration], its name above it.

    Learners that lack a variable (NaN throughout) are left out of its panel.
    """
    figure = Figure(figsize=(4.6 * len(panels[0]), 0.4 + 3.6 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(panels[0]), squeeze=False)
    for (name, results), panels_of_row, axes_of_row in zip(rows, panels, grid, strict=True):
        for panel, axes in zip(panels_of_row, axes_of_row, strict=True):
            _panel(axes, results, panel)
        axes_of_row[0].set_title(name, loc="left", fontsize=10)
        axes_of_row[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def heat_map(values: xr.DataArray, title: str, label: str) -> Figure:
    """Means of values [learning_rate, entropy_bonus, baseline]: a map of the first two for each value of the third."""
    baselines = values["baseline"].values
    figure = Figure(figsize=(3.6 * len(baselines) + 1, 4), layout="constrained")
    grid = figure.subplots(1, len(baselines), squeeze=False)[0]
    low, high = float(values.min()), float(values.max())
    for baseline, axes in zip(baselines, grid, strict=True):
        one = values.sel(baseline=baseline).transpose("entropy_bonus", "learning_rate").values
        image = axes.imshow(one, cmap="cividis", vmin=low, vmax=high, aspect="auto", origin="lower")
        for (row, column), value in np.ndenumerate(one):
            dark = value < (low + high) / 2
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black")
        axes.set_xticks(range(values["learning_rate"].size), [f"{x:g}" for x in values["learning_rate"].values])
        axes.set_yticks(range(values["entropy_bonus"].size), [f"{x:g}" for x in values["entropy_bonus"].values])
        axes.set(xlabel="learning rate", ylabel="entropy bonus", title=f"baseline {baseline:g}")
    figure.colorbar(image, ax=grid, label=label)
    figure.suptitle(title)
    return figure


def histograms(samples: dict[str, np.ndarray], title: str, label: str) -> Figure:
    """How often each whole number occurs in each of several samples, with the mean in the legend."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    top = int(max(values.max() for values in samples.values()))
    edges = np.linspace(0, top + 1, min(top + 2, 60))
    for (name, values), colour in zip(samples.items(), COLOURS, strict=False):
        axes.hist(values, list(edges), color=colour, alpha=0.6, label=f"{name}: mean {values.mean():.1f}")
        axes.axvline(values.mean(), color=colour, linestyle="--")
    axes.set(xlabel=label, ylabel="key sets")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def _panel(axes: Axes, results: xr.Dataset, panel: Panel) -> None:
    looks = zip(COLOURS, STYLES, strict=True)
    for learner, (colour, style) in zip(results["learner"].values, looks, strict=False):
        values = results[panel.variable].sel(learner=learner, drop=True).dropna("iteration", how="all")
        if values.size:
            x, mean = values["iteration"].values, values.mean("repeat").values
            axes.plot(x, mean, style, color=colour, label=str(learner))
            low, high = values.min("repeat").values, values.max("repeat").values
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    if panel.reference is not None:
        axes.axhline(panel.reference, color=plots.GREY, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            panel.reference_label,
            (0.99, panel.reference),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=plots.GREY,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
        )
    if panel.log:
        axes.set_yscale("log")
    axes.set(xlabel="iteration", ylabel=panel.label)
    axes.grid(alpha=0.25)
