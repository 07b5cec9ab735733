"""Convolutional networks of several seeds: one by one, in `lax.map` or under `vmap`? And steps: alone, or in a scan?

    python -m bench.conv_seeds [--quick] [--json]

One step of a small ResNet (batch 64), by network and step; compiling is reported apart. `conv_train` trains seeds one
after the other, and on CPU runs each step as a program of its own, because of these figures.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from jaxhash.models.convnets import IMAGE, build
from jaxhash.training.convnets import ConvTrainConfig, make_train

BATCH = 64
ONE_STEP = "one network, one step"


@dataclass(frozen=True)
class Config(harness.Options):
    """Seconds a step of one network; one round with --quick."""

    network: str = "resnet8"
    """See `jaxhash.models.convnets.NETWORKS`."""
    width_factor: float = 0.5
    """Multiplies the channels of every layer."""
    seeds: int = 3
    """Networks trained side by side."""
    steps: int = 4
    """Steps in a scan."""
    rounds: int = 5
    """Measurements of each way, in turn."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    network = build(config.network, 10, width_factor=config.width_factor)
    learner = make_train(network, ConvTrainConfig(batch_size=BATCH), 100, IMAGE)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    inits = [learner.init(key) for key in keys]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *inits)
    steps, random = config.steps, np.random.default_rng(0)
    x = jnp.asarray(random.random((2 * BATCH, *IMAGE)), jnp.float32)
    y = jnp.asarray(random.integers(0, 10, 2 * BATCH), jnp.int32)
    order = jnp.asarray(random.integers(0, 2 * BATCH, (steps, BATCH)), jnp.int32)

    def mapped(states, keys, order, x, y):  # type: ignore[no-untyped-def]
        return jax.lax.map(lambda one: learner.advance(*one, order, x, y), (states, keys))

    batched = jax.vmap(learner.advance, in_axes=(0, 0, None, None, None))
    # What is run, and how many steps of a network it makes.
    ways = {
        ONE_STEP: (learner.advance, (inits[0], keys[0], order[:1], x, y), 1),
        f"one network, {steps} steps in a scan": (learner.advance, (inits[0], keys[0], order, x, y), steps),
        f"{config.seeds} networks in lax.map": (mapped, (states, keys, order[:1], x, y), config.seeds),
        f"{config.seeds} networks under vmap": (batched, (states, keys, order[:1], x, y), config.seeds),
    }
    stages, works = {}, {}
    for name, (way, arguments, _) in ways.items():
        harness.say(name)
        stages[name], works[name] = harness.stages(way, *arguments)
    seconds, _ = harness.interleaved(works, 1 if config.quick else config.rounds)
    step_seconds = {name: took / ways[name][2] for name, took in harness.medians(seconds).items()}
    ratios = {name: took / step_seconds[ONE_STEP] for name, took in step_seconds.items()}
    harness.show(
        f"{config.network} x {config.width_factor:g}, batch {BATCH}: a step of one network",
        ("way", "ms", "ratio", "tracing, s", "compiling, s"),
        [
            (name, f"{1e3 * took:.1f}", f"{ratios[name]:.2f}", f"{of['trace']:.1f}", f"{of['compile']:.1f}")
            for (name, took), of in zip(step_seconds.items(), stages.values(), strict=True)
        ],
    )
    result = {"step_seconds": step_seconds, "ratios": ratios, "seconds": seconds, "stages": stages}
    harness.finish("conv_seeds", config, result | {"spread": harness.spreads(seconds)}, "flax", "optax")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
