"""A declared grid of models, trained, encoded and measured: repeats x widths -> labelled results.

    dataset -> tasks (blocks of widths x repeats) -> train -> codes -> properties -> xarray.Dataset

On CPU a task is one repeat of one block that fits the cache, and one thread a core works through the tasks: small
programs side by side use a CPU better than one large one (bench/README.md). On an accelerator a task is as many
models as its memory holds, in one program.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from jaxhash import checkpoint, runs
from jaxhash.data import Dataset, load, subset, with_label_noise
from jaxhash.evaluate import Evaluation, make_evaluate
from jaxhash.models import ModelConfig
from jaxhash.population import Block, plan_blocks
from jaxhash.properties import Assignment, measure
from jaxhash.runs import RunError, Task
from jaxhash.train import TrainConfig, TrainState, epoch_order, init_state, make_epoch

NUMBERS = {
    "train_loss": "cross-entropy on the training examples (nats)",
    "train_accuracy": "accuracy on the training examples",
    "test_loss": "cross-entropy on the test examples (nats)",
    "test_accuracy": "accuracy on the test examples",
    "train_redundancy": "redundancy ratio of the training codes",
    "test_redundancy": "redundancy ratio of the test codes",
    "train_kmeans_accuracy": "K-Means accuracy on the training codes",
    "test_kmeans_accuracy": "K-Means accuracy on the test codes",
    "knn_accuracy": "9-NN accuracy on the test codes",
    "logistic_accuracy": "logistic regression accuracy on the test codes",
}
"""The ten numbers that are kept of every model, as the study's authors do."""

# Parameters, gradients and moments, 16 bytes a parameter, about fit a server core's private cache (2 MB). Measured on
# MNIST: 100, 130, 200, 260 units a block give 11.6, 12.7, 14.8, 13.3 thousand model-steps a second on 2 cores.
CPU_BLOCK_BYTES = 2_600_000
# Accelerators: a quarter of the memory for 16 bytes a parameter leaves room for the data and the codes.
ACCELERATOR_SHARE = 0.25
SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class SweepConfig:
    """A grid of models and what they learn from. It decides every number of the result, bit for bit."""

    dataset: str = "digits"
    """digits (embedded), mnist, fashion_mnist, kmnist, cifar10, or the path of an .npz file with x_train, y_train,
    x_test, y_test."""
    widths: tuple[int, ...] = (3, 5, 10, 20, 30, 50, 70, 100)
    """Total hidden units of each model."""
    repeats: int = 3
    """Models of each width, each with an initialisation and a data order of its own."""
    seed: int = 0
    """Of everything random."""
    examples: int | None = None
    """Train on the first so many training examples only; all of them by default."""
    label_noise: float = 0.0
    """Fraction of training labels replaced by random ones."""
    assignment: Assignment = "optimal"
    """How K-Means clusters get their labels: the best one-to-one, or the study authors' greedy way."""
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("widths is empty; give at least one width")
        for width in self.widths:
            self.model.units(width)
        if len(set(self.widths)) != len(self.widths):
            twice = next(w for w in self.widths if self.widths.count(w) > 1)
            raise ValueError(f"width {twice} is given more than once; give each once, and use repeats instead")
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} is less than 1; train every width at least once")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is outside 0 ... {2**32 - 1}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise={self.label_noise} is outside [0, 1]; it is a fraction of the labels")

    def repeat_key(self, repeat: int) -> Array:
        """The key of a repeat: the same whoever trains beside it."""
        return jax.random.fold_in(jax.random.key(self.seed), repeat)


class Progress(NamedTuple):
    """What a sweep tells while it runs."""

    task: Task
    epoch: int
    """Epochs trained so far."""
    losses: np.ndarray
    """Training loss of each model in the last epoch, [repeats, models]; empty before the first."""
    active: np.ndarray
    """Which models still train, [repeats, models]."""
    numbers: dict[tuple[int, int], dict[str, float]]
    """(repeat, width) -> the ten numbers, once the task is finished; empty before."""


Report = Callable[[Progress], None]


