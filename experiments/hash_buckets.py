"""How few bits hold a learned perfect hash? Tiny policies of 32 keys, by the expected return and by shown bins.

The hasher of `--method sharded` has a policy for each bucket of 32 keys: a few sign inputs, five binary outputs, one
layer of small-integer weights, trained by bins that are shown (`jaxhash/hashing/perfect/sharded.py`). Here the same
policies are trained once more, by the expected return (`jaxhash/hashing/study/occupancy.py` has its closed form): Adam
on float weights that are rounded to so many bits in every forward pass (straight-through estimator; Bengio and others,
arXiv 1308.3432). The table says how many buckets one attempt makes perfect, for each number of inputs and bits.

    python -m experiments.hash_buckets
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Float, Int, UInt64
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.hashing.perfect import sharded
from jaxhash.hashing.perfect.buckets import Buckets, cut
from jaxhash.hashing.perfect.sharded import ShardedConfig, visible_bits
from jaxhash.plots.style import BLUE, GREEN, ORANGE
from jaxhash.terminal.command import command, in_background
from jaxhash.terminal.files import save
from jaxhash.terminal.progress import progress

NAME = "hash_buckets"
KEYS, OUTPUTS = 32, 5
"""Of a bucket: as many codes as keys."""
BOUNDS_BITS = 48
"""A bucket's threshold, size and attempt, beside its weights."""
RATE, FIRST_SPREAD = 0.2, 0.5
"""Adam's step size, and the deviation of the weights at the start, where weights reach from -1 to 1."""
SOFTEST, SHARPEST = 0.6, 0.1
"""The temperature of the policy, at the first step and at the last."""
MOMENTUM, MEMORY = 0.7, 0.95
"""Of Adam, as in `expected_return.py`."""
FEWEST = 1e-9
"""A probability that a bin is occupied counts as this much at least."""


@dataclass(frozen=True)
class Config:
    """Perfect hashes of 32 keys by policies of few bits."""

    buckets: int = 1024
    """Buckets of random keys, one attempt each."""
    inputs: tuple[int, ...] = (6, 8, 10, 12, 14)
    """Sign inputs of a policy."""
    bits: tuple[int, ...] = (2, 3, 4, 8)
    """Bits of a weight."""
    steps: int = 300
    """Steps of Adam. Shown bins have the 512 of the hasher, which cost far less."""
    initial_weights: tuple[int, ...] = (1, 3, 7, 15, 45, 90)
    """Where the weights of shown bins start, plus and minus; the best counts, for each number of bits."""
    seed: int = 0
    out: Path | None = None
    """Folder of the data and the picture (default: runs/hash_buckets)."""

    def __post_init__(self) -> None:
        if self.buckets < 1 or self.steps < 1:
            raise ValueError(f"buckets={self.buckets}, steps={self.steps}: both must be 1 or more")
        for name, least, most in (("inputs", 1, 32), ("bits", 2, 8), ("initial_weights", 1, 127)):
            values = getattr(self, name)
            if not values or not least <= min(values) <= max(values) <= most:
                raise ValueError(f"--{name.replace('_', '-')} {values}: give one or more from {least} to {most}")


def body(config: Config) -> None:
    """Train, save, draw."""
    numbers = np.unique(np.random.default_rng(config.seed).integers(0, 2**64, KEYS * config.buckets, np.uint64))
    rows: list[dict[str, Any]] = []
    with progress("numbers of inputs", len(config.inputs)) as told:
        for done, inputs in enumerate(config.inputs, 1):
            rows += in_background(partial(shown_bins, config, numbers, inputs))
            for bits in config.bits:
                rows.append(in_background(partial(by_expected_return, config, numbers, inputs, bits)))
            told(done)
    table = pd.DataFrame(rows)
    save(config.out or Path("runs") / NAME, {NAME: drawn(table)}, {NAME: table})
    Console().print(shown(table))


