"""Compile time of each program of a sweep, and what compiler options gain.

The programs of the study's MNIST figure (23 widths, 10 repeats on an accelerator, codes of 100 bits), each lowered and
compiled in this process with JAX's own options and with `jaxhash.runtime.devices.SOON_COMPILED`, then run twice.
JAX's cache of compiled programs is off.

    python -m bench.compile            # about a minute on a GPU, less on a CPU
    python -m bench.compile --quick    # a quarter of the codes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from bench.data import mnist
from jaxhash.codes import pack
from jaxhash.codes.distinct import num_distinct
from jaxhash.codes.lloyd import CODES_AT_A_TIME, _lloyd, draws, seed, tiles_of
from jaxhash.codes.logistic import _fit
from jaxhash.codes.nearest_words import knn_words
from jaxhash.runtime.devices import SOON_COMPILED
from jaxhash.sweeps.engine import plan_mlps
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.programs import Programs
from jaxhash.sweeps.tasks import block_of
from jaxhash.training.mlp import TrainConfig, epoch_order

BITS, CLASSES = 100, 10
OPTIONS: dict[str, dict[str, str | bool]] = {"JAX's options": {}, "jaxhash's options": SOON_COMPILED}


@dataclass(frozen=True)
class Config(harness.Options):
    """Measure the compile time of a sweep's programs."""

    data_dir: str | None = None
    """Where mnist/ is looked up (default: JAXHASH_DATA_DIR); without it, random pixels of the same shape serve."""


@dataclass(frozen=True)
class Program:
    """A jitted function, and what it is called with."""

    function: Any
    arguments: tuple[Any, ...]
    static: Mapping[str, int]


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    jax.config.update("jax_enable_compilation_cache", False)
    data, source = mnist(config.data_dir)
    seconds = {
        name: {options: _seconds(program, chosen) for options, chosen in OPTIONS.items()}
        for name, program in _programs(data.x_train, data.y_train, 4 if config.quick else 1).items()
    }
    harness.show(
        f"Compiling the programs of a sweep ({source})",
        ("", *(f"{options}, {what}" for options in OPTIONS for what in ("compile, s", "run, s"))),
        [
            (name, *(f"{found[options][what]:.3f}" for options in OPTIONS for what in ("compile", "run")))
            for name, found in seconds.items()
        ],
    )
    harness.finish("compile", config, {"seconds": seconds, "options": OPTIONS["jaxhash's options"], "data": source})


def _programs(x: np.ndarray, y: np.ndarray, part: int) -> dict[str, Program]:
    labels = y[: len(y) // part]
    rng = np.random.default_rng(0)
    bits = (rng.random((CLASSES, BITS)) < 0.5)[labels] ^ (rng.random((len(labels), BITS)) < 0.15)
    words, of_class = pack(jnp.asarray(bits)), jnp.asarray(labels, jnp.int32)
    queries = words[: len(words) // 5]
    largest = int(np.bincount(labels).max())
    drawn, tiles = draws(jax.random.key(0), CLASSES, 10, len(words)), tiles_of(words, CODES_AT_A_TIME)
    return {
        "a training epoch": _epoch(x, y),
        "distinct codes": Program(num_distinct, (words,), {}),
        "K-Means, draws": Program(draws, (jax.random.key(0),), {"k": CLASSES, "restarts": 10, "count": len(words)}),
        "K-Means, seeding": Program(seed, (drawn, tiles, len(words)), {}),
        "K-Means, Lloyd": Program(
            _lloyd,
            (seed(drawn, tiles, len(words)), tiles, len(words), jnp.float32(1e-4)),
            {"k": CLASSES, "max_iterations": 300},
        ),
        "9-NN": Program(knn_words, (words, of_class, queries), {"k": 9, "num_classes": CLASSES}),
        "logistic regression": Program(
            _fit, (words, of_class, jnp.float32(1), None), {"num_classes": CLASSES, "capacity": largest}
        ),
    }


def _epoch(x: np.ndarray, y: np.ndarray) -> Program:
    on_cpu = jax.default_backend() == "cpu"
    config = SweepConfig(dataset="mnist", widths=STUDIES["mnist"].widths, repeats=1 if on_cpu else 10)
    task = plan_mlps(config, x.shape[1], CLASSES)[0]
    train = TrainConfig()
    programs = Programs(block_of(config, task, x.shape[1], CLASSES), train)
    keys = jnp.stack([config.repeat_key(repeat) for repeat in task.repeats])
    order = jnp.asarray(np.stack([epoch_order(key, 0, len(x), train.batch_size) for key in keys]))
    labels = jnp.asarray(np.broadcast_to(y, (len(keys), len(y))), jnp.int32)
    pixels = jnp.asarray(x)
    return Program(programs.epoch, (programs.init(keys), keys, order, pixels, labels, {}), {})


def _seconds(program: Program, options: dict[str, str | bool]) -> dict[str, float]:
    # Without the options that it is jitted with in the library.
    function = jax.jit(program.function.__wrapped__, static_argnames=tuple(program.static))
    lowered = function.lower(*program.arguments, **program.static)
    compile_seconds, compiled = harness.timed(lambda: lowered.compile(compiler_options=options))
    jax.block_until_ready(compiled(*program.arguments))
    run_seconds, _ = harness.timed(lambda: jax.block_until_ready(compiled(*program.arguments)))
    return {"compile": compile_seconds, "run": run_seconds}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
