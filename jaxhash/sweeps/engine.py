"""Run a sweep: a declared grid of models trained, encoded and measured -> labelled results.

    dataset -> tasks (blocks of widths x repeats x sample sizes) -> train -> codes -> properties -> xarray.Dataset

On CPU a task is one repeat of one block that fits the cache, on one sample size, and one thread a core works through
the tasks: small programs side by side use a CPU better than one large one (bench/README.md). On an accelerator a task
is as many models as its memory holds, in one program. Sample sizes differ in the examples their batches name and in
nothing else: the same programs train and measure them all. The file is not called run.py, as `jaxhash.sweeps.run` is
the function.
"""

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from jaxhash.data import Dataset
from jaxhash.runtime import memory as device_memory
from jaxhash.runtime.devices import Place, places, worker_count
from jaxhash.runtime.processes import Group, appear
from jaxhash.storage import checkpoint
from jaxhash.sweeps import any_model, any_plan, folder, log
from jaxhash.sweeps.cost import Cost, Estimate, calibrate
from jaxhash.sweeps.grid import Properties, SweepConfig
from jaxhash.sweeps.inputs import OnDevice, digest, prepare, put_on_device
from jaxhash.sweeps.programs import programs_for
from jaxhash.sweeps.results import collect, save_results
from jaxhash.sweeps.task import Callback, Interrupted, Sweep, folder_of, is_done, work
from jaxhash.sweeps.tasks import Task, as_json, cut

OUT_OF_MEMORY = (
    "Give a smaller --batch-size, or fewer --widths or --repeats to a run (and the others to another); what was "
    "finished is saved"
)


def run(
    config: SweepConfig,
    out: str | Path,
    *,
    properties: Properties | None = None,
    data_dir: str | Path | None = None,
    mesh: str = "auto",
    group: Group | None = None,
    announce: Callable[[Cost], None] | None = None,
    callback: Callback = lambda progress: None,
    stop: threading.Event | None = None,
) -> xr.Dataset:
    """Train and measure every model of the grid, or what is missing of it.

    Args:
        config: the grid.
        out: folder of the run. A run that was interrupted, even killed, continues where it stood.
        properties: more properties of the codes, by name: they stand in the results beside `METRICS`.
        data_dir: where dataset files are looked up first; `JAXHASH_DATA_DIR` by default.
        mesh: the devices to use: `auto` (all of this process), `none` (the first), or how many. On CPU the result is
            the same, bit for bit; docs/cluster.md says how far apart it may be on accelerators.
        group: the processes that run this together, each with this call and the same `out`; by default this one alone.
        announce: called with the cost before the sweep starts, unless everything is done already. It takes two epochs
            and a few measurings to estimate.
        callback: called after every epoch and every measuring of every task, from the threads that work on them.
        stop: set it to stop after the epochs under way; what is done is saved.

    Returns:
        `METRICS`, the further properties, and `epochs` and `diverged`, by (repeat, width), and by `examples` and
        `epoch` if the grid has sample sizes and snapshots. Saved as results.nc and results.csv too.

    Raises:
        ValueError: (DataError, RunError, InUse among them) if configuration, data or folder do not serve. Nothing is
            written then.
        OutOfMemory: (a ValueError) if the models do not fit into the device's memory; what is done is saved.
        Interrupted: after `stop` was set.
        ProcessLost: (an OSError) if another process of the group died, or stopped.
        OSError: if something cannot be written, such as on a full disk; the same call continues the run.
    """
    stop = threading.Event() if stop is None else stop
    sweep = Sweep(config, Path(out), properties or {}, callback, stop)
    with nullcontext() if group is None else group.sweep(stop):
        at, data = places(mesh), prepare(config, data_dir)
        for batch_size in config.grid.get("batch_size", (config.train.batch_size,)):
            config.recipe({"batch_size": batch_size}).steps_per_epoch(len(data.x_train))
        with (
            _opened(sweep.out, _description(sweep, data, at[0]), group, stop) as noted,
            device_memory.explained(OUT_OF_MEMORY),
        ):
            return _run(
                sweep, folder.tasks_of(noted), [put_on_device(config, data, place) for place in at], group, announce
            )


