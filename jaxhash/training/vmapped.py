"""Training of any model with any Optax optimiser, as pure functions of one model that `jax.vmap` takes side by side.

In: a `ModelSpec` (what makes the model, optimiser, loss, metrics), a recipe, the values of a grid. Out: a `Trainable`.

Keys: a model of repeat r of seed s is drawn from stream_key(fold_in(key(s), r), Stream.INIT), and its step t has the
dropout key stream_key(fold_in(key(s), r), Stream.DROPOUT, t), t counted from 0 over all epochs; the batches of an epoch
are `epoch_order`'s.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxhash.codes.code import Code
from jaxhash.encoding import encode_with_output
from jaxhash.models.network import Network, names_of, network
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.trainable import Trainable, stop_early

RECIPE = TrainConfig(learning_rate=1e-3, drop_factor=1.0, l2=0.0, patience=0, epsilon=1e-8)
"""How models of one's own are trained if nothing else is said: Adam at 1e-3, without weight decay and early stop."""
OF_DATA = ("classes", "features", "shape")
"""What a model may ask for by name: number of classes, numbers of an example, shape of an example."""
OF_OPTIMISER = ("learning_rate", "drop_every", "drop_factor", "beta1", "beta2", "epsilon")
"""Fields of the recipe that are those of its own optimiser."""

Loss = Callable[[Float[Array, "n ..."], Array], Float[Array, " n"] | Float[Array, ""]]
"""Outputs and labels (or targets) to a value for each example, or the mean of them."""


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """A model of one's own: what makes it, and what it is trained with."""

    make: Callable[..., Any]
    """A module class, or a function of grid parameters (`jaxhash.models.network` says what it may make). Of the names
    in `OF_DATA` it gets those that it names."""
    optimizer: Callable[..., optax.GradientTransformation] | None = None
    """A function of grid parameters; by default the recipe's Adam."""
    loss: Loss | None = None
    """By default cross-entropy, and of targets that are no classes the mean square of the error."""
    metrics: Mapping[str, Loss] = field(default_factory=dict)
    """Further numbers, by name: `train_<name>` and `test_<name>` in the results."""
    name: str = "model"

    def takes(self, name: str) -> bool:
        """Whether an axis of a grid may have this name."""
        if name in names_of(self.make) or (self.optimizer is not None and name in names_of(self.optimizer)):
            return True
        return name in {f.name for f in dataclasses.fields(TrainConfig)} - {"epochs"} and (
            self.optimizer is None or name not in OF_OPTIMISER
        )

    def metrics_of(self, classes: int) -> dict[str, Loss]:
        """All of its metrics by name; `loss` is one of them. `classes`: 0 where labels are no classes."""
        own: dict[str, Loss] = {"loss": self.loss or (cross_entropy if classes else squared_error)}
        return own | ({"accuracy": accuracy} if classes else {}) | dict(self.metrics)


class State(NamedTuple):
    """Everything a model needs to train on. Parameters and state of one that is not active stay as they are."""

    params: Any
    state: Any
    """What else of the model changes in training, such as running means."""
    optimiser: Any
    step: Int[Array, ""]
    """Optimiser steps made."""
    loss: Float[Array, ""]
    """Sum over the steps of the epoch under way; their mean once it has ended."""
    active: Bool[Array, ""]
    diverged: Bool[Array, ""]
    best_loss: Float[Array, ""]
    stale: Int[Array, ""]
    epochs: Int[Array, ""]


def cross_entropy(logits: Float[Array, "n classes"], y: Int[Array, " n"]) -> Float[Array, " n"]:
    """Of every example, in nats. Of one-hot labels, as the gradient of the other form scatters in any order."""
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(y, logits.shape[-1]))


