"""REINFORCE: the policy draws a bin for every key, and draws of high return become more probable.

R. J. Williams, "Simple statistical gradient-following algorithms", Machine Learning 8 (1992), section 3; the study's
"Policy Gradient" (A. Museth, "Neural Hash Functions", CS285, figures 2, 6 and 7). An episode is one table filled
with the iteration's keys in their order; a key's draw does not depend on the table, so the draws of an episode are
made at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.loop import Callback, Record, check, iterate, measure
from jaxhash.hashing.study.networks import (
    NetworkConfig,
    Params,
    entropy,
    log_probability,
    make_network,
    sample,
    take,
)
from jaxhash.hashing.study.schedule import KEY_BATCHES, check_batches
from jaxhash.hashing.study.whitened import folded, plain, whitened
from jaxhash.hashing.study.whitened import logits as logits_of
from jaxhash.runtime.streams import Stream, stream_key


class Tuning(NamedTuple):
    """The hyper-parameters that one program may take many values of (`make_train_tuned`)."""

    learning_rate: float | Float[Array, ""] = 1e-3
    """Adam's step size."""
    entropy: float | Float[Array, ""] = 0.0
    """Weight of the policy's mean entropy (nats) in what is maximised."""
    baseline: float | Float[Array, ""] = 0.0
    """How much of the key's mean credit in the other episodes is subtracted from its credit; 1 is all of it."""


@dataclass(frozen=True)
class ReinforceConfig:
    """How REINFORCE trains. The defaults are the study's: one episode an iteration, its whole return, no baseline."""

    num_bins: int = 1000
    iterations: int = 100
    """Optimiser steps."""
    batch_size: int = 1000
    """Keys placed in an episode."""
    batches: Literal["fresh", "in_turn"] = "fresh"
    """Other keys every iteration, or the same again and again (`schedule.py`)."""
    episodes: int = 1
    """Tables filled by draws from the same policy in an iteration; they share one pass of the network."""
    credit: Literal["return", "own", "difference"] = "return"
    """What a draw is credited with (`CREDITS`)."""
    deviation: float = 0.0
    """Standard deviation of each bin's logits over the keys at the start (`whitened.py`); 0 leaves the network as
    it was drawn, and does not whiten it."""
    tuning: Tuning = field(default_factory=Tuning)
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        check(self.num_bins >= 1, "num_bins", self.num_bins, "1 or more")
        check(self.iterations >= 1, "iterations", self.iterations, "1 or more")
        check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more keys")
        check(self.deviation >= 0, "deviation", self.deviation, "0 or more")
        check(self.episodes >= 1, "episodes", self.episodes, "1 or more")
        if self.episodes == 1 and float(self.tuning.baseline) != 0:
            raise ValueError(
                f"baseline={self.tuning.baseline} needs other episodes to take it from, and episodes=1; "
                "give episodes=2 or more, or baseline=0"
            )


class ReinforceState(NamedTuple):
    """Parameters of the policy, and Adam's state."""

    params: Params
    optimiser: optax.OptState


def make_train(
    config: ReinforceConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[ReinforceState, Record]]:
    """The learner: train(key, tokens) -> (state, history), pure, to be jitted and vmapped over keys.

    Raises:
        ValueError: by `train`, if the keys cannot be cut into such batches.
    """
    train = make_train_tuned(config, callback)
    return lambda key, tokens: train(key, tokens, config.tuning)


