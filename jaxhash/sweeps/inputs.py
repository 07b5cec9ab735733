"""Data of a sweep: the dataset loaded and cut, the labels and batches of each repeat, and arrays on the devices."""

import hashlib
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxhash.data import Dataset, load, subset, uniform_inputs, with_label_noise
from jaxhash.data.dataset import Labels
from jaxhash.runtime.devices import Place
from jaxhash.runtime.streams import Stream, host_generator
from jaxhash.sweeps.grid import NOISE, SweepConfig
from jaxhash.sweeps.tasks import Task
from jaxhash.training.mlp import epoch_order


class OnDevice(NamedTuple):
    """The data of a sweep, whole on every device of a place."""

    place: Place
    x: Float[Array, "n features"]
    test_x: Float[Array, "test features"]
    test_y: Int[Array, " test"] | Float[Array, "test ..."]
    random_x: Float[Array, "test features"] | None
    """Uniform in [-1, 0], if their codes are asked for."""
    host: Dataset


def prepare(config: SweepConfig, data_dir: str | Path | None = None) -> Dataset:
    """The data a sweep trains on: loaded, and cut to the first `examples`. `labels` adds each repeat's noise.

    Raises:
        ValueError: if there is too little of it for `examples` or a sample size; DataError if it cannot be had.
    """
    data = config.dataset if isinstance(config.dataset, Dataset) else load(config.data_name, data_dir)
    if config.examples is not None:
        data = subset(data, config.examples)
    if data.num_classes == 0 and (config.network is None or config.label_noise or NOISE in config.grid):
        raise ValueError(
            f"the labels of {data.name} are no classes but floating-point targets: give integers 0, 1, 2, ..., or a "
            "model of your own that learns them (jaxhash.sweep), without label noise"
        )
    available = len(data.x_train)
    if max(config.sample_sizes, default=0) > available:
        raise ValueError(
            f"sample size {max(config.sample_sizes)} is more than the {available:,} training examples of {data.name}; "
            f"give at most {available}"
        )
    return data


def labels(config: SweepConfig, data: Dataset, repeat: int, noise: float | None = None) -> Labels:
    """The training labels of a repeat, int32: which of them are noise, and which, is drawn anew for each.

    `noise`: the fraction of them; `config.label_noise` by default.
    """
    fraction = config.label_noise if noise is None else noise
    if fraction == 0:
        return data.y_train
    rng = host_generator(config.repeat_key(repeat), Stream.LABEL_NOISE)
    return with_label_noise(data.y_train, fraction, data.num_classes, rng)


def task_labels(
    config: SweepConfig, data: Dataset, task: Task
) -> Int[np.ndarray, "members n"] | Float[np.ndarray, "members n ..."]:
    """The training labels of each member of a task."""
    noises = task.values(NOISE) or (None,) * len(task.members)
    return np.stack(
        [
            labels(config, data, repeat, None if noise is None else float(noise))
            for repeat, noise in zip(task.repeats, noises, strict=True)
        ]
    )


def random_inputs(config: SweepConfig, data: Dataset) -> Float[np.ndarray, "test features"]:
    """The control: as many uniform inputs as there are test examples, the same for all models."""
    return uniform_inputs(len(data.x_test), data.features, host_generator(config.repeat_key(0), Stream.RANDOM_INPUTS))


def repeat_keys(config: SweepConfig, task: Task) -> Array:
    """The key of each member of a task: that of its repeat."""
    return _keys(config.seed, task.repeats)


@lru_cache(maxsize=256)
def _keys(seed: int, repeats: tuple[int, ...]) -> Array:
    """They are asked for again and again, and small programs make them."""
    return jnp.stack([SweepConfig(seed=seed).repeat_key(repeat) for repeat in repeats])


def orders(config: SweepConfig, task: Task, keys: Array, epoch: int, n: int) -> Int[np.ndarray, "members steps batch"]:
    """The batches of an epoch for each member of a task, out of n training examples."""
    sizes = task.examples or (None,) * len(task.members)
    batch_size = config.recipe(dict(task.shared)).batch_size
    return np.stack([epoch_order(key, epoch, n, batch_size, size) for key, size in zip(keys, sizes, strict=True)])


def put_on_device(config: SweepConfig, data: Dataset, place: Place) -> OnDevice:
    """The data that the tasks of a sweep share."""
    put = partial(jax.device_put, device=place.whole)
    random = put(random_inputs(config, data)) if config.random_inputs else None
    return OnDevice(place, put(data.x_train), put(data.x_test), put(data.y_test), random, data)


def digest(data: Dataset) -> str:
    """A fingerprint of the arrays, so that a run is never continued on other data."""
    found = hashlib.blake2b(digest_size=16)
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        found.update(str((array.shape, array.dtype)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
