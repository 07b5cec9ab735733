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
from jaxhash.codes.code import WORD
from jaxhash.codes.properties import PROPERTIES, RANDOM, Assignment, Property, value
from jaxhash.runtime.devices import AXIS, SOON_COMPILED, Place
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import repeat_keys
from jaxhash.sweeps.programs import Evaluated, first_calls, measured_at
from jaxhash.training.evaluate import Evaluation

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
    task, widths = found.task, found.task.block.widths[:most]
    if in_one_program(found):
        of_codes = _together(config, found, widths)
        of_codes |= _one_by_one(config, found, properties, widths, go_on)
    else:
        of_codes = _one_by_one(config, found, {**_table(found), **properties}, widths, go_on)
    scores = jax.device_get([(of.loss, of.accuracy) for of in (found.train, found.test)])
    models = []
    for i, m in product(range(len(task.repeats)), range(len(widths))):
        coordinates = {"repeat": task.repeats[i], "width": widths[m]}
        if task.examples:
            coordinates["examples"] = task.examples[i]
        metrics: dict[str, Any] = dict.fromkeys(config.metrics | dict.fromkeys(properties), float("nan"))
        if not found.diverged[i, m]:
            metrics |= {
                "train_loss": float(scores[0][0][i, m]),
                "train_accuracy": float(scores[0][1][i, m]),
                "test_loss": float(scores[1][0][i, m]),
                "test_accuracy": float(scores[1][1][i, m]),
                **{name: float(values[i, m]) for name, values in of_codes.items()},
            }
        ended = {"epochs": int(found.epochs[i, m]), "diverged": bool(found.diverged[i, m])}
        models.append(coordinates | metrics | ended)
    return models


Numbers = dict[str, Float[np.ndarray, "repeats models"]]
"""Of every model of a task, by name."""


class Measuring(NamedTuple):
    """The program that measures the codes of a task's models, and what it is called with."""

    program: Any
    arguments: tuple[Any, ...]
    recipe: Hashable
    """What it is compiled for."""


def in_one_program(found: Evaluated) -> bool:
    """Whether the codes of a task's models are measured by one program."""
    return fit_in_one_program(*found.train.words.shape[2:])


def _table(found: Evaluated) -> Properties:
    return PROPERTIES | ({} if found.random is None else RANDOM)


def measuring(config: SweepConfig, found: Evaluated, widths: tuple[int, ...]) -> Measuring:
    """How the codes of the first widths of a task are measured by one program."""
    task, data, place = found.task, found.data, measured_at(found.data.place)
    room, rows = found.train.words.shape[1:3]
    labels = found.labels[:, :rows].astype(np.int32)
    largest = max(int(np.bincount(of_repeat).max()) for of_repeat in labels)
    step = max(rows // CAPACITY_STEPS, 1)
    capacity = min(-(-largest // step) * step, rows)
    counts = np.array(task.examples or [rows] * len(labels), np.int32)
    of_repeats = place.spread((repeat_keys(config, task), labels, counts))
    of_all = np.resize(np.asarray(widths, np.int32), room), data.host.y_test.astype(np.int32), np.int32(len(widths))
    codes = found.train.words, found.test.words, found.random.words if found.random else None
    recipe = place, data.host.num_classes, capacity, config.assignment, tuple(_table(found).items())
    compiled_for = tuple(None if of is None else of.shape for of in codes), recipe
    return Measuring(_measuring(*recipe), (of_repeats, jax.device_put(of_all, place.whole), codes), compiled_for)


def _together(config: SweepConfig, found: Evaluated, widths: tuple[int, ...]) -> Numbers:
    """Properties of all models of a task, by one program."""
    program, arguments, recipe = measuring(config, found, widths)
    with first_calls.of(recipe):
        numbers = jax.device_get(program(*arguments))
    devices = len(found.data.place.devices)
    on_each = found.train.words.shape[0] // devices * len(widths)

    def of_models(of_all: Any) -> Float[np.ndarray, "repeats models"]:
        """Those of each device without its filling, and then without the repeats that fill the last device."""
        of_each = value(of_all).reshape(devices, -1)[:, :on_each]
        return of_each.reshape(-1, len(widths))[: len(found.task.repeats)]

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
    widths: tuple[int, ...],
    go_on: Callable[[], None],
) -> Numbers:
    """Properties of all models of a task, by programs for one model; NaN of those that diverged."""
    task, host = found.task, found.data.host
    shape = len(task.repeats), len(widths)
    numbers = {name: np.full(shape, np.nan) for name in properties}
    for i, m in product(*map(range, shape)):
        if found.diverged[i, m] or not properties:
            continue
        go_on()
        bits = task.block.units[m] * task.block.model.depth

        def code(of: Evaluation, i: int = i, m: int = m, bits: int = bits) -> Code:
            return Code(of.words[i, m, :, : -(-bits // WORD)], bits)

        train, test = code(found.train), code(found.test)
        count = task.examples[i] if task.examples else None
        own = tuple((name, id(one.function)) for name, one in properties.items())
        recipe = train.words.shape, test.n, host.num_classes, count is None, config.assignment, own
        with first_calls.of(("measure one", *recipe)):
            of_model = measure(
                train,
                jnp.asarray(found.labels[i, : train.n]),
                test,
                jnp.asarray(host.y_test),
                key=stream_key(config.repeat_key(task.repeats[i]), Stream.MEASURE, widths[m]),
                num_classes=host.num_classes,
                assignment=config.assignment,
                count=count,
                random=None if found.random is None else code(found.random),
                properties=properties,
            )
        for name, number in of_model.items():
            numbers[name][i, m] = number
    return numbers
