"""Folder of a run as the report shows it: pictures with the notes inside them, tables, configuration.

Any folder that an experiment writes: of a sweep (config.json, results.nc), of variants of one, of a hash experiment
(tables and NetCDF of its own). A file that cannot be read is named and left out; the rest is still told.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from jaxhash.sweeps import folder as runs

MOST_ROWS = 200
"""Rows shown of a table; its file has them all."""
LAST_ITERATIONS = 10
"""The end of a training is the mean of so many iterations."""

Cell = str | float | int


@dataclass(frozen=True)
class Picture:
    """A PNG file and what is noted in it (`plots.notes`)."""

    name: str
    content: bytes
    size: tuple[int, int]
    """Width and height in dots."""
    notes: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table as it is shown."""

    name: str
    header: list[str]
    rows: list[list[Cell]]
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

    @property
    def commands(self) -> list[str]:
        """The commands that drew the pictures, each once."""
        return list(dict.fromkeys(p.notes["Command"] for p in self.pictures if "Command" in p.notes))

    @property
    def software(self) -> list[str]:
        """The versions that drew the pictures, each line once."""
        return list(dict.fromkeys(p.notes["Software"] for p in self.pictures if "Software" in p.notes))


def read_run(folder: Path) -> Run:
    """Everything a folder has to show.

    Raises:
        ValueError: if it is not the folder of a run.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give folders that experiments wrote, such as runs/*")
    files = _files(folder)
    parts = [part for part in sorted(folder.iterdir()) if part.is_dir() and not part.name.startswith(".")]
    sweeps = [part.name for part in parts if (part / runs.CONFIG).is_file()]
    if not files and not sweeps:
        raise ValueError(f"{folder} is not the folder of a run: it has no picture, no table and no {runs.CONFIG}")
    run = Run(folder.resolve().name)
    if not files:
        run.remarks.append(f"not finished: {', '.join(sweeps)} begun, not put side by side; its command continues it")
    # Sweeps below a run are variants of one, and are joined in its own results.
    for path in [*files, *(path for part in parts if part.name not in sweeps for path in _files(part))]:
        name = str(path.relative_to(folder))
        try:
            _read(path, name, run)
        except Exception as error:  # a damaged file can fail in any way
            run.remarks.append(f"{name} cannot be read ({type(error).__name__}: {error})")
    return run


def read_picture(path: Path) -> Picture:
    """A PNG and the text in it."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        image.verify()
        notes = {str(name): text for name, text in image.info.items() if isinstance(text, str)}
        return Picture(path.stem, content, image.size, notes)


def read_csv(path: Path, name: str) -> Table:
    """The rows of a CSV file, numbers as numbers."""
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    return _table(name, header, [[_number(text) for text in row] for row in rows], "")


def read_json(path: Path, name: str) -> Iterator[Table]:
    """The numbers and texts of a JSON object, and its lists of equal length (an epoch an entry, say) side by side."""
    content = json.loads(path.read_text())
    columns = {key: value for key, value in content.items() if isinstance(value, dict)}
    single = [[key, _item(value)] for key, value in content.items() if key not in columns]
    if single:
        yield _table(name, ["name", "value"], single, "")
    for key, lists in columns.items():
        rows = [[i, *map(_item, row)] for i, row in enumerate(zip(*lists.values(), strict=True), 1)]
        yield _table(f"{name}: {key}", [key, *lists], rows, "")


