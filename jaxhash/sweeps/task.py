"""One task of a sweep: its models trained, measured at every snapshot, and saved; from where it stood when it was cut
off, if it was.
"""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxhash.codes.code import redundancy_ratio
from jaxhash.codes.properties import measure
from jaxhash.data import Dataset, generator, uniform_inputs
from jaxhash.runtime.devices import Place, gather, row
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.storage import checkpoint
from jaxhash.storage.saves import StepSaves
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.training.evaluate import Evaluation, make_evaluate
from jaxhash.training.mlp import TrainConfig, TrainState, epoch_order, init_state, make_epoch
from jaxhash.training.population import Block

SECONDS_BETWEEN_SAVES = 60.0
# Codes of small samples are measured in arrays of an eighth, a 64th ... of the training set, filled up, so that few
# programs are compiled; below so many rows a program of its own costs more than it saves.
FEWEST_ROWS = 512


class Interrupted(Exception):
    """The sweep was asked to stop, and has; the same call continues it."""


class Progress(NamedTuple):
    """What a sweep tells while it runs."""

    task: Task
    epoch: int
    """Epochs trained so far."""
    losses: np.ndarray
    """Training loss of each model in the last epoch, [repeats, models]; empty where none was trained."""
    active: np.ndarray
    """Which models still train, [repeats, models]; empty likewise."""
    models: list[dict[str, Any]]
    """What was measured of every model of the task after this epoch: its coordinates and numbers; mostly empty."""


Report = Callable[[Progress], None]


class OnDevice(NamedTuple):
    """The data of a sweep, whole on every device of a place."""

    place: Place

    x: Float[Array, "n features"]
    y: Int[Array, " n"]
    test_x: Float[Array, "test features"]
    test_y: Int[Array, " test"]
    random_x: Float[Array, "test features"] | None
    """Uniform in [-1, 0], if their codes are asked for."""
    num_classes: int
    labels: Int[Array, " n"]
    """`y` and `test_y` once more, on no device in particular: codes are measured where they are."""
    test_labels: Int[Array, " test"]


class Programs:
    """The programs of a block, vmapped over the repeats (and sample sizes) of a task, compiled when first used."""

    def __init__(self, block: Block, config: TrainConfig) -> None:
        self.init = jax.jit(jax.vmap(partial(init_state, block)))
        self.epoch = jax.jit(jax.vmap(make_epoch(block, config), in_axes=(0, 0, 0, None, None)), donate_argnums=0)
        self.evaluate = jax.jit(jax.vmap(make_evaluate(block), in_axes=(0, 0, None, None, 0)))


@lru_cache(maxsize=32)
def programs_of(block: Block, config: TrainConfig) -> Programs:
    """The same programs for every sweep of a process that trains such a block so: they are compiled once."""
    return Programs(block, config)


def put_on_device(config: SweepConfig, data: Dataset, place: Place) -> OnDevice:
    """The data that the tasks of a sweep share."""

    def put(array: np.ndarray) -> Array:
        return jax.device_put(array, place.whole)

    random = None
    if config.random_inputs:
        random = uniform_inputs(len(data.x_test), data.features, generator(config.seed, "uniform inputs"))
    return OnDevice(
        place=place,
        x=put(data.x_train),
        y=put(data.y_train),
        test_x=put(data.x_test),
        test_y=put(data.y_test),
        random_x=None if random is None else put(random),
        num_classes=data.num_classes,
        labels=jnp.asarray(data.y_train),
        test_labels=jnp.asarray(data.y_test),
    )


def work(
    config: SweepConfig,
    task: Task,
    programs: Programs,
    data: OnDevice,
    out: Path,
    report: Report,
    stop: threading.Event,
) -> None:
    """Train the models of a task, measure and save them at every snapshot; what is saved already is not done again.

    Raises:
        Interrupted: after `stop` was set; where training stands is saved.
    """
    missing = []
    for epoch in config.moments:
        folder = folder_of(config, task, out, epoch)
        if folder.exists():
            models = runs.describe_task(out, task, folder, epoch if config.snapshots else None)["models"]
            report(Progress(task, epoch, np.zeros(0), np.zeros(0), models))
        else:
            missing.append(epoch)
    if not missing:
        return
    keys, repeats = repeat_keys(config, task), len(task.repeats)
    # A save is of the run and the task; which epoch it is of, it says itself.
    saves = StepSaves(out / runs.PARTIAL / task.name, runs.identity(out, task, None))
    resumed = saves.latest(jax.eval_shape(programs.init, keys), at_most=missing[0])
    epoch, state = (0, programs.init(keys)) if resumed is None else resumed
    state, spread_keys = data.place.spread((state, keys))
    saved = time.monotonic()
    for moment in missing:
        while epoch < moment and (active := np.asarray(state.active)).any():
            if stop.is_set():
                saves.save(epoch, gather(state, repeats))
                raise Interrupted
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                saves.save(epoch, gather(state, repeats))
                saved = time.monotonic()
            order = data.place.spread(orders(config, task, keys, epoch, len(data.x)))
            state, losses = programs.epoch(state, spread_keys, order, data.x, data.y)
            epoch += 1
            report(Progress(task, epoch, np.asarray(losses)[:repeats], active[:repeats], []))
        try:
            models = [found | {"epoch": moment} for found in _measured(config, task, programs, state, data, stop)]
        except Interrupted:
            saves.save(epoch, gather(state, repeats))
            raise
        arrays = gather((state.params, state.stats), repeats)
        of = runs.identity(out, task, moment if config.snapshots else None)
        checkpoint.save(folder_of(config, task, out, moment), arrays, {"of": of, "models": models})
        report(Progress(task, moment, np.zeros(0), np.zeros(0), models))
    saves.clear()


