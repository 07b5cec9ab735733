"""A declared grid of models, trained, encoded and measured: repeats x widths (x sample sizes x snapshots) -> labelled
results.

    dataset -> tasks (blocks of widths x repeats x sample sizes) -> train -> codes -> properties -> xarray.Dataset

On CPU a task is one repeat of one block that fits the cache, on one sample size, and one thread a core works through
the tasks: small programs side by side use a CPU better than one large one (bench/README.md). On an accelerator a task
is as many models as its memory holds, in one program. Sample sizes differ in the examples their batches name and in
nothing else: the same programs train and measure them all.
"""

import dataclasses
import hashlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from jaxhash.data import Dataset, generator, load, subset, with_label_noise
from jaxhash.runtime import memory as device_memory
from jaxhash.runtime.devices import Place, places
from jaxhash.runtime.processes import Group, appear
from jaxhash.runtime.workers import lanes
from jaxhash.storage import checkpoint
from jaxhash.sweeps import folder, log
from jaxhash.sweeps.cost import Cost, calibrate
from jaxhash.sweeps.folder import RunError, Task
from jaxhash.sweeps.grid import NUMBERS, RANDOM, SweepConfig
from jaxhash.sweeps.results import collect, save_results
from jaxhash.sweeps.task import (
    Interrupted,
    OnDevice,
    Programs,
    Progress,
    Report,
    folder_of,
    programs_of,
    put_on_device,
    work,
)
from jaxhash.training.population import Block, plan_blocks

__all__ = [
    "NUMBERS",
    "RANDOM",
    "Cost",
    "Interrupted",
    "Progress",
    "Report",
    "SweepConfig",
    "collect",
    "lanes",
    "one_thread_a_lane",
    "plan",
    "prepare",
    "run",
    "save_results",
]

# Parameters, gradients and moments, 16 bytes a parameter, about fit a server core's private cache (2 MB). Measured on
# MNIST: 100, 130, 200, 260 units a block give 11.6, 12.7, 14.8, 13.3 thousand model-steps a second on 2 cores.
CPU_BLOCK_BYTES = 2_600_000
# Accelerators: a quarter of the memory for 16 bytes a parameter leaves room for the data and the codes.
ACCELERATOR_SHARE = 0.25
OUT_OF_MEMORY = (
    "Give a smaller --batch-size, or fewer --widths or --repeats to a run (and the others to another); what was "
    "finished is saved"
)


def run(
    config: SweepConfig,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    mesh: str = "auto",
    group: Group | None = None,
    announce: Callable[[Cost], None] | None = None,
    report: Report = lambda progress: None,
    stop: threading.Event | None = None,
) -> xr.Dataset:
    """Train and measure every model of the grid, or what is missing of it.

    Args:
        config: the grid.
        out: folder of the run. A run that was interrupted, even killed, continues where it stood.
        data_dir: where dataset files are looked up first; `JAXHASH_DATA_DIR` by default.
        mesh: the devices to use: `auto` (all of this process), `none` (the first), or how many. On CPU the result is
            the same, bit for bit; docs/cluster.md says how far apart it may be on accelerators.
        group: the processes that run this together, each with this call and the same `out`; by default this one alone.
        announce: told the cost before the sweep starts, unless everything is done already. It takes two epochs and a
            few measurings to estimate.
        report: called after every epoch and every measuring of every task, from the threads that work on them.
        stop: set it to stop after the epochs under way; what is done is saved.

    Returns:
        `NUMBERS`, and `epochs` and `diverged`, by (repeat, width), and by `examples` and `epoch` if the grid has sample
        sizes and snapshots. Saved as results.nc and results.csv too.

    Raises:
        ValueError: (DataError, RunError, InUse among them) if configuration, data or folder do not serve. Nothing is
            written then.
        OutOfMemory: (a ValueError) if the models do not fit into the device's memory; what is done is saved.
        Interrupted: after `stop` was set.
        ProcessLost: (an OSError) if another process of the group died, or stopped.
        OSError: if something cannot be written, such as on a full disk; the same call continues the run.
    """
    stop = threading.Event() if stop is None else stop
    if group is not None:
        with group.sweep(stop):
            return _run(config, Path(out), data_dir, mesh, group, announce, report, stop)
    return _run(config, Path(out), data_dir, mesh, None, announce, report, stop)


def _run(
    config: SweepConfig,
    out: Path,
    data_dir: str | Path | None,
    mesh: str,
    group: Group | None,
    announce: Callable[[Cost], None] | None,
    report: Report,
    stop: threading.Event,
) -> xr.Dataset:
    at, first = places(mesh), group is None or group.index == 0
    data = prepare(config, data_dir)
    config.train.steps_per_epoch(len(data.x_train))
    description = {
        "format": checkpoint.FORMAT,
        "config": folder.as_json(config),
        "data": _digest(data),
        "features": data.features,
        "classes": data.num_classes,
        "tasks": [folder.task_as_json(task) for task in plan(config, data.features, data.num_classes, at[0])],
        "versions": {name: version(name) for name in ("jaxhash", "jax", "jaxlib", "flax", "optax", "numpy")},
        "device": at[0].devices[0].device_kind,
    }
    with (
        _opened(out, description, group, stop) as noted,
        device_memory.explained(OUT_OF_MEMORY),
    ):
        tasks = folder.tasks_of(noted)
        if len({len(task.repeats) for task in tasks}) > 2:
            raise RunError(f"{out / folder.CONFIG}: cut into tasks of more than two sizes; restore it from a copy")
        programs = {block: programs_of(block, config.train) for block in {task.block for task in tasks}}
        on_devices = [put_on_device(config, data, place) for place in at]
        todo = [task for task in tasks if not all(folder_of(config, task, out, e).exists() for e in config.moments)]
        if announce is not None and todo:
            announce(calibrate(config, todo, programs, on_devices[0], max(lanes(), len(at))))
        process, processes = (0, 1) if group is None else (group.index, group.count)
        with log.opened(out, config, tasks, len(data.x_train), report, process=process, processes=processes) as report:
            others = _run_tasks(config, tasks, programs, on_devices, out, group, report, stop)
            if group is not None:
                _meet(group, "done", stop)
                appear(folder_of(config, task, out, e) for task in tasks for e in config.moments)
                for task in others:  # they are done: this only reports them
                    work(config, task, programs[task.block], on_devices[0], out, report, stop)
            found = collect(out)
            if first:
                save_results(out, found)
        if first:
            shutil.rmtree(out / folder.PARTIAL, ignore_errors=True)
        if group is not None:
            _meet(group, "saved", stop)
        return found


