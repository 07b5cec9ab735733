"""The expected-return learner (`jaxhash/hashing/study/expected_return.py`) on 10,000 words and as many bins."""

import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import harness
from bench.accelerator import inputs
from bench.accelerator.ceilings import ceilings
from bench.accelerator.part import Setting, figure
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.study import expected_return
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig
from jaxhash.terminal.hashing import network


def run(setting: Setting) -> dict[str, Any]:
    """Seconds of a training once it is compiled, and after how many iterations no two words share a bin."""
    quick = setting.quick
    words, source = inputs.words(quick)
    count, iterations, units = (40, 3, 8) if quick else (10_000, 100, 300)
    tokens = tokenize(random.Random(0).sample(words, count))
    config = ExpectedReturnConfig(
        count, iterations, blocks=expected_return.blocks_for(count), network=network(tokens, (units, units))
    )
    train = jax.jit(expected_return.make_train(config))
    there = Tokens(*map(jnp.asarray, tokens))
    took = []
    for _ in range(2):
        harness.say(f"{count:,} words, {iterations} iterations")
        seconds, (state, history) = harness.timed(lambda: jax.block_until_ready(train(jax.random.key(0), there)))
        took.append(seconds)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    collisions = np.asarray(history.collisions)
    perfect = np.flatnonzero(collisions == 0)
    # As `expected_return.make_train` states its cost.
    flops = 8.0 * parameters * count * iterations / took[1]
    return {
        "figures": [
            figure("fewest words that share a bin", int(collisions.min()), None if quick else 0, at_most=True),
            figure(f"s, {iterations} iterations", took[1]),
            *(figure("s until perfect", took[1] * (int(first) + 1) / iterations) for first in perfect[:1]),
            figure("s, compiling", took[0] - took[1]),
            figure("share of the product rate", flops / ceilings(quick).float32_flops),
        ],
        "data": source,
        "words": count,
        "parameters": parameters,
        "collisions": collisions.tolist(),
        "iterations_to_perfect": int(perfect[0]) + 1 if perfect.size else None,
    }