def squared_error(outputs: Float[Array, "n *k"], y: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
    """Square of the error."""
    return jnp.square(outputs.reshape(y.shape) - y)


def accuracy(logits: Float[Array, "n classes"], y: Int[Array, " n"]) -> Float[Array, " n"]:
    """1 where the largest logit is the label's."""
    return (logits.argmax(-1) == y).astype(jnp.float32)


def make_trainable(
    spec: ModelSpec, recipe: TrainConfig, values: Mapping[str, Any], shape: tuple[int, ...], classes: int
) -> Trainable:
    """What trains models of a grid that have these values in common.

    Args:
        spec: the model.
        recipe: how it is trained; fields that `values` name have these values.
        values: of axes of the grid; those of other axes are arguments of the functions, `hyper`.
        shape: of an example.
        classes: number of classes, 0 where labels are none.
    """
    static = dataclasses.replace(recipe, **{k: v for k, v in values.items() if k in _RECIPE})
    data = {"classes": classes, "features": math.prod(shape), "shape": shape}
    loss_of = spec.metrics_of(classes)["loss"]

    def model(hyper: Mapping[str, Any]) -> Network:
        return network(spec.make, _for(spec.make, data | dict(values) | dict(hyper)))

    def optimiser(hyper: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
        if spec.optimizer is not None:
            return spec.optimizer(**_for(spec.optimizer, dict(values) | dict(hyper)))
        rate = hyper.get("learning_rate", static.learning_rate)
        if static.drop_factor < 1:
            rate = optax.exponential_decay(rate, static.drop_every * steps, static.drop_factor, staircase=True)
        return optax.adam(rate, static.beta1, static.beta2, static.epsilon)

    def init(key: Key[Array, ""], hyper: Mapping[str, Array], x: Array) -> State:
        params, state = model(hyper).init(stream_key(key, Stream.INIT), x[:1].reshape(-1, *shape))
        return State(
            params,
            state,
            optimiser(hyper, 1).init(params),
            step=jnp.zeros((), jnp.int32),
            loss=jnp.zeros(()),
            active=jnp.ones((), bool),
            diverged=jnp.zeros((), bool),
            best_loss=jnp.full((), jnp.inf, jnp.float32),
            stale=jnp.zeros((), jnp.int32),
            epochs=jnp.zeros((), jnp.int32),
        )

    def one(
        state: State, key: Array, batch: Array, x: Array, y: Array, hyper: Mapping[str, Array], steps: int
    ) -> State:
        inputs, labels = x[batch].reshape(-1, *shape), y[batch]
        noise, l2 = (hyper.get(name, getattr(static, name)) for name in ("input_noise", "l2"))
        if "input_noise" in hyper or noise > 0:
            noise_key = stream_key(key, Stream.INPUT_NOISE, state.step)
            inputs = inputs + noise * jax.random.normal(noise_key, inputs.shape)
        dropout_key, own = stream_key(key, Stream.DROPOUT, state.step), model(hyper)

        def loss(params: Any) -> tuple[Array, Any]:
            outputs, updated = own.apply(params, state.state, inputs, dropout_key)
            value = jnp.mean(loss_of(outputs, labels))
            if "l2" in hyper or l2 > 0:
                value = value + l2 * _squared_kernels(params)
            return value, updated

        (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, moments = optimiser(hyper, steps).update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        new = jax.tree.map(lambda a, b: jnp.where(state.active, a, b), (params, updated), (state.params, state.state))
        return state._replace(
            params=new[0], state=new[1], optimiser=moments, step=state.step + 1, loss=state.loss + value
        )

    def ended(state: State, steps: int) -> State:
        loss = state.loss / steps
        return stop_early(state, loss, static.patience)._replace(loss=loss)

    def begun(state: State, start: Array) -> State:
        return state._replace(loss=jnp.where(start == 0, 0.0, state.loss))

    def advance(
        state: State,
        key: Array,
        order: Array,
        x: Array,
        y: Array,
        hyper: Mapping[str, Array],
        start: Array,
        stop: Array,
    ) -> State:
        steps = order.shape[0]
        state = jax.lax.fori_loop(
            start,
            stop,
            lambda i, state: one(state, key, order[i], x, y, hyper, steps),
            begun(state, start),
        )
        return jax.lax.cond(stop == steps, lambda state: ended(state, steps), lambda state: state, state)

    def step(
        state: State, key: Array, order: Array, x: Array, y: Array, hyper: Mapping[str, Array], start: Array
    ) -> State:
        steps = order.shape[0]
        state = one(begun(state, start), key, order[start], x, y, hyper, steps)
        return jax.lax.cond(start + 1 == steps, lambda state: ended(state, steps), lambda state: state, state)

    def look(trained: Any, hyper: Mapping[str, Array], x: Array) -> tuple[Array, Code]:
        params, state = trained
        own = model(hyper)
        # The signs of what a trained model computes are its code: on GPUs and TPUs the default would round more.
        with jax.default_matmul_precision("highest"):
            return encode_with_output(lambda x: own.apply(params, state, x.reshape(-1, *shape), None)[0])(x)

    return Trainable(init, advance, step, look, lambda state: (state.params, state.state))


_RECIPE = {f.name for f in dataclasses.fields(TrainConfig)}


def _for(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a function names."""
    asked = names_of(function)
    return {name: value for name, value in values.items() if name in asked}


def _squared_kernels(params: Any) -> Float[Array, ""]:
    """Sum of squares of all parameters of two axes or more: kernels and embeddings, not biases and norms."""
    return sum((jnp.square(leaf).sum() for leaf in jax.tree.leaves(params) if leaf.ndim > 1), jnp.zeros(()))