def folder_of(config: SweepConfig, task: Task, out: Path, epoch: int) -> Path:
    """Where the models of a task are saved after an epoch of `config.moments`."""
    return task.folder(out, epoch if config.snapshots else None)


def repeat_keys(config: SweepConfig, task: Task) -> Array:
    """The key of each repeat of a task."""
    return jnp.stack([config.repeat_key(repeat) for repeat in task.repeats])


def orders(config: SweepConfig, task: Task, keys: Array, epoch: int, n: int) -> Int[np.ndarray, "repeats steps batch"]:
    """The batches of an epoch for each repeat of a task, out of n training examples."""
    sizes = task.examples or (None,) * len(task.repeats)
    batch_size = config.train.batch_size
    return np.stack([epoch_order(key, epoch, n, batch_size, size) for key, size in zip(keys, sizes, strict=True)])


def rows_to_measure(examples: int, n: int) -> int:
    """Rows of the arrays in which the codes of a sample of so many examples, out of n, are measured."""
    rows = n
    while rows // 8 >= max(examples, FEWEST_ROWS):
        rows //= 8
    return rows


class Looked(NamedTuple):
    """What the models of a task make of the data."""

    train: Evaluation
    test: Evaluation
    random: Evaluation | None
    diverged: np.ndarray
    epochs: np.ndarray


def _measured(
    config: SweepConfig, task: Task, programs: Programs, state: TrainState, data: OnDevice, stop: threading.Event
) -> list[dict[str, Any]]:
    """The numbers of every model of a task; those whose codes lie on different devices are measured side by side."""
    looked = look(task, programs, state, data)

    def one(i: int, m: int) -> dict[str, Any]:
        if stop.is_set():
            raise Interrupted
        return numbers_of(config, task, looked, data, i, m)

    models = list(itertools.product(range(len(task.repeats)), range(len(task.block.widths))))
    devices = len(data.place.devices)
    on_each = -(-len(task.repeats) // devices)
    with ThreadPoolExecutor(devices) as pool:
        in_turn = sorted(models, key=lambda at: at[0] % on_each)
        futures = {at: pool.submit(one, *at) for at in in_turn}
        return [futures[at].result() for at in models]


def look(task: Task, programs: Programs, state: TrainState, data: OnDevice) -> Looked:
    """Losses, accuracies and codes of all models of a task.

    The devices that a CPU is made to have are the same cores: there, what measures the codes is compiled for the first
    only, and they are moved to it.
    """
    n = len(data.x)
    counts = data.place.spread(jnp.array(task.examples, jnp.int32)) if task.examples else None
    rows = rows_to_measure(max(task.examples, default=n), n)

    def evaluation(x: Array, y: Array, counts: Array | None) -> Evaluation:
        found = programs.evaluate(state.params, state.stats, x, y, counts)
        return jax.device_put(found, jax.local_devices()[0]) if data.place.on_cpu else found

    return Looked(
        evaluation(data.x[:rows], data.y[:rows], counts),
        evaluation(data.test_x, data.test_y, None),
        # The labels do not matter here: only the codes are used.
        None if data.random_x is None else evaluation(data.random_x, data.test_y, None),
        np.asarray(state.diverged),
        np.asarray(state.epochs),
    )


def numbers_of(config: SweepConfig, task: Task, looked: Looked, data: OnDevice, i: int, m: int) -> dict[str, Any]:
    """Coordinates and numbers of model m of the block in repeat i of the task; NaN if it diverged.

    `train_` numbers are those of the sample that the model was trained on.
    """
    repeat, width = task.repeats[i], task.block.widths[m]
    size = task.examples[i] if task.examples else None
    numbers: dict[str, Any] = dict.fromkeys(config.numbers, float("nan"))
    if not looked.diverged[i, m]:
        rows = rows_to_measure(size or len(data.x), len(data.x))
        properties = measure(
            stream_key(config.repeat_key(repeat), Stream.MEASURE, width),
            row(looked.train.words[m], i)[:rows],
            data.labels[:rows],
            row(looked.test.words[m], i),
            data.test_labels,
            num_classes=data.num_classes,
            assignment=config.assignment,
            count=size,
        )
        numbers |= {
            "train_loss": float(looked.train.loss[i, m]),
            "train_accuracy": float(looked.train.accuracy[i, m]),
            "test_loss": float(looked.test.loss[i, m]),
            "test_accuracy": float(looked.test.accuracy[i, m]),
            **properties._asdict(),
        }
        if looked.random is not None:
            numbers["random_redundancy"] = redundancy_ratio(row(looked.random.words[m], i))
    coordinates = {"repeat": repeat, "width": width} | ({"examples": size} if size else {})
    return coordinates | numbers | {"epochs": int(looked.epochs[i, m]), "diverged": bool(looked.diverged[i, m])}
