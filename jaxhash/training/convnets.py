"""Training of convolutional networks: Adam with a learning-rate schedule, L2 on kernels, randomly moved images.

Recipe: He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490), CNNs on CIFAR-10; batch size and
number of epochs are not stated there.

One program makes several optimiser steps in a `lax.scan`; on CPU it makes one. There XLA runs convolutions inside a
loop by slow code: a step of a small network took 19 times as long inside a scan as alone (JAX 0.10, 2 cores). For the
same reason networks of several seeds are trained one after the other: `jax.vmap` turns their convolutions into grouped
ones, 3 to 4 times slower a network, and `lax.map` is a loop again (bench/conv_seeds.py).
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Int32, Key

from jaxhash.models.augment import AugmentConfig, augment
from jaxhash.models.convnets import ConvNet, Variables, initialise
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.storage.saves import StepSaves
from jaxhash.training.mlp import TrainConfig, epoch_order

MOST_STEPS_A_CALL = 50
"""On an accelerator: few enough for progress and Ctrl-C, enough to hide the host."""
SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class ConvTrainConfig:
    """How a convolutional network is trained."""

    epochs: int = 200
    """Passes over the training set."""
    batch_size: int = 128
    """Examples a step. What an epoch leaves over after its last full batch is not used in that epoch."""
    learning_rate: float = 1e-2
    """Adam's step size in the first epochs."""
    drop_every: int = 50
    """Epochs after which the learning rate is multiplied by `drop_factor`, again and again."""
    drop_factor: float = 0.1
    """What the learning rate is multiplied by."""
    l2: float = 5e-6
    """Weight decay: l2 * (sum of squares) of every kernel is added to the loss; 0 switches it off."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        self.as_of_mlps()

    def as_of_mlps(self) -> TrainConfig:
        """The same recipe in the terms of multilayer perceptrons, which checks it; no early stop.

        Raises:
            ValueError: if an option is out of range.
        """
        return TrainConfig(
            self.epochs, self.batch_size, self.learning_rate, self.drop_every, self.drop_factor, self.l2, patience=0
        )


class ConvState(NamedTuple):
    """Everything a network needs to train on."""

    params: Any
    batch_stats: Any
    """Running means and variances of the batch norms."""
    optimiser: optax.OptState
    step: Int[Array, ""]
    """Optimiser steps made."""

    @property
    def variables(self) -> Variables:
        """What the network's `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


class Record(NamedTuple):
    """Of each step or epoch, on the moved images, before the update."""

    loss: Float[Array, " steps"]
    """Cross-entropy and L2 penalty, nats."""
    accuracy: Float[Array, " steps"]


class Learner(NamedTuple):
    """A network's training as two pure functions: jit `advance`, vmap it over seeds, shard it."""

    init: Callable[[Key[Array, ""]], ConvState]
    advance: Callable[..., tuple[ConvState, Record]]
    """advance(state, key, order, x, y): a step for each row of order int32 [steps, batch_size], which indexes x float32
    [n, height, width, channels] and y int32 [n]; all of an epoch, or some of it."""


