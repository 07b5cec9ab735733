"""Training loop of the learners: iterations as one `scan`, the history that is recorded, and training over seeds.

A learner is `make_train(config) -> train(key, ...) -> (state, history)`: `train` is pure, one program for the whole
training, to be jitted and vmapped over seeds (`train_seeds`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, Key, PyTree

from jaxhash.hashing.study import table
from jaxhash.hashing.study.networks import entropy

State = TypeVar("State")
Callback = Callable[[int], None]
"""Told how many iterations are done, now and then; called from another thread, once for every seed."""

CALLS = 50
"""Of the callback, in a training."""


class Record(NamedTuple):
    """What is noted of one iteration, before its update; in a history every array has a leading `iterations` axis."""

    collisions: Int32[Array, "*iterations"]
    """Keys - occupied bins, of the most probable bins: what the policy does as a hash function."""
    largest_bin: Int32[Array, "*iterations"]
    """Most keys in one bin, of the most probable bins."""
    drawn_collisions: Float[Array, "*iterations"]
    """Of the bins drawn from the policy, mean over the iteration's episodes."""
    drawn_largest_bin: Int32[Array, "*iterations"]
    """Of the bins drawn in the first episode."""
    mean_reward: Float[Array, "*iterations"]
    """Mean reward a key: +10 into an empty bin, -10 into an occupied one; 10 is a perfect hash."""
    entropy: Float[Array, "*iterations"]
    """Mean entropy of the policy, nats; log(num_bins) is uniform, 0 deterministic."""
    loss: Float[Array, "*iterations"]


def measure(
    logits: Float[Array, "n bins"],
    drawn: Int[Array, "episodes n"],
    rewards: Float[Array, "episodes n"],
    loss: Float[Array, ""],
) -> Record:
    """The record of an iteration, from the policy's logits and what was drawn from them."""
    return record_of(jnp.argmax(logits, -1), drawn, rewards, entropy(logits).mean(), loss, logits.shape[-1])


def record_of(
    bins: Int[Array, " n"],
    drawn: Int[Array, "episodes n"],
    rewards: Float[Array, "episodes n"],
    spread: Float[Array, ""],
    loss: Float[Array, ""],
    num_bins: int,
) -> Record:
    """The record of an iteration, from the most probable bins and those drawn, and the policy's mean entropy."""
    return Record(
        collisions=table.collisions(bins, num_bins),
        largest_bin=table.largest_bin(bins, num_bins),
        drawn_collisions=jax.vmap(table.collisions, (0, None))(drawn, num_bins).mean(),
        drawn_largest_bin=table.largest_bin(drawn[0], num_bins),
        mean_reward=rewards.mean(),
        entropy=spread,
        loss=loss,
    )


def iterate(
    step: Callable[[State, Key[Array, ""], Int[Array, ""]], tuple[State, Any]],
    state: State,
    key: Key[Array, ""],
    iterations: int,
    callback: Callback | None = None,
) -> tuple[State, Any]:
    """Run a learner's step for all its iterations, in one scan.

    Args:
        step: (state, the iteration's own key, iteration from 0) -> (state, record).
        state: where to begin.
        key: folded with each iteration.
        iterations: how many.
        callback: see `Callback`.

    Returns:
        The last state, and the records stacked.
    """
    every = max(1, iterations // CALLS)

    def one(state: State, iteration: Array) -> tuple[State, Any]:
        state, record = step(state, jax.random.fold_in(key, iteration), iteration)
        if callback is not None:
            jax.lax.cond(
                (iteration + 1) % every == 0,
                lambda: jax.debug.callback(lambda done: callback(int(done)), iteration + 1),
                lambda: None,
            )
        return state, record

    return jax.lax.scan(one, state, jnp.arange(iterations))


def train_seeds(train: Callable[..., Any], seeds: int, seed: int, *data: PyTree, side_by_side: bool = True) -> Any:
    """Train from several seeds in one program: what `train` returns, with a leading axis of seeds.

    Seed i of a run is that seed whoever trains beside it. One after the other they take the memory of one.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(seeds))
    if side_by_side:
        return jax.jit(jax.vmap(train, in_axes=(0, *(None for _ in data))))(keys, *data)
    return jax.jit(lambda keys, *data: jax.lax.map(lambda key: train(key, *data), keys))(keys, *data)


def check(holds: bool, name: str, value: object, rule: str) -> None:
    """Whether an option of a learner is valid.

    Raises:
        ValueError: if not.
    """
    if not holds:
        raise ValueError(f"{name}={value} is not valid: {name} must be {rule}")
