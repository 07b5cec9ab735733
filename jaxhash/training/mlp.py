"""Training of MLPs, all of a block at once: Adam, learning-rate schedule (step decay), L2, dropout, early stop.

Recipe: He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490) and the authors' code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxhash.runtime.streams import Stream, host_generator, stream_key
from jaxhash.training.population import (
    Block,
    NormStats,
    Params,
    forward,
    init_block,
    rows_of_models,
)
from jaxhash.training.trainable import stop_early


@dataclass(frozen=True)
class TrainConfig:
    """How a population is trained. The defaults are the study's recipe for multilayer perceptrons."""

    epochs: int = 200
    """Passes over the training set, at most."""
    batch_size: int = 64
    """Examples a step. What an epoch leaves over after its last full batch is not used in that epoch."""
    learning_rate: float = 1e-2
    """Adam's step size in the first epochs."""
    drop_every: int = 20
    """Epochs after which the learning rate is multiplied by `drop_factor`, again and again."""
    drop_factor: float = 0.1
    """What the learning rate is multiplied by."""
    l2: float = 1e-6
    """Weight decay: l2 * (sum of squares) of every hidden kernel is added to the loss; 0 switches it off."""
    input_noise: float = 0.0
    """Standard deviation of the Gaussian noise added to the inputs of each step, where pixels reach from 0 to 1: fresh
    in every step, the same for all models of a repeat; 0 switches it off."""
    patience: int = 10
    """A model stops when its training loss has not improved for this many epochs; 0 never stops."""
    beta1: float = 0.9
    """Adam's decay of the first moment."""
    beta2: float = 0.999
    """Adam's decay of the second moment."""
    epsilon: float = 1e-7
    """Adam's epsilon; 1e-7 is Keras' default, which the authors use (Optax has 1e-8)."""

    def __post_init__(self) -> None:
        def check(holds: bool, name: str, rule: str) -> None:
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} is not valid: {name} must be {rule}")

        check(self.epochs >= 1, "epochs", "1 or more")
        check(self.batch_size >= 2, "batch_size", "2 or more (batch norm needs a variance)")
        check(0 < self.learning_rate < float("inf"), "learning_rate", "positive and finite")
        check(self.drop_every >= 1, "drop_every", "1 or more epochs")
        check(0 < self.drop_factor <= 1, "drop_factor", "in (0, 1]; 1 keeps the learning rate constant")
        check(0 <= self.l2 < float("inf"), "l2", "0 or more, and finite")
        check(0 <= self.input_noise < float("inf"), "input_noise", "0 or more, and finite")
        check(self.patience >= 0, "patience", "0 (never stop) or more epochs")
        check(0 <= self.beta1 < 1, "beta1", "in [0, 1)")
        check(0 <= self.beta2 < 1, "beta2", "in [0, 1)")
        check(0 < self.epsilon < float("inf"), "epsilon", "positive and finite")

    def steps_per_epoch(self, n: int) -> int:
        """Full batches in n examples.

        Raises:
            ValueError: if n examples do not fill one batch.
        """
        if n < self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} is more than the {n} training examples; "
                f"give a batch size of at most {n}, or more data"
            )
        return n // self.batch_size


class TrainState(NamedTuple):
    """Everything a block needs to train on. The parameters and statistics of a model that is not active stay as they
    are; its Adam moments go on, and are never used again.
    """

    params: Params
    stats: NormStats | None
    optimiser: Any
    """Adam's running means of the gradient and of its square, as Optax names them."""
    step: Int[Array, ""]
    """Optimiser steps made."""
    active: Bool[Array, " models"]
    diverged: Bool[Array, " models"]
    """The loss of an epoch was not finite; the model has stopped."""
    best_loss: Float[Array, " models"]
    stale: Int[Array, " models"]
    """Epochs since the best loss."""
    epochs: Int[Array, " models"]
    """Epochs each model was trained for."""


TRACED = ("learning_rate", "l2", "input_noise", "dropout")
"""Numbers of the recipe and the model that a program may take as arguments: models that differ in them share it."""

EpochFn = Callable[..., tuple[TrainState, Float[Array, " models"]]]


def init_state(block: Block, repeat_key: Key[Array, ""]) -> TrainState:
    """Freshly initialised models, none of them stopped."""
    params, stats = init_block(block, repeat_key)
    models = len(block.widths)
    return TrainState(
        params=params,
        stats=stats,
        optimiser=adam(optax.constant_schedule(0.0)).init(params),
        step=jnp.zeros((), jnp.int32),
        active=jnp.ones(models, bool),
        diverged=jnp.zeros(models, bool),
        best_loss=jnp.full(models, jnp.inf, jnp.float32),
        stale=jnp.zeros(models, jnp.int32),
        epochs=jnp.zeros(models, jnp.int32),
    )


