"""Cost of a sweep and time left (ETA): counted and timed on a few steps before it starts, and again while it runs."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from jaxhash.sweeps.inputs import OnDevice, orders, repeat_keys, task_labels
from jaxhash.sweeps.measuring import measured
from jaxhash.sweeps.programs import Evaluated, Programs, Work, evaluate, shape_to_measure
from jaxhash.sweeps.task import Callback, Progress, Sweep
from jaxhash.sweeps.tasks import Task

SHORT = 0.2
"""Seconds: work that takes less is timed three times."""


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
    """To measure a model takes as long as to train it for so many epochs, on average and compiling included."""


def calibrate(sweep: Sweep, tasks: list[Task], programs: Mapping[Task, Programs], data: OnDevice, workers: int) -> Cost:
    """Count the cost of some tasks and time it: an epoch and a measuring of the costliest block, on all workers.

    The programs are those of the sweep, so that what is compiled here is not compiled again. Models of narrower blocks
    are taken to cost their share of the FLOPs, and to take as long to compile; to measure codes takes a time that grows
    with their words, and compiling for another number of words as long as for the first.
    """
    config, n = sweep.config, len(data.x)
    flops = {task: programs[task].block.flops_per_step(1) * len(task.members) for task in tasks}
    shapes = {task: shape_to_measure(task.examples, max(programs[task].bits), n) for task in tasks}
    costliest = max(tasks, key=lambda task: flops[task])
    program, keys, hyper = programs[costliest], repeat_keys(config, costliest), costliest.hyper()
    # For every number of rows in which codes are measured, a task that is measured so.
    samples = {shapes[task][0]: task for task in tasks if programs[task] is program}
    y = task_labels(config, data.host, costliest)
    of_members = data.place.spread(Work(keys, y, hyper))
    start = time.perf_counter()
    states = [data.place.spread(program.start(keys, hyper, data))]
    init_compiling = time.perf_counter() - start
    states += [data.place.spread(program.start(keys, hyper, data)) for _ in range(workers - 1)]

    def an_epoch(worker: int) -> None:
        order = data.place.spread(orders(config, costliest, keys, 0, n))
        states[worker] = jax.block_until_ready(program.train(states[worker], of_members, order, data, lambda: None))[0]

    with ThreadPoolExecutor(workers) as pool:
        epoch_compiling, epoch_seconds = _timed(pool, workers, an_epoch)
        evaluate_compiling = evaluate_seconds = 0.0
        measure_compiling: dict[int, float] = {}
        measure_seconds: dict[int, float] = {}
        # A CPU takes one model after the other.
        most = 1 if data.place.on_cpu else None
        for rows, task in samples.items():
            own = task_labels(config, data.host, task)
            found = evaluate(task, program, states[0], data, own)

            def an_evaluation(worker: int, task: Task = task, own: np.ndarray = own) -> None:
                jax.block_until_ready(evaluate(task, program, states[0], data, own).metrics)

            def a_measuring(worker: int, found: Evaluated = found) -> None:
                measured(config, found, sweep.properties, most=most)

            evaluate_compiling, evaluate_seconds = map(
                max, (evaluate_compiling, evaluate_seconds), _timed(pool, workers, an_evaluation)
            )
            measure_compiling[rows], measure_seconds[rows] = _timed(pool, workers, a_measuring)
            measure_seconds[rows] /= len(task.members) * len(task.widths[:most])

    snapshots = len(config.snapshot_epochs)
    # One of each number of rows is compiled now, and so are the programs of one block.
    compiled = dict(shapes[task] for task in samples.values())
    training = [epoch_seconds * config.train.epochs * flops[task] / flops[costliest] for task in tasks]
    measuring = []
    for task, (rows, words) in shapes.items():
        each = measure_seconds[rows] * (2 + words) / (2 + compiled[rows])
        measuring.append(snapshots * (evaluate_seconds + each * task.models))
    others = {*shapes.values()} - {*compiled.items()}
    blocks = len({programs[task] for task in tasks}) - 1
    compiling = sum(measure_compiling[rows] for rows, _ in others)
    compiling += blocks * (init_compiling + epoch_compiling + evaluate_compiling)
    models = sum(task.models for task in tasks)
    return Cost(
        models=models,
        measurings=models * snapshots,
        model_steps=models * config.train.epochs * config.train.steps_per_epoch(n),
        seconds=until_all_are_done([sum(both) for both in zip(training, measuring, strict=True)], workers)
        + compiling / workers,
        epochs_a_measuring=((sum(measuring) + compiling) / snapshots) / max(sum(training) / config.train.epochs, 1e-9),
    )


class Estimate:
    """The time left of a sweep: what `calibrate` said at first, and more and more what it really took."""

    def __init__(self, cost: Cost, tasks: list[Task], epochs: int) -> None:
        self._cost, self._epochs = cost, epochs
        self._todo = {task.name for task in tasks}
        self._trained: dict[str, float] = {}
        self._measured = 0
        self._began = time.monotonic()

    def telling(self, callback: Callback) -> Callback:
        """The callback, which also gets the seconds left."""
        return lambda progress: callback(progress._replace(seconds_left=self.update(progress)))

    def update(self, progress: Progress) -> float:
        """Take in what was done, and say how many seconds are left; the tasks that were done before do not count."""
        task = progress.task
        if task.name in self._todo:
            # Measured after its last epoch: models that stopped early have no more to train.
            self._trained[task.name] = progress.epoch * task.models
            self._measured += len(progress.models)
        total = self._cost.models * self._epochs + self._cost.measurings * self._cost.epochs_a_measuring
        done = (sum(self._trained.values()) + self._measured * self._cost.epochs_a_measuring) / total
        elapsed = time.monotonic() - self._began
        as_planned, as_it_went = self._cost.seconds * (1 - done), elapsed * (1 - done) / max(done, 1e-9)
        return max((1 - done) * as_planned + done * as_it_went, 0.0)


def until_all_are_done(seconds: list[float], workers: int) -> float:
    """How long tasks take that workers take up one after the other, the longest first.

    >>> until_all_are_done([3.0, 3.0, 2.0], 2)
    5.0
    """
    busy = [0.0] * workers
    for some in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += some
    return max(busy)


def _timed(pool: ThreadPoolExecutor, workers: int, work: Callable[[int], None]) -> tuple[float, float]:
    """Seconds that compiling takes, and those of a piece of work that all workers do at once: of short work the best of
    three rounds, since a pause of the machine would count for all epochs.
    """

    def timed(worker: int) -> float:
        start = time.perf_counter()
        work(worker)
        return time.perf_counter() - start

    first = timed(0)
    seconds = max(pool.map(timed, range(workers)))
    if seconds < SHORT:
        seconds = min(seconds, *(max(pool.map(timed, range(workers))) for _ in range(2)))
    return max(first - seconds, 0.0), seconds
