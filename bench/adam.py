"""What do the hand-written Adam and the cross-entropy of the training programs gain over Optax's own?

One epoch of a block of the study's MNIST sweep (three models of 160 units, 784 features, batch 64, 750 steps in one
scan), turn by turn as the library trains, with `optax.adam`, and with
`optax.softmax_cross_entropy_with_integer_labels`, on one core.

    python -m bench.adam            # under a minute on 2 cores
    python -m bench.adam --quick    # a tenth of the steps, two rounds
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array

from bench import harness
from jaxhash.models.mlp import ModelConfig
from jaxhash.runtime.devices import training_options
from jaxhash.training import mlp
from jaxhash.training.population import Block

BLOCK, OURS = Block((50, 53, 57), ModelConfig(), 784, 10), "jaxhash"


@dataclass(frozen=True)
class Config(harness.Options):
    """Time an epoch with our own Adam and cross-entropy and with Optax's."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    harness.on_one_core()
    n, rounds = (4_800, 2) if config.quick else (48_000, 6)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((n, 784), np.float32))
    y = jnp.asarray(rng.integers(0, 10, n), jnp.int32)
    key = jax.random.key(0)
    data = key, jnp.asarray(mlp.epoch_order(key, 0, n, 64)), x, y
    instead: dict[str, dict[str, Any]] = {
        OURS: {},
        "optax.adam": {"adam": optax.adam},
        "Optax's cross-entropy of integer labels": {"cross_entropy": _of_integers},
    }
    works: dict[str, harness.Timed] = {}
    for name, functions in instead.items():
        with mock.patch.multiple(mlp, **functions) if functions else nullcontext():
            arguments = jax.jit(partial(mlp.init_state, BLOCK))(key), *data
            epoch = jax.jit(mlp.make_epoch(BLOCK, mlp.TrainConfig()), compiler_options=training_options())
            program = epoch.lower(*arguments).compile()
        works[name] = partial(_run, program, arguments)
    seconds, answers = harness.interleaved(works, rounds, warm_up=True)
    losses = {name: np.asarray(losses) for name, (_, losses) in answers.items()}
    for name, found in losses.items():
        # The same sums in another order: 750 steps apart by rounding.
        np.testing.assert_allclose(found, losses[OURS], rtol=1e-3, err_msg=name)
    best = {name: min(times) for name, times in seconds.items()}
    saved = {name: 100 * (1 - best[OURS] / took) for name, took in best.items() if name != OURS}
    rows = [(name, f"{took:.3f} s", f"{saved[name]:.1f} %" if name in saved else "") for name, took in best.items()]
    harness.show("An epoch of three models, 784 features", ("", "best", "ours saves"), rows)
    result = {"best_seconds": best, "saved_percent": saved, "seconds": seconds}
    result["mean_losses"] = {name: found.tolist() for name, found in losses.items()}
    harness.finish("adam", config, result, "optax")


def _run(program: Any, arguments: Any) -> Any:
    return jax.block_until_ready(program(*arguments))


def _of_integers(logits: Array, y: Array) -> Array:
    return jax.vmap(lambda own: optax.softmax_cross_entropy_with_integer_labels(own, y, axis=0))(logits)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
