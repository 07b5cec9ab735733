"""Dry run of a sweep: its programs, what each does, needs and takes here, before anything is trained or written.

Each program of the plan is compiled and run once, on the real data: an epoch and an evaluation of every block of
models, and the measuring of their codes. A CPU measures one model after the other: there one model of each shape is.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxhash.runtime.devices import places, worker_count
from jaxhash.sweeps.cost import until_all_are_done
from jaxhash.sweeps.engine import plan
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.inputs import OnDevice, orders, prepare, put_on_device, repeat_keys, task_labels
from jaxhash.sweeps.measuring import in_one_program, measured, measuring
from jaxhash.sweeps.programs import Evaluated, Programs, Work, evaluate, programs_for, shape_to_measure
from jaxhash.sweeps.tasks import Task

Callback = Callable[[int, int], None]
"""Told how many programs were run, and how many there are."""


class Program(NamedTuple):
    """A program of a sweep, of one shape."""

    what: str
    widths: tuple[int, ...]
    models: int
    """Trained, evaluated or measured by a call."""
    calls: int
    """In the whole sweep, if no model stops early."""
    flops: int | None
    """Of a call's matrix products; None where it depends on the codes."""
    bytes: int | None
    """Arguments, results and what a call needs in between, as XLA plans it; None of several programs."""
    seconds: float
    """Of a call on this device."""


class DryRun(NamedTuple):
    """What a sweep would be."""

    programs: list[Program]
    features: int
    """Of an example of its data, and the number of classes."""
    classes: int
    models: int
    workers: int
    """Tasks that are worked on side by side."""
    seconds: float
    """Until all is done here, compiling not included."""


def dry_run(
    config: SweepConfig,
    *,
    data_dir: str | Path | None = None,
    mesh: str = "auto",
    callback: Callback = lambda done, total: None,
) -> DryRun:
    """List the programs of a sweep and run each once.

    Raises:
        ValueError: as `run` does.
    """
    if config.network is not None:
        raise ValueError(f"a dry run is of the study's MLPs; run {config.network.name} with few --epochs instead")
    at = places(mesh)
    data = put_on_device(config, prepare(config, data_dir), at[0])
    n = len(data.x)
    tasks = plan(config, data.host, at[0])
    programs = {task: programs_for(config, task, data.host) for task in tasks}
    shapes = {task: shape_to_measure(task.examples, max(programs[task].bits), n) for task in tasks}
    kinds = Counter((programs[task], len(task.members)) for task in tasks)
    epochs, snapshots = config.train.epochs, len(config.snapshot_epochs)
    measurings = Counter((programs[task], len(task.members), shapes[task]) for task in tasks)
    found: list[Program] = []
    of_task = dict.fromkeys(tasks, 0.0)
    of_shape: dict[tuple[int, int], tuple[int | None, float]] = {}
    total = 2 * len(kinds) + len(measurings)
    for (program, members), count in kinds.items():
        alike = [task for task in tasks if (programs[task], len(task.members)) == (program, members)]
        epoch, state = _epoch(config, program, alike[0], data)
        block, batch_size = program.block, program.config.batch_size
        models = alike[0].models
        steps = program.config.steps_per_epoch(n)
        flops = members * steps * block.flops_per_step(batch_size)
        found.append(Program("train, one epoch", block.widths, models, count * epochs, flops, *epoch))
        callback(len(found), total)
        looked = _evaluation(config, program, alike[0], data, state)
        examples = n + len(data.test_x) + (0 if data.random_x is None else len(data.random_x))
        flops = members * block.flops_forward(examples)
        found.append(Program("evaluate", block.widths, models, count * snapshots, flops, *looked))
        callback(len(found), total)
        for task in alike:
            of_task[task] = epochs * epoch[1] + snapshots * looked[1]
        # Codes of small samples are cut to fewer rows: each such task is looked at for itself.
        for shape, task in {shapes[task]: task for task in alike}.items():
            if shape not in of_shape:
                codes = evaluate(task, program, state, data, task_labels(config, data.host, task))
                of_shape[shape] = _measuring(config, codes)
            needs, seconds = of_shape[shape]
            calls = snapshots * measurings[program, members, shape]
            found.append(Program("measure codes", block.widths, models, calls, None, needs, seconds * models))
            callback(len(found), total)
    for task in tasks:
        of_task[task] += snapshots * of_shape[shapes[task]][1] * task.models
    workers = max(worker_count(), len(at))
    return DryRun(
        found,
        data.host.features,
        data.host.num_classes,
        sum(task.models for task in tasks),
        workers,
        until_all_are_done(list(of_task.values()), workers),
    )


def _epoch(config: SweepConfig, program: Programs, task: Task, data: OnDevice) -> tuple[tuple[int, float], Any]:
    """Bytes and seconds of an epoch, and the models after it."""
    keys = repeat_keys(config, task)
    work = Work(keys, task_labels(config, data.host, task), task.hyper())
    state, (keys_there, y, hyper) = data.place.spread((program.init(keys), work))
    order = data.place.spread(orders(config, task, keys, 0, len(data.x)))
    compiled = program.epoch.lower(state, keys_there, order, data.x, y, hyper).compile()
    start = time.perf_counter()
    state, _ = jax.block_until_ready(compiled(state, keys_there, order, data.x, y, hyper))
    return (_bytes(compiled), time.perf_counter() - start), state


def _evaluation(config: SweepConfig, program: Programs, task: Task, data: OnDevice, state: Any) -> tuple[int, float]:
    """Bytes of an evaluation of all training examples, and seconds of all evaluations of a task."""
    y = task_labels(config, data.host, task)
    lowered = program.evaluate.lower(state.params, state.stats, data.x, data.place.spread(y), None)
    return _bytes(lowered.compile()), _seconds(lambda: evaluate(task, program, state, data, y))


def _measuring(config: SweepConfig, codes: Evaluated) -> tuple[int | None, float]:
    """Bytes of the program that measures the codes of a task, and seconds a model."""
    columns = 1 if codes.data.place.on_cpu else codes.task.columns
    needs = None
    if in_one_program(codes):
        of_task = measuring(config, codes, columns)
        needs = _bytes(of_task.program.lower(*of_task.arguments).compile())
    seconds = _seconds(partial(measured, config, codes, {}, most=columns))
    return needs, seconds / (len(codes.task.members) * columns)


def _seconds(work: Callable[[], Any]) -> float:
    """Of the second call."""
    jax.block_until_ready(work())
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def _bytes(compiled: Any) -> int:
    needs = compiled.memory_analysis()
    most = needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes
    return int(most - needs.alias_size_in_bytes)
