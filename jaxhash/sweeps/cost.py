"""What a sweep will cost, before it starts: counted, and timed on a few of its own steps."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax

from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Looked, OnDevice, Programs, look, numbers_of, orders, repeat_keys, rows_to_measure
from jaxhash.training.population import Block


class Cost(NamedTuple):
    """What is still to be done of a sweep."""

    models: int
    """Models to train."""
    measurings: int
    """Models to measure: each of them once a snapshot."""
    model_steps: int
    """Optimiser steps of all models, if none stops early."""
    seconds: float
    """Estimated time on this machine, compiling included, if no model stops early and nothing else runs."""
    epochs_a_measuring: float
    """To measure a model takes as long as to train it for so many epochs, on average."""


def calibrate(
    config: SweepConfig, tasks: list[Task], programs: Mapping[Block, Programs], data: OnDevice, lanes: int
) -> Cost:
    """Count the cost of some tasks and time it: an epoch and a measuring of the costliest block, on all lanes at once.

    The programs are those of the sweep, so that what is compiled here is not compiled again. Models of narrower blocks
    are taken to cost their share of the FLOPs, and every code as much to measure as those of the second epoch.
    """

    def flops(task: Task) -> int:
        return task.block.flops_per_step(1) * len(task.repeats)

    n, moments = len(data.x), len(config.moments)
    costliest = max(tasks, key=flops)
    program, keys = programs[costliest.block], repeat_keys(config, costliest)
    order, keys = data.place.spread((orders(config, costliest, keys, 0, n), keys))
    states = [data.place.spread(program.init(keys)) for _ in range(lanes)]
    start = time.perf_counter()
    states[0] = jax.block_until_ready(program.epoch(states[0], keys, order, data.x, data.y))[0]
    first_seconds = time.perf_counter() - start

    def an_epoch(lane: int) -> None:
        states[lane] = jax.block_until_ready(program.epoch(states[lane], keys, order, data.x, data.y))[0]

    with ThreadPoolExecutor(lanes) as pool:
        epoch_seconds = _timed(pool, lanes, an_epoch)
        look_seconds, measure_seconds = 0.0, {}
        of_block = [task for task in tasks if task.block == costliest.block]
        for rows, (task, i) in _one_of_each_size(of_block, n).items():

            def a_look(lane: int, task: Task = task) -> None:
                jax.block_until_ready(look(task, program, states[0], data).train)

            looked, m = look(task, program, states[0], data), len(task.block.widths) - 1

            def a_measuring(lane: int, task: Task = task, i: int = i, m: int = m, looked: Looked = looked) -> None:
                numbers_of(config, task, looked, data, i, m)

            a_measuring(0)
            look_seconds = max(look_seconds, _timed(pool, lanes, a_look))
            measure_seconds[rows] = _timed(pool, lanes, a_measuring)

    training = epoch_seconds * config.train.epochs * sum(map(flops, tasks)) / flops(costliest)
    measuring = moments * sum(
        look_seconds + len(task.block.widths) * sum(measure_seconds[rows] for rows in _rows(task, n)) for task in tasks
    )
    compiling = max(first_seconds - epoch_seconds, 0) * (len({task.block for task in tasks}) - 1)
    models = sum(len(task.repeats) * len(task.block.widths) for task in tasks)
    return Cost(
        models=models,
        measurings=models * moments,
        model_steps=models * config.train.epochs * order.shape[1],
        seconds=(training + measuring + compiling) / lanes,
        epochs_a_measuring=(measuring / moments) / max(training / config.train.epochs, 1e-9),
    )


def _rows(task: Task, n: int) -> list[int]:
    """Rows in which the codes of each repeat of a task are measured."""
    return [rows_to_measure(size, n) for size in task.examples or (n,) * len(task.repeats)]


def _one_of_each_size(tasks: list[Task], n: int) -> dict[int, tuple[Task, int]]:
    """For every number of rows in which codes are measured, a task and a repeat of it that is measured so."""
    return {rows: (task, i) for task in tasks for i, rows in enumerate(_rows(task, n))}


def _timed(pool: ThreadPoolExecutor, lanes: int, work: Callable[[int], None]) -> float:
    """Seconds of a piece of work that all lanes do at once."""

    def timed(lane: int) -> float:
        start = time.perf_counter()
        work(lane)
        return time.perf_counter() - start

    return max(pool.map(timed, range(lanes)))
