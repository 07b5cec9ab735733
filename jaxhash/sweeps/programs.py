"""Compiled programs that train and evaluate the models of a task; `measuring.py` measures their codes."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxhash.codes.code import WORD
from jaxhash.codes.properties import WORDS_TOGETHER, words_measured
from jaxhash.runtime.devices import Place, training_options
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.inputs import OnDevice
from jaxhash.training.evaluate import Evaluation, make_evaluate
from jaxhash.training.mlp import TrainConfig, TrainState, init_state, make_epoch
from jaxhash.training.population import Block

ROOM = 16
"""Codes of few words have room for a multiple of so many models: blocks of different sizes then share a program."""
# Codes of small samples are measured in arrays of an eighth, a 64th ... of the training set, filled up, so that few
# programs are compiled; below so many rows a program of its own costs more than it saves.
FEWEST_ROWS = 512


class Programs:
    """The programs of a block, vmapped over the repeats (and sample sizes) of a task, compiled when first used."""

    def __init__(self, block: Block, config: TrainConfig) -> None:
        self.init, self.evaluate = _of_any_recipe(block)
        epoch = jax.vmap(make_epoch(block, config), in_axes=(0, 0, 0, None, 0))
        self.epoch = jax.jit(epoch, donate_argnums=0, compiler_options=training_options())


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

    task: Task
    data: OnDevice
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
        return jax.device_put(found, measured_at(place).split)

    test_y = np.broadcast_to(data.host.y_test, (len(task.repeats), len(data.host.y_test)))
    return Evaluated(
        task,
        data,
        evaluation(data.x[:rows], y[:, :rows], counts),
        evaluation(data.test_x, test_y, None),
        # The labels do not matter here: only the codes are used.
        None if data.random_x is None else evaluation(data.random_x, test_y, None),
        np.asarray(state.diverged),
        np.asarray(state.epochs),
        y,
    )


def measured_at(place: Place) -> Place:
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
