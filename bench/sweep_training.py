"""Is a sweep faster here than with PyTorch or Keras?

Trains the study's MNIST capacity sweep (23 widths, depth 1, batch norm, Adam, L2, batch 64) for the same number of
steps on the same data with jaxhash, with a plain PyTorch loop over models, and with Keras' `fit`, turn by turn in one
run, and prints model-steps a second and their ratios.

    python -m bench.sweep_training            # about 4 minutes on 2 cores
    python -m bench.sweep_training --quick    # under two minutes
"""

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

# TensorFlow's start-up notes would drown the table.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.mnist import load_or_imitate
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.run import SweepConfig, lanes, one_thread_a_lane, plan
from jaxhash.training.mlp import TrainConfig, epoch_order, init_state, make_epoch


@dataclass(frozen=True)
class Config:
    """Measure the training throughput of a width sweep against PyTorch and Keras."""

    quick: bool = False
    """Fewer steps and repetitions: under two minutes on 2 cores, and less exact."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    data_dir: str | None = None
    """Where mnist/ is looked up (default: JAXHASH_DATA_DIR); without it, random pixels of the same shape serve."""
    repeats: int | None = None
    """Repeats of each width that jaxhash trains (default: one a core on CPU, 10 on an accelerator)."""
    peers: bool = True
    """Measure PyTorch and Keras too; without them only the rate and its share of the matrix-product ceiling."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    one_thread_a_lane()
    console = Console(stderr=True)
    data, source = load_or_imitate(config.data_dir)
    steps = 100 if config.quick else 300
    rounds = 3 if config.quick else 5
    train = TrainConfig()
    x, y = data.x_train[: steps * train.batch_size], data.y_train[: steps * train.batch_size]
    widths = STUDIES["mnist"].widths
    on_cpu = jax.devices()[0].platform == "cpu"
    repeats = config.repeats or (lanes() if on_cpu else 10)

    console.print(f"{len(widths)} widths, {steps} steps of {train.batch_size} examples, {source}; preparing ...")
    ours, flops, compile_seconds, transfer_seconds = _ours(widths, repeats, train, x, y)
    runners: dict[str, tuple[Callable[[], None], int]] = {"jaxhash": (ours, repeats * len(widths) * steps)}
    if config.peers:
        # One step first, as Keras and we have had theirs; and before TensorFlow is loaded: Triton, which PyTorch's
        # optimisers load, aborts the process if it finds TensorFlow's LLVM there already.
        _torch(widths[:1], train, x[: train.batch_size], y[: train.batch_size], True)
        runners["PyTorch"] = (partial(_torch, widths, train, x, y, False), len(widths) * steps)
        runners["PyTorch, fused Adam"] = (partial(_torch, widths, train, x, y, True), len(widths) * steps)
        runners["Keras fit"] = (_keras(widths, train, x, y), len(widths) * steps)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    peak = [machine.matmul_rate()]
    for number in range(rounds):
        for name, (run, _) in runners.items():
            console.print(f"round {number + 1} of {rounds}: {name}", end="\r")
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
        peak.append(machine.matmul_rate())
    rate = {name: count / float(np.median(seconds[name])) for name, (_, count) in runners.items()}
    achieved = flops * repeats * steps / float(np.median(seconds["jaxhash"]))
    result = {
        "model_steps_per_second": rate["jaxhash"],
        "ratio_vs_torch": rate["jaxhash"] / rate["PyTorch"] if config.peers else None,
        "ratio_vs_torch_fused": rate["jaxhash"] / rate["PyTorch, fused Adam"] if config.peers else None,
        "ratio_vs_keras": rate["jaxhash"] / rate["Keras fit"] if config.peers else None,
        "fraction_of_matmul_peak": achieved / float(np.median(peak)),
        "gflops": achieved / 1e9,
        "matmul_peak_gflops": float(np.median(peak)) / 1e9,
        "compile_seconds": compile_seconds,
        "transfer_seconds": transfer_seconds,
        "peers_model_steps_per_second": {name: r for name, r in rate.items() if name != "jaxhash"},
        "seconds": seconds,
        "data": source,
        "steps": steps,
        "repeats": repeats,
        "quick": config.quick,
        "machine": machine.describe("torch", "keras", "tensorflow-cpu"),
    }

    table = Table(title=f"Training {len(widths)} widths side by side ({source})")
    for column in ("", "model-steps/s", "jaxhash is"):
        table.add_column(column, justify="left" if not column else "right")
    for name, r in rate.items():
        table.add_row(name, f"{r:,.0f}", "" if name == "jaxhash" else f"{rate['jaxhash'] / r:.1f}x")
    out = Console(width=100)
    out.print(table)
    out.print(
        f"{achieved / 1e9:,.0f} GFLOP/s in matrix products, {result['fraction_of_matmul_peak']:.0%} of this machine's "
        f"{np.median(peak) / 1e9:,.0f} GFLOP/s (2048 x 2048 float32 through JAX). Compiling took "
        f"{compile_seconds:.1f} s, copying the data to the device {transfer_seconds:.2f} s; neither is in the rates."
    )
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")