def means(data: xr.Dataset, file: str) -> Iterator[Table]:
    """Means over repeats of the numbers in a file: a row for each combination of its other dimensions.

    Numbers along other dimensions come in a table of their own. Along `iteration` there are two columns: the first
    iteration, and the mean of the last `LAST_ITERATIONS` that a training has.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, values in data.data_vars.items():
        if values.dtype.kind in "biuf":
            groups.setdefault(tuple(str(d) for d in values.dims if d != "repeat"), []).append(str(name))
    for dims, names in groups.items():
        along = [dim for dim in dims if dim != "iteration"]
        stacked = data[names].mean("repeat") if "repeat" in data.dims else data[names]
        columns: dict[str, np.ndarray] = {}
        for name in names:
            if "iteration" in dims:
                trainings = stacked[name].transpose(*along, "iteration").values
                columns[f"{name}, first"], columns[f"{name}, end"] = _first_and_last(trainings)
            else:
                columns[name] = stacked[name].transpose(*along).values
        labels = [data[dim].values if dim in data.coords else np.arange(data.sizes[dim]) for dim in along]
        rows = [
            [
                *(_item(values[i]) for values, i in zip(labels, at, strict=True)),
                *(_item(c[at]) for c in columns.values()),
            ]
            for at in np.ndindex(*(len(values) for values in labels))
        ]
        caption = f"means over {data.sizes['repeat']} repeats" if "repeat" in data.dims else ""
        if "iteration" in dims:
            caption += f"{', ' if caption else ''}end: mean of the last {LAST_ITERATIONS} iterations"
        yield _table(file, [*along, *columns], rows, caption)


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
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return {prefix.removesuffix("."): text}


def _files(folder: Path) -> list[Path]:
    """The files of a folder that the report can read."""
    kinds = (".png", ".nc", ".csv", ".json")
    found = (path for path in folder.iterdir() if path.suffix in kinds and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _read(path: Path, name: str, run: Run) -> None:
    """Add what a file says to a run."""
    if path.suffix == ".png":
        run.pictures.append(read_picture(path))
    elif path.suffix == ".nc":
        _read_netcdf(path, name, run)
    elif path.suffix == ".csv" and not path.with_suffix(".nc").exists():
        run.tables.append(read_csv(path, name))
    elif path.name == runs.CONFIG:
        _read_description(path, run)
    elif path.suffix == ".json":
        run.tables += read_json(path, name)


def _read_netcdf(path: Path, name: str, run: Run) -> None:
    data = xr.load_dataset(path, engine="scipy")
    run.tables += means(data, name)
    if "config" in data.attrs:
        run.configuration |= configuration(json.loads(data.attrs["config"]))
    if "versions" in data.attrs:
        run.versions |= {name: str(text) for name, text in json.loads(data.attrs["versions"]).items()}
    if "device" in data.attrs:
        run.versions["device"] = str(data.attrs["device"])


def _read_description(path: Path, run: Run) -> None:
    description = json.loads(path.read_text())
    run.configuration |= configuration(description["config"])
    run.versions |= {name: str(text) for name, text in description.get("versions", {}).items()}
    run.versions |= {"device": str(description["device"])} if "device" in description else {}
    if description.get("tasks") and not (path.parent / runs.RESULTS).exists():
        tasks = path.parent / runs.TASKS
        done = len(list(tasks.iterdir())) if tasks.is_dir() else 0
        run.remarks.append(f"not finished: {done} of {len(description['tasks'])} tasks done; its command continues it")


def _table(name: str, header: list[str], rows: list[list[Cell]], caption: str) -> Table:
    if len(rows) > MOST_ROWS:
        caption += f"{'; ' if caption else ''}the first {MOST_ROWS} of {len(rows):,} rows, all are in the file"
    return Table(name, header, rows[:MOST_ROWS], caption)


def _first_and_last(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each training `[..., iteration]`: its first number, the mean of its last ones; NaN follows a short one."""
    values = values.astype(float)
    lengths = (~np.isnan(values)).sum(-1)
    last = np.full(values.shape[:-1], np.nan)
    for at in np.ndindex(*last.shape):
        if lengths[at]:
            last[at] = values[at][: lengths[at]][-LAST_ITERATIONS:].mean()
    return values[..., 0], last


def _number(text: str) -> Cell:
    for kind in (int, float) if "_" not in text else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _item(value: Any) -> Cell:
    item = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return item if isinstance(item, int | float) and not isinstance(item, bool) else str(item)
