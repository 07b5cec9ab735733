"""Expected occupancy: how many bins are occupied when keys draw theirs from policies, and its gradient, in closed form.

Keys draw independently, so the number is the sum over bins b of 1 - prod_i (1 - pi_i(b)). It is linear in each key's
policy: for free policies and no more keys than bins every local maximum is a perfect hash, since a key in company gains
by moving to an empty bin.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

SMALLEST = 1e-30
"""A probability below this counts as this one: far below what a float32 policy can tell from 0."""

Objective = Literal["occupied", "log_occupied"]


class Aim(NamedTuple):
    """What is maximised: the objective, and the policy's mean entropy times a weight."""

    objective: Objective
    entropy: float


class Company(NamedTuple):
    """Of the keys that are not in a block."""

    log_empty: Float[Array, " bins"]
    """log P(none of them draws the bin)."""
    num_keys: int
    """Keys in all, with those of the block."""


def expected_occupied(logits: Float[Array, "n bins"]) -> Float[Array, ""]:
    """Expected number of occupied bins when each key draws its bin from softmax of its logits; exact.

    >>> float(expected_occupied(jnp.zeros((2, 2))))  # both in one bin, or in two: as likely
    1.5
    """
    return logits.shape[1] * value(logits, Aim("occupied", 0.0))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def value(logits: Float[Array, "n bins"], aim: Aim) -> Float[Array, ""]:
    """What is maximised, for all keys at once.

    Exact where a key is all but sure of its bin: 1 - pi is summed from the other bins, not taken from 1.
    """
    return _forward(logits, aim)[0]


def _forward(logits: Array, aim: Aim) -> tuple[Array, Array]:
    n, bins = logits.shape
    ascent = ascend(logits, aim, Company(jnp.zeros(bins), n), jnp.ones(n, bool))
    return reached(ascent.log_empty, aim.objective) + aim.entropy * choose(logits).spread.mean(), ascent.gradient


def _backward(aim: Aim, gradient: Array, cotangent: Array) -> tuple[Array]:
    return (cotangent * gradient,)


value.defvjp(_forward, _backward)


class Choice(NamedTuple):
    """What is needed of the policies of some keys."""

    p: Float[Array, "n bins"]
    log_p: Float[Array, "n bins"]
    elsewhere: Float[Array, "n bins"]
    """1 - p, summed from the other bins."""
    log_elsewhere: Float[Array, "n bins"]
    spread: Float[Array, " n"]
    """Entropy, nats."""


def choose(logits: Float[Array, "n bins"]) -> Choice:
    """Probabilities and their complements, neither rounded away."""
    shifted = logits - logits.max(1, keepdims=True)
    weights = jnp.exp(shifted)
    total = weights.sum(1, keepdims=True)
    # Of the most probable bin total - weight would be rounded to 0 too early.
    first = shifted == 0
    others = jnp.where(first, 0.0, weights).sum(1, keepdims=True) + first.sum(1, keepdims=True) - 1
    elsewhere = jnp.maximum(jnp.where(first, others, total - weights) / total, SMALLEST)
    p, log_p = weights / total, shifted - jnp.log(total)
    # The logarithm of 1 - p rounds a small p away.
    log_elsewhere = jnp.where(p < 0.5, jnp.log1p(-p), jnp.log(elsewhere))
    return Choice(p, log_p, elsewhere, log_elsewhere, -(p * log_p).sum(1))


def occupied(log_empty: Float[Array, " bins"]) -> Float[Array, " bins"]:
    """P(a key draws the bin)."""
    return jnp.maximum(-jnp.expm1(log_empty), SMALLEST)


def reached(log_empty: Float[Array, " bins"], objective: Objective) -> Float[Array, ""]:
    """The objective, but for the entropy."""
    probabilities = occupied(log_empty)
    return (probabilities if objective == "occupied" else jnp.log(probabilities)).mean()


class Ascent(NamedTuple):
    """The gradient for a block of keys."""

    gradient: Float[Array, "n bins"]
    """Of the value of all keys, by the block's logits."""
    natural: Float[Array, "n bins"]
    """Towards bins in which the key is alone more often, as far as they are empty: the natural gradient (Kakade 2001),
    which does not vanish with the key's probability of a bin."""
    log_empty: Float[Array, " bins"]
    """log P(no key of the block draws the bin)."""
    surest: Float[Array, " n"]
    """Probability of each key's most probable bin."""
    alone: Float[Array, " n"]
    """P(no other key draws the key's bin)."""


def ascend(logits: Float[Array, "n bins"], aim: Aim, company: Company, present: Bool[Array, " n"]) -> Ascent:
    """The gradient of the value of all keys by the logits of some."""
    p, log_p, elsewhere, log_elsewhere, spread = choose(logits)
    there = present[:, None]
    mine = jnp.where(there, log_elsewhere, 0.0).sum(0)
    log_empty = company.log_empty + mine
    # d value / d pi_i(b) = P(no other key draws b) / bins, over P(b is occupied) if the logarithm counts.
    alone = jnp.exp(log_empty) / elsewhere
    by_probability = alone / logits.shape[1]
    if aim.objective == "log_occupied":
        by_probability = by_probability / occupied(log_empty)
    advantage = by_probability - (p * by_probability).sum(1, keepdims=True)
    of_entropy = -p * (log_p + spread[:, None]) / company.num_keys
    gradient = jnp.where(there, p * advantage + aim.entropy * of_entropy, 0.0)
    now = (p * alone).sum(1)
    natural = jnp.where(there, jnp.exp(log_empty) * jnp.maximum(alone - now[:, None], 0.0) / logits.shape[1], 0.0)
    return Ascent(gradient, natural, mine, p.max(1), now)
