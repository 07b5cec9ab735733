"""Soft actor-critic for discrete actions: two critics, a replay buffer, and an entropy that is held by a temperature.

P. Christodoulou, "Soft Actor-Critic for Discrete Action Settings" (arXiv 1910.07207), after T. Haarnoja and others,
"Soft Actor-Critic Algorithms and Applications" (arXiv 1812.05905); the study's figure 4 (A. Museth, "Neural Hash
Functions", CS285). An observation is a word, the next observation the next word of the episode.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.loop import Callback, check, iterate, measure
from jaxhash.hashing.study.networks import NetworkConfig, Params, entropy, make_network, sample, take
from jaxhash.hashing.study.schedule import KEY_BATCHES, check_batches
from jaxhash.runtime.streams import Stream, stream_key


@dataclass(frozen=True)
class SoftActorCriticConfig:
    """How soft actor-critic trains; actor and critics have the same hidden layers."""

    num_bins: int = 1000
    iterations: int = 100
    """Episodes."""
    batch_size: int = 1000
    """Keys placed in an episode."""
    batches: Literal["fresh", "in_turn"] = "fresh"
    """Other keys every iteration, or the same again and again (`schedule.py`)."""
    replay: int = 10
    """Episodes the replay buffer holds; the oldest makes room."""
    updates: int = 4
    """Optimiser steps of all networks an iteration."""
    replay_batch: int = 256
    """Placements a step, drawn at random from the replay buffer."""
    discount: float = 0.99
    """What a reward of the next word is worth now."""
    target_rate: float = 0.005
    """Share of the critics that goes into the target critics at each step; 0.005 is the paper's tau."""
    target_entropy: float = 0.98
    """The entropy to hold, as a share of log(num_bins); 0.98 is the paper's."""
    initial_temperature: float = table.REWARD_EMPTY
    """Weight of the entropy at the start; it is learned. As large as a reward: from the usual 1, the policy gathers in
    few bins until the temperature has risen (docs/hash-study.md)."""
    learning_rate: float = 3e-4
    """Adam's step size for actor, critics and temperature; 3e-4 is the paper's."""
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("num_bins", "iterations", "batch_size", "replay", "updates", "replay_batch"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(0 <= self.discount <= 1, "discount", self.discount, "in [0, 1]")
        check(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        check(0 <= self.target_entropy <= 1, "target_entropy", self.target_entropy, "in [0, 1]")
        check(self.initial_temperature > 0, "initial_temperature", self.initial_temperature, "more than 0")


class Learned(NamedTuple):
    """What gradients move."""

    actor: Params
    critics: Params
    """Both critics: every array has a leading axis of 2."""
    log_temperature: Float[Array, ""]


class Transitions(NamedTuple):
    """Placements: words by their index into the keys."""

    word: Int[Array, "*n"]
    bin: Int[Array, "*n"]
    reward: Float[Array, "*n"]
    next_word: Int[Array, "*n"]
    done: Float[Array, "*n"]
    """1 for the last word of an episode, after which nothing comes."""


class SoftActorCriticState(NamedTuple):
    """What is learned, the slow copy of the critics, Adam's state, and the replay buffer."""

    learned: Learned
    target_critics: Params
    optimiser: optax.OptState
    replay: Transitions


class SoftActorCriticRecord(NamedTuple):
    """A `loop.Record`, and what drives the policy. The loss is the critics', of the iteration's last step."""

    collisions: Int[Array, "*iterations"]
    largest_bin: Int[Array, "*iterations"]
    drawn_collisions: Float[Array, "*iterations"]
    drawn_largest_bin: Int[Array, "*iterations"]
    mean_reward: Float[Array, "*iterations"]
    entropy: Float[Array, "*iterations"]
    loss: Float[Array, "*iterations"]
    temperature: Float[Array, "*iterations"]
    value_spread: Float[Array, "*iterations"]
    """Standard deviation over the bins of the smaller critic, mean over the words of the iteration's last step. The
    policy is drawn to softmax(values / temperature): where this is far above the temperature, to few bins."""


def make_train(
    config: SoftActorCriticConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[SoftActorCriticState, SoftActorCriticRecord]]:
    """The learner: train(key, tokens) -> (state, history), pure, to be jitted and vmapped over keys.

    Raises:
        ValueError: by `train`, if the keys cannot be cut into such batches.
    """
    network = make_network(config.network, config.num_bins)
    optimiser = optax.adam(config.learning_rate)
    target_entropy = config.target_entropy * math.log(config.num_bins)
    both = jax.vmap(network.apply, (0, None))

    def losses(
        learned: Learned, target_critics: Params, here: Transitions, tokens: Tokens
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
        words, following = take(tokens, here.word), take(tokens, here.next_word)
        temperature = jnp.exp(learned.log_temperature)
        targets = soft_targets(
            here.reward,
            here.done,
            network.apply(learned.actor, following),
            both(target_critics, following),
            temperature,
            config.discount,
        )
        q = both(learned.critics, words)
        logits = network.apply(learned.actor, words)
        critic = critic_loss(q, here.bin, targets)
        # Each part holds fixed what the others move: the sum has the gradient of each for its own parameters.
        actor = actor_loss(logits, q, temperature)
        total = critic + actor + temperature_loss(learned.log_temperature, logits, target_entropy)
        return total, (critic, q.min(0).std(-1).mean())

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[SoftActorCriticState, SoftActorCriticRecord]:
        num_keys, batch = tokens.characters.shape[0], config.batch_size
        check_batches(config.batches, num_keys, batch)
        one = take(tokens, jnp.arange(1))
        critics = jax.vmap(network.init, (0, None))(jax.random.split(stream_key(key, Stream.INIT_CRITIC)), one)
        log_temperature = jnp.log(jnp.float32(config.initial_temperature))
        learned = Learned(network.init(stream_key(key, Stream.INIT), one), critics, log_temperature)
        room = jnp.zeros(config.replay * batch, jnp.int32)
        empty = Transitions(room, room, room.astype(jnp.float32), room, room.astype(jnp.float32))

        def step(
            state: SoftActorCriticState, draw_key: Array, iteration: Array
        ) -> tuple[SoftActorCriticState, SoftActorCriticRecord]:
            index = KEY_BATCHES[config.batches](stream_key(key, Stream.KEYS), iteration, num_keys, batch)
            logits = network.apply(state.learned.actor, take(tokens, index))
            bins = sample(draw_key, logits, 1)
            rewards = table.rewards(bins[0], config.num_bins)
            done = jnp.zeros(batch).at[-1].set(1.0)
            episode = Transitions(index, bins[0], rewards, jnp.roll(index, -1), done)
            slot = (iteration % config.replay) * batch
            replay = jax.tree.map(
                lambda kept, new: jax.lax.dynamic_update_slice(kept, new.astype(kept.dtype), (slot,)),
                state.replay,
                episode,
            )
            held = jnp.minimum(iteration + 1, config.replay) * batch

            def update(carry: tuple[Learned, Params, Any], key: Array) -> tuple[tuple, tuple[Array, Array]]:
                learned, target_critics, optimiser_state = carry
                chosen = jax.random.randint(key, (config.replay_batch,), 0, held)
                here = jax.tree.map(lambda a: a[chosen], replay)
                gradient, noted = jax.grad(losses, has_aux=True)(learned, target_critics, here, tokens)
                updates, optimiser_state = optimiser.update(gradient, optimiser_state)
                learned = optax.apply_updates(learned, updates)
                target_critics = optax.incremental_update(learned.critics, target_critics, config.target_rate)
                return (learned, target_critics, optimiser_state), noted

            carry = (state.learned, state.target_critics, state.optimiser)
            replay_keys = jax.random.split(stream_key(key, Stream.REPLAY, iteration), config.updates)
            carry, (loss, spread) = jax.lax.scan(update, carry, replay_keys)
            record = measure(logits, bins, rewards[None], loss[-1])
            temperature = jnp.exp(state.learned.log_temperature)
            return SoftActorCriticState(*carry, replay), SoftActorCriticRecord(*record, temperature, spread[-1])

        state = SoftActorCriticState(learned, critics, optimiser.init(learned), empty)
        return iterate(step, state, stream_key(key, Stream.DRAWS), config.iterations, callback)

    return train


def soft_targets(
    rewards: Float[Array, " n"],
    done: Float[Array, " n"],
    next_logits: Float[Array, "n bins"],
    next_q: Float[Array, "2 n bins"],
    temperature: Float[Array, ""],
    discount: float,
) -> Float[Array, " n"]:
    """reward + discount * (1 - done) * sum_b pi(b) (min of both critics - temperature * log pi(b)) at the next word
    (arXiv 1910.07207, equations 3 and 10); held fixed."""
    chex.assert_equal_shape([rewards, done, next_logits[:, 0], next_q[0, :, 0]])
    log_p = jax.nn.log_softmax(next_logits)
    value = (jnp.exp(log_p) * (next_q.min(0) - temperature * log_p)).sum(-1)
    return jax.lax.stop_gradient(rewards + discount * (1 - done) * value)


def critic_loss(q: Float[Array, "2 n bins"], bins: Int[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, ""]:
    """Half the mean squared error of each critic at the chosen bins, both added (equation 4)."""
    chex.assert_equal_shape([bins, targets])
    chosen = q[:, jnp.arange(bins.shape[0]), bins]
    return 0.5 * jnp.square(chosen - targets).mean(1).sum()


def actor_loss(
    logits: Float[Array, "n bins"], q: Float[Array, "2 n bins"], temperature: Float[Array, ""]
) -> Float[Array, ""]:
    """Mean over words of sum_b pi(b) (temperature * log pi(b) - min of both critics) (equation 12)."""
    log_p = jax.nn.log_softmax(logits)
    q, temperature = jax.lax.stop_gradient((q, temperature))
    return (jnp.exp(log_p) * (temperature * log_p - q.min(0))).sum(-1).mean()


def temperature_loss(
    log_temperature: Float[Array, ""], logits: Float[Array, "n bins"], target_entropy: float
) -> Float[Array, ""]:
    """temperature * mean(entropy - target): the temperature rises where the entropy is too low (equation 11)."""
    excess = jax.lax.stop_gradient(entropy(logits) - target_entropy)
    return (jnp.exp(log_temperature) * excess).mean()
