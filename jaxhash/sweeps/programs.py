"""Compiled programs that train and evaluate the models of a task; `measuring.py` measures their codes."""

import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxhash.codes.code import WORD, Code
from jaxhash.codes.files import CodeFile, Codes
from jaxhash.codes.properties import WORDS_TOGETHER, words_measured
from jaxhash.data import Dataset
from jaxhash.runtime.devices import Place, training_options
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.inputs import OnDevice
from jaxhash.sweeps.tasks import Task, block_of
from jaxhash.training.evaluate import Evaluation, make_evaluate
from jaxhash.training.mlp import TrainConfig, TrainState, init_state, make_epoch
from jaxhash.training.population import Block

ROOM = 16
"""Codes of few words have room for a multiple of so many models: blocks of different sizes then share a program."""
# Codes of small samples are measured in arrays of an eighth, a 64th ... of the training set, filled up, so that few
# programs are compiled; below so many rows a program of its own costs more than it saves.
FEWEST_ROWS = 512


Labels = Int[np.ndarray, "members n"] | Float[np.ndarray, "members n ..."]
Hyper = Mapping[str, Any]
"""What a program takes of each member, by axis: arrays [members]."""


class Work(NamedTuple):
    """What the members of a task are trained with, where they are trained."""

    keys: Array
    y: Array | np.ndarray
    """Labels, [members, n]."""
    hyper: Hyper


class Programs:
    """The programs of a block, vmapped over the members of a task, compiled when first used."""

    def __init__(self, block: Block, config: TrainConfig) -> None:
        self.block, self.config = block, config
        self.init, self.evaluate = _of_any_recipe(block)
        epoch = jax.vmap(make_epoch(block, config), in_axes=(0, 0, 0, None, 0, 0))
        self.epoch = jax.jit(epoch, donate_argnums=0, compiler_options=training_options())

    @property
    def bits(self) -> tuple[int, ...]:
        """Length of the code of each of the block's models."""
        return tuple(units * self.block.model.depth for units in self.block.units)

    def start(self, keys: Array, hyper: Hyper, data: OnDevice) -> TrainState:
        """Freshly initialised models."""
        return self.init(keys)

    def train(
        self, state: TrainState, work: Work, order: Array | np.ndarray, data: OnDevice, go_on: Callable[[], None]
    ) -> tuple[TrainState, Float[Array, "members models"]]:
        """Train for an epoch; also the losses. The state given is used up."""
        with first_calls.of((self.block, self.config, order.shape, data.place, *work.hyper)):
            return self.epoch(state, work.keys, order, data.x, work.y, work.hyper)

    def trained(self, state: TrainState) -> Any:
        """What is saved of trained models."""
        return state.params, state.stats

    def looked_at(
        self, task: Task, state: TrainState, data: OnDevice, y: Labels, folder: Path
    ) -> Iterator["Evaluated"]:
        """What the models make of the data."""
        yield evaluate(task, self, state, data, y)


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


def programs_for(config: SweepConfig, task: Task, data: Dataset) -> Programs:
    """What trains and evaluates the MLPs of a task."""
    recipe = config.recipe(dict(task.shared))
    # What the program takes as arguments is no part of it.
    own = {name: getattr(TrainConfig, name) for name in task.hyper() if hasattr(TrainConfig, name)}
    return programs_of(block_of(config, task, data.features, data.num_classes), dataclasses.replace(recipe, **own))


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


Words = UInt32[Array, "members columns n words"]


class Evaluated(NamedTuple):
    """What the models of a task make of the data."""

    task: Task
    data: OnDevice
    bits: tuple[int, ...]
    """Length of the code of each column; 0: there is none."""
    metrics: Mapping[str, Float[Array, "members columns"] | Float[np.ndarray, "members columns"]]
    """`METRICS` that are no properties of codes, and the user's."""
    train: Words | CodeFile | None
    """Codes of the training examples: of all models, or of the only one in a file."""
    test: Words | CodeFile | None
    random: Words | CodeFile | None
    diverged: Bool[np.ndarray, "members columns"]
    epochs: Int[np.ndarray, "members columns"]
    labels: Int[np.ndarray, "members n"]
    """Training labels."""

    @property
    def test_labels(self) -> Int[np.ndarray, " test"]:
        """Labels of the test examples; 0 of examples that have none."""
        host = self.data.host
        return host.y_test if host.num_classes else np.zeros(len(host.y_test), np.int32)

    def code(self, of: str, i: int, m: int) -> Codes:
        """`train`, `test` or `random` codes of one model.

        Raises:
            ValueError: if there are none.
        """
        found = getattr(self, of)
        if found is None:
            raise ValueError(f"there are no {of} codes of these models")
        if isinstance(found, CodeFile):
            return found
        return Code(found[i, m, :, : -(-self.bits[m] // WORD)], self.bits[m])


def evaluate(task: Task, programs: Programs, state: TrainState, data: OnDevice, y: Labels) -> Evaluated:
    """Losses, accuracies and codes of all MLPs of a task; y: the training labels of each member."""
    place, n = data.place, len(data.x)
    counts = place.spread(jnp.array(task.examples, jnp.int32)) if task.examples else None
    rows, words = shape_to_measure(task.examples, max(programs.bits), n)

    def evaluation(x: Array, labels: np.ndarray, counts: Array | None) -> Evaluation:
        with first_calls.of((programs.block, len(task.members), x.shape, words, counts is None, place)):
            found = programs.evaluate(state.params, state.stats, x, place.spread(labels), counts, words=words)
        return jax.device_put(found, measured_at(place).split)

    test_y = np.broadcast_to(data.host.y_test, (len(task.members), len(data.host.y_test)))
    train, test = evaluation(data.x[:rows], y[:, :rows], counts), evaluation(data.test_x, test_y, None)
    return Evaluated(
        task,
        data,
        programs.bits,
        {
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
        },
        train.words,
        test.words,
        # The labels do not matter here: only the codes are used.
        None if data.random_x is None else evaluation(data.random_x, test_y, None).words,
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


def shape_to_measure(examples: Sequence[int], bits: int, n: int) -> tuple[int, int]:
    """Rows and words of codes of so many bits, of samples of so many of n training examples (empty: of all): there is
    one measuring program for each shape.
    """
    rows = rows_to_measure(max(examples, default=n), n)
    return rows, words_measured(rows, -(-bits // WORD))
