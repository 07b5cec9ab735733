"""Imitation of a given hash function: supervised learning of the right bin of every key.

The study's first experiment (A. Museth, "Neural Hash Functions", CS285, figure 1) imitates Python's `hash` modulo
1,000, which is SipHash under a salt (`python_hash.py`): a function made to look random, so that there is nothing to
generalise. Keys are drawn at random, so that over a large key set each is seen once or so; over a small one, often.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Int32, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study.loop import Callback, check, iterate
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, take
from jaxhash.runtime.streams import Stream, stream_key


@dataclass(frozen=True)
class ImitateConfig:
    """How a hash function is imitated. The defaults are the study's network and number of classes."""

    num_bins: int = 1000
    """Classes: the bins of the hash function."""
    iterations: int = 1000
    """Optimiser steps."""
    batch_size: int = 256
    """Keys a step."""
    held_out: int = 1000
    """Keys that are never trained on, for the second loss."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(hidden=(200, 300)))

    def __post_init__(self) -> None:
        for name in ("num_bins", "iterations", "batch_size", "held_out"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


class ImitateState(NamedTuple):
    """Parameters of the network, and Adam's state."""

    params: Params
    optimiser: optax.OptState


class ImitateRecord(NamedTuple):
    """What is noted of one iteration, before its update; nats."""

    loss: Float[Array, "*iterations"]
    """Cross-entropy of the batch; log(num_bins) is guessing."""
    held_out_loss: Float[Array, "*iterations"]
    """Cross-entropy of as many keys that are never trained on."""
    accuracy: Float[Array, "*iterations"]
    """Share of the batch whose most probable bin is the right one."""


def make_train(
    config: ImitateConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens, Int32[Array, " n"]], tuple[ImitateState, ImitateRecord]]:
    """The learner: train(key, tokens, bins) -> (state, history), pure, to be jitted and vmapped over keys.

    `bins` are the hash function's. Cost: 8 * parameters * batch_size FLOPs an iteration.

    Raises:
        ValueError: by `train`, if no key is left to train on.
    """
    network = make_network(config.network, config.num_bins)
    optimiser = optax.adam(config.learning_rate)

    def train(key: Key[Array, ""], tokens: Tokens, bins: Array) -> tuple[ImitateState, ImitateRecord]:
        n = tokens.characters.shape[0]
        if n <= config.held_out:
            raise ValueError(f"held_out={config.held_out} leaves none of the {n} keys to train on; hold out fewer")
        params = network.init(stream_key(key, Stream.INIT), take(tokens, jnp.arange(1)))
        order = jax.random.permutation(stream_key(key, Stream.HELD_OUT), n)

        def step(state: ImitateState, train_key: Array, iteration: Array) -> tuple[ImitateState, ImitateRecord]:
            test_key = stream_key(key, Stream.HELD_OUT_KEYS, iteration)
            some = order[jax.random.randint(train_key, (config.batch_size,), config.held_out, n)]
            others = order[jax.random.randint(test_key, (config.batch_size,), 0, config.held_out)]

            def loss(params: Params, index: Int[Array, " batch"]) -> tuple[Array, Array]:
                logits = network.apply(params, take(tokens, index))
                right = jnp.argmax(logits, -1) == bins[index]
                return optax.softmax_cross_entropy_with_integer_labels(logits, bins[index]).mean(), right.mean()

            (value, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, some)
            record = ImitateRecord(value, loss(state.params, others)[0], accuracy)
            updates, optimiser_state = optimiser.update(gradient, state.optimiser)
            return ImitateState(optax.apply_updates(state.params, updates), optimiser_state), record

        return iterate(
            step,
            ImitateState(params, optimiser.init(params)),
            stream_key(key, Stream.KEYS),
            config.iterations,
            callback,
        )

    return train
