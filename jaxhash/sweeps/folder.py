"""Run folder of a sweep: its configuration, its tasks, and whose they are.

    runs/x/config.json    the sweep's configuration, how it was cut into tasks, digest of the data, versions
    runs/x/tasks/<name>/  a finished task, or a snapshot of one: its models (Orbax) and their ten numbers
    runs/x/programs/      models of one's own, compiled: a file for each part of the grid that shares a program
    runs/x/partial/       where unfinished tasks stand; empty at the end
    runs/x/results.nc     all numbers, labelled by repeat, width, and what else the grid has; results.csv: the same,
                          one model a line
    runs/x/log.jsonl      what happened when (jaxhash/sweeps/log.py), added to line by line
    runs/x/.lock          who works in it now (jaxhash/storage/locks.py)

All but the last two are written whole or not at all.
"""

import dataclasses
import hashlib
import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxhash.data import Dataset
from jaxhash.models.mlp import ModelConfig
from jaxhash.storage import checked_read, checkpoint, locks
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import tasks as cut
from jaxhash.sweeps.grid import Value
from jaxhash.sweeps.tasks import Task
from jaxhash.training.vmapped import ModelSpec

CONFIG, PARTIAL, PROGRAMS, RESULTS, TABLE = "config.json", "partial", "programs", "results.nc", "results.csv"

_MOST = 2**31 - 1
"""Of anything that a configuration counts."""


class RunError(ValueError):
    """A run folder that cannot be used for what was asked."""


