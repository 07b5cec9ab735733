"""Compiled programs of a task's models: they are trained, evaluated, and their codes measured by them."""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxhash.codes import Code, measure
from jaxhash.codes.batched import Models, fit_in_one_program, measure_models
from jaxhash.codes.code import WORD
from jaxhash.codes.properties import PROPERTIES, RANDOM, WORDS_TOGETHER, Assignment, Property, value, words_measured
from jaxhash.runtime.devices import AXIS, SOON_COMPILED, Place
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import OnDevice, repeat_keys
from jaxhash.training.evaluate import Evaluation, make_evaluate
from jaxhash.training.mlp import TrainConfig, TrainState, init_state, make_epoch
from jaxhash.training.population import Block

MODELS_TOGETHER = 32
"""Models whose codes an accelerator measures side by side. A CPU takes one after the other."""
ROOM = 16
"""Codes of few words have room for a multiple of so many models: blocks of different sizes then share a program."""
CAPACITY_STEPS = 256
"""Sizes of the largest class are rounded up to one of so many: repeats with noise of their own share a program."""

# Codes of small samples are measured in arrays of an eighth, a 64th ... of the training set, filled up, so that few
# programs are compiled; below so many rows a program of its own costs more than it saves.
FEWEST_ROWS = 512


class Programs:
    """The programs of a block, vmapped over the repeats (and sample sizes) of a task, compiled when first used."""

    def __init__(self, block: Block, config: TrainConfig) -> None:
        self.init, self.evaluate = _of_any_recipe(block)
        self.epoch = jax.jit(jax.vmap(make_epoch(block, config), in_axes=(0, 0, 0, None, 0)), donate_argnums=0)


@lru_cache(maxsize=32)
def _of_any_recipe(block: Block) -> tuple[Any, Any]:
    """What starts and what evaluates models is the same however they are trained: variants compile it once."""
    of_repeats = jax.vmap(make_evaluate(block), in_axes=(0, 0, None, 0, 0))

    def evaluate(*arguments: Any, words: int | None = None) -> Evaluation:
        """Words: of each code; as many as the longest takes by default."""
        found = of_repeats(*arguments)
        _, models, _, least = found.words.shape
        words = least if words is None else words
        room = -models % ROOM if words <= WORDS_TOGETHER else 0
        return found._replace(words=jnp.pad(found.words, ((0, 0), (0, room), (0, 0), (0, words - least))))

    return jax.jit(jax.vmap(partial(init_state, block))), jax.jit(evaluate, static_argnames="words")


@lru_cache(maxsize=32)
def programs_of(block: Block, config: TrainConfig) -> Programs:
    """The same programs for every sweep of a process that trains such a block so: they are compiled once."""
    return Programs(block, config)


class FirstCalls:
    """A lock around the first call of a program, which compiles it: no two threads compile the same at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._called: set[Hashable] = set()

    @contextmanager
    def of(self, program: Hashable) -> Iterator[None]:
        """The first to come compiles and runs the program inside; others wait until then, and run it side by side."""
        if program in self._called:
            yield
            return
        with self._lock:
            own = self._locks.setdefault(program, threading.Lock())
        with own:
            if program not in self._called:
                yield
                self._called.add(program)
                return
        yield


first_calls = FirstCalls()


class Evaluated(NamedTuple):
    """What the models of a task make of the data."""

    train: Evaluation
    test: Evaluation
    random: Evaluation | None
    diverged: np.ndarray
    epochs: np.ndarray
    labels: np.ndarray
    """Training labels, [repeats, n]."""


def evaluate(
    task: Task, programs: Programs, state: TrainState, data: OnDevice, y: Int[np.ndarray, "repeats n"]
) -> Evaluated:
    """Losses, accuracies and codes of all models of a task; y: the training labels of each repeat."""
    place, n = data.place, len(data.x)
    counts = place.spread(jnp.array(task.examples, jnp.int32)) if task.examples else None
    rows, words = shape_to_measure(task, n)

    def evaluation(x: Array, labels: np.ndarray, counts: Array | None) -> Evaluation:
        with first_calls.of((task.block, len(task.repeats), x.shape, words, counts is None, place)):
            found = programs.evaluate(state.params, state.stats, x, place.spread(labels), counts, words=words)
        return jax.device_put(found, _measured_at(place).split)

    test_y = np.broadcast_to(data.host.y_test, (len(task.repeats), len(data.host.y_test)))
    return Evaluated(
        evaluation(data.x[:rows], y[:, :rows], counts),
        evaluation(data.test_x, test_y, None),
        # The labels do not matter here: only the codes are used.
        None if data.random_x is None else evaluation(data.random_x, test_y, None),
        np.asarray(state.diverged),
        np.asarray(state.epochs),
        y,
    )


def _measured_at(place: Place) -> Place:
    """The devices that a CPU is made to have are the same cores: what measures codes is compiled for the first only."""
    return Place((jax.local_devices()[0],)) if place.on_cpu and len(place.devices) == 1 else place


def rows_to_measure(examples: int, n: int) -> int:
    """Rows of the arrays in which the codes of a sample of so many examples, out of n, are measured."""
    rows = n
    while rows // 8 >= max(examples, FEWEST_ROWS):
        rows //= 8
    return rows


def shape_to_measure(task: Task, n: int) -> tuple[int, int]:
    """Rows and words of the codes of a task's models: there is one measuring program for each shape."""
    rows = rows_to_measure(max(task.examples, default=n), n)
    return rows, words_measured(rows, -(-task.block.widest * task.block.model.depth // WORD))


def measured(
    config: SweepConfig,
    task: Task,
    found: Evaluated,
    data: OnDevice,
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
    table = PROPERTIES | ({} if found.random is None else RANDOM)
    widths = task.block.widths[:most]
    if fit_in_one_program(*shape_to_measure(task, len(data.x))):
        of_codes = _together(config, task, found, data, table, widths)
        table = {}
    else:
        of_codes = {}
    of_codes |= _one_by_one(config, task, found, data, {**table, **properties}, widths, go_on)
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


def measuring(
    config: SweepConfig,
    task: Task,
    found: Evaluated,
    data: OnDevice,
    properties: Properties,
    widths: tuple[int, ...],
) -> Measuring:
    """How the codes of the first widths of a task are measured, which have to `fit_in_one_program`."""
    place = _measured_at(data.place)
    room, rows = found.train.words.shape[1:3]
    labels = found.labels[:, :rows].astype(np.int32)
    largest = max(int(np.bincount(of_repeat).max()) for of_repeat in labels)
    step = max(rows // CAPACITY_STEPS, 1)
    capacity = min(-(-largest // step) * step, rows)
    counts = np.array(task.examples or [rows] * len(labels), np.int32)
    of_repeats = place.spread((repeat_keys(config, task), labels, counts))
    of_all = np.resize(np.asarray(widths, np.int32), room), data.host.y_test.astype(np.int32), np.int32(len(widths))
    codes = found.train.words, found.test.words, found.random.words if found.random else None
    recipe = place, data.host.num_classes, capacity, config.assignment, tuple(properties.items())
    compiled_for = tuple(None if of is None else of.shape for of in codes), recipe
    return Measuring(_measuring(*recipe), (of_repeats, jax.device_put(of_all, place.whole), codes), compiled_for)


def _together(
    config: SweepConfig, task: Task, found: Evaluated, data: OnDevice, properties: Properties, widths: tuple[int, ...]
) -> Numbers:
    """Properties of all models of a task, by one program."""
    program, arguments, recipe = measuring(config, task, found, data, properties, widths)
    with first_calls.of(recipe):
        numbers = jax.device_get(program(*arguments))
    devices = len(data.place.devices)
    on_each = found.train.words.shape[0] // devices * len(widths)

    def of_models(of_all: Any) -> Float[np.ndarray, "repeats models"]:
        """Those of each device without its filling, and then without the repeats that fill the last device."""
        of_each = value(of_all).reshape(devices, -1)[:, :on_each]
        return of_each.reshape(-1, len(widths))[: len(task.repeats)]

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
    task: Task,
    found: Evaluated,
    data: OnDevice,
    properties: Properties,
    widths: tuple[int, ...],
    go_on: Callable[[], None],
) -> Numbers:
    """Properties of all models of a task, by programs for one model; NaN of those that diverged."""
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
        recipe = train.words.shape, test.n, data.host.num_classes, count is None, config.assignment, own
        with first_calls.of(("measure one", *recipe)):
            of_model = measure(
                train,
                jnp.asarray(found.labels[i, : train.n]),
                test,
                jnp.asarray(data.host.y_test),
                key=stream_key(config.repeat_key(task.repeats[i]), Stream.MEASURE, widths[m]),
                num_classes=data.host.num_classes,
                assignment=config.assignment,
                count=count,
                random=None if found.random is None else code(found.random),
                properties=properties,
            )
        for name, number in of_model.items():
            numbers[name][i, m] = number
    return numbers
