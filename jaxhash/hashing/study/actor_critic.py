"""Actor-critic: REINFORCE whose credit is one reward and a learned value of the words to come.

V. Konda and J. Tsitsiklis, "Actor-critic algorithms" (1999); the study's figure 3 (A. Museth, "Neural Hash
Functions", CS285), with that course's recipe: the critic is fitted to bootstrapped targets that are made anew now and
then, and advantages are standardised. An observation is a word, the next observation the next word of the episode.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.loop import Callback, Record, check, iterate, measure
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, sample, take
from jaxhash.hashing.study.reinforce import policy_gradient_loss
from jaxhash.hashing.study.schedule import KEY_BATCHES, check_batches
from jaxhash.runtime.streams import Stream, stream_key


@dataclass(frozen=True)
class ActorCriticConfig:
    """How an actor and a critic train; both networks have the same hidden layers."""

    num_bins: int = 1000
    iterations: int = 100
    """Optimiser steps of the actor."""
    batch_size: int = 1000
    """Keys placed in an episode; one episode an iteration."""
    batches: Literal["fresh", "in_turn"] = "fresh"
    """Other keys every iteration, or the same again and again (`schedule.py`)."""
    discount: float = 0.99
    """What a reward of the next word is worth now."""
    target_updates: int = 2
    """Times an iteration that the critic's targets are made anew."""
    critic_steps: int = 2
    """Optimiser steps of the critic on the same targets."""
    actor_learning_rate: float = 5e-3
    """Adam's step size; 5e-3 is the course's."""
    critic_learning_rate: float = 5e-3
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("num_bins", "iterations", "batch_size", "target_updates", "critic_steps"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(0 <= self.discount <= 1, "discount", self.discount, "in [0, 1]")


class ActorCriticState(NamedTuple):
    """Parameters of both networks, and Adam's states."""

    actor: Params
    critic: Params
    actor_optimiser: optax.OptState
    critic_optimiser: optax.OptState


def make_train(
    config: ActorCriticConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[ActorCriticState, Record]]:
    """The learner: train(key, tokens) -> (state, history), pure, to be jitted and vmapped over keys.

    The recorded loss is the critic's, mean squared error to its targets.

    Raises:
        ValueError: by `train`, if the keys cannot be cut into such batches.
    """
    actor = make_network(config.network, config.num_bins)
    critic = make_network(config.network, 1)
    actor_optimiser = optax.adam(config.actor_learning_rate)
    critic_optimiser = optax.adam(config.critic_learning_rate)

    def values(params: Params, batch: Tokens) -> Float[Array, " n"]:
        return critic.apply(params, batch)[:, 0]

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[ActorCriticState, Record]:
        num_keys = tokens.characters.shape[0]
        check_batches(config.batches, num_keys, config.batch_size)
        one = take(tokens, jnp.arange(1))
        actor_params = actor.init(stream_key(key, Stream.INIT), one)
        critic_params = critic.init(stream_key(key, Stream.INIT_CRITIC), one)

        def step(state: ActorCriticState, draw_key: Array, iteration: Array) -> tuple[ActorCriticState, Record]:
            keys = stream_key(key, Stream.KEYS)
            batch = take(tokens, KEY_BATCHES[config.batches](keys, iteration, num_keys, config.batch_size))
            bins = sample(draw_key, actor.apply(state.actor, batch), 1)
            rewards = table.rewards(bins[0], config.num_bins)

            def fit(carry: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], Array]:
                targets = td_targets(rewards, values(carry[0], batch), config.discount)

                def critic_step(carry: tuple[Params, optax.OptState], _: None) -> tuple[tuple, Array]:
                    params, optimiser_state = carry
                    loss, gradient = jax.value_and_grad(lambda p: critic_loss(values(p, batch), targets))(params)
                    updates, optimiser_state = critic_optimiser.update(gradient, optimiser_state)
                    return (optax.apply_updates(params, updates), optimiser_state), loss

                return jax.lax.scan(critic_step, carry, None, config.critic_steps)

            critic_carry, losses = jax.lax.scan(
                fit, (state.critic, state.critic_optimiser), None, config.target_updates
            )
            advantages = standardise(td_errors(rewards, values(critic_carry[0], batch), config.discount))

            def actor_loss(params: Params) -> tuple[Array, Record]:
                logits = actor.apply(params, batch)
                record = measure(logits, bins, rewards[None], losses[0, 0])
                return policy_gradient_loss(logits, bins, advantages[None]), record

            gradient, record = jax.grad(actor_loss, has_aux=True)(state.actor)
            updates, actor_optimiser_state = actor_optimiser.update(gradient, state.actor_optimiser)
            actor_params = optax.apply_updates(state.actor, updates)
            return ActorCriticState(actor_params, critic_carry[0], actor_optimiser_state, critic_carry[1]), record

        state = ActorCriticState(
            actor_params, critic_params, actor_optimiser.init(actor_params), critic_optimiser.init(critic_params)
        )
        return iterate(step, state, stream_key(key, Stream.DRAWS), config.iterations, callback)

    return train


def td_targets(rewards: Float[Array, " n"], values: Float[Array, " n"], discount: float) -> Float[Array, " n"]:
    """What the critic is fitted to: reward + discount * value of the next word; after the last word nothing comes."""
    chex.assert_equal_shape([rewards, values])
    following = jnp.append(values[1:], 0.0)
    return rewards + discount * following


def td_errors(rewards: Float[Array, " n"], values: Float[Array, " n"], discount: float) -> Float[Array, " n"]:
    """Advantages: targets less the values that were expected."""
    return td_targets(rewards, values, discount) - values


def standardise(advantages: Float[Array, " n"]) -> Float[Array, " n"]:
    """Mean 0 and standard deviation 1 over the episode; all 0 where they are all the same."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def critic_loss(values: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, ""]:
    """Mean squared error to targets that are held fixed."""
    chex.assert_equal_shape([values, targets])
    return jnp.square(values - jax.lax.stop_gradient(targets)).mean()
