"""What takes the time of a training step, and how far is it from the products alone?

A block of the study's MNIST sweep (three models of 160 units, 784 features, batch 64) on one core: an epoch of steps as
the library makes them, and parts of it alone, each in a loop of as many steps: the products of the first layer (forward
and the gradient of the kernel), the gathering of the examples, and Adam of the first kernel. The ceiling is the rate of
2048 x 2048 products on the same core.

    python -m bench.training_step            # under a minute on 2 cores
    python -m bench.training_step --quick    # a tenth of the steps, two rounds
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float, Int

from bench import harness
from bench.adam import BLOCK
from jaxhash.runtime.devices import training_options
from jaxhash.training import mlp

STEP, PRODUCTS, CEILING = "a step", "products of the first layer", "products of 2048 x 2048"
SIDE = 2048


@dataclass(frozen=True)
class Config(harness.Options):
    """Time a training step and its parts on one core."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    harness.on_one_core()
    recipe = mlp.TrainConfig()
    steps, rounds = (75, 2) if config.quick else (750, 9)
    n = steps * recipe.batch_size
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((n, BLOCK.features), np.float32))
    y = jnp.asarray(rng.integers(0, BLOCK.classes, n), jnp.int32)
    key = jax.random.key(0)
    order = jnp.asarray(mlp.epoch_order(key, 0, n, recipe.batch_size))
    state = jax.jit(partial(mlp.init_state, BLOCK))(key)
    kernel, square = state.params.first, jnp.ones((SIDE, SIDE))
    works: dict[str, harness.Timed] = {
        STEP: _compiled(mlp.make_epoch(BLOCK, recipe), state, key, order, x, y),
        PRODUCTS: _compiled(products, kernel, order, x[: recipe.batch_size]),
        "gathering of the examples": _compiled(gathering, order, x),
        "Adam of the first kernel": _compiled(adam, kernel, order),
        CEILING: _compiled(jnp.matmul, square, square),
    }
    seconds, _ = harness.interleaved(works, rounds, warm_up=True, keep=False)
    middle = harness.medians(seconds)
    microseconds = {name: 1e6 * took / (1 if name == CEILING else steps) for name, took in middle.items()}
    flops = {
        STEP: steps * BLOCK.flops_per_step(recipe.batch_size),
        PRODUCTS: steps * 4 * recipe.batch_size * kernel.size,
        CEILING: 2 * SIDE**3,
    }
    gflops = {name: amount / middle[name] / 1e9 for name, amount in flops.items()}
    shares = {name: found / gflops[CEILING] for name, found in gflops.items()}
    harness.show(
        f"A step of {sum(BLOCK.units)} units on one core",
        ("", "microseconds", "GFLOP/s", "of the ceiling", "spread"),
        [
            (name, f"{took:,.0f}", *_of_products(name, gflops, shares), f"{harness.spreads(seconds)[name]:.0%}")
            for name, took in microseconds.items()
        ],
    )
    result: dict[str, Any] = {"microseconds": microseconds, "gflops": gflops, "shares": shares}
    result |= {"steps": steps, "spread": harness.spreads(seconds), "seconds": seconds}
    harness.finish("training_step", config, result)


def products(
    kernel: Float[Array, "units features"], order: Int[Array, "steps n"], x: Float[Array, "n features"]
) -> Array:
    """The kernel after steps of two products each: what of a step no other layout saves."""

    def step(kernel: Array, _: Array) -> tuple[Array, None]:
        z = jax.lax.dot_general(kernel, x, (((1,), (1,)), ((), ())))
        return 1e-9 * (z @ x), None

    return jax.lax.scan(step, kernel, order)[0]


def gathering(order: Int[Array, "steps n"], x: Float[Array, "all features"]) -> Array:
    """The sum of all batches, gathered as a step does."""
    zero = jnp.zeros((order.shape[1], x.shape[1]))
    return jax.lax.scan(lambda total, batch: (total + x[batch], None), zero, order)[0]


def adam(kernel: Float[Array, "units features"], order: Int[Array, "steps n"]) -> Array:
    """The kernel after steps of the library's Adam, of a gradient that is there."""
    optimiser = mlp.adam(lambda _: jnp.float32(1e-2))

    def step(carry: tuple[Array, Array, Any], _: Array) -> tuple[tuple[Array, Array, Any], None]:
        kernel, gradient, moments = carry
        updates, moments = optimiser.update(gradient, moments)
        return (kernel + updates, 0.999 * gradient, moments), None

    (kernel, _, _), _ = jax.lax.scan(step, (kernel, kernel, optimiser.init(kernel)), order)
    return kernel


def _compiled(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    program = jax.jit(function, compiler_options=training_options()).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def _of_products(name: str, gflops: dict[str, float], shares: dict[str, float]) -> tuple[str, str]:
    return (f"{gflops[name]:,.0f}", f"{shares[name]:.0%}") if name in gflops else ("", "")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
