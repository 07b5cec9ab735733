"""HTML report of runs: one page, which needs no other file, of what their folders hold.

Any folder that an experiment writes: of a sweep (config.json, results.nc), of variants of one, of a hash experiment
(tables and NetCDF of its own). A file that cannot be read is named and left out; the rest is still told.
"""

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import xarray as xr
from PIL import Image

from jaxhash.sweeps import folder as sweep_folder
from jaxhash.sweeps import tasks as sweep_tasks

MOST_ROWS = 200
"""Rows shown of a table; its file has them all."""
LAST_ITERATIONS = 10
"""The end of a training is the mean of so many iterations."""


class Picture(NamedTuple):
    """A PNG file and the text in it (`plots.style.notes`)."""

    name: str
    base64: str
    size: tuple[int, int]
    notes: dict[str, str]


class Table(NamedTuple):
    """A table as the page shows it."""

    name: str
    header: list[str]
    rows: list[list[str]]
    words: list[bool]
    """Which columns hold words, and not only numbers."""
    caption: str


@dataclass
class Run:
    """What was found in a folder."""

    name: str
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)
    """Dotted name -> value."""
    versions: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """What the reader should know: not finished, not readable."""

    def noted(self, name: str) -> list[str]:
        """What the pictures note under a name (`Command`, `Software`), each text once."""
        return list(dict.fromkeys(picture.notes[name] for picture in self.pictures if name in picture.notes))

    @property
    def software(self) -> list[tuple[str, str]]:
        """Names and versions; where no file says them, what the pictures note."""
        return list(self.versions.items()) or [("software", line) for line in self.noted("Software")]