def epoch_order(
    repeat_key: Key[Array, ""], epoch: int, n: int, batch_size: int, examples: int | None = None
) -> Int[np.ndarray, "steps batch_size"]:
    """The examples of each batch of one epoch of one repeat: a fresh shuffle, cut into full batches, int32.

    Training on the first `examples` of the n only, an epoch has as many steps all the same: it is a fresh shuffle of
    n // examples copies of each of them, filled up to n with one more copy of n % examples of them, drawn anew in each
    epoch. The study's authors leave that rest out, so that at 10,000 to 40,000 of MNIST's 48,000 their epochs have 468
    or 625 steps instead of 750; with a rest of 0, as at all their other sizes, this is what they do.

    Drawn on the host, by NumPy's Philox generator: a sort on the device, as `jax.random.permutation` does it, costs a
    tenth of a small model's training time on CPU.
    """
    steps = n // batch_size
    shuffle = host_generator(repeat_key, Stream.ORDER, epoch)
    order = shuffle.permutation(n)
    if examples is not None and examples < n:
        order = shuffle.permutation(examples)[order % examples]
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def make_epoch(block: Block, config: TrainConfig) -> EpochFn:
    """The pure function that trains a block for one epoch: jit it, vmap it over repeats, shard it.

    Returns:
        epoch(state, repeat_key, order, x, y, hyper) -> (state, losses): order int32 [steps, batch_size] indexes x
        float32 [n, features] and y int32 [n]; hyper has values of some of `TRACED`, by name, which are then used
        instead of the configuration's; losses [models] are the means over the epoch's batches of the
        cross-entropy, plus the L2 penalty as the epoch leaves it, in nats. Deterministic in its arguments.

    Cost: `block.flops_per_step(batch_size)` FLOPs a step, and about 48 bytes of parameter, gradient and moment
    traffic a parameter, which is what limits it on CPU.
    """

    def batch_loss(
        params: Params, stats: NormStats | None, x: Array, y: Array, key: Array, dropout: Array | float
    ) -> tuple[Array, tuple[Array, NormStats | None]]:
        out = forward(block, params, stats, x, train=True, dropout_key=key, dropout=dropout)
        # The sum over models: their parameters are disjoint, so each gets the gradient of its own loss.
        losses = cross_entropy(out.logits, y).mean(-1)
        return losses.sum(), (losses, out.stats)

    constants: dict[str, Any] = {name: getattr(block.model if name == "dropout" else config, name) for name in TRACED}

    def epoch(
        state: TrainState,
        repeat_key: Array,
        order: Array,
        x: Array,
        y: Array,
        hyper: Mapping[str, Array] = MappingProxyType({}),
    ) -> tuple[TrainState, Array]:
        learning_rate, l2, input_noise, dropout = (constants | dict(hyper)).values()
        schedule = optax.exponential_decay(
            learning_rate, config.drop_every * order.shape[0], config.drop_factor, staircase=True
        )
        optimiser = adam(schedule, config.beta1, config.beta2, config.epsilon)
        active = _like_params(block, state.params, state.active)

        def train_step(state: TrainState, batch: Array) -> tuple[TrainState, Array]:
            params, stats = state.params, state.stats
            inputs, labels = x[batch], y[batch]
            if "input_noise" in hyper or input_noise > 0:
                noise_key = stream_key(repeat_key, Stream.INPUT_NOISE, state.step)
                inputs = inputs + input_noise * jax.random.normal(noise_key, inputs.shape)
            dropout_key = stream_key(repeat_key, Stream.DROPOUT, state.step)
            gradient, (losses, new_stats) = jax.grad(batch_loss, has_aux=True)(
                params, stats, inputs, labels, dropout_key, dropout
            )
            gradient = gradient._replace(
                first=gradient.first + 2 * l2 * params.first,
                hidden=tuple(g + 2 * l2 * p for g, p in zip(gradient.hidden, params.hidden, strict=True)),
            )
            updates, moments = optimiser.update(gradient, state.optimiser)
            state = state._replace(
                params=jax.tree.map(lambda p, u, a: jnp.where(a, p + u, p), params, updates, active),
                stats=jax.tree.map(lambda new, old: jnp.where(active.offset, new, old), new_stats, stats),
                optimiser=moments,
                step=state.step + 1,
            )
            return state, losses

        state, losses = jax.lax.scan(train_step, state, order)
        loss = losses.mean(0) + l2 * _squared_kernels(block, state.params)
        return stop_early(state, loss, config.patience), loss

    return epoch


def adam(rate: optax.Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """`optax.adam`, the same up to rounding, with the bias corrections pulled out of the element-wise part.

    With Optax's own, a task split between devices loses its equal bits on CPU (tests/sweeps/test_mesh.py), and an epoch
    takes 5 % longer (`python -m bench.adam`; bench/results/adam-cpu-epyc-2-cores.json).
    """

    def update(
        gradient: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        count = (state.count + 1).astype(jnp.float32)
        correction = jnp.sqrt(1 - b2**count)
        step, epsilon = rate(state.count) * correction / (1 - b1**count), eps * correction
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradient)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, gradient)
        updates = jax.tree.map(lambda m, v: -step * m / (jnp.sqrt(v) + epsilon), mu, nu)
        return updates, optax.ScaleByAdamState(state.count + 1, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def cross_entropy(logits: Float[Array, "models classes n"], y: Int[Array, " n"]) -> Float[Array, "models n"]:
    """Cross-entropy of every example under every model, in nats.

    Of one-hot labels: the gradient of Optax's form for integer labels scatters, in an order that a device may choose.
    Both take the same time on CPU (`python -m bench.adam`; bench/results/adam-cpu-epyc-2-cores.json).
    """
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(y, logits.shape[1], axis=0), axis=1)


def _like_params(block: Block, params: Params, per_model: Array) -> Params:
    """A value for each model, shaped to broadcast against each array of the parameters."""
    middle = per_model[None, :, None]
    return Params(
        first=rows_of_models(block, per_model)[:, None],
        hidden=tuple(per_model[:, None, None] for _ in params.hidden),
        scale=None if params.scale is None else middle,
        offset=middle,
        output=per_model[:, None, None],
        output_bias=per_model[:, None],
    )


def _squared_kernels(block: Block, params: Params) -> Float[Array, " models"]:
    """Sum of squares of the hidden kernels of each model, summed in the same order whatever the device: it decides
    early stopping, and a scatter (`segment_sum`) adds in any order on a GPU.
    """
    rows = jnp.square(params.first).sum(1)
    total = jnp.stack([own.sum() for own in jax.lax.split(rows, block.units)])
    return total + sum((jnp.square(kernel).sum((1, 2)) for kernel in params.hidden), jnp.zeros_like(total))