@contextmanager
def _opened(
    out: Path, description: dict[str, Any], group: Group | None, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    """The folder of a run: opened by the first process of a group, and known to the others then."""
    defaults = folder.as_json(SweepConfig())
    if group is None or group.index == 0:
        with folder.opened(out, description, defaults) as noted:
            if group is not None:
                _meet(group, "opened", stop)
            yield noted
    else:
        _meet(group, "opened", stop)
        appear([out / folder.CONFIG])
        yield folder.noted(out, description, defaults)


def _meet(group: Group, where: str, stop: threading.Event) -> None:
    group.meet(where, stop)
    if stop.is_set():
        raise Interrupted


def prepare(config: SweepConfig, data_dir: str | Path | None = None) -> Dataset:
    """The data a sweep trains on: loaded, cut to the first `examples`, labels made noisy.

    Raises:
        ValueError: if there is too little of it for `examples` or a sample size; DataError if it cannot be had.
    """
    data = load(config.dataset, data_dir)
    if config.examples is not None:
        data = subset(data, config.examples)
    available = len(data.x_train)
    if max(config.sample_sizes, default=0) > available:
        raise ValueError(
            f"sample size {max(config.sample_sizes)} is more than the {available:,} training examples of {data.name}; "
            f"give at most {available}"
        )
    if config.label_noise > 0:
        rng = generator(config.seed, "label noise")
        noisy = with_label_noise(data.y_train, config.label_noise, data.num_classes, rng)
        data = dataclasses.replace(data, y_train=noisy)
    return data


def plan(config: SweepConfig, features: int, classes: int, place: Place | None = None) -> list[Task]:
    """Cut a grid into tasks that suit a place (the first device by default), the costliest first, so that threads end
    together.
    """
    devices = (places("none")[0] if place is None else place).devices
    device = devices[0]
    parameter_bytes = 16 * features
    sizes = sorted(config.sample_sizes, reverse=True)
    members = [(repeat, size) for repeat in range(config.repeats) for size in sizes or (None,)]
    at_once = 1
    if device.platform == "cpu":
        units_per_block = max(CPU_BLOCK_BYTES // parameter_bytes, 1)
    else:
        memory = (device.memory_stats() or {}).get("bytes_limit", 8 * 2**30)
        units_per_block = max(int(ACCELERATOR_SHARE * memory) // parameter_bytes, 1)
        units = sum(config.model.units(width) for width in config.widths)
        at_once = min(max(units_per_block // units, 1) * len(devices), len(members))
    blocks = plan_blocks(config.widths, config.model, features, classes, units_per_block=units_per_block)
    return [
        Task(
            block,
            tuple(repeat for repeat, _ in members[start : start + at_once]),
            tuple(size for _, size in members[start : start + at_once] if size is not None),
        )
        for start in range(0, len(members), at_once)
        for block in sorted(blocks, key=lambda block: -block.flops_per_step(1))
    ]


def one_thread_a_lane() -> None:
    """Ask XLA to run every CPU program on the thread that calls it; takes effect before JAX has computed anything.

    With a lane on each core, XLA's own threads only get in the way: 15.5 instead of 14.8 thousand model-steps a
    second on 2 cores (MNIST sweep). NPROC is the environment variable from which XLA's CPU client takes the size of
    its thread pools; a value that is set already is left alone. Asynchronous dispatch has to go with them, or all
    lanes would wait for the one thread left in the pool.
    """
    os.environ.setdefault("NPROC", "1")
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def _run_tasks(
    config: SweepConfig,
    tasks: list[Task],
    programs: dict[Block, Programs],
    data: list[OnDevice],
    out: Path,
    group: Group | None,
    report: Report,
    stop: threading.Event,
) -> list[Task]:
    """Work on the tasks in lanes, each of which stays at one of the places where the data is.

    Returns:
        The tasks that other processes of the group work on.
    """
    others: list[Task] = []
    lane, turns = threading.local(), itertools.cycle(data)

    def settle() -> None:
        lane.data = next(turns)

    def one(task: Task) -> None:
        done = all(folder_of(config, task, out, epoch).exists() for epoch in config.moments)
        # What is done is reported by all.
        if done or group is None or group.claim(task.name):
            work(config, task, programs[task.block], lane.data, out, report, stop)
        else:
            others.append(task)

    with ThreadPoolExecutor(max(lanes(), len(data)), thread_name_prefix="lane", initializer=settle) as pool:
        futures = [pool.submit(one, task) for task in tasks]
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
    return others


def _digest(data: Dataset) -> str:
    """A fingerprint of the arrays, so that a run is never continued on other data."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