class Interrupted(Exception):
    """The sweep was asked to stop, and has; the same call continues it."""


def run(
    config: SweepConfig,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    report: Report = lambda progress: None,
    stop: threading.Event | None = None,
) -> xr.Dataset:
    """Train and measure every model of the grid, or what is missing of it.

    Args:
        config: the grid.
        out: folder of the run. A run that was interrupted, even killed, continues where it stood.
        data_dir: where dataset files are looked up first; `JAXHASH_DATA_DIR` by default.
        report: called after every epoch of every task, from the threads that work on them.
        stop: set it to stop after the epochs under way; what is done is saved.

    Returns:
        `NUMBERS`, and `epochs` and `diverged`, by (repeat, width). Saved as results.nc and results.csv too.

    Raises:
        ValueError: (DataError, RunError among them) if configuration, data or folder do not serve. Nothing is
            written then.
        Interrupted: after `stop` was set.
        OSError: if something cannot be written, such as on a full disk; the same call continues the run.
    """
    data = prepare(config, data_dir)
    config.train.steps_per_epoch(len(data.x_train))
    out = Path(out)
    description = {
        "format": checkpoint.FORMAT,
        "config": runs.as_json(config),
        "data": _digest(data),
        "features": data.features,
        "classes": data.num_classes,
        "tasks": [runs.task_as_json(task) for task in plan(config, data.features, data.num_classes)],
        "versions": {name: version(name) for name in ("jaxhash", "jax", "jaxlib", "flax", "optax", "numpy")},
        "device": jax.devices()[0].device_kind,
    }
    with runs.opened(out, description) as noted:
        tasks = runs.tasks_of(noted)
        _run_tasks(config, data, tasks, out, report, stop or threading.Event())
        results = collect(out)
        _save_results(out, results)
        shutil.rmtree(out / runs.PARTIAL, ignore_errors=True)
        return results


def prepare(config: SweepConfig, data_dir: str | Path | None = None) -> Dataset:
    """The data a sweep trains on: loaded, cut to the first `examples`, labels made noisy."""
    data = load(config.dataset, data_dir)
    if config.examples is not None:
        data = subset(data, config.examples)
    if config.label_noise > 0:
        data = with_label_noise(data, config.label_noise, config.seed)
    return data


