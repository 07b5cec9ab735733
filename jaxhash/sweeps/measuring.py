"""Measuring of a task's codes: every property of all of its models, by one program where they fit into one."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from jaxhash.codes import Code, measure
from jaxhash.codes.batched import Models, fit_in_one_program, measure_models
from jaxhash.codes.files import CodeFile
from jaxhash.codes.properties import PROPERTIES, RANDOM, Assignment, Property, value
from jaxhash.runtime.devices import AXIS, SOON_COMPILED, Place
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import repeat_keys
from jaxhash.sweeps.programs import Evaluated, first_calls, measured_at
from jaxhash.sweeps.tasks import Task

MODELS_TOGETHER = 32
"""Models whose codes an accelerator measures side by side. A CPU takes one after the other."""
CAPACITY_STEPS = 256
"""Sizes of the largest class are rounded up to one of so many: repeats with noise of their own share a program."""


def measured(
    config: SweepConfig,
    found: Evaluated,
    properties: Properties,
    go_on: Callable[[], None] = lambda: None,
    *,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Coordinates and metrics of every model of a task; NaN where it diverged.

    `train_` metrics are those of the sample that the model was trained on. Properties of the user's own, and codes that
    are too long or too many for one program, are measured one by one; `go_on` is called in between, and may raise.
    `most`: of the first so many models of each repeat only.
    """
    task, columns = found.task, min(found.task.columns, most or found.task.columns)
    own = _table(config, found)
    if own and in_one_program(found):
        of_codes = _together(config, found, columns)
        of_codes |= _one_by_one(config, found, properties, columns, go_on)
    else:
        of_codes = _one_by_one(config, found, {**own, **properties}, columns, go_on)
    numbers = {**jax.device_get(found.metrics), **of_codes}
    models = []
    for i, m in product(range(len(task.members)), range(columns)):
        metrics: dict[str, Any] = dict.fromkeys(numbers, float("nan"))
        if not found.diverged[i, m]:
            metrics = {name: float(values[i, m]) for name, values in numbers.items()}
        ended = {"epochs": int(found.epochs[i, m]), "diverged": bool(found.diverged[i, m])}
        models.append(task.coordinates(i, m) | metrics | ended)
    return models


Numbers = dict[str, Float[np.ndarray, "members columns"]]
"""Of every model of a task, by name."""


class Measuring(NamedTuple):
    """The program that measures the codes of a task's models, and what it is called with."""

    program: Any
    arguments: tuple[Any, ...]
    recipe: Hashable
    """What it is compiled for."""


def in_one_program(found: Evaluated) -> bool:
    """Whether the codes of a task's models are measured by one program."""
    words: Any = found.train
    return not isinstance(words, CodeFile) and fit_in_one_program(*words.shape[2:])


def _table(config: SweepConfig, found: Evaluated) -> Properties:
    """What is measured, beside the user's own."""
    if found.train is None:
        return {}
    names = config.measured(found.data.host.num_classes)
    return {name: PROPERTIES[name] for name in names} | ({} if found.random is None else RANDOM)