@contextmanager
def opened(out: Path, description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Create the folder of a run, or continue it, alone: a second process that opens it is refused.

    Args:
        out: the folder.
        description: `config` and `data` say whose run this is and have to agree with what the folder holds; the
            rest is noted when the run begins, and given back as noted when it continues.

    Raises:
        RunError: if the folder belongs to something else. Nothing is overwritten.
        InUse: if another process works in it.
    """
    path = out / CONFIG
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give a folder as --out")
    if (
        out.is_dir()
        and not path.exists()
        and any(f.name not in locks.FILES and not checkpoint.is_draft(f) for f in out.iterdir())
    ):
        raise RunError(f"{out} holds files that are not a sweep's; give a new or empty folder as --out")
    out.mkdir(parents=True, exist_ok=True)
    with locks.held(out):
        if path.exists():
            description = noted(out, description)
            checkpoint.remove_drafts(out)
        else:
            checkpoint.write_text(path, json.dumps(description, indent=1))
        yield description


def noted(out: Path, description: dict[str, Any]) -> dict[str, Any]:
    """What a run noted when it began, once it was found to be the one described; arguments as of `opened`.

    Raises:
        RunError: if it is another.
    """
    there = read_description(out)
    differing = _differences(there, description, ("config", "data", "features", "classes"))
    if differing:
        raise RunError(
            f"{out} belongs to another configuration ({'; '.join(differing)}); nothing was changed. "
            "Give another --out, or delete the folder"
        )
    return there


def read_description(out: Path) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    try:
        description = checked_read.read_json(out / CONFIG)
        _ = description["config"], description["features"], description["classes"], description["tasks"]
    except FileNotFoundError:
        raise CheckpointError(f"{out / CONFIG}: missing; {out} is not the folder of a sweep") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240, placeholder=" ...")
        raise CheckpointError(f"{out / CONFIG}: cannot be read ({reason}); restore it from a copy") from None
    return description


def tasks_of(description: dict[str, Any]) -> list[Task]:
    """The tasks that a run was cut into when it began.

    Raises:
        CheckpointError: if they are not the grid's, each model in one of them.
    """
    try:
        tasks = [cut.from_json(said) for said in description["tasks"]]
        cut.check(tasks, axes_of(description))
        if description["config"]["network"] is None:
            for task in tasks:
                if not task.widths:
                    raise ValueError("a task of no widths")
                _ = [model_config(description, task).units(width) for width in task.widths]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{CONFIG}: does not describe a sweep ({error!r}); restore it from a copy") from None
    return tasks


def axes_of(description: dict[str, Any]) -> dict[str, Sequence[Value]]:
    """The axes of a run's grid and their values, as `SweepConfig.axes`, once what they are made of was checked.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if they are none.
    """
    config, grid = description["config"], description["config"]["grid"]
    lists = [config["widths"], config["sample_sizes"], config["snapshots"]]
    if not all(isinstance(values, list) for values in (*lists, *grid.values())):
        raise TypeError("a list of values is none")
    counts = [description["features"], description["classes"], config["repeats"], config["train"]["epochs"]]
    counts += [*itertools.chain(*lists), config["model"]["depth"]]
    if wrong := [count for count in counts if type(count) is not int or not 0 <= count <= _MOST]:
        raise ValueError(f"{wrong[0]!r:.40} is no number of something")
    if not all(type(value) in (int, float, bool, str) for values in grid.values() for value in values):
        raise TypeError("a value of the grid is no number and no text")
    axes: dict[str, Any] = {"repeat": range(config["repeats"])}
    axes |= {"width": sorted(config["widths"]), "examples": sorted(config["sample_sizes"])}
    # Repeats stay a range: a grid may claim to be endless.
    return {name: values for name, values in {**axes, **grid}.items() if len(values)}


def model_config(description: dict[str, Any], task: Task) -> ModelConfig:
    """What the MLPs of a task are, apart from their widths."""
    said = dict(description["config"]["model"])
    for name, value in task.shared:
        if name in said:
            said[name] = value
    if type(said["batch_norm"]) is not bool or type(said["dropout"]) not in (int, float):
        raise TypeError("the model is none")
    if type(said["depth"]) is not int:
        raise TypeError("the depth is none")
    return ModelConfig(**said)


def identity(out: Path, task: Task, epoch: int | None) -> dict[str, Any]:
    """What a checkpoint says it is of, so that none is taken for another: the run, its models, and the snapshot.

    Raises:
        CheckpointError: as `read_description`.
    """
    changed = (out / CONFIG).stat().st_mtime_ns if (out / CONFIG).exists() else 0
    return {"run": _run_digest(out, changed), "task": cut.as_json(task), "epoch": epoch}


def describe_task(out: Path, task: Task, path: Path, epoch: int | None) -> dict[str, Any]:
    """The description saved with a checkpoint of a task, once it was found to be that; `epoch` as of `identity`.

    Raises:
        CheckpointError: if it is missing, damaged, or of another run, task or snapshot.
    """
    description, expected = checkpoint.describe(path), identity(out, task, epoch)
    said = description.get("of")
    if said != expected:
        found = said if isinstance(said, dict) else {}
        differing = ", ".join(name for name in expected if found.get(name) != expected[name])
        raise CheckpointError(
            f"{path}: holds models of something else (another {differing}); "
            "delete this folder and run the same command again, or restore it from a copy"
        )
    return description


@lru_cache(maxsize=8)  # every task asks, and a configuration names all tasks
def _run_digest(out: Path, changed: int) -> str:
    """Of whose run this is; `changed` is when that was written."""
    description = read_description(out)
    run = {name: description.get(name) for name in ("config", "data")}
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


def _differences(noted: dict[str, Any], wanted: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    """The entries in which two descriptions differ, each as text."""
    found = []
    for key in keys:
        a, b = _flat(key, noted.get(key)), _flat(key, json.loads(json.dumps(wanted.get(key))))
        found += [f"{k}: {a.get(k)} there, {b.get(k)} here" for k in sorted(a | b) if a.get(k) != b.get(k)]
    return [text.removeprefix("config.") for text in found]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in _flat(f"{prefix}.{key}", inner).items()}


def plain(config: Any) -> Any:
    """A configuration (nested frozen dataclasses) as plain JSON; data and models of one's own by their names."""

    def of(value: Any) -> Any:
        if isinstance(value, Dataset | ModelSpec):
            return value.name
        if dataclasses.is_dataclass(value):
            return {one.name: of(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return {key: of(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value

    return json.loads(json.dumps(of(config)))