def plan(config: SweepConfig, features: int, classes: int) -> list[Task]:
    """Cut a grid into tasks that suit the default device, the costliest first, so that threads end together."""
    device = jax.devices()[0]
    parameter_bytes = 16 * features
    repeats_at_once = 1
    if device.platform == "cpu":
        units_per_block = max(CPU_BLOCK_BYTES // parameter_bytes, 1)
    else:
        memory = (device.memory_stats() or {}).get("bytes_limit", 8 * 2**30)
        units_per_block = max(int(ACCELERATOR_SHARE * memory) // parameter_bytes, 1)
        units = sum(config.model.units(width) for width in config.widths)
        repeats_at_once = min(max(units_per_block // units, 1), config.repeats)
    blocks = plan_blocks(config.widths, config.model, features, classes, units_per_block=units_per_block)
    return [
        Task(block, tuple(range(start, min(start + repeats_at_once, config.repeats))))
        for start in range(0, config.repeats, repeats_at_once)
        for block in sorted(blocks, key=lambda block: -block.flops_per_step(1))
    ]


def lanes() -> int:
    """How many tasks are worked on side by side: one a core on CPU, one on an accelerator."""
    return len(os.sched_getaffinity(0)) if jax.devices()[0].platform == "cpu" else 1


def one_thread_a_lane() -> None:
    """Ask XLA to run every CPU program on the thread that calls it; takes effect before JAX has computed anything.

    With a lane on each core, XLA's own threads only get in the way: 15.5 instead of 14.8 thousand model-steps a
    second on 2 cores (MNIST sweep). NPROC is the environment variable from which XLA's CPU client takes the size of
    its thread pools; a value that is set already is left alone. Asynchronous dispatch has to go with them, or all
    lanes would wait for the one thread left in the pool.
    """
    os.environ.setdefault("NPROC", "1")
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def collect(out: Path) -> xr.Dataset:
    """The results of a finished run, put together from its tasks.

    Raises:
        CheckpointError: if a task is missing or damaged.
    """
    description = runs.read_description(out)
    config = description["config"]
    widths = sorted(config["widths"])
    names = [*NUMBERS, "epochs", "diverged"]
    table = {name: np.full((config["repeats"], len(widths)), np.nan) for name in names}
    for task in runs.tasks_of(description):
        for entry in checkpoint.describe(out / runs.TASKS / task.name)["models"]:
            at = entry["repeat"], widths.index(entry["width"])
            for name in names:
                table[name][at] = entry[name]
    attributes = {
        **NUMBERS,
        "epochs": "epochs trained",
        "diverged": "1 where the training loss left the finite numbers",
    }
    return xr.Dataset(
        {name: (("repeat", "width"), table[name], {"long_name": attributes[name]}) for name in names},
        coords={
            "repeat": np.arange(config["repeats"], dtype=np.int32),
            "width": ("width", np.array(widths, np.int32), {"long_name": "hidden units"}),
        },
        attrs={
            "config": json.dumps(config),
            "data": description["data"],
            "versions": json.dumps(description["versions"]),
            "device": description["device"],
            "seed": config["seed"],
        },
    )


def _run_tasks(
    config: SweepConfig, data: Dataset, tasks: list[Task], out: Path, report: Report, stop: threading.Event
) -> None:
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    test_x, test_y = jnp.asarray(data.x_test), jnp.asarray(data.y_test)
    programs: dict[Block, _Programs] = {}
    for task in tasks:
        programs.setdefault(task.block, _Programs(task.block, config.train))
    if len({len(task.repeats) for task in tasks}) > 2:
        raise RunError(f"{out / runs.CONFIG}: cut into tasks of more than two sizes; restore it from a copy")

    def work(task: Task) -> None:
        path = out / runs.TASKS / task.name
        if path.exists():
            models = checkpoint.describe(path)["models"]
            report(Progress(task, config.train.epochs, np.zeros(0), np.zeros(0), _by_model(models)))
            return
        state = _train(config, task, programs[task.block], x, y, out, report, stop)
        models = _measure(config, task, programs[task.block], state, (x, y), (test_x, test_y), data.num_classes, stop)
        checkpoint.save(path, (state.params, state.stats), {"models": models})
        shutil.rmtree(out / runs.PARTIAL / task.name, ignore_errors=True)
        report(Progress(task, config.train.epochs, np.zeros(0), np.zeros(0), _by_model(models)))

    with ThreadPoolExecutor(lanes(), thread_name_prefix="lane") as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            # Short waits, so that the main thread sees signals.
            while (waited := wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION)).not_done:
                if any(future.exception() for future in waited.done):
                    break
        finally:
            if any(not future.done() for future in futures):
                stop.set()
            for future in futures:
                future.cancel()
    failures = [future.exception() for future in futures if not future.cancelled() and future.exception()]
    # A failure makes the other threads stop: tell what failed, not who stopped.
    failures.sort(key=lambda error: isinstance(error, Interrupted))
    if failures:
        raise failures[0]  # type: ignore[misc]
    if stop.is_set():
        raise Interrupted


class _Programs:
    """The compiled programs of a block, vmapped over the repeats of a task."""

    def __init__(self, block: Block, config: TrainConfig) -> None:
        self.init = jax.jit(jax.vmap(partial(init_state, block)))
        self.epoch = jax.jit(jax.vmap(make_epoch(block, config), in_axes=(0, 0, 0, None, None)), donate_argnums=0)
        self.evaluate = jax.jit(jax.vmap(make_evaluate(block), in_axes=(0, 0, None, None)))


def _train(
    config: SweepConfig,
    task: Task,
    programs: _Programs,
    x: Array,
    y: Array,
    out: Path,
    report: Report,
    stop: threading.Event,
) -> TrainState:
    """Train the models of a task to the end, from where a partial save stands if there is one."""
    keys = [config.repeat_key(repeat) for repeat in task.repeats]
    state, first = _resume(task, programs.init, jnp.stack(keys), out)
    saved = time.monotonic()
    for epoch in range(first, config.train.epochs):
        active = np.asarray(state.active)
        if not active.any():
            break
        if stop.is_set():
            _save_partial(task, state, epoch, out)
            raise Interrupted
        if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
            _save_partial(task, state, epoch, out)
            saved = time.monotonic()
        order = np.stack([epoch_order(key, epoch, len(x), config.train.batch_size) for key in keys])
        state, losses = programs.epoch(state, jnp.stack(keys), order, x, y)
        report(Progress(task, epoch + 1, np.asarray(losses), active, {}))
    return state


def _measure(
    config: SweepConfig,
    task: Task,
    programs: _Programs,
    state: TrainState,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    num_classes: int,
    stop: threading.Event,
) -> list[dict[str, Any]]:
    """The ten numbers of every model of a task; NaN for a model that diverged."""
    on_train: Evaluation = programs.evaluate(state.params, state.stats, *train)
    on_test: Evaluation = programs.evaluate(state.params, state.stats, *test)
    diverged = np.asarray(state.diverged)
    models = []
    for i, repeat in enumerate(task.repeats):
        for m, width in enumerate(task.block.widths):
            if stop.is_set():
                raise Interrupted
            numbers: dict[str, Any] = dict.fromkeys(NUMBERS, float("nan"))
            if not diverged[i, m]:
                key = jax.random.fold_in(jax.random.fold_in(config.repeat_key(repeat), 3), width)
                words = on_train.words[m][i], on_test.words[m][i]
                properties = measure(
                    key, words[0], train[1], words[1], test[1], num_classes=num_classes, assignment=config.assignment
                )
                numbers |= {
                    "train_loss": float(on_train.loss[i, m]),
                    "train_accuracy": float(on_train.accuracy[i, m]),
                    "test_loss": float(on_test.loss[i, m]),
                    "test_accuracy": float(on_test.accuracy[i, m]),
                    **properties._asdict(),
                }
            state_of = {"epochs": int(state.epochs[i, m]), "diverged": bool(diverged[i, m])}
            models.append({"repeat": repeat, "width": width, **numbers, **state_of})
    return models


def _by_model(models: list[dict[str, Any]]) -> dict[tuple[int, int], dict[str, float]]:
    return {(entry["repeat"], entry["width"]): {name: entry[name] for name in NUMBERS} for entry in models}


def _save_partial(task: Task, state: TrainState, epoch: int, out: Path) -> None:
    folder = out / runs.PARTIAL / task.name
    older = list(_partial_saves(folder))
    path = folder / f"epoch-{epoch}"
    if path in older:
        return
    checkpoint.save(path, state, {"epoch": epoch})
    for path in older:
        shutil.rmtree(path, ignore_errors=True)


def _resume(task: Task, init: Callable[[Array], TrainState], keys: Array, out: Path) -> tuple[TrainState, int]:
    """The state to go on from and the number of epochs it has seen."""
    for path in sorted(_partial_saves(out / runs.PARTIAL / task.name), key=lambda p: -int(p.name.split("-")[1])):
        try:
            state = checkpoint.restore(path, jax.eval_shape(init, keys))
            return state, checkpoint.describe(path)["epoch"]
        except checkpoint.CheckpointError:
            # Only time is lost: an older one serves, or the start.
            continue
    return init(keys), 0


def _partial_saves(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.name.startswith("epoch-"))


def _save_results(out: Path, results: xr.Dataset) -> None:
    # NetCDF 3: an HDF5 file would hold the time it was written, and never be bit-identical to another.
    checkpoint.write_bytes(out / runs.RESULTS, bytes(results.to_netcdf(engine="scipy")))
    table = results.to_dataframe().reset_index()
    checkpoint.write_text(out / runs.TABLE, table.to_csv(index=False))


def _digest(data: Dataset) -> str:
    """A fingerprint of the arrays, so that a run is never continued on other data."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
