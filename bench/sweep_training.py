"""Training a sweep: faster here than with PyTorch or Keras?

Trains the study's MNIST capacity sweep (23 widths, depth 1, batch norm, Adam, L2, batch 64) for the same number of
steps on the same data with jaxhash, with a plain PyTorch loop over models, with the same loop in a process of one
thread on each core, and with Keras' `fit`, turn by turn in one run, and prints model-steps a second and their ratios.

    python -m bench.sweep_training            # about 4 minutes on 2 cores
    python -m bench.sweep_training --quick    # under two minutes
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

# TensorFlow's start-up notes would drown the table.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from bench.data import mnist
from jaxhash.runtime.devices import training_options, worker_count
from jaxhash.sweeps.engine import plan_mlps
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.tasks import block_of
from jaxhash.training.mlp import TrainConfig, epoch_order, init_state, make_epoch

OURS, CEILING = "jaxhash", "matrix products"
TORCH, FUSED, PROCESSES, KERAS = "PyTorch", "PyTorch, fused Adam", "PyTorch, fused Adam, a process a core", "Keras fit"
PEERS = {
    "ratio_vs_torch": TORCH,
    "ratio_vs_torch_fused": FUSED,
    "ratio_vs_torch_processes": PROCESSES,
    "ratio_vs_keras": KERAS,
}


@dataclass(frozen=True)
class Config(harness.Options):
    """Measure the training throughput of a width sweep against PyTorch and Keras."""

    data_dir: str | None = None
    """Where mnist/ is looked up (default: JAXHASH_DATA_DIR); without it, random pixels of the same shape serve."""
    repeats: int | None = None
    """Repeats of each width that jaxhash trains (default: one a core on CPU, 10 on an accelerator)."""
    peers: bool = True
    """Measure PyTorch and Keras too; without them only the rate and its share of the matrix-product ceiling."""


_given: list[Any] = []
"""The recipe and the data, in a process of PyTorch's."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    data, source = mnist(config.data_dir)
    steps, rounds = (100, 3) if config.quick else (300, 5)
    train = TrainConfig()
    x, y = data.x_train[: steps * train.batch_size], data.y_train[: steps * train.batch_size]
    widths = STUDIES["mnist"].widths
    repeats = config.repeats or (worker_count() if jax.devices()[0].platform == "cpu" else 10)

    harness.say(f"{len(widths)} widths, {steps} steps of {train.batch_size} examples, {source}; preparing ...")
    epoch, flops, compile_seconds, transfer_seconds = ours(widths, repeats, train, x, y)
    works: dict[str, harness.Timed] = {OURS: epoch}
    # PyTorch first: Triton, which its optimisers load, aborts the process if it finds TensorFlow's LLVM there already.
    if config.peers and harness.peer("torch"):
        # One step, as Keras and we have had theirs.
        torch_loop(widths[:1], train, x[: train.batch_size], y[: train.batch_size], True)
        works |= {name: partial(torch_loop, widths, train, x, y, name == FUSED) for name in (TORCH, FUSED)}
    with ExitStack() as open_pools:
        if FUSED in works and jax.default_backend() == "cpu":
            works[PROCESSES] = _torch_processes(open_pools, widths, train, x, y)
        if config.peers and harness.peer("keras"):
            works[KERAS] = _keras(widths, train, x, y)
        products, amount = harness.matrix_products()
        works[CEILING] = harness.Work(products, times=3)
        products()
        seconds, _ = harness.interleaved(works, rounds)
    result = figures(seconds, len(widths) * steps, repeats, flops * steps, amount) | {
        "compile_seconds": compile_seconds,
        "transfer_seconds": transfer_seconds,
        "data": source,
        "steps": steps,
        "repeats": repeats,
    }
    rates = {OURS: result["model_steps_per_second"], **result["peers_model_steps_per_second"]}
    harness.show(
        f"Training {len(widths)} widths side by side ({source})",
        ("", "model-steps/s", "spread", "jaxhash is"),
        [
            (
                name,
                f"{rate:,.0f}",
                f"{result['spread'][name]:.0%}",
                f"{rates[OURS] / rate:.1f}x" if name != OURS else "",
            )
            for name, rate in rates.items()
        ],
        f"{result['gflops']:,.0f} GFLOP/s in matrix products, {result['fraction_of_matmul_peak']:.0%} of the "
        f"{result['matmul_peak_gflops']:,.0f} GFLOP/s of this machine (2048 x 2048 float32 through JAX)",
        f"not in the rates: compiling, {compile_seconds:.1f} s, and copying to the device, {transfer_seconds:.2f} s",
    )
    harness.finish("sweep_training", config, result, "torch", "keras", "tensorflow-cpu")


def figures(
    seconds: dict[str, list[float]], model_steps: int, repeats: int, flops: float, product_flops: float
) -> dict[str, Any]:
    """Rates and ratios.

    Args:
        seconds: of ours, the peers and the matrix products.
        model_steps: of a peer in a run; ours makes `repeats` times as many.
        repeats: of each width in ours.
        flops: of one repeat of ours.
        product_flops: of the matrix products.
    """
    middle = harness.medians(seconds)
    rates = {name: model_steps / took for name, took in middle.items() if name in PEERS.values()}
    ours = repeats * model_steps / middle[OURS]
    achieved, peak = repeats * flops / middle[OURS], product_flops / middle[CEILING]
    return {
        "model_steps_per_second": ours,
        **{ratio: ours / rates[name] if name in rates else None for ratio, name in PEERS.items()},
        "fraction_of_matmul_peak": achieved / peak,
        "gflops": achieved / 1e9,
        "matmul_peak_gflops": peak / 1e9,
        "peers_model_steps_per_second": rates,
        "spread": harness.spreads(seconds),
        "seconds": seconds,
    }


def ours(
    widths: tuple[int, ...], repeats: int, train: TrainConfig, x: np.ndarray, y: np.ndarray
) -> tuple[Callable[[], None], int, float, float]:
    """A call that trains one epoch of every model; FLOPs of one step of one repeat; compile and transfer time."""
    config = SweepConfig(dataset="mnist", widths=widths, repeats=repeats, train=train)
    transfer, on_device = harness.timed(lambda: jax.block_until_ready((jnp.asarray(x), jnp.asarray(y))))
    tasks = plan_mlps(config, x.shape[1], 10)
    blocks = {task: block_of(config, task, x.shape[1], 10) for task in tasks}
    states: dict[Any, Any] = {}
    programs: dict[Any, Any] = {}
    keys: dict[Any, jax.Array] = {}
    orders: dict[Any, np.ndarray] = {}

    def work(task: Any) -> None:
        states[task], _ = programs[blocks[task]][1](states[task], keys[task], orders[task], *on_device)
        jax.block_until_ready(states[task])

    pool = ThreadPoolExecutor(worker_count())

    def run() -> None:
        list(pool.map(work, tasks))

    def compiled() -> None:
        for task in tasks:
            keys[task] = jnp.stack([config.repeat_key(repeat) for repeat in task.repeats])
            orders[task] = np.stack([epoch_order(key, 0, len(x), train.batch_size) for key in keys[task]])
            block = blocks[task]
            if block not in programs:
                init = jax.jit(jax.vmap(partial(init_state, block)))
                epoch = jax.vmap(make_epoch(block, train), in_axes=(0, 0, 0, None, None))
                programs[block] = init, jax.jit(epoch, donate_argnums=0, compiler_options=training_options())
            states[task] = programs[block][0](keys[task])
        run()

    compile_seconds, _ = harness.timed(compiled)
    flops = sum(block.flops_per_step(train.batch_size) * len(task.members) for task, block in blocks.items()) // repeats
    return run, flops, compile_seconds, transfer


def torch_loop(widths: tuple[int, ...], train: TrainConfig, x: np.ndarray, y: np.ndarray, fused: bool) -> None:
    """What one would write in PyTorch: a loop over models, in each a loop over shuffled batches.

    On a GPU where ours is, and PyTorch was built for it.
    """
    torch, device = torch_on_device()
    inputs, labels = torch.from_numpy(x).to(device), torch.from_numpy(y.astype(np.int64)).to(device)
    for width in widths:
        net, optimiser = torch_model(x.shape[1], width, train, fused)
        order = torch.randperm(len(inputs))
        for batch in order.split(train.batch_size):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimiser.step()
    if device == "cuda":
        torch.cuda.synchronize()


def _torch_processes(
    open_pools: ExitStack, widths: tuple[int, ...], train: TrainConfig, x: np.ndarray, y: np.ndarray
) -> Callable[[], None]:
    """The loop in processes of one thread, as many as cores, which take the widths in turn, the largest first."""
    pool = open_pools.enter_context(
        ProcessPoolExecutor(worker_count(), get_context("spawn"), initializer=_begin, initargs=(train, x, y))
    )

    def run() -> None:
        list(pool.map(_one_width, sorted(widths, reverse=True)))

    run()
    return run


def _begin(*given: Any) -> None:
    import torch

    torch.set_num_threads(1)
    _given.extend(given)


def _one_width(width: int) -> None:
    train, x, y = _given
    torch_loop((width,), train, x, y, True)


def torch_on_device() -> tuple[Any, str]:
    """PyTorch, and the device that it makes its tensors on from now on."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_default_device(device)
    return torch, device


def torch_model(features: int, width: int, train: TrainConfig, fused: bool, running: bool = True) -> tuple[Any, Any]:
    """A model of the sweep in PyTorch, and its Adam.

    Args:
        features: of an example.
        width: hidden units.
        train: the recipe.
        fused: Adam in one kernel.
        running: keep running statistics of the batch norm.
    """
    import torch

    hidden = torch.nn.Linear(features, width, bias=False)
    norm = torch.nn.BatchNorm1d(width, eps=1e-3, momentum=0.01, track_running_stats=running)
    net = torch.nn.Sequential(hidden, norm, torch.nn.ReLU(), torch.nn.Linear(width, 10))
    return net, torch_adam(dict(net.named_parameters()), train, fused)


def torch_adam(parameters: dict[str, Any], train: TrainConfig, fused: bool) -> Any:
    """Adam with the L2 penalty on the first kernel."""
    import torch

    rest = [parameter for name, parameter in parameters.items() if name != "0.weight"]
    groups: list[dict[str, Any]] = [
        {"params": [parameters["0.weight"]], "weight_decay": 2 * train.l2},
        {"params": rest},
    ]
    return torch.optim.Adam(groups, lr=train.learning_rate, eps=train.epsilon, fused=fused)


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