def _ours(
    widths: tuple[int, ...], repeats: int, train: TrainConfig, x: np.ndarray, y: np.ndarray
) -> tuple[Callable[[], None], int, float, float]:
    """A call that trains one epoch of every model; FLOPs of one step of one repeat; compile and transfer time."""
    config = SweepConfig(dataset="mnist", widths=widths, repeats=repeats, train=train)
    start = time.perf_counter()
    on_device = jax.block_until_ready((jnp.asarray(x), jnp.asarray(y)))
    transfer = time.perf_counter() - start
    tasks = plan(config, x.shape[1], 10)
    start = time.perf_counter()
    states, programs, keys, orders = {}, {}, {}, {}
    for task in tasks:
        keys[task] = jnp.stack([config.repeat_key(repeat) for repeat in task.repeats])
        orders[task] = np.stack([epoch_order(key, 0, len(x), train.batch_size) for key in keys[task]])
        if task.block not in programs:
            init = jax.jit(jax.vmap(partial(init_state, task.block)))
            epoch = jax.jit(jax.vmap(make_epoch(task.block, train), in_axes=(0, 0, 0, None, None)), donate_argnums=0)
            programs[task.block] = init, epoch
        states[task] = programs[task.block][0](keys[task])

    def work(task) -> None:  # type: ignore[no-untyped-def]
        states[task], _ = programs[task.block][1](states[task], keys[task], orders[task], *on_device)
        jax.block_until_ready(states[task])

    pool = ThreadPoolExecutor(lanes())

    def run() -> None:
        list(pool.map(work, tasks))

    run()
    compiled = time.perf_counter() - start
    flops = sum(task.block.flops_per_step(train.batch_size) * len(task.repeats) for task in tasks) // repeats
    return run, flops, compiled, transfer


def _torch(widths: tuple[int, ...], train: TrainConfig, x: np.ndarray, y: np.ndarray, fused: bool) -> None:
    """What one would write in PyTorch: a loop over models, in each a loop over shuffled batches."""
    import torch

    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    for width in widths:
        hidden, norm = (
            torch.nn.Linear(x.shape[1], width, bias=False),
            torch.nn.BatchNorm1d(width, eps=1e-3, momentum=0.01),
        )
        net = torch.nn.Sequential(hidden, norm, torch.nn.ReLU(), torch.nn.Linear(width, 10))
        rest = [p for p in net.parameters() if p is not hidden.weight]
        groups: list[dict[str, Any]] = [{"params": [hidden.weight], "weight_decay": 2 * train.l2}, {"params": rest}]
        optimiser = torch.optim.Adam(groups, lr=train.learning_rate, eps=train.epsilon, fused=fused)
        order = torch.randperm(len(inputs))
        for batch in order.split(train.batch_size):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimiser.step()


def _keras(widths: tuple[int, ...], train: TrainConfig, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """Keras' `fit`, one model after another. Built and traced beforehand: only steps are timed."""
    import keras

    models = []
    for width in widths:
        net = keras.Sequential(
            [
                keras.layers.Input((x.shape[1],)),
                keras.layers.Dense(width, kernel_regularizer=keras.regularizers.L2(train.l2)),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        net.compile(keras.optimizers.Adam(train.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        net.fit(x[: train.batch_size], y[: train.batch_size], batch_size=train.batch_size, verbose=0)
        models.append(net)

    def run() -> None:
        for net in models:
            net.fit(x, y, batch_size=train.batch_size, epochs=1, verbose=0)

    return run


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