def page(runs: Sequence[Run], title: str) -> str:
    """The whole page; every text out of a run is escaped."""
    loader = jinja2.PackageLoader("jaxhash.terminal", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.jinja").render(runs=runs, title=title)


def read_run(folder: Path) -> Run:
    """Everything a folder has to show.

    Raises:
        ValueError: if it is not the folder of a run.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give folders that experiments wrote, such as runs/*")
    files = _files(folder)
    parts = sorted(part for part in folder.iterdir() if part.is_dir() and not part.name.startswith("."))
    sweeps = [part.name for part in parts if (part / sweep_folder.CONFIG).is_file()]
    if not files and not sweeps:
        nothing = f"it has no picture, no table and no {sweep_folder.CONFIG}"
        raise ValueError(f"{folder} is not the folder of a run: {nothing}")
    run = Run(folder.resolve().name)
    if not files:
        run.remarks.append(f"not finished: {', '.join(sweeps)} begun, not put side by side; its command continues it")
    # Sweeps below a run are variants of one, and are joined in its own results.
    for path in [*files, *(path for part in parts if part.name not in sweeps for path in _files(part))]:
        name = str(path.relative_to(folder))
        try:
            _READERS[path.suffix](path, name, run)
        except Exception as error:  # a damaged file can fail in any way
            run.remarks.append(f"{name} cannot be read ({type(error).__name__}: {error})")
    return run


def configuration(config: dict[str, Any]) -> dict[str, str]:
    """A configuration as dotted name -> value.

    Of the named variants of a sweep: what all share, then `variant: name` -> value for what is its own.
    """
    if not config or not all(isinstance(value, dict) and "dataset" in value for value in config.values()):
        return _flat(config, "")
    variants = {name: _flat(value, "") for name, value in config.items()}
    first, *others = variants.values()
    shared = {name: text for name, text in first.items() if all(other.get(name) == text for other in others)}
    own = {f"{v}: {name}": text for v, part in variants.items() for name, text in part.items() if name not in shared}
    return shared | own


def _flat(value: Any, prefix: str) -> dict[str, str]:
    if isinstance(value, dict):
        return {name: text for key, inner in value.items() for name, text in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix.removesuffix("."): " ".join(map(str, value)) if isinstance(value, list) else str(value)}


def _files(folder: Path) -> list[Path]:
    """The files of a folder that the report can read."""
    found = (path for path in folder.iterdir() if path.suffix in _READERS and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _read_picture(path: Path, name: str, run: Run) -> None:
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        image.verify()
        notes = {str(key): text for key, text in image.info.items() if isinstance(text, str)}
        run.pictures.append(Picture(path.stem, base64.b64encode(content).decode(), image.size, notes))


def _read_csv(path: Path, name: str, run: Run) -> None:
    if not path.with_suffix(".nc").exists():
        with path.open(newline="") as stream:
            header, *rows = csv.reader(stream)
        run.tables.append(_table(name, header, [[_number(text) for text in row] for row in rows]))


def _read_json(path: Path, name: str, run: Run) -> None:
    """Numbers and texts of an object, and its lists of equal length (an epoch an entry, say) side by side."""
    content = json.loads(path.read_text())
    if path.name == sweep_folder.CONFIG:
        _describe(run, content["config"], content.get("versions", {}), content.get("device"))
        if content.get("tasks") and not (path.parent / sweep_folder.RESULTS).exists():
            tasks = path.parent / sweep_tasks.TASKS
            done = f"{len(list(tasks.iterdir())) if tasks.is_dir() else 0} of {len(content['tasks'])} tasks done"
            run.remarks.append(f"not finished: {done}; its command continues it")
        return
    if single := [item for item in content.items() if not isinstance(item[1], dict)]:
        run.tables.append(_table(name, ["name", "value"], single))
    for key, lists in content.items():
        if isinstance(lists, dict):
            rows = [[i, *row] for i, row in enumerate(zip(*lists.values(), strict=True), 1)]
            run.tables.append(_table(f"{name}: {key}", [key, *lists], rows))


def _read_netcdf(path: Path, name: str, run: Run) -> None:
    """Means over repeats of the numbers in a file, a row for each combination of its other dimensions.

    Numbers along other dimensions come in a table of their own. Along `iteration` there are two columns: the first
    iteration, and the mean of the last `LAST_ITERATIONS` that a training has (NaN follows a short one).
    """
    data = xr.load_dataset(path, engine="scipy").reset_coords(drop=True)
    groups: dict[tuple[str, ...], list[str]] = {}
    for variable, values in data.data_vars.items():
        if values.dtype.kind in "biuf":
            groups.setdefault(tuple(str(d) for d in values.dims if d != "repeat"), []).append(str(variable))
    for dims, names in groups.items():
        part, caption = data[names], []
        if "repeat" in part.dims:
            part = part.mean("repeat")
            caption.append(f"means over {data.sizes['repeat']} repeats")
        if "iteration" in dims:
            number = part.notnull().cumsum("iteration")
            end = part.where(number > number.max("iteration") - LAST_ITERATIONS).mean("iteration")
            first = part.isel(iteration=0, drop=True)
            part = xr.Dataset({f"{n}, {w}": at[n] for n in names for w, at in (("first", first), ("end", end))})
            caption.append(f"end: mean of the last {LAST_ITERATIONS} iterations")
        along = [dim for dim in dims if dim != "iteration"]
        # A single row has no dimension to name it.
        frame = part.to_dataframe(along).reset_index() if along else part.expand_dims("_").to_dataframe()
        rows = list(frame.itertuples(index=False, name=None))
        run.tables.append(_table(name, [*along, *map(str, part.data_vars)], rows, ", ".join(caption)))
    config, versions = (json.loads(data.attrs.get(key, "{}")) for key in ("config", "versions"))
    _describe(run, config, versions, data.attrs.get("device"))


_READERS = {".png": _read_picture, ".nc": _read_netcdf, ".csv": _read_csv, ".json": _read_json}


def _describe(run: Run, config: dict[str, Any], versions: dict[str, Any], device: object) -> None:
    run.configuration |= configuration(config)
    run.versions |= {name: str(text) for name, text in versions.items()}
    run.versions |= {} if device is None else {"device": str(device)}


def _table(name: str, header: list[str], rows: Sequence[Iterable[Any]], caption: str = "") -> Table:
    if len(rows) > MOST_ROWS:
        caption += f"{'; ' if caption else ''}the first {MOST_ROWS} of {len(rows):,} rows, all are in the file"
    cells = [[_cell(value) for value in row] for row in rows[:MOST_ROWS]]
    is_word = [[not number and text != "" for text, number in row] for row in cells]
    words = [any(column) for column in zip_longest([False] * len(header), *is_word, fillvalue=False)]
    return Table(name, header, [[text for text, _ in row] for row in cells], words, caption)


def _cell(value: Any) -> tuple[str, bool]:
    """The text of a table's cell, and whether it is a number: four significant digits, whole numbers whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value), False
    if math.isnan(value):
        return "–", True
    whole = isinstance(value, int) or (abs(value) < 1e6 and value == int(value))
    return str(int(value)) if whole else f"{value:.4g}", True


def _number(text: str) -> str | int | float:
    for kind in (int, float) if "_" not in text else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return text
