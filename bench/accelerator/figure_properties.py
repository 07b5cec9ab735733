"""The codes of all models of the study's MNIST figure, 23 widths x 10 repeats, measured by one program a task."""

from typing import Any

import jax

from bench import figure_properties, harness
from bench.accelerator.inputs import mnist
from bench.accelerator.part import Setting, figure
from jaxhash.sweeps.programs import evaluate


def in_training(setting: Setting) -> tuple[list[figure_properties.Trained], str]:
    """The tasks of the figure before their first epoch, and of what data."""
    data, source = mnist(setting)
    widths, repeats = ((3, 20), 2) if setting.quick else (figure_properties.WIDTHS, 10)
    return figure_properties.in_training(data, widths, repeats), source


def run(setting: Setting) -> dict[str, Any]:
    """Seconds for the codes and the properties of all models after an epoch."""
    tasks, source = in_training(setting)
    models = sum(one.task.models for one in tasks)
    harness.say(f"{models} models of {source}: an epoch")
    states = [one.epoch() for one in tasks]

    def codes() -> list[Any]:
        found = [
            evaluate(of.task, of.programs, state, of.data, of.labels) for of, state in zip(tasks, states, strict=True)
        ]
        return jax.block_until_ready(found)

    found = codes()
    works: dict[str, harness.Timed] = {
        "codes": codes,
        "properties": lambda: list(map(figure_properties.properties, tasks, found)),
    }
    first, _ = harness.interleaved(works, 1, keep=False)
    seconds, _ = harness.interleaved(works, 1 if setting.quick else 3, keep=False)
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
        "tasks": len(tasks),
        "first_seconds": first,
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }
