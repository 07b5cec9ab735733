"""Compiled programs of a task's models: they are trained, evaluated, and their codes measured by them."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxhash.codes import PROPERTIES, Code, measure, redundancy
from jaxhash.codes.code import WORD
from jaxhash.codes.properties import words_measured
from jaxhash.runtime.devices import row
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import OnDevice
from jaxhash.training.evaluate import Evaluation, make_evaluate
from jaxhash.training.mlp import TrainConfig, TrainState, init_state, make_epoch
from jaxhash.training.population import Block

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
    return (
        jax.jit(jax.vmap(partial(init_state, block))),
        jax.jit(jax.vmap(make_evaluate(block), in_axes=(0, 0, None, 0, 0))),
    )


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
    """Losses, accuracies and codes of all models of a task; y: the training labels of each repeat.

    The devices that a CPU is made to have are the same cores: there, what measures the codes is compiled for the first
    only, and they are moved to it.
    """
    place, n = data.place, len(data.x)
    counts = place.spread(jnp.array(task.examples, jnp.int32)) if task.examples else None
    rows = rows_to_measure(max(task.examples, default=n), n)

    def evaluation(x: Array, labels: np.ndarray, counts: Array | None) -> Evaluation:
        with first_calls.of((task.block, len(task.repeats), x.shape, counts is None, place)):
            found = programs.evaluate(state.params, state.stats, x, place.spread(labels), counts)
        return jax.device_put(found, jax.local_devices()[0]) if place.on_cpu else found

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


def rows_to_measure(examples: int, n: int) -> int:
    """Rows of the arrays in which the codes of a sample of so many examples, out of n, are measured."""
    rows = n
    while rows // 8 >= max(examples, FEWEST_ROWS):
        rows //= 8
    return rows


def shape_to_measure(task: Task, i: int, m: int, n: int) -> tuple[int, int]:
    """Rows and words of the codes of model m in repeat i of a task: there is one measuring program for each shape."""
    rows = rows_to_measure(task.examples[i] if task.examples else n, n)
    return rows, words_measured(rows, -(-task.block.units[m] * task.block.model.depth // WORD))


def measured(
    config: SweepConfig, task: Task, found: Evaluated, data: OnDevice, i: int, m: int, properties: Properties
) -> dict[str, Any]:
    """Coordinates and metrics of model m of the block in repeat i of the task; NaN if it diverged.

    `train_` metrics are those of the sample that the model was trained on.
    """
    repeat, width = task.repeats[i], task.block.widths[m]
    size = task.examples[i] if task.examples else None
    metrics: dict[str, Any] = dict.fromkeys(config.metrics | dict.fromkeys(properties), float("nan"))
    if not found.diverged[i, m]:
        rows, _ = shape = shape_to_measure(task, i, m, len(data.x))
        bits = task.block.units[m] * task.block.model.depth
        train, test = Code(row(found.train.words[m], i)[:rows], bits), Code(row(found.test.words[m], i), bits)
        key = stream_key(config.repeat_key(repeat), Stream.MEASURE, width)
        own = tuple((name, id(one.function)) for name, one in properties.items())
        recipe = shape, test.n, data.host.num_classes, size is None, config.assignment, own
        with first_calls.of(("measure", *recipe)):
            of_codes = measure(
                train,
                jnp.asarray(found.labels[i, :rows]),
                test,
                jnp.asarray(data.host.y_test),
                key=key,
                num_classes=data.host.num_classes,
                assignment=config.assignment,
                count=size,
                properties={**PROPERTIES, **properties},
            )
        metrics |= {
            "train_loss": float(found.train.loss[i, m]),
            "train_accuracy": float(found.train.accuracy[i, m]),
            "test_loss": float(found.test.loss[i, m]),
            "test_accuracy": float(found.test.accuracy[i, m]),
            **of_codes,
        }
        if found.random is not None:
            random = Code(row(found.random.words[m], i), bits)
            with first_calls.of(("redundancy", random.words.shape, bits)):
                metrics["random_redundancy"] = redundancy(random)
    coordinates = {"repeat": repeat, "width": width} | ({"examples": size} if size else {})
    return coordinates | metrics | {"epochs": int(found.epochs[i, m]), "diverged": bool(found.diverged[i, m])}
