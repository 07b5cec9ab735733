"""Files that a command leaves: pictures, CSV tables and NetCDF datasets, each written whole or not at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console

from jaxhash.plots import style
from jaxhash.storage import checkpoint

Rows: TypeAlias = Sequence[Mapping[str, object]] | pd.DataFrame


def save(
    out: Path,
    figures: Mapping[str, Figure],
    tables: Mapping[str, Rows] | None = None,
    datasets: Mapping[str, xr.Dataset] | None = None,
    others: Sequence[str] = (),
) -> None:
    """Write what a command found, and say where it is.

    Args:
        out: folder; made if it is not there.
        figures: by the names of their files, without ".png".
        tables: likewise, without ".csv".
        datasets: likewise, without ".nc".
        others: files in the folder that have been written already, to be named too.

    Raises:
        OSError: if something cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for name, data in (datasets or {}).items():
        names.append(f"{name}.nc")
        checkpoint.write_bytes(out / names[-1], bytes(data.to_netcdf(engine="scipy")))
    for name, rows in (tables or {}).items():
        names.append(f"{name}.csv")
        write_csv(out / names[-1], rows)
    for name, figure in figures.items():
        style.save(figure, out / f"{name}.png")
    pictures = ", ".join(str(out / f"{name}.png") for name in figures)
    metrics = ", ".join(str(out / name) for name in (*names, *others))
    Console().print(f"Figure: {pictures}\nMetrics: {metrics}", highlight=False, soft_wrap=True)


def write_csv(path: Path, rows: Rows) -> None:
    """Write a table; makes the folder.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(path, pd.DataFrame(rows).to_csv(index=False).encode())
