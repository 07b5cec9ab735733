"""Reptile: an initialisation from which the perfect hash of a new small key set is learned in fewer iterations.

A. Nichol, J. Achiam, J. Schulman, "On first-order meta-learning algorithms" (arXiv 1803.02999), algorithm 1 in its
batched form; meta-learning stands in the future work of the study (A. Museth, "Neural Hash Functions", CS285). A task
is a few keys out of many; it is learned as in `guided.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.guided import good_bins, imitation_loss
from jaxhash.hashing.study.loop import Callback, check, iterate
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, take
from jaxhash.runtime.streams import Stream, stream_key


@dataclass(frozen=True)
class MetaConfig:
    """How the initialisation is learned, and what it is learned for."""

    num_bins: int = 32
    keys_per_task: int = 32
    """Keys in a key set, drawn from all keys."""
    iterations: int = 200
    """Meta-steps."""
    tasks: int = 16
    """Key sets a meta-step."""
    inner_steps: int = 10
    """Steps on each key set."""
    inner_learning_rate: float = 3e-3
    """Adam's step size on a key set, in training and afterwards."""
    meta_rate: float = 0.5
    """Share of the way to the mean of what the key sets led to, at first; it falls to 0 linearly."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(hidden=(64, 64)))

    def __post_init__(self) -> None:
        for name in ("keys_per_task", "iterations", "tasks", "inner_steps"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(0 < self.meta_rate <= 1, "meta_rate", self.meta_rate, "in (0, 1]")
        if self.num_bins < self.keys_per_task:
            raise ValueError(
                f"num_bins={self.num_bins} is less than the keys_per_task={self.keys_per_task}; "
                f"a perfect hash needs num_bins >= {self.keys_per_task}"
            )


class MetaRecord(NamedTuple):
    """What is noted of one meta-step: means over its key sets."""

    collisions: Float[Array, "*iterations"]
    """After the inner steps."""
    loss: Float[Array, "*iterations"]
    """Cross-entropy to the shown bins at the last inner step, nats."""


def make_train(
    config: MetaConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[Params, MetaRecord]]:
    """The learner: train(key, tokens) -> (initial parameters, history), pure, to be jitted and vmapped over keys."""
    network = make_network(config.network, config.num_bins)
    optimiser = optax.adam(config.inner_learning_rate)
    inner_step = _make_inner_step(config)

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[Params, MetaRecord]:
        num_keys = tokens.characters.shape[0]
        if num_keys < config.keys_per_task:
            raise ValueError(f"keys_per_task={config.keys_per_task} is more than the {num_keys} keys; give more keys")
        params = network.init(stream_key(key, Stream.INIT), take(tokens, jnp.arange(1)))

        def adapt(params: Params, key: Array) -> tuple[Params, MetaRecord]:
            batch = take(tokens, jax.random.choice(key, num_keys, (config.keys_per_task,), replace=False))
            start = (params, optimiser.init(params))
            (adapted, _), losses = jax.lax.scan(lambda c, _: inner_step(c, batch), start, None, config.inner_steps)
            return adapted, MetaRecord(_collisions(config, adapted, batch).astype(jnp.float32), losses[-1])

        def step(params: Params, key: Array, iteration: Array) -> tuple[Params, MetaRecord]:
            adapted, records = jax.vmap(adapt, (None, 0))(params, jax.random.split(key, config.tasks))
            rate = config.meta_rate * (1 - iteration / config.iterations)
            moved = jax.tree.map(lambda p, a: p + rate * (a.mean(0) - p), params, adapted)
            return moved, jax.tree.map(jnp.mean, records)

        return iterate(step, params, stream_key(key, Stream.KEYS), config.iterations, callback)

    return train


def fresh_params(config: MetaConfig, key: Key[Array, ""], tokens: Tokens) -> Params:
    """Parameters as they are without meta-learning."""
    return make_network(config.network, config.num_bins).init(key, take(tokens, jnp.arange(1)))


def iterations_to_perfect(config: MetaConfig, params: Params, batch: Tokens, most: int) -> Int32[Array, ""]:
    """Steps on one key set until it has no collision left; `most` if that many do not suffice. Pure: vmap it."""
    optimiser = optax.adam(config.inner_learning_rate)
    inner_step = _make_inner_step(config)

    def unfinished(carry: tuple[Array, tuple[Params, optax.OptState]]) -> Array:
        return (carry[0] < most) & (_collisions(config, carry[1][0], batch) > 0)

    def once(carry: tuple[Array, tuple[Params, optax.OptState]]) -> tuple[Array, tuple[Params, optax.OptState]]:
        return carry[0] + 1, inner_step(carry[1], batch)[0]

    start = (jnp.zeros((), jnp.int32), (params, optimiser.init(params)))
    return jax.lax.while_loop(unfinished, once, start)[0]


def _collisions(config: MetaConfig, params: Params, batch: Tokens) -> Int32[Array, ""]:
    network = make_network(config.network, config.num_bins)
    return table.collisions(jnp.argmax(network.apply(params, batch), -1), config.num_bins)


def _make_inner_step(
    config: MetaConfig,
) -> Callable[[tuple[Params, optax.OptState], Tokens], tuple[tuple[Params, optax.OptState], Array]]:
    network = make_network(config.network, config.num_bins)
    optimiser = optax.adam(config.inner_learning_rate)

    def inner_step(carry: tuple[Params, optax.OptState], batch: Tokens) -> tuple[tuple[Params, optax.OptState], Array]:
        params, optimiser_state = carry

        def loss(params: Params) -> Array:
            logits = network.apply(params, batch)
            return imitation_loss(logits, good_bins(jax.lax.stop_gradient(logits)))

        value, gradient = jax.value_and_grad(loss)(params)
        updates, optimiser_state = optimiser.update(gradient, optimiser_state)
        return (optax.apply_updates(params, updates), optimiser_state), value

    return inner_step
