"""Adam: what does the hand-written one of the training programs gain over `optax.adam`?

One epoch of a block of the study's MNIST sweep (three models of 160 units, 784 features, batch 64, 750 steps in one
scan), turn by turn with each of the two, on one core.

    python -m bench.adam
"""

import json
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxhash.models.mlp import ModelConfig
from jaxhash.sweeps.engine import one_thread_a_worker
from jaxhash.training import mlp
from jaxhash.training.population import Block

BLOCK, ROUNDS = Block((50, 53, 57), ModelConfig(), 784, 10), 6


def main() -> None:
    """Time both and print seconds an epoch, and how many percent the hand-written one saves."""
    one_thread_a_worker()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((48_000, 784), np.float32))
    y = jnp.asarray(rng.integers(0, 10, 48_000), jnp.int32)
    key = jax.random.key(0)
    order = jnp.asarray(mlp.epoch_order(key, 0, 48_000, 64))
    programs, states = {}, {}
    for name, adam in (("ours", mlp.adam), ("optax", optax.adam)):
        with mock.patch.object(mlp, "adam", adam):
            states[name] = jax.jit(mlp.init_state, static_argnums=0)(BLOCK, key)
            epoch = jax.jit(mlp.make_epoch(BLOCK, mlp.TrainConfig()))
            programs[name] = epoch.lower(states[name], key, order, x, y).compile()
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.perf_counter()
            states[name], _ = jax.block_until_ready(program(states[name], key, order, x, y))
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    print(json.dumps(best | {"saved_percent": round(100 * (1 - best["ours"] / best["optax"]), 1)}))


if __name__ == "__main__":
    main()
