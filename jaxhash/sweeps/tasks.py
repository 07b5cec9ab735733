"""Tasks of a sweep: which models of the grid are trained by one call, and how a grid is cut into them.

A task is a table of models. Its rows are members: they differ in the repeat, the sample size and what a program takes
as an argument (learning rates, say), and are trained side by side by `jax.vmap`. Its columns are widths of the study's
MLPs, which stand in one array program. What all of its models share, such as a depth, is compiled into the program.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxhash.sweeps.grid import NOISE, Coordinates, SweepConfig, Value
from jaxhash.training.population import Block, plan_blocks

TASKS = "tasks"
_NOT_TRACED = ("repeat", "examples", NOISE)
"""Axes of members that are no arguments of a program: which key, which examples, which labels."""
_OFF_AT_0 = ("dropout", "input_noise")
"""Axes whose 0 is no draw at all, and a program of its own."""
# Parameters, gradients and moments, 16 bytes a parameter, about fit a server core's private cache (2 MB). Measured on
# MNIST: 100, 130, 200, 260 units a block give 11.6, 12.7, 14.8, 13.3 thousand model-steps a second on 2 cores.
CPU_BLOCK_BYTES = 2_600_000
# Accelerators: a quarter of the memory for 16 bytes a parameter leaves room for the data and the codes.
ACCELERATOR_SHARE = 0.25
MOST_MEMBERS = 64
"""Models of one's own in a task, so that what is done is saved often enough."""


@dataclass(frozen=True)
class Task:
    """The models trained by one call."""

    shared: tuple[tuple[str, Value], ...]
    """Coordinates that all of its models have."""
    members: tuple[tuple[tuple[str, Value], ...], ...]
    """Coordinates of each row; all have the same axes in the same order, `repeat` first."""
    widths: tuple[int, ...] = ()
    """Coordinates of the columns: total hidden units of MLPs. Empty: one column, of models of one's own."""

    @classmethod
    def of(cls, widths: Sequence[int], repeats: Sequence[int], examples: Sequence[int] = ()) -> "Task":
        """MLPs of these widths, for each of the repeats, on the sample size that stands beside it."""
        pairs = itertools.zip_longest(repeats, examples)
        members = tuple((("repeat", repeat), *((("examples", size),) if examples else ())) for repeat, size in pairs)
        return cls((), members, tuple(widths))

    @property
    def repeats(self) -> tuple[int, ...]:
        """The repeat of each member."""
        return tuple(int(value) for value in self.values("repeat"))

    @property
    def examples(self) -> tuple[int, ...]:
        """The sample size of each member; empty: all examples."""
        return tuple(int(value) for value in self.values("examples"))

    @property
    def columns(self) -> int:
        """Models of a member."""
        return max(len(self.widths), 1)

    @property
    def models(self) -> int:
        """Models of the task."""
        return len(self.members) * self.columns

    def values(self, axis: str) -> tuple[Value, ...]:
        """The value of each member on an axis; empty if it is no axis of members."""
        if axis not in dict(self.members[0]):
            return ()
        return tuple(dict(member)[axis] for member in self.members)

    def coordinates(self, i: int, m: int) -> Coordinates:
        """Where model m of member i stands in the grid."""
        width: Coordinates = {"width": self.widths[m]} if self.widths else {}
        return {**dict(self.members[i]), **width, **dict(self.shared)}

    def hyper(self) -> dict[str, Float32[np.ndarray, " members"]]:
        """What the program takes as arguments, by axis."""
        return {
            name: np.array(self.values(name), np.float32) for name in dict(self.members[0]) if name not in _NOT_TRACED
        }

    @property
    def name(self) -> str:
        """Name of the task's folder."""
        first, last = dict(self.members[0]), dict(self.members[-1])
        parts = [label(self.shared)] if self.shared else []
        parts += [_part(f"{name}s" if name == "repeat" else name, value, last[name]) for name, value in first.items()]
        if self.widths:
            parts.insert(1 + bool(self.shared), f"widths-{self.widths[0]}-{self.widths[-1]}")
        return "_".join(parts)

    def folder(self, out: Path, epoch: int | None) -> Path:
        """Where its models are saved: at the end of training (None), or at the snapshot after some epoch."""
        return out / TASKS / (self.name if epoch is None else f"{self.name}_epoch-{epoch}")


def label(shared: Iterable[tuple[str, Value]]) -> str:
    """Coordinates as part of a name of a file."""
    return "_".join(_part(name, value) for name, value in shared)


def _part(axis: str, *values: Value) -> str:
    texts = [re.sub(r"[^\w.+-]", "_", str(value)) for value in values]
    return "-".join([axis, *texts])


def as_json(task: Task) -> dict[str, Any]:
    """What `config.json` keeps of a task."""
    of = {"shared": dict(task.shared), "members": [dict(member) for member in task.members]}
    return of | {"widths": list(task.widths)}


def from_json(said: Mapping[str, Any]) -> Task:
    """What `as_json` wrote.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if it did not.
    """
    members = tuple(tuple(member.items()) for member in said["members"])
    task = Task(tuple(said["shared"].items()), members, tuple(said["widths"]))
    if len({tuple(dict(member)) for member in members}) != 1 or "repeat" not in dict(members[0]):
        raise ValueError("members of a task have other axes than the first")
    values = [value for pairs in (task.shared, *members) for _, value in pairs]
    if not all(type(value) in (int, float, bool, str) for value in values):
        raise TypeError("a coordinate is no number and no text")
    if not all(type(width) is int for width in task.widths):
        raise TypeError("a width is no number")
    return task