def row(
    learner: str, inputs: int, bits: int, perfect: float, milliseconds: float, initial: int | None
) -> dict[str, Any]:
    """A line of the table."""
    weights = inputs * OUTPUTS * bits
    return {
        "learner": learner,
        "inputs": inputs,
        "bits": bits,
        "initial_weight": initial,
        "weight_bits_per_key": weights / KEYS,
        "bits_per_key": (weights + BOUNDS_BITS) / KEYS,
        "perfect": perfect,
        "milliseconds_a_bucket": milliseconds,
    }


def shown_bins(config: Config, numbers: UInt64[np.ndarray, " n"], inputs: int) -> list[dict[str, Any]]:
    """Shares of buckets that the hasher's own learner makes perfect in one attempt, and that stay so in so few bits:
    with weights that fit as they are, or rounded.
    """
    buckets = cut(numbers, len(numbers), KEYS)
    signs = signs_of(buckets, inputs)
    best: dict[int, dict[str, Any]] = {}
    for initial in config.initial_weights:
        learner = ShardedConfig(KEYS, inputs, OUTPUTS, initial, attempts=1)
        # One attempt each, and no bucket waits: the programs end after the steps of an attempt.
        start = sharded.start(learner, buckets, config.buckets), buckets, jnp.int32(learner.steps + 16)
        train = jax.jit(sharded.make_train(learner)).lower(*start).compile()
        began = time.perf_counter()
        state = jax.device_get(train(*start))
        milliseconds = 1000 * (time.perf_counter() - began) / config.buckets
        weights = state.best_weights
        for bits in config.bits:
            fit = (weights.min((1, 2)) >= -(2 ** (bits - 1))) & (weights.max((1, 2)) < 2 ** (bits - 1))
            left = np.asarray(left_when_rounded(jnp.asarray(weights, jnp.float32), signs, bits))
            perfect = float((((state.collisions == 0) & fit) | (left == 0)).mean())
            if bits not in best or perfect > best[bits]["perfect"]:
                best[bits] = row("shown_bins", inputs, bits, perfect, milliseconds, initial)
    return list(best.values())


def by_expected_return(config: Config, numbers: UInt64[np.ndarray, " n"], inputs: int, bits: int) -> dict[str, Any]:
    """The share of buckets that the expected return makes perfect in one attempt, with weights of so many bits."""
    signs = signs_of(cut(numbers, len(numbers), KEYS), inputs)
    keys = jax.random.split(jax.random.key(config.seed), config.buckets)
    train = jax.jit(jax.vmap(make_train(bits, config.steps))).lower(keys, signs).compile()
    began = time.perf_counter()
    fewest = np.asarray(train(keys, signs))
    milliseconds = 1000 * (time.perf_counter() - began) / config.buckets
    return row("expected_return", inputs, bits, float((fewest == 0).mean()), milliseconds, None)


def signs_of(buckets: Buckets, inputs: int) -> Float[Array, "buckets keys inputs"]:
    """What the policies see in the first attempt: -1 and 1."""
    seen = visible_bits(jnp.asarray(buckets.first.T), jnp.asarray(buckets.second.T), jnp.uint32(0), inputs)
    return ((seen[..., None] >> jnp.arange(inputs, dtype=jnp.uint32)) & 1).astype(jnp.float32) * 2 - 1


@partial(jax.jit, static_argnames="bits")
def left_when_rounded(
    weights: Float[Array, "buckets inputs outputs"], signs: Float[Array, "buckets keys inputs"], bits: int
) -> Int[Array, " buckets"]:
    """Collisions of each policy when its weights, over the largest, are rounded to so many bits."""
    largest = jnp.abs(weights).max((1, 2), keepdims=True)
    return jax.vmap(collisions)(signs @ rounded(weights / jnp.maximum(largest, 1), bits))