def make_train_tuned(
    config: ReinforceConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens, Tuning], tuple[ReinforceState, Record]]:
    """The learner as a function of its hyper-parameters too: train(key, tokens, tuning), to be vmapped over them.

    `config.tuning` is not used. Cost: 6 * parameters * batch_size FLOPs an iteration, whatever the episodes.
    """

    def train(key: Key[Array, ""], tokens: Tokens, tuning: Tuning) -> tuple[ReinforceState, Record]:
        num_keys = tokens.characters.shape[0]
        check_batches(config.batches, num_keys, config.batch_size)
        optimiser = optax.adam(tuning.learning_rate)
        params = make_network(config.network, config.num_bins).init(
            stream_key(key, Stream.INIT), take(tokens, jnp.arange(1))
        )
        start = whitened(config.network, params, tokens, config.deviation) if config.deviation else plain(params)

        def step(state: ReinforceState, draw_key: Array, iteration: Array) -> tuple[ReinforceState, Record]:
            index = KEY_BATCHES[config.batches](stream_key(key, Stream.KEYS), iteration, num_keys, config.batch_size)
            batch = take(tokens, index)

            def loss(params: Params) -> tuple[Array, Record]:
                logits = logits_of(config.network, start._replace(params=params), batch)
                bins = sample(draw_key, jax.lax.stop_gradient(logits), config.episodes)
                value = policy_gradient_loss(logits, bins, advantage(bins, config.num_bins, config.credit, tuning))
                value = value - tuning.entropy * entropy(logits).mean()
                rewards = jax.vmap(table.rewards, (0, None))(bins, config.num_bins)
                return value, measure(logits, bins, rewards, value)

            gradient, record = jax.grad(loss, has_aux=True)(state.params)
            updates, optimiser_state = optimiser.update(gradient, state.optimiser)
            return ReinforceState(optax.apply_updates(state.params, updates), optimiser_state), record

        state = ReinforceState(start.params, optimiser.init(start.params))
        state, history = iterate(step, state, stream_key(key, Stream.DRAWS), config.iterations, callback)
        return state._replace(params=folded(start._replace(params=state.params))), history

    return train


def policy_gradient_loss(
    logits: Float[Array, "*batch bins"], bins: Int[Array, "draws *batch"], advantages: Float[Array, "draws *batch"]
) -> Float[Array, ""]:
    """Its gradient is -1/n times the estimate of the policy gradient: the mean over draws of the sum over keys of
    advantage * grad log pi(bin)."""
    chex.assert_equal_shape([bins, advantages])  # one that is broadcast would give another gradient
    return -(jax.lax.stop_gradient(advantages) * log_probability(logits, bins)).mean()


def advantage(bins: Int[Array, "episodes n"], num_bins: int, credit: str, tuning: Tuning) -> Float[Array, "episodes n"]:
    """Credit of each draw, less `tuning.baseline` times the mean credit that the same key got in the other episodes.

    The others' draws do not depend on this one, so no baseline of this kind shifts the mean of the gradient.
    """
    credits = jax.vmap(CREDITS[credit], (0, None))(bins, num_bins)
    episodes = bins.shape[0]
    others = (credits.sum(0) - credits) / max(episodes - 1, 1)
    return credits - tuning.baseline * others


def whole_return(bins: Int[Array, " n"], num_bins: int) -> Float[Array, " n"]:
    """The sum of the episode's rewards, for every key: unbiased, and nearly all of it is other keys' doing."""
    return jnp.broadcast_to(table.rewards(bins, num_bins).sum(), bins.shape)


def own_reward(bins: Int[Array, " n"], num_bins: int) -> Float[Array, " n"]:
    """The reward of the key's own placement: what it costs later keys is left out, so it is not quite the gradient
    of the return."""
    return table.rewards(bins, num_bins)


def difference(bins: Int[Array, " n"], num_bins: int) -> Float[Array, " n"]:
    """The return with the key less the return without it: +10 alone in its bin, -10 in company.

    The return without the key does not depend on its draw, so this is unbiased as the whole return is, without the
    other keys' noise (Wolpert and Tumer, "Optimal payoff functions for members of collectives", 2001, section 3).
    The return is 20 * occupied bins - 10 * keys, whatever the order of arrival.
    """
    alone = table.occupancy(bins, num_bins)[bins] == 1
    return jnp.where(alone, table.REWARD_EMPTY, table.REWARD_OCCUPIED)


CREDITS: dict[str, Callable[[Int[Array, " n"], int], Float[Array, " n"]]] = {
    "return": whole_return,
    "own": own_reward,
    "difference": difference,
}
