"""Rounding: how far apart do models get that are otherwise the same, as on accelerators that split a task differently?

Each model is trained twice: as it is, and with its weights moved, at the start and after every epoch, by one part in
2^23 (a unit in the last place of a float32) or 2^11 (of TF32, in which NVIDIA's GPUs multiply by default), up or down
at random. With
`--split` the second time is on all devices of the process instead, as on accelerators: on CPU nothing may differ.
docs/cluster.md has the figures, `BOUNDS` what a test holds them to (tests/sweeps/test_mesh.py).

    python -m bench.rounding                                                 # digits, about a minute on 2 cores
    python -m bench.rounding --dataset mnist --examples 10000 --widths 20 100 --repeats 2
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m bench.rounding --split
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from jaxhash.runtime.devices import Place, gather
from jaxhash.sweeps import inputs, programs
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.measuring import measured
from jaxhash.sweeps.tasks import Task
from jaxhash.training.mlp import TrainConfig, TrainState

ROUNDING = {"float32": 2.0**-23, "TF32": 2.0**-11}
"""One unit in the last place, relative to the number."""

BOUNDS = {
    "float32": {
        "first step": 5e-5,
        "weights": 0.5,
        "bits": 0.3,
        "test_accuracy": 0.02,
        "train_redundancy": 0.04,
        "knn_accuracy": 0.05,
        "logistic_accuracy": 0.05,
        "test_kmeans_accuracy": 0.2,
    }
}
BOUNDS["TF32"] = BOUNDS["float32"] | {"first step": 0.02}
"""How far apart two models may be within 20 epochs, the same but for rounding: the norm of what their weights differ
by, of the weights' norm, after the first step and later; bits of the test examples' codes that differ, of all; and
their properties. About two to ten times the most that was measured."""


@dataclass(frozen=True)
class Config(harness.Options):
    """Train models twice, the same but for rounding, and compare them."""

    dataset: str = "digits"
    """Dataset to train on."""
    examples: int | None = None
    """Only so many training examples, the first; all by default."""
    widths: tuple[int, ...] = (5, 20, 50)
    """Layer widths."""
    repeats: int = 4
    """Models of each width."""
    epochs: tuple[int, ...] = (1, 5, 20)
    """Epochs after which they are compared."""
    batch_size: int = 64
    """Examples a step."""
    split: bool = False
    """Compare one device with all of them, instead of weights with moved ones."""
    data_dir: Path | None = None
    """Where dataset files are looked up first (default: JAXHASH_DATA_DIR)."""


def main(config: Config) -> None:
    """Compare, and print how far apart they are."""
    devices = tuple(jax.devices())
    one = Place(devices[:1])
    harness.say("as it is ...")
    first = trained(config, one)
    if config.split:
        others = {f"{len(devices)} devices": trained(config, Place(devices))}
    else:
        others = {}
        for name, relative in ROUNDING.items():
            harness.say(f"moved by a unit in the last place of {name} ...")
            others[name] = trained(config, one, relative)
    found = {name: apart(first, other) for name, other in others.items()}
    found["another repeat"] = apart(first, [seen.next_repeat() for seen in first])
    for name, rows in found.items():
        harness.show(name, list(rows[0]), [[f"{value:.3g}" for value in row.values()] for row in rows])
    harness.finish("rounding", config, {"apart": found})


@dataclass(frozen=True)
class Seen:
    """All models after some epoch, or after the first step (epoch 0)."""

    epoch: int
    weights: list[np.ndarray]
    """Arrays of parameters and statistics, repeats first."""
    words: list[np.ndarray]
    """Codes of the test examples, an array a width: uint32[repeats, n, words]."""
    widths: tuple[int, ...]
    numbers: dict[str, np.ndarray]
    """The properties by name, [repeats, widths]."""

    def next_repeat(self) -> "Seen":
        """Each repeat's models in the place of those of the one before: models of another seed."""
        return Seen(
            self.epoch,
            [np.roll(a, 1, 0) for a in self.weights],
            [np.roll(a, 1, 0) for a in self.words],
            self.widths,
            {name: np.roll(a, 1, 0) for name, a in self.numbers.items()},
        )