def make_train(bits: int, steps: int) -> Callable[[Array, Float[Array, "keys inputs"]], Int[Array, ""]]:
    """train(key, signs) -> fewest collisions of the rounded policy after any step."""
    optimiser = optax.adam(RATE, MOMENTUM, MEMORY)

    def train(key: Array, signs: Float[Array, "keys inputs"]) -> Int[Array, ""]:
        def step(carry: Any, number: Array) -> tuple[Any, None]:
            weights, state, fewest = carry
            temperature = SOFTEST * (SHARPEST / SOFTEST) ** (number / steps)
            gradient = jax.grad(lambda w: -log_occupied(signs @ straight_through(w, bits) / temperature))(weights)
            updates, state = optimiser.update(gradient, state)
            weights = jnp.clip(weights + updates, -1, 1)
            return (weights, state, jnp.minimum(fewest, collisions(signs @ rounded(weights, bits)))), None

        weights = FIRST_SPREAD * jax.random.normal(key, (signs.shape[1], OUTPUTS))
        start = weights, optimiser.init(weights), jnp.int32(KEYS)
        return jax.lax.scan(step, start, jnp.arange(steps))[0][2]

    return train


def rounded(weights: Float[Array, "inputs outputs"], bits: int) -> Float[Array, "inputs outputs"]:
    """The nearest of 2^bits levels, odd multiples of 2^-bits: as integers, -2^bits + 1 ... 2^bits - 1 in steps of 2.

    >>> rounded(jnp.array([[-1.0, -0.1, 0.1, 1.0]]), 2).tolist()
    [[-0.75, -0.25, 0.25, 0.75]]
    """
    half = 2 ** (bits - 1)
    return (jnp.clip(jnp.floor(weights * half), -half, half - 1) + 0.5) / half


def straight_through(weights: Float[Array, "inputs outputs"], bits: int) -> Float[Array, "inputs outputs"]:
    """Rounded, with the gradient of what is not."""
    return weights + jax.lax.stop_gradient(rounded(weights, bits) - weights)


def log_occupied(logits: Float[Array, "keys outputs"]) -> Float[Array, ""]:
    """Mean over codes of log P(a key draws the code), where each output is a bit that is 1 with sigmoid(logit)."""
    p = jnp.ones((logits.shape[0], 1))
    for logit in logits.T:
        both = jnp.stack([p * jax.nn.sigmoid(-logit)[:, None], p * jax.nn.sigmoid(logit)[:, None]], -1)
        p = both.reshape(logits.shape[0], -1)
    log_empty = jnp.log1p(-jnp.minimum(p, 1 - 1e-6)).sum(0)
    return jnp.log(jnp.maximum(-jnp.expm1(log_empty), FEWEST)).mean()


def collisions(logits: Float[Array, "keys outputs"]) -> Int[Array, ""]:
    """Keys - codes that are the most probable of a key."""
    code = sharded.most_likely_code(jnp.sign(logits).astype(jnp.int32).T)
    return logits.shape[0] - jnp.zeros(2**OUTPUTS, jnp.int32).at[code].set(1).sum()


def drawn(table: pd.DataFrame) -> Figure:
    """Share of perfect buckets against the bits of the weights."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    markers = dict(zip(sorted(table["bits"].unique()), "osv^Dp*", strict=False))
    for (learner, bits), group in table.groupby(["learner", "bits"], sort=True):
        found = group[group["perfect"] > 0]
        colour = BLUE if learner == "expected_return" else ORANGE
        axes.plot(
            found["weight_bits_per_key"],
            found["perfect"],
            color=colour,
            marker=markers[bits],
            label=f"{learner}, {bits} bits a weight",
        )
    axes.axvline(
        float(np.log2(np.arange(1, KEYS + 1) / KEYS).sum() / -KEYS),
        color=GREEN,
        linestyle=":",
        label="least of any function",
    )
    axes.set(xlabel="bits of the weights, a key", ylabel="buckets made perfect by one attempt", yscale="log")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Perfect hashes of {KEYS} keys in {KEYS} slots by one layer of weights")
    return figure


def shown(table: pd.DataFrame) -> Table:
    """The table for the terminal."""
    found = Table(title=f"Perfect hashes of {KEYS} keys by policies of few bits, one attempt")
    for column in table.columns:
        found.add_column(column.replace("_", " "), justify="right")
    for _, line in table.iterrows():
        found.add_row(*("" if pd.isna(v) else v if isinstance(v, str) else f"{v:.4g}" for v in line))
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
