"""Networks of several seeds: one after the other, in `lax.map`, or under `vmap`? And steps: alone, or in a scan?

    python -m bench.conv_seeds [--quick] [--json]

One step of a small ResNet (batch 64), by network and step; compiling is reported apart. `conv_train` trains seeds one
after the other, and on CPU runs each step as a program of its own, because of these figures.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench import machine
from jaxhash.models.convnets import IMAGE, build
from jaxhash.training.convnets import ConvTrainConfig, make_train

BATCH = 64


@dataclass(frozen=True)
class Config:
    """Seconds a step of one network."""

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
    quick: bool = False
    """One round."""
    json: bool = False
    """Everything measured as one JSON object on the last line."""


def main(config: Config) -> None:
    """The benchmark."""
    console = Console(stderr=True)
    network = build(config.network, 10, width_factor=config.width_factor)
    learner = make_train(network, ConvTrainConfig(batch_size=BATCH), 100, IMAGE)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    inits = [learner.init(key) for key in keys]
    first, states = inits[0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *inits)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.random((2 * BATCH, *IMAGE)), jnp.float32)
    y = jnp.asarray(random.integers(0, 10, 2 * BATCH), jnp.int32)
    order = jnp.asarray(random.integers(0, 2 * BATCH, (config.steps, BATCH)), jnp.int32)

    def alone(some: jax.Array) -> Callable[..., Any]:
        return lambda: learner_alone(first, keys[0], some, x, y)

    learner_alone = jax.jit(learner.advance)
    mapped = jax.jit(
        lambda states, keys: jax.lax.map(lambda one: learner.advance(*one, order[:1], x, y), (states, keys))
    )
    batched = jax.jit(jax.vmap(lambda state, key: learner.advance(state, key, order[:1], x, y)))
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "one network, one step": (alone(order[:1]), 1),
        f"one network, {config.steps} steps in a scan": (alone(order), config.steps),
        f"{config.seeds} networks in lax.map": (lambda: mapped(states, keys), config.seeds),
        f"{config.seeds} networks under vmap": (lambda: batched(states, keys), config.seeds),
    }
    seconds: dict[str, list[float]] = {}
    compiling = {}
    for name, (way, _) in ways.items():
        console.print(name)
        start = time.perf_counter()
        jax.block_until_ready(way())
        compiling[name], seconds[name] = time.perf_counter() - start, []
    for _ in range(1 if config.quick else config.rounds):
        for name, (way, share) in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(way())
            seconds[name].append((time.perf_counter() - start) / share)
    medians = {name: float(np.median(some)) for name, some in seconds.items()}
    base = medians["one network, one step"]
    table = Table(title=f"{config.network} x {config.width_factor:g}, batch {BATCH}: a step of one network")
    for column in ("way", "ms", "ratio", "first call, s"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, median in medians.items():
        table.add_row(name, f"{1e3 * median:.1f}", f"{median / base:.2f}", f"{compiling[name]:.1f}")
    Console().print(table)
    if config.json:
        print(json.dumps({"seconds": seconds, "first_call": compiling, "machine": machine.describe("flax", "optax")}))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
