"""Encoding properties of all models of a figure: how long do those of 23 widths x 10 repeats take on all cores?

The models of the study's MNIST figure are trained for an epoch. Then their codes are measured as a sweep does it, by
one program a task, and model by model with `jaxhash.measure`, turn by turn. A worker a core takes tasks.

    python -m bench.figure_properties            # about 12 minutes on 2 cores
    python -m bench.figure_properties --quick    # one repeat, once: two minutes
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, product
from typing import NamedTuple

import jax
import numpy as np
import tyro

from bench import harness
from bench.data import mnist
from jaxhash.codes import PROPERTIES, measure
from jaxhash.data import Dataset
from jaxhash.runtime.devices import places, worker_count
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps.engine import plan
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.inputs import OnDevice, orders, prepare, put_on_device, repeat_keys, task_labels
from jaxhash.sweeps.measuring import measured
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.programs import Evaluated, Programs, evaluate, programs_for
from jaxhash.sweeps.tasks import Task
from jaxhash.training.mlp import TrainConfig, TrainState

WIDTHS = STUDIES["mnist"].widths
EXACT = ("train_redundancy", "test_redundancy", "knn_accuracy")
"""Properties that are made of whole numbers."""
ROUNDED = 0.03
"""The others, which are made of float32 products, may differ by less than this between two programs."""


@dataclass(frozen=True)
class Config(harness.Options):
    """Measure the properties of all models of a figure; --quick: of one repeat, once."""

    data_dir: str | None = None
    """Where mnist/ is looked up (default: JAXHASH_DATA_DIR); without it, random pixels of the same shape serve."""


class Trained(NamedTuple):
    """The models of a task, and what trains them for one more epoch."""

    config: SweepConfig
    task: Task
    data: OnDevice
    programs: Programs
    labels: np.ndarray
    epoch: Callable[[], TrainState]
    """The models after one more."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    data, source = mnist(config.data_dir)
    repeats, rounds = (1, 1) if config.quick else (10, 2)
    harness.say(f"{len(WIDTHS)} widths x {repeats} of {source}: an epoch")
    tasks = in_training(data, WIDTHS, repeats)
    with ThreadPoolExecutor(worker_count()) as pool:
        found = list(pool.map(looked_at, tasks))
        works: dict[str, harness.Timed] = {
            "one program a task": lambda: list(pool.map(properties, tasks, found)),
            "model by model": lambda: list(pool.map(_one_by_one, tasks, found)),
        }
        first, _ = harness.interleaved(works, 1)
        seconds, answers = harness.interleaved(works, rounds)
    models = len(WIDTHS) * repeats
    apart = _apart(*answers.values())
    same = harness.checked(
        not any(apart[name] for name in EXACT) and max(apart.values()) < ROUNDED,
        f"of {models} models, redundancies and 9-NN are the same both ways; K-Means and logistic regression, which "
        f"follow the rounding of their products, to within {max(apart.values()):.1%}",
    )
    middle = harness.medians(seconds)
    compiling = {name: took - middle[name] for name, (took,) in first.items()}
    harness.show(
        f"Properties of {models} models, {len(data.x_train):,} + {len(data.x_test):,} codes each ({source})",
        ("", "seconds", "a model", "compiling"),
        [
            (name, f"{took:.1f} s", f"{1e3 * took / models:.0f} ms", f"{compiling[name]:.1f} s")
            for name, took in middle.items()
        ],
        same,
    )
    result = {"models": models, "median_seconds": middle, "compile_seconds": compiling, "data": source}
    result |= {"agreement": [same], "apart": apart, "spread": harness.spreads(seconds), "seconds": seconds}
    harness.finish("figure_properties", config, result)


def in_training(data: Dataset, widths: tuple[int, ...], repeats: int) -> list[Trained]:
    """The tasks of a figure before their first epoch; on an accelerator there is one."""
    arrays = data.x_train, data.y_train, data.x_test, data.y_test
    config = SweepConfig(dataset=arrays, widths=widths, repeats=repeats, train=TrainConfig(epochs=1))
    there = put_on_device(config, prepare(config), places("none")[0])
    return [_in_training(config, task, there) for task in plan(config, there.host, there.place)]


def _in_training(config: SweepConfig, task: Task, there: OnDevice) -> Trained:
    programs, keys = programs_for(config, task, there.host), repeat_keys(config, task)
    labels, order = task_labels(config, there.host, task), orders(config, task, keys, 0, len(there.x))
    state, spread_keys, y, order = there.place.spread((programs.init(keys), keys, labels, order))

    def epoch() -> TrainState:
        nonlocal state
        state, _ = programs.epoch(state, spread_keys, order, there.x, y, {})
        return jax.block_until_ready(state)

    return Trained(config, task, there, programs, labels, epoch)


def looked_at(of: Trained) -> Evaluated:
    """The codes of the models of a task after one more epoch."""
    return jax.block_until_ready(evaluate(of.task, of.programs, of.epoch(), of.data, of.labels))


def properties(of: Trained, found: Evaluated) -> list[dict[str, float]]:
    """Every property of every model of a task, in one program."""
    models = measured(of.config, found, {})
    return [{name: model[name] for name in PROPERTIES} for model in models]


def _apart(some: list[list[dict[str, float]]], others: list[list[dict[str, float]]]) -> dict[str, float]:
    """How far apart two measurings of all models are, at most, by property."""
    apart = dict.fromkeys(PROPERTIES, 0.0)
    for one, other in zip(chain(*some), chain(*others), strict=True):
        apart = {name: max(most, abs(one[name] - other[name])) for name, most in apart.items()}
    return apart


def _one_by_one(of: Trained, found: Evaluated) -> list[dict[str, float]]:
    numbers = []
    for i, (m, width) in product(range(len(of.task.members)), enumerate(of.task.widths)):
        numbers.append(
            measure(
                found.code("train", i, m),
                of.labels[i],
                found.code("test", i, m),
                of.data.host.y_test,
                key=stream_key(of.config.repeat_key(of.task.repeats[i]), Stream.MEASURE, width),
                num_classes=of.data.host.num_classes,
            )
        )
    return numbers


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
