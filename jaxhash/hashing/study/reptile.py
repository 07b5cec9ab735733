"""Reptile: an initialisation from which the perfect hash of a new small key set is learned in fewer iterations.

A. Nichol, J. Achiam, J. Schulman, "On first-order meta-learning algorithms" (arXiv 1803.02999), algorithm 1 in its
batched form; meta-learning stands in the future work of the study (A. Museth, "Neural Hash Functions", CS285). A task
is a few keys out of many; it is learned by `expected_return.py`, which makes every start spread and sharp over the keys
of its task: what is learned is all but that. Which bin is which has no meaning across tasks, so the last layer may be
left to each task (`layers`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import expected_return, table
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig, Training
from jaxhash.hashing.study.loop import Callback, check, iterate
from jaxhash.hashing.study.networks import NetworkConfig, Params, output_layer, take
from jaxhash.hashing.study.whitened import folded, logits
from jaxhash.runtime.streams import Stream, stream_key

TASK = ExpectedReturnConfig(num_bins=32, blocks=1, learning_rate=2e-2, network=NetworkConfig((64, 64)))
"""How a task is learned, if not told otherwise."""


@dataclass(frozen=True)
class MetaConfig:
    """How the initialisation is learned, and what it is learned for."""

    keys_per_task: int = 32
    """Keys in a key set, drawn from all keys."""
    iterations: int = 200
    """Meta-steps."""
    tasks: int = 16
    """Key sets a meta-step."""
    inner_steps: int = 10
    """Iterations on each key set."""
    meta_rate: float = 0.5
    """Share of the way to the mean of what the key sets led to, at first; it falls to 0 linearly."""
    layers: Literal["hidden", "all"] = "hidden"
    """What is learned: the layers below the last, which each key set then has drawn anew; or all."""
    learner: ExpectedReturnConfig = field(default_factory=lambda: TASK)
    """How a key set is learned, in training and afterwards; its iterations are not used."""

    def __post_init__(self) -> None:
        for name in ("keys_per_task", "iterations", "tasks", "inner_steps"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(0 < self.meta_rate <= 1, "meta_rate", self.meta_rate, "in (0, 1]")
        if self.learner.num_bins < self.keys_per_task:
            raise ValueError(
                f"num_bins={self.learner.num_bins} is less than the keys_per_task={self.keys_per_task}; "
                f"a perfect hash needs num_bins >= {self.keys_per_task}"
            )


class MetaRecord(NamedTuple):
    """What is noted of one meta-step: means over its key sets."""

    collisions: Float[Array, "*iterations"]
    """After the inner steps."""
    loss: Float[Array, "*iterations"]
    """What the learner minimises, at the last inner step."""


def make_train(
    config: MetaConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[Params, MetaRecord]]:
    """The learner: train(key, tokens) -> (initial parameters, history), pure, to be jitted and vmapped over keys."""

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[Params, MetaRecord]:
        num_keys = tokens.characters.shape[0]
        if num_keys < config.keys_per_task:
            raise ValueError(f"keys_per_task={config.keys_per_task} is more than the {num_keys} keys; give more keys")

        def adapt(params: Params, key: Array) -> tuple[Params, MetaRecord]:
            batch_key, draw_key = jax.random.split(key)
            batch = take(tokens, jax.random.choice(batch_key, num_keys, (config.keys_per_task,), replace=False))
            begun = expected_return.start(config.learner, begin(config, params, draw_key, batch), batch)
            once = _iteration(config.learner, batch)
            adapted, losses = jax.lax.scan(once, begun, jnp.arange(config.inner_steps))
            collisions = _collisions(config.learner, adapted, batch).astype(jnp.float32)
            return folded(adapted.policy), MetaRecord(collisions, losses[-1])

        def step(params: Params, key: Array, iteration: Array) -> tuple[Params, MetaRecord]:
            adapted, records = jax.vmap(adapt, (None, 0))(params, jax.random.split(key, config.tasks))
            rate = config.meta_rate * (1 - iteration / config.iterations)
            moved = jax.tree.map(lambda p, a: p + rate * (a.mean(0) - p), params, adapted)
            return moved, jax.tree.map(jnp.mean, records)

        params = expected_return.draw(config.learner, stream_key(key, Stream.INIT), tokens)
        return iterate(step, params, stream_key(key, Stream.KEYS), config.iterations, callback)

    return train


def begin(config: MetaConfig, params: Params, key: Key[Array, ""], batch: Tokens) -> Params:
    """Where a key set starts from: the initialisation, with a last layer of its own if it is not learned."""
    if config.layers == "all":
        return params
    name, output = output_layer(expected_return.draw(config.learner, key, batch))
    return {"params": params["params"] | {name: output}}


def iterations_to_perfect(
    learner: ExpectedReturnConfig, params: Params, batch: Tokens, most: int | Int[Array, ""]
) -> Int32[Array, ""]:
    """Iterations on one key set until it has no collision left; `most` if that many do not suffice. Pure: vmap it."""
    once = _iteration(learner, batch)

    def unfinished(carry: tuple[Array, Training]) -> Array:
        return (carry[0] < most) & (_collisions(learner, carry[1], batch) > 0)

    def more(carry: tuple[Array, Training]) -> tuple[Array, Training]:
        return carry[0] + 1, once(carry[1], carry[0])[0]

    begun = expected_return.start(learner, params, batch)
    return jax.lax.while_loop(unfinished, more, (jnp.zeros((), jnp.int32), begun))[0]


def _collisions(learner: ExpectedReturnConfig, state: Training, batch: Tokens) -> Int32[Array, ""]:
    return table.collisions(jnp.argmax(logits(learner.network, state.policy, batch), -1), learner.num_bins)


def _iteration(
    learner: ExpectedReturnConfig, batch: Tokens
) -> Callable[[Training, Int[Array, ""]], tuple[Training, Array]]:
    iteration = expected_return.make_iteration(learner)

    def once(state: Training, number: Int[Array, ""]) -> tuple[Training, Array]:
        # The key is of the bins that are drawn for the record alone.
        state, record = iteration(state, jax.random.key(0), number, batch)
        return state, record.loss

    return once