def trained(config: Config, place: Place, relative: float = 0.0) -> list[Seen]:
    """The models after the first step and some epochs.

    Args:
        config: which models, on what data.
        place: the devices to train them on.
        relative: how far the weights are moved at the start and after every epoch, each up or down.
    """
    grid = SweepConfig(
        dataset=config.dataset,
        examples=config.examples,
        widths=tuple(sorted(config.widths)),
        repeats=config.repeats,
        train=TrainConfig(epochs=max(config.epochs), batch_size=config.batch_size),
    )
    data = inputs.prepare(grid, config.data_dir)
    grid.train.steps_per_epoch(len(data.x_train))
    task = Task.of(grid.widths, range(grid.repeats))
    there = inputs.put_on_device(grid, data, place)
    of_block, keys = programs.programs_for(grid, task, data), inputs.repeat_keys(grid, task)
    y = place.spread(inputs.task_labels(grid, data, task))

    def begin() -> Any:
        return _moved(place.spread(of_block.init(keys)), relative, 0)

    def order(epoch: int) -> Any:
        return inputs.orders(grid, task, keys, epoch, len(data.x_train))

    spread_keys = place.spread(keys)
    one_step = place.spread(order(0)[:, :1])
    state, _ = of_block.epoch(begin(), spread_keys, one_step, there.x, y, {})
    seen = [_seen(0, grid, task, of_block, state, there)]
    state = begin()
    for epoch in range(max(config.epochs)):
        state, _ = of_block.epoch(state, spread_keys, place.spread(order(epoch)), there.x, y, {})
        state = _moved(state, relative, epoch + 1)
        if epoch + 1 in config.epochs:
            seen.append(_seen(epoch + 1, grid, task, of_block, state, there))
    return seen


def apart(first: list[Seen], other: list[Seen]) -> list[dict[str, float]]:
    """How far apart models are: the largest difference between any two of them, and the mean."""
    return [_apart(a, b) for a, b in zip(first, other, strict=True)]


def beyond(found: list[dict[str, float]], bounds: dict[str, float]) -> list[str]:
    """Where models are further apart than they may be; nothing if all is well."""
    far = []
    for row in found:
        limits = {what: limit for what, limit in bounds.items() if what != "first step"}
        if row["epoch"] == 0:
            limits = {"weights": bounds["first step"]}
        far += [
            f"epoch {row['epoch']}: {what} {row[what]:.3g} > {limit}"
            for what, limit in limits.items()
            if not row[what] <= limit  # NaN is beyond it too
        ]
    return far


def _apart(a: Seen, b: Seen) -> dict[str, float]:
    def norm(arrays: list[np.ndarray]) -> np.ndarray:
        return np.sqrt(sum(np.square(x.astype(np.float64)).reshape(len(x), -1).sum(1) for x in arrays))

    bits = [
        np.bitwise_count(x ^ y).sum((1, 2)) / (x.shape[1] * width)
        for x, y, width in zip(a.words, b.words, a.widths, strict=True)
    ]
    differences = {name: np.abs(a.numbers[name] - b.numbers[name]) for name in a.numbers}
    row: dict[str, float] = {
        "epoch": a.epoch,
        "weights": float((norm([x - y for x, y in zip(a.weights, b.weights, strict=True)]) / norm(a.weights)).max()),
        "bits": float(np.max(bits)),
    }
    for name, difference in differences.items():
        row |= {name: float(difference.max()), f"mean {name}": float(difference.mean())}
    return row


def _moved(state: TrainState, relative: float, seed: int) -> TrainState:
    rng = np.random.default_rng(seed)

    def move(a: jax.Array) -> jax.Array:
        return a * jnp.asarray(1 + relative * rng.choice([-1.0, 1.0], a.shape), a.dtype)

    return state._replace(params=jax.tree.map(move, state.params)) if relative else state


def _seen(epoch: int, grid: SweepConfig, task: Task, of_block: Any, state: Any, there: Any) -> Seen:
    y, repeats = inputs.task_labels(grid, there.host, task), len(task.members)
    looked = programs.evaluate(task, of_block, state, there, y)
    models, test_words = measured(grid, looked, {}), np.asarray(gather(looked.test, repeats))
    found = [models[i * len(grid.widths) :][: len(grid.widths)] for i in range(repeats)]
    names = ("test_accuracy", "train_redundancy", "knn_accuracy", "test_kmeans_accuracy", "logistic_accuracy")
    return Seen(
        epoch,
        jax.tree.leaves(gather((state.params, state.stats), repeats)),
        list(np.swapaxes(test_words, 0, 1)[: len(grid.widths)]),
        grid.widths,
        {name: np.array([[model[name] for model in row] for row in found]) for name in names},
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