def check(tasks: Sequence[Task], axes: Mapping[str, Sequence[Value]]) -> None:
    """Refuse tasks that are not those of a grid, each model in one of them.

    Raises:
        ValueError, TypeError, KeyError: if they are not.
    """
    models = 1
    for values in axes.values():
        models *= len(values)
    # Counted first: a grid may claim to be endless.
    if sum(task.models for task in tasks) != models or any(
        task.coordinates(0, 0).keys() != axes.keys() for task in tasks
    ):
        raise ValueError("the tasks are not the grid's")
    cut = Counter(
        tuple(task.coordinates(i, m).get(name) for name in axes)
        for task in tasks
        for i, m in itertools.product(range(len(task.members)), range(task.columns))
    )
    if cut != Counter(itertools.product(*axes.values())):
        raise ValueError("the tasks are not the grid's")
    if len({task.name for task in tasks}) != len(tasks):
        raise ValueError("two tasks have one name")


def kinds(grid: Mapping[str, Sequence[Value]], traced: Iterable[str]) -> list[tuple[Coordinates, list[Coordinates]]]:
    """The parts of a grid that share programs: their common coordinates, and the traced ones of every model.

    >>> kinds({"depth": (1, 2), "l2": (0.0, 0.1)}, ["l2"])
    [({'depth': 1}, [{'l2': 0.0}, {'l2': 0.1}]), ({'depth': 2}, [{'l2': 0.0}, {'l2': 0.1}])]
    """
    traced, found = set(traced), []
    parts: list[list[tuple[Coordinates, list[Coordinates]]]] = []
    for name, values in grid.items():
        together = [v for v in values if name in traced and not (name in _OFF_AT_0 and v == 0)]
        own: list[tuple[Coordinates, list[Coordinates]]] = [({name: v}, [{}]) for v in values if v not in together]
        parts.append([*own, ({}, [{name: v} for v in together])] if together else own)
    for some in itertools.product(*parts):
        shared: Coordinates = {}
        for alone, _ in some:
            shared |= alone
        members = [_joined(each) for each in itertools.product(*(of for _, of in some))]
        found.append((shared, members))
    return found


def _joined(parts: Iterable[Mapping[str, Value]]) -> Coordinates:
    return {name: value for part in parts for name, value in part.items()}


def _members(config: SweepConfig, traced: Sequence[Coordinates]) -> list[tuple[tuple[str, Value], ...]]:
    """The rows of all tasks of a kind: repeats x sample sizes, the largest first, x traced coordinates."""
    sizes = [{"examples": size} for size in sorted(config.sample_sizes, reverse=True)]
    repeats = [{"repeat": repeat} for repeat in range(config.repeats)]
    return [tuple(_joined(each).items()) for each in itertools.product(repeats, sizes or [{}], traced)]


def cut(config: SweepConfig, features: int, classes: int, memory: int | None, devices: int = 1) -> list[Task]:
    """Cut a grid of the study's MLPs for so many accelerators, each with so many bytes of memory (None: for a CPU).

    On a CPU a task is a member of a block that fits the cache; the costliest come first, so that threads end together.
    """
    found: list[tuple[int, Task]] = []
    for shared, traced in kinds(config.grid, (*config.traced, NOISE)):
        model, _, _ = config.at(shared)
        parameter_bytes = 16 * features
        members, at_once = _members(config, traced), 1
        if memory is None:
            units_per_block = max(CPU_BLOCK_BYTES // parameter_bytes, 1)
        else:
            units_per_block = max(int(ACCELERATOR_SHARE * memory) // parameter_bytes, 1)
            units = sum(model.units(width) for width in config.widths)
            at_once = min(max(units_per_block // units, 1) * devices, len(members))
        blocks = plan_blocks(config.widths, model, features, classes, units_per_block=units_per_block)
        for start in range(0, len(members), at_once):
            for block in sorted(blocks, key=lambda block: -block.flops_per_step(1)):
                task = Task(tuple(shared.items()), tuple(members[start : start + at_once]), block.widths)
                found.append((start, task))
    return [task for _, task in sorted(found, key=lambda of: of[0])]


def cut_any(config: SweepConfig, traced: Sequence[str], workers: int) -> list[Task]:
    """Cut a grid of models of one's own: the members of each kind into equal tasks, one a worker at least."""
    tasks = []
    for shared, of in kinds(config.grid, (*traced, NOISE)):
        members = _members(config, of)
        count = max(min(workers, len(members)), -(-len(members) // MOST_MEMBERS))
        ends = [round(i * len(members) / count) for i in range(count + 1)]
        tasks += [Task(tuple(shared.items()), tuple(members[start:stop])) for start, stop in itertools.pairwise(ends)]
    return tasks


def block_of(config: SweepConfig, task: Task, features: int, classes: int) -> Block:
    """The MLPs of a task."""
    return Block(task.widths, config.at(dict(task.shared))[0], features, classes)
