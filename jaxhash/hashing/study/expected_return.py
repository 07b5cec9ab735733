"""Expected return: the policy gradient without sampling, for all keys of a fixed set at once.

The expected number of occupied bins has a closed form (`occupancy.py`): its gradient is what REINFORCE (`reinforce.py`)
estimates, without noise. No bin is shown to a key, and none is drawn.

Keys are taken in blocks: a step moves one block, and of the others only log P(they leave bin b empty) is kept, one
number a bin. So memory is that of a block, and an iteration makes several steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.study import table
from jaxhash.hashing.study.loop import Callback, Record, check, iterate, record_of
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, output_layer, sample, take
from jaxhash.hashing.study.occupancy import Aim, Company, Objective, ascend, choose, reached
from jaxhash.hashing.study.schedule import check_batches, in_turn
from jaxhash.hashing.study.whitened import Policy, folded, logits, sharp_deviation, whitened
from jaxhash.runtime.streams import Stream, stream_key

MOMENTUM, MEMORY = 0.7, 0.95
"""Adam's b1 and b2. The gradient is exact, so that averaging over many steps gains nothing: a key that has won its bin
would be pushed on until it is too sure of it to let go again."""
WARM_UP = 3
"""Iterations in which the step size rises: Adam does not know the gradient's size yet."""
SETTLING = 0.02
"""Share of keys that expect company, below which the step size falls, with its square root."""
LOST, LOST_AT_MOST = 0.003, 0.5
"""A key is lost if it is alone in its bin with less than this probability; below `SETTLING`, it rises with the inverse
square of the share, up to the second. Where many keys count as lost, large sets come apart."""

FEWEST_BLOCKS, KEYS_A_BLOCK = 4, 2_500
"""Of `blocks_for`: arrays of so many keys and 50,000 bins take 0.5 GB each."""


@dataclass(frozen=True)
class ExpectedReturnConfig:
    """How a policy is trained by the expected return."""

    num_bins: int = 1000
    iterations: int = 100
    """Passes over the keys."""
    batch_size: int | None = None
    """Keys placed in an iteration, the same groups one after the other (`schedule.in_turn`); None: all of them."""
    blocks: int = 4
    """Optimiser steps in an iteration, each for one block of the keys. Memory falls with it, and the steps are as much
    smaller: where they are not, large sets come apart."""
    objective: Objective = "log_occupied"
    """The mean over bins of P(the bin is occupied), or of its logarithm: the last empty bins then count most."""
    entropy: float = 0.02
    """Weight of the policy's mean entropy (nats) in what is maximised: settled keys stay able to move. With more,
    narrow networks become flat: a uniform policy of as many keys as bins is as good as a perfect hash at a weight of
    -log(1 - 1/e) / log(bins), 0.066 for 1,000."""
    decay: float = 0.0012
    """Decay of the output layer in an iteration, as a multiple of `learning_rate` and of the units that the layer reads
    (an iteration moves a logit by `learning_rate` times as many): a bin whose keys are sure of it and gain nothing
    lets go of them."""
    deviation: float | None = None
    """Standard deviation of each bin's logits over the keys at the start; None: `whitened.sharp_deviation`."""
    learning_rate: float = 8e-2
    """Adam's step size for the output layer, all steps of an iteration together."""
    hidden_rate: float = 2.0
    """Step size of the hidden layers: `learning_rate` times this, over the units of the last one. A step then moves
    what a layer gives by as much, whatever its width (G. Yang and others, arXiv 2203.03466, table 3); with more, the
    features of wide networks run away."""
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        check(self.num_bins >= 1, "num_bins", self.num_bins, "1 or more")
        check(self.iterations >= 1, "iterations", self.iterations, "1 or more")
        check(self.blocks >= 1, "blocks", self.blocks, "1 or more")
        check(self.entropy >= 0, "entropy", self.entropy, "0 or more")
        check(self.decay >= 0, "decay", self.decay, "0 or more")
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        check(self.hidden_rate >= 0, "hidden_rate", self.hidden_rate, "0 or more")
        check(self.deviation is None or self.deviation > 0, "deviation", self.deviation, "more than 0, or None")


class ExpectedReturnState(NamedTuple):
    """The policy that was learned."""

    params: Params
    """Of the network (`networks.make_network`)."""


class Training(NamedTuple):
    """A policy in training, and Adam's state."""

    policy: Policy
    optimiser: optax.OptState


class Blocks(NamedTuple):
    """Keys in blocks of equal size, the last one filled up."""

    tokens: Tokens
    """[blocks, size, ...]."""
    present: Bool[Array, "blocks size"]
    """False: only there to fill the block."""


class Survey(NamedTuple):
    """What is seen of a block's keys; of all blocks with a leading axis."""

    log_empty: Float[Array, " bins"]
    """log P(no key of the block draws the bin)."""
    bins: Int32[Array, " size"]
    """The most probable ones."""
    drawn: Int32[Array, " size"]
    spread: Float[Array, " size"]
    """Entropy of each key's policy, nats."""


class Pace(NamedTuple):
    """How an iteration moves."""

    step: Float[Array, ""]
    """Of the learning rate, what Adam uses."""
    lost: Float[Array, ""]
    """A key that is alone in its bin with less than this probability is lost."""


def make_train(
    config: ExpectedReturnConfig, callback: Callback | None = None
) -> Callable[[Key[Array, ""], Tokens], tuple[ExpectedReturnState, Record]]:
    """The learner: train(key, tokens) -> (state, history), pure, to be jitted and vmapped over keys.

    Raises:
        ValueError: by `train`, if the keys cannot be cut into such batches.

    Cost: 8 * parameters * keys FLOPs an iteration. Memory: about ten arrays of float32
    [keys of a block, bins].
    """
    iteration = make_iteration(config)

    def train(key: Key[Array, ""], tokens: Tokens) -> tuple[ExpectedReturnState, Record]:
        def step(state: Training, draw_key: Array, number: Array) -> tuple[Training, Record]:
            return iteration(state, draw_key, number, tokens)

        training = start(config, draw(config, stream_key(key, Stream.INIT), tokens), tokens)
        training, history = iterate(step, training, stream_key(key, Stream.DRAWS), config.iterations, callback)
        return ExpectedReturnState(folded(training.policy)), history

    return train


def blocks_for(num_keys: int) -> int:
    """Blocks that keep memory within bounds, whatever the number of keys.

    >>> blocks_for(1_000), blocks_for(10_000), blocks_for(30_000)
    (4, 4, 12)
    """
    return max(FEWEST_BLOCKS, -(-num_keys // KEYS_A_BLOCK))


def draw(config: ExpectedReturnConfig, key: Key[Array, ""], tokens: Tokens) -> Params:
    """A network as it is drawn."""
    return make_network(config.network, config.num_bins).init(key, take(tokens, jnp.arange(1)))


def start(config: ExpectedReturnConfig, params: Params, tokens: Tokens) -> Training:
    """Training before its first iteration: this network, spread and sharp over the keys."""
    deviation = sharp_deviation(config.num_bins) if config.deviation is None else config.deviation
    policy = whitened(config.network, params, tokens, deviation)
    return Training(policy, _optimiser().init(policy.params))


def make_iteration(
    config: ExpectedReturnConfig,
) -> Callable[[Training, Key[Array, ""], Int[Array, ""], Tokens], tuple[Training, Record]]:
    """iteration(state, key of its draws, number from 0, tokens) -> (state, record): pure, for who stops when he likes.

    Raises:
        ValueError: by `iteration`, if the keys cannot be cut into such batches.
    """
    aim = Aim(config.objective, config.entropy)

    def iteration(
        state: Training, draw_key: Key[Array, ""], number: Int[Array, ""], tokens: Tokens
    ) -> tuple[Training, Record]:
        num_keys = tokens.characters.shape[0]
        size = config.batch_size or num_keys
        check_batches("in_turn", num_keys, size)
        groups = num_keys // size
        batch = take(tokens, in_turn(draw_key, number, num_keys, size)) if size < num_keys else tokens
        blocks = in_blocks(batch, config.blocks)

        def look(block: tuple[Array, Blocks]) -> Survey:
            return survey(logits(config.network, state.policy, block[1].tokens), block[1].present, block[0])

        seen = jax.lax.map(look, (jax.random.split(draw_key, config.blocks), blocks))
        now = pace(number, seen.log_empty.sum(0), size)

        def move(carry: tuple[Training, Array], which: Array) -> tuple[Any, None]:
            state, log_empty = carry
            others = jnp.where((jnp.arange(config.blocks) == which)[:, None], 0.0, log_empty).sum(0)
            block = jax.tree.map(lambda leaf: leaf[which], blocks)
            state, mine = improve(config, aim, groups, state, block, Company(others, size), now)
            return (state, log_empty.at[which].set(mine)), None

        (state, _), _ = jax.lax.scan(move, (state, seen.log_empty), jnp.arange(config.blocks))
        return state, record(aim, seen, size)

    return iteration


def _optimiser(groups: int = 1) -> optax.GradientTransformation:
    """Adam; where keys come in groups in turn, it averages over as many passes over all keys."""
    return optax.scale_by_adam(MOMENTUM ** (1 / groups), MEMORY ** (1 / groups))


def pace(iteration: Array, log_empty: Float[Array, " bins"], num_keys: int) -> Pace:
    """The pace of an iteration: steps rise at first, and fall as fewer keys expect company; then more count as lost."""
    in_company = 1 + jnp.expm1(log_empty).sum() / num_keys
    rise = jnp.minimum((iteration + 0.5) / WARM_UP, 1.0)
    settling = jnp.clip(in_company / SETTLING, 1e-6, 1.0)
    return Pace(rise * jnp.sqrt(settling), jnp.minimum(LOST / settling**2, LOST_AT_MOST))


def improve(
    config: ExpectedReturnConfig,
    aim: Aim,
    groups: int,
    state: Training,
    block: Blocks,
    company: Company,
    now: Pace,
) -> tuple[Training, Float[Array, " bins"]]:
    """A step for one block of keys; and log P(no key of the block draws the bin), as it was before."""
    policy = state.policy

    def of(params: Params) -> Array:
        return logits(config.network, policy._replace(params=params), block.tokens)

    found, back = jax.vjp(of, policy.params)
    ascent = ascend(found, aim, company, block.present)
    # A key that has lost its bin is spread over all of them, and its gradient with it, too small to be heard among
    # those of the others. So gradients count relative to the key's most probable bin, and lost keys feel empty bins
    # however improbable these are to them.
    lost = jnp.maximum(1 - ascent.alone / now.lost, 0.0)
    (descent,) = back(-(ascent.gradient / ascent.surest[:, None] + lost[:, None] * ascent.natural))
    directions, optimiser_state = _optimiser(groups).update(descent, state.optimiser)
    layers, towards = policy.params["params"], directions["params"]
    a_step = config.learning_rate / config.blocks
    rate = now.step * a_step
    hidden_rate = config.hidden_rate / config.network.hidden[-1]
    moved = jax.tree.map(lambda w, direction: w - hidden_rate * rate * direction, layers, towards)
    # Decay is of the output layer, and as strong where steps are small: the last keys in company have to let go too.
    name, output = output_layer(policy.params)
    kept = 1 - a_step * config.decay * config.network.hidden[-1] / groups
    moved[name] = jax.tree.map(lambda w, direction: kept * w - rate * direction, output, towards[name])
    params = {"params": moved}
    return Training(policy._replace(params=params), optimiser_state), ascent.log_empty


def in_blocks(tokens: Tokens, blocks: int) -> Blocks:
    """Keys cut into so many blocks."""
    num_keys = tokens.characters.shape[0]
    size = -(-num_keys // blocks)
    index = jnp.arange(blocks * size)
    cut = jax.tree.map(lambda leaf: leaf.reshape(blocks, size, *leaf.shape[1:]), take(tokens, index % num_keys))
    return Blocks(cut, (index < num_keys).reshape(blocks, size))


def survey(logits: Float[Array, "n bins"], present: Bool[Array, " n"], key: Key[Array, ""]) -> Survey:
    """What is seen of a block."""
    choice = choose(logits)
    log_empty = jnp.where(present[:, None], choice.log_elsewhere, 0.0).sum(0)
    return Survey(log_empty, jnp.argmax(logits, 1).astype(jnp.int32), sample(key, logits, 1)[0], choice.spread)


def record(aim: Aim, seen: Survey, num_keys: int) -> Record:
    """The record of an iteration, from what is seen of all blocks."""
    bins, drawn, spread = (leaf.reshape(-1)[:num_keys] for leaf in seen[1:])
    log_empty = seen.log_empty.sum(0)
    found = reached(log_empty, aim.objective) + aim.entropy * spread.mean()
    rewards = table.rewards(drawn, log_empty.size)
    return record_of(bins, drawn[None], rewards[None], spread.mean(), -found, log_empty.size)