def measuring(config: SweepConfig, found: Evaluated, columns: int) -> Measuring:
    """How the codes of the first columns of a task are measured by one program."""
    task, data, place = found.task, found.data, measured_at(found.data.place)
    words: Any = found.train
    room, rows = words.shape[1:3]
    labels = found.labels[:, :rows].astype(np.int32)
    largest = max(int(np.bincount(of_member).max()) for of_member in labels)
    step = max(rows // CAPACITY_STEPS, 1)
    capacity = min(-(-largest // step) * step, rows)
    counts = np.array(task.examples or [rows] * len(labels), np.int32)
    of_members = place.spread((repeat_keys(config, task), labels, counts))
    numbers = np.resize(np.asarray(_numbers(task)[:columns], np.int32), room)
    of_all = numbers, found.test_labels.astype(np.int32), np.int32(columns)
    codes: Any = (found.train, found.test, found.random)
    recipe = place, max(data.host.num_classes, 1), capacity, config.assignment, tuple(_table(config, found).items())
    compiled_for = tuple(None if of is None else of.shape for of in codes), recipe
    return Measuring(_measuring(*recipe), (of_members, jax.device_put(of_all, place.whole), codes), compiled_for)


def _numbers(task: Task) -> tuple[int, ...]:
    """What the key of a measurement is folded with, of each column: its width, if it has one."""
    return task.widths or (0,)


def _together(config: SweepConfig, found: Evaluated, columns: int) -> Numbers:
    """Properties of all models of a task, by one program."""
    program, arguments, recipe = measuring(config, found, columns)
    with first_calls.of(recipe):
        numbers = jax.device_get(program(*arguments))
    devices, words = len(measured_at(found.data.place).devices), arguments[2][0]
    on_each = words.shape[0] // devices * columns

    def of_models(of_all: Any) -> Float[np.ndarray, "members columns"]:
        """Those of each device without its filling, and then without the members that fill the last device."""
        of_each = value(of_all).reshape(devices, -1)[:, :on_each]
        return of_each.reshape(-1, columns)[: len(found.task.members)]

    return {name: of_models(of_all) for name, of_all in numbers.items()}


@lru_cache(maxsize=32)
def _measuring(
    place: Place, classes: int, capacity: int, assignment: Assignment, properties: tuple[tuple[str, Property], ...]
) -> Any:
    """The program that measures codes at a place; each device measures those of its own repeats."""

    def measure_task(
        of_repeats: tuple[Array, ...], shared: tuple[Array, ...], codes: tuple[Any, ...]
    ) -> dict[str, Any]:
        (keys, labels, counts), (widths, test_labels, number) = of_repeats, shared
        train, test, random = codes
        of_width = jax.vmap(lambda key, width: stream_key(key, Stream.MEASURE, width), (None, 0))
        own_keys = jax.vmap(of_width, (0, None))(keys, widths)
        models = Models(train, labels, counts, test, test_labels, random, own_keys)
        return measure_models(
            models,
            number,
            num_classes=classes,
            capacity=capacity,
            assignment=assignment,
            properties=dict(properties),
            together=1 if place.on_cpu else MODELS_TOGETHER,
        )

    if len(place.devices) > 1:
        split, whole = PartitionSpec(AXIS), PartitionSpec()
        mesh = Mesh(place.devices, (AXIS,))
        of_all = jax.shard_map(
            measure_task, mesh=mesh, in_specs=(split, whole, split), out_specs=split, check_vma=False
        )
        return jax.jit(of_all, compiler_options=SOON_COMPILED)
    return jax.jit(measure_task, compiler_options=SOON_COMPILED)


def _one_by_one(
    config: SweepConfig,
    found: Evaluated,
    properties: Properties,
    columns: int,
    go_on: Callable[[], None],
) -> Numbers:
    """Properties of all models of a task, by programs for one model; NaN of those that diverged."""
    task, host = found.task, found.data.host
    shape = len(task.members), columns
    numbers = {name: np.full(shape, np.nan) for name in properties}
    for i, m in product(*map(range, shape)):
        if found.diverged[i, m] or not properties:
            continue
        go_on()
        train, test = found.code("train", i, m), found.code("test", i, m)
        # Codes in a file are those of the sample alone.
        count = task.examples[i] if task.examples and isinstance(train, Code) else None
        own = tuple((name, id(one.function)) for name, one in properties.items())
        recipe = (train.n, train.num_words), test.n, host.num_classes, count is None, config.assignment, own
        with first_calls.of(("measure one", *recipe)):
            of_model = measure(
                train,
                jnp.asarray(found.labels[i, : train.n]),
                test,
                jnp.asarray(found.test_labels),
                key=stream_key(config.repeat_key(task.repeats[i]), Stream.MEASURE, _numbers(task)[m]),
                num_classes=max(host.num_classes, 1),
                assignment=config.assignment,
                count=count,
                random=None if found.random is None else found.code("random", i, m),
                properties=properties,
            )
        for name, number in of_model.items():
            numbers[name][i, m] = number
    return numbers
