"""The codes of all models of the study's MNIST figure, 23 widths x 10 repeats, measured by one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from bench import harness
from bench.accelerator.inputs import mnist
from bench.accelerator.part import Setting, figure
from jaxhash.runtime.devices import places
from jaxhash.sweeps.engine import plan
from jaxhash.sweeps.folder import Task
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.inputs import OnDevice, orders, prepare, put_on_device, repeat_keys, task_labels
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.programs import Programs, evaluate, measured, programs_of
from jaxhash.training.mlp import TrainConfig, TrainState


class Trained(NamedTuple):
    """The models of the figure (of a CPU, those of its first task), and what trains them for one more epoch."""

    config: SweepConfig
    task: Task
    data: OnDevice
    programs: Programs
    source: str
    epoch: Callable[[], TrainState]
    """The models after one more."""


def in_training(setting: Setting) -> Trained:
    """The models before their first epoch."""
    data, source = mnist(setting)
    widths, repeats = ((3, 20), 2) if setting.quick else (STUDIES["mnist"].widths, 10)
    arrays = data.x_train, data.y_train, data.x_test, data.y_test
    config = SweepConfig(dataset=arrays, widths=widths, repeats=repeats, train=TrainConfig(epochs=1))
    there = put_on_device(config, prepare(config), places("none")[0])
    task = plan(config, there.host.features, there.host.num_classes, there.place)[0]
    programs, keys = programs_of(task.block, config.train), repeat_keys(config, task)
    state, spread_keys, y, order = there.place.spread(
        (programs.init(keys), keys, task_labels(config, there.host, task), orders(config, task, keys, 0, len(there.x)))
    )

    def epoch() -> TrainState:
        nonlocal state
        state, _ = programs.epoch(state, spread_keys, order, there.x, y)
        return jax.block_until_ready(state)

    return Trained(config, task, there, programs, source, epoch)


def run(setting: Setting) -> dict[str, Any]:
    """Seconds for the properties of all models after an epoch."""
    quick = setting.quick
    config, task, there, programs, source, epoch = in_training(setting)
    models = len(task.repeats) * len(task.block.widths)
    harness.say(f"{models} models of {source}: an epoch")
    state, labels = epoch(), task_labels(config, there.host, task)
    found = evaluate(task, programs, state, there, labels)
    works: dict[str, harness.Timed] = {
        "codes": lambda: jax.block_until_ready(evaluate(task, programs, state, there, labels).train),
        "properties": lambda: measured(config, task, found, there, {}),
    }
    first, _ = harness.interleaved(works, 1, keep=False)
    seconds, _ = harness.interleaved(works, 1 if quick else 3, keep=False)
    middle = harness.medians(seconds)
    return {
        "figures": [
            figure(f"s, codes of {models} models", middle["codes"]),
            figure(f"s, properties of {models} models", middle["properties"]),
            figure("ms, properties of a model", 1e3 * middle["properties"] / models),
            figure("s, compiling", first["properties"][0] - middle["properties"]),
        ],
        "data": source,
        "models": models,
        "examples": [len(there.x), len(there.test_x)],
        "first_seconds": first,
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }
