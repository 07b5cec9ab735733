"""Guided learning: keys that collide are shown an empty bin, and learn it by cross-entropy.

The study's own suggestion (A. Museth, "Neural Hash Functions", CS285: in training the network may be given actions
known to bring good rewards), beside REINFORCE on a fixed batch of keys. Among the empty bins a key is shown the one
that the policy likes best; where several keys are shown one bin, the key that likes it best has it and the others
choose again, round after round. What is learned is the assignment that the policy itself is nearest to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Int32, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.loop import Callback, Record, check, iterate, measure
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, take
from jaxhash.hashing.study.schedule import KEY_BATCHES, check_batches
from jaxhash.runtime.streams import Stream, stream_key


@dataclass(frozen=True)
class GuidedConfig:
    """How a policy that is shown good actions trains, always on the same keys."""

    num_bins: int = 1000
    iterations: int = 100
    """Times that good bins are sought for one group of keys, and learned."""
    batch_size: int = 1000
    """Keys placed in a table; the keys are cut into such groups, one an iteration."""
    steps: int = 4
    """Optimiser steps an iteration, all towards the same bins."""
    learning_rate: float = 1.5e-3
    """Adam's step size at first; it falls to a tenth linearly, or the last collisions come and go."""
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("num_bins", "iterations", "batch_size", "steps"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        if self.batch_size > self.num_bins:
            raise ValueError(
                f"num_bins={self.num_bins} is less than the batch_size={self.batch_size} keys of a table; "
                f"a perfect hash needs num_bins >= {self.batch_size}"
            )


class GuidedState(NamedTuple):
    """Parameters of the policy, and Adam's state."""

    params: Params
    optimiser: optax.OptState


def make_train(
    config: GuidedConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[GuidedState, Record]]:
    """The learner: train(key, tokens) -> (state, history), pure, to be jitted and vmapped over keys.

    The policy is deterministic here: the record's drawn bins are its most probable ones.

    Raises:
        ValueError: by `train`, if the keys cannot be cut into such batches.
    """
    network = make_network(config.network, config.num_bins)
    steps = config.iterations * config.steps
    optimiser = optax.adam(optax.linear_schedule(config.learning_rate, 0.1 * config.learning_rate, steps))

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[GuidedState, Record]:
        num_keys = tokens.characters.shape[0]
        check_batches("in_turn", num_keys, config.batch_size)
        params = network.init(stream_key(key, Stream.INIT), take(tokens, jnp.arange(1)))

        def step(state: GuidedState, key: Array, iteration: Array) -> tuple[GuidedState, Record]:
            batch = take(tokens, KEY_BATCHES["in_turn"](key, iteration, num_keys, config.batch_size))
            logits = network.apply(state.params, batch)
            shown = good_bins(logits)

            def learn(state: GuidedState, _: None) -> tuple[GuidedState, Array]:
                def loss(params: Params) -> Array:
                    return imitation_loss(network.apply(params, batch), shown)

                value, gradient = jax.value_and_grad(loss)(state.params)
                updates, optimiser_state = optimiser.update(gradient, state.optimiser)
                return GuidedState(optax.apply_updates(state.params, updates), optimiser_state), value

            state, losses = jax.lax.scan(learn, state, None, config.steps)
            bins = jnp.argmax(logits, -1)
            return state, measure(logits, bins[None], table.rewards(bins, config.num_bins)[None], losses[0])

        return iterate(
            step, GuidedState(params, optimiser.init(params)), stream_key(key, Stream.KEYS), config.iterations, callback
        )

    return train


def good_bins(logits: Float[Array, "n bins"]) -> Int32[Array, " n"]:
    """A bin for every key, no bin twice: each round, every key without one proposes the free bin it likes best, and
    of the keys that propose a bin the one that likes it best has it for good.

    Needs n <= bins. A round settles one key at least, and usually a large share: tens of rounds for 1,000 keys.
    Cost: n * bins a round.
    """
    n, num_bins = logits.shape
    # Probabilities, so that keys compare: a logit says nothing beside another key's.
    liking = jax.nn.log_softmax(logits)

    def unsettled(carry: tuple[Array, Array]) -> Array:
        return (carry[0] < 0).any()

    def settle(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        bins, free = carry
        open_ = bins < 0
        proposed = jnp.argmax(jnp.where(free, liking, -jnp.inf), -1).astype(jnp.int32)
        strength = jnp.where(open_, liking[jnp.arange(n), proposed], -jnp.inf)
        strongest = jnp.full(num_bins, -jnp.inf).at[proposed].max(strength)
        # Equal likings are settled in favour of the earlier key.
        best = open_ & (strength == strongest[proposed])
        winner = jnp.full(num_bins, n).at[proposed].min(jnp.where(best, jnp.arange(n), n))
        won = best & (winner[proposed] == jnp.arange(n))
        taken = jnp.zeros(num_bins, bool).at[proposed].max(won)
        return jnp.where(won, proposed, bins), free & ~taken

    start = (jnp.full(n, -1, jnp.int32), jnp.ones(num_bins, bool))
    return jax.lax.while_loop(unsettled, settle, start)[0]


def imitation_loss(logits: Float[Array, "n bins"], shown: Int[Array, " n"]) -> Float[Array, ""]:
    """Mean cross-entropy to the shown bins, nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, shown).mean()
