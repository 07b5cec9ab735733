"""REINFORCE that sees the table: with the word, the policy reads which bins are occupied.

The study's figure 5 (A. Museth, "Neural Hash Functions", CS285). **What it learns is no hash function**: the bin of a
key depends on the keys that came before it, so that a key cannot be found again without replaying them all.

Episodes are drawn from the policy, and there are two credits (`LOSSES`). `return` is the study's REINFORCE: each draw
is credited with the return of its whole episode (R. J. Williams, Machine Learning 8, 1992, section 3).
`expected_reward` looks at the placement at hand only, and sums its policy gradient over all bins in place of the one
drawn (Sutton and others, "Policy gradient methods for reinforcement learning with function approximation", NIPS 1999,
theorem 1): who sees the table knows the reward of every bin. It has the noise of the tables only, and leaves out what a
placement costs later keys.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.loop import Callback, Record, check, iterate, record_of
from jaxhash.hashing.study.networks import NetworkConfig, Params, TablePolicy, entropy, sample, take
from jaxhash.hashing.study.reinforce import policy_gradient_loss, whole_return
from jaxhash.hashing.study.schedule import KEY_BATCHES, check_batches
from jaxhash.runtime.streams import Stream, stream_key


@dataclass(frozen=True)
class TableReinforceConfig:
    """How a policy that sees the table trains."""

    num_bins: int = 100
    iterations: int = 300
    """Optimiser steps."""
    batch_size: int = 100
    """Keys placed in an episode, one after another."""
    batches: Literal["fresh", "in_turn"] = "fresh"
    """Other keys every iteration, or the same again and again (`schedule.py`)."""
    episodes: int = 4
    """Tables filled side by side in an iteration, with the same keys."""
    credit: Literal["expected_reward", "return"] = "expected_reward"
    """What the gradient follows (`LOSSES`): the reward of the placement at hand, or the episode's return."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("num_bins", "iterations", "batch_size", "episodes"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


class TableReinforceState(NamedTuple):
    """Parameters of the policy, and Adam's state."""

    params: Params
    optimiser: optax.OptState


def make_train(
    config: TableReinforceConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[TableReinforceState, Record]]:
    """The learner: train(key, tokens) -> (state, history), pure, to be jitted and vmapped over keys.

    Cost: an episode is a loop over its keys; the gradient is made of all its steps at once.

    Raises:
        ValueError: by `train`, if the keys cannot be cut into such batches.
    """
    policy = TablePolicy(config.network, config.num_bins)
    optimiser = optax.adam(config.learning_rate)

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[TableReinforceState, Record]:
        num_keys = tokens.characters.shape[0]
        check_batches(config.batches, num_keys, config.batch_size)
        empty = jnp.zeros((1, config.num_bins), bool)
        params = policy.init(stream_key(key, Stream.INIT), take(tokens, jnp.arange(1)), empty)

        def step(state: TableReinforceState, draw_key: Array, iteration: Array) -> tuple[TableReinforceState, Record]:
            index = KEY_BATCHES[config.batches](stream_key(key, Stream.KEYS), iteration, num_keys, config.batch_size)
            batch = take(tokens, index)
            drawn, most_probable = play(policy, state.params, draw_key, batch, config.episodes)
            occupied = jax.vmap(tables_before, (0, None))(drawn, config.num_bins)

            def loss(params: Params) -> tuple[Array, Array]:
                logits: Array = policy.apply(params, batch, occupied)  # type: ignore[assignment]
                return LOSSES[config.credit](logits, drawn, occupied), entropy(logits).mean()

            (value, spread), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
            rewards = jax.vmap(table.rewards, (0, None))(drawn, config.num_bins)
            record = record_of(most_probable, drawn, rewards, spread, value, config.num_bins)
            updates, optimiser_state = optimiser.update(gradient, state.optimiser)
            return TableReinforceState(optax.apply_updates(state.params, updates), optimiser_state), record

        return iterate(
            step,
            TableReinforceState(params, optimiser.init(params)),
            stream_key(key, Stream.DRAWS),
            config.iterations,
            callback,
        )

    return train


def play(
    policy: TablePolicy, params: Params, key: Key[Array, ""], batch: Tokens, episodes: int
) -> tuple[Int[Array, "episodes n"], Int[Array, " n"]]:
    """Fill empty tables with the keys in their order; each bin is chosen by the policy at the table so far.

    The first layer is kept up to date by one row a key, instead of a product with the whole table.

    Returns:
        The bins of episodes that are drawn, and those of one more, in which every key takes its most probable bin.
    """
    of_keys: Array = policy.apply(params, batch, method="read")  # type: ignore[assignment]
    rows = params["params"]["of_table"]

    def place(carry: tuple[Array, Array], key_of: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        occupied, of_tables = carry
        of_key, draw_key = key_of
        logits: Array = policy.apply(params, of_key + of_tables, method="choose")  # type: ignore[assignment]
        bins = jnp.append(sample(draw_key, logits[:-1], 1)[0], jnp.argmax(logits[-1]).astype(jnp.int32))
        episode = jnp.arange(episodes + 1)
        new = ~occupied[episode, bins]
        return (occupied.at[episode, bins].set(True), of_tables + rows[bins] * new[:, None]), bins

    start = (jnp.zeros((episodes + 1, policy.num_bins), bool), jnp.zeros((episodes + 1, rows.shape[1])))
    n = of_keys.shape[0]
    _, bins = jax.lax.scan(place, start, (of_keys, jax.random.split(key, n)))
    return bins.T[:-1], bins.T[-1]


def tables_before(bins: Int[Array, " n"], num_bins: int) -> Bool[Array, "n bins"]:
    """The table that each key of an episode finds."""
    n = bins.shape[0]
    first = jnp.full(num_bins, n).at[bins].min(jnp.arange(n))
    return first < jnp.arange(n)[:, None]


def expected_reward_loss(
    logits: Float[Array, "episodes n bins"], _: Int[Array, "episodes n"], occupied: Bool[Array, "episodes n bins"]
) -> Float[Array, ""]:
    """Less the mean reward of a draw at the tables that were met; minus its gradient is the policy gradient of one
    placement, whatever was drawn there."""
    rewards = jnp.where(occupied, table.REWARD_OCCUPIED, table.REWARD_EMPTY)
    return -(jax.nn.softmax(logits) * rewards).sum(-1).mean()


def return_loss(
    logits: Float[Array, "episodes n bins"], drawn: Int[Array, "episodes n"], _: Bool[Array, "episodes n bins"]
) -> Float[Array, ""]:
    """Its gradient is -1/n times REINFORCE's estimate of the gradient of the return: no baseline, and no discount."""
    returns = jax.vmap(whole_return, (0, None))(drawn, logits.shape[-1])
    return policy_gradient_loss(logits, drawn[None], returns[None])


LOSSES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "expected_reward": expected_reward_loss,
    "return": return_loss,
}
"""Of the logits, the bins drawn, and the tables at which they were drawn."""