def _run(
    sweep: Sweep,
    tasks: list[Task],
    data: list[OnDevice],
    group: Group | None,
    announce: Callable[[Cost], None] | None,
) -> xr.Dataset:
    config, out, stop = sweep.config, sweep.out, sweep.stop
    process, processes = (0, 1) if group is None else (group.index, group.count)
    host = data[0].host
    programs: Any
    if config.network is None:
        programs = {task: programs_for(config, task, host) for task in tasks}
    else:
        programs = any_model.all_programs(config, tasks, host, out)
    todo = [task for task in tasks if not is_done(sweep, task)]
    callback, workers = sweep.callback, max(worker_count(), len(data))
    if announce is not None and todo and config.network is None:
        cost = calibrate(sweep, todo, programs, data[0], workers)
        announce(cost)
        callback = Estimate(cost, todo, config.train.epochs).telling(callback)
    with log.opened(out, config, tasks, len(data[0].x), callback, process=process, processes=processes) as callback:
        sweep = sweep._replace(callback=callback)
        others = _run_tasks(sweep, tasks, programs, data, workers, group)
        if group is not None:
            _meet(group, "done", stop)
            appear(folder_of(sweep, task, e) for task in tasks for e in config.snapshot_epochs)
            for task in others:  # they are done: this only reports them
                work(sweep, task, programs[task], data[0])
        found = collect(out)
        if process == 0:
            save_results(out, found)
            shutil.rmtree(out / folder.PARTIAL, ignore_errors=True)
    if group is not None:
        _meet(group, "saved", stop)
    return found


def _description(sweep: Sweep, data: Dataset, place: Place) -> dict[str, Any]:
    """What config.json says of a run."""
    own = {name: one.description for name, one in sweep.properties.items()}
    return {
        "format": checkpoint.FORMAT,
        "config": folder.plain(sweep.config),
        "metrics": sweep.config.metrics(data.num_classes),
        "data": digest(data),
        "features": data.features,
        "classes": data.num_classes,
        "tasks": [as_json(task) for task in plan(sweep.config, data, place)],
        "versions": {name: version(name) for name in ("jaxhash", "jax", "jaxlib", "flax", "optax", "numpy")},
        "device": place.devices[0].device_kind,
    } | ({"properties": own} if own else {})


@contextmanager
def _opened(
    out: Path, description: dict[str, Any], group: Group | None, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    """The folder of a run: opened by the first process of a group, and known to the others then."""
    if group is None or group.index == 0:
        with folder.opened(out, description) as noted:
            if group is not None:
                _meet(group, "opened", stop)
            yield noted
    else:
        _meet(group, "opened", stop)
        appear([out / folder.CONFIG])
        yield folder.noted(out, description)


def _meet(group: Group, where: str, stop: threading.Event) -> None:
    group.meet(where, stop)
    if stop.is_set():
        raise Interrupted


def plan(config: SweepConfig, data: Dataset, place: Place | None = None) -> list[Task]:
    """Cut a grid into tasks that suit a place (the first device by default).

    Raises:
        ValueError: if models of one's own cannot be trained on the data.
    """
    if config.network is not None:
        return any_plan.plan(config, data)
    return plan_mlps(config, data.features, data.num_classes, place)


def plan_mlps(config: SweepConfig, features: int, classes: int, place: Place | None = None) -> list[Task]:
    """`plan` of the study's MLPs, whatever the data."""
    devices = (places("none")[0] if place is None else place).devices
    memory = None
    if devices[0].platform != "cpu":  # pragma: no cover (accelerators)
        memory = (devices[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    return cut(config, features, classes, memory, len(devices))


def _run_tasks(
    sweep: Sweep,
    tasks: list[Task],
    programs: Mapping[Task, Any],
    data: list[OnDevice],
    workers: int,
    group: Group | None,
) -> list[Task]:
    """Work on the tasks in threads, each of which stays at one of the places where the data is.

    Returns:
        The tasks that other processes of the group work on.
    """
    others: list[Task] = []
    worker, turns = threading.local(), itertools.cycle(data)

    def settle() -> None:
        worker.data = next(turns)

    def one(task: Task) -> None:
        # What is done is reported by all.
        if group is None or is_done(sweep, task) or group.claim(task.name):
            work(sweep, task, programs[task], worker.data)
        else:
            others.append(task)

    with ThreadPoolExecutor(workers, thread_name_prefix="worker", initializer=settle) as pool:
        futures = [pool.submit(one, task) for task in tasks]
        try:
            # Short waits, so that the main thread sees signals.
            while (waited := wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION)).not_done:
                if any(future.exception() for future in waited.done):
                    break
        finally:
            if any(not future.done() for future in futures):
                sweep.stop.set()
            for future in futures:
                future.cancel()
    failures = [future.exception() for future in futures if not future.cancelled() and future.exception()]
    # A failure makes the other threads stop: tell what failed, not who stopped.
    failures.sort(key=lambda error: isinstance(error, Interrupted))
    if failures:
        raise failures[0]  # type: ignore[misc]
    if sweep.stop.is_set():
        raise Interrupted
    return others
