"""Style of the figures: colours, lines that are means with a band of one standard deviation, and notes in the PNG."""

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too; every line has a marker of its own besides.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (GREY, "v"))


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