def make_train(network: ConvNet, config: ConvTrainConfig, steps_per_epoch: int, image: tuple[int, int, int]) -> Learner:
    """The pure functions that train a network.

    Cost: `convnets.cost(network).training_flops(batch_size)` a step.
    """
    schedule = optax.exponential_decay(
        config.learning_rate, config.drop_every * steps_per_epoch, config.drop_factor, staircase=True
    )
    recipe = config.as_of_mlps()
    adam = optax.adam(schedule, recipe.beta1, recipe.beta2, recipe.epsilon)

    def init(key: Key[Array, ""]) -> ConvState:
        variables = initialise(network, key, image)
        params = variables["params"]
        return ConvState(params, variables["batch_stats"], adam.init(params), jnp.zeros((), jnp.int32))

    def loss(params: Any, batch_stats: Any, x: Array, y: Array, key: Array) -> tuple[Array, tuple[Any, Array]]:
        result: Any = network.apply(
            {"params": params, "batch_stats": batch_stats},
            x,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        (logits, _), updated = result
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        hits = (logits.argmax(1) == y).mean()
        return losses.mean() + config.l2 * _squared_kernels(params), (updated["batch_stats"], hits)

    def advance(
        state: ConvState,
        key: Key[Array, ""],
        order: Int[Array, "steps batch"],
        x: Float[Array, "n height width channels"],
        y: Int[Array, " n"],
    ) -> tuple[ConvState, Record]:
        def one(state: ConvState, batch: Array) -> tuple[ConvState, Record]:
            move_key, dropout_key = jax.random.split(stream_key(key, Stream.AUGMENT, state.step))
            moved = augment(config.augment, move_key, x[batch])
            gradient_of = jax.value_and_grad(loss, has_aux=True)
            (value, (stats, hits)), gradient = gradient_of(
                state.params, state.batch_stats, moved, y[batch], dropout_key
            )
            updates, optimiser = adam.update(gradient, state.optimiser, state.params)
            params = optax.apply_updates(state.params, updates)
            return ConvState(params, stats, optimiser, state.step + 1), Record(value, hits)

        if order.shape[0] == 1:  # no loop, see above
            state, record = one(state, order[0])
            return state, jax.tree.map(lambda a: a[None], record)
        return jax.lax.scan(one, state, order)

    return Learner(init, advance)


class Fit(NamedTuple):
    """Where a training stands."""

    state: ConvState
    history: Record
    """Means of each epoch, NumPy [epochs]; 0 of epochs to come."""
    finished: bool
    """Whether all epochs were trained; else it was asked to stop, and the same call continues."""


Report = Callable[[int, Record], None]
"""Told the number of steps made, and the record of the last ones."""


def fit(
    network: ConvNet,
    config: ConvTrainConfig,
    key: Key[Array, ""],
    x: Float32[np.ndarray, "n height width channels"],
    y: Int32[np.ndarray, " n"],
    folder: Path,
    *,
    report: Report = lambda step, record: None,
    stop: threading.Event | None = None,
) -> Fit:
    """Train a network to the end, from where a save in the folder stands if there is one.

    Args:
        network: see `convnets.build`.
        config: how it is trained.
        key: decides initialisation, order, movements and dropout.
        x: images of the training examples.
        y: their labels.
        folder: where the training is saved every minute, when it is asked to stop and at the end; each save is written
            whole or not at all, and the one before is then deleted.
        report: called after every few steps.
        stop: set it to stop after the steps under way.

    Raises:
        ValueError: if the examples do not fill a batch, or the folder holds saves of another network, configuration,
            key or data (CheckpointError).
        OSError: if the training cannot be saved; the same call continues it.
    """
    stop = stop or threading.Event()
    steps = config.as_of_mlps().steps_per_epoch(len(x))
    init, advance = _programs(network, config, steps, x.shape[1:])
    saves = StepSaves(folder, _identity(network, config, key, x, y))
    nothing: Any = np.zeros(config.epochs, np.float32)
    no_history = Record(nothing, nothing)
    resumed = saves.latest((jax.eval_shape(init, key), no_history))
    state, history = (init(key), no_history) if resumed is None else resumed[1]
    history = jax.tree.map(np.array, history)
    images, labels = jnp.asarray(x), jnp.asarray(y)
    step, total, calls = int(state.step), config.epochs * steps, steps_a_call(steps)
    saved = time.monotonic()
    while step < total and not stop.is_set():
        epoch, within = divmod(step, steps)
        order = epoch_order(key, epoch, len(x), config.batch_size)[within : within + calls]
        state, record = advance(state, key, jnp.asarray(order), images, labels)
        step += len(order)
        for kept, new in zip(history, record, strict=True):
            kept[epoch] += np.asarray(new).sum() / steps
        report(step, record)
        if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
            saves.save(step, (state, history))
            saved = time.monotonic()
    saves.save(step, (state, history))
    return Fit(state, history, step == total)


def steps_a_call(steps_per_epoch: int) -> int:
    """Steps of one program: 1 on CPU, else the largest divisor of an epoch's steps up to `MOST_STEPS_A_CALL`."""
    if jax.devices()[0].platform == "cpu":
        return 1
    return next(some for some in range(MOST_STEPS_A_CALL, 0, -1) if steps_per_epoch % some == 0)


@lru_cache(maxsize=1)
def _programs(network: ConvNet, config: ConvTrainConfig, steps_per_epoch: int, image: tuple[int, int, int]) -> Learner:
    """`advance` is compiled once for all seeds of a network that are trained one after the other."""
    learner = make_train(network, config, steps_per_epoch, image)
    return learner._replace(advance=jax.jit(learner.advance, donate_argnums=0))


def _squared_kernels(params: Any) -> Float[Array, ""]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum((jnp.square(leaf).sum() for path, leaf in leaves if path[-1].key == "kernel"), jnp.zeros(()))


def _identity(network: ConvNet, config: ConvTrainConfig, key: Array, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """What tells this training from any other."""
    data = hashlib.sha256(repr(x.shape).encode())
    for array in (x, y):
        data.update(np.ascontiguousarray(array).view(np.uint8).data)
    return {
        "network": repr(network),
        "configuration": repr(config),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "data": data.hexdigest(),
    }
