"""Training: the study's MNIST sweep, 23 widths x 10 repeats for 5 epochs, beside PyTorch on the same device."""

from typing import Any

from bench import harness, sweep_training
from bench.accelerator import torch_training
from bench.accelerator.ceilings import ceilings
from bench.accelerator.inputs import mnist
from bench.accelerator.part import Setting, figure
from bench.sweep_training import OURS
from jaxhash.sweeps.presets import STUDIES
from jaxhash.training.mlp import TrainConfig

BYTES_A_PARAMETER = 24
"""Read and written in a step, at least: the parameter and Adam's two moments."""


def run(setting: Setting) -> dict[str, Any]:
    """Model-steps a second, shares of what the device can do, and ratios to the peers."""
    quick, train = setting.quick, TrainConfig()
    data, source = mnist(setting)
    widths = (3, 20) if quick else STUDIES["mnist"].widths
    repeats, epochs, rounds = (2, 1, 1) if quick else (10, 5, 3)
    steps = len(data.x_train) // train.batch_size
    x, y = data.x_train[: steps * train.batch_size], data.y_train[: steps * train.batch_size]

    harness.say(f"{len(widths)} widths x {repeats}, {source}: compiling")
    epoch, flops, compile_seconds, transfer_seconds = sweep_training.ours(widths, repeats, train, x, y)

    def ours() -> None:
        for _ in range(epochs):
            epoch()

    # A peer has fewer steps, for it takes far longer: rates are compared.
    some = train.batch_size * (2 if quick else 100)
    peers, failed = torch_training.peers(widths, repeats, train, x[:some], y[:some]) if setting.peers else ({}, {})
    model_steps = {OURS: len(widths) * repeats * steps * epochs} | {
        name: peer.model_steps for name, peer in peers.items()
    }
    works: dict[str, harness.Timed] = {OURS: ours, **{name: peer.run for name, peer in peers.items()}}
    seconds, _ = harness.interleaved(works, rounds, warm_up=True)
    rates = {name: model_steps[name] / took for name, took in harness.medians(seconds).items()}
    top = ceilings(quick)
    models = len(widths) * repeats
    steps_a_second = rates[OURS] / models  # of all models together
    moved = BYTES_A_PARAMETER * repeats * parameters(widths, x.shape[1]) * steps_a_second
    shares = {
        "product_rate": repeats * flops * steps_a_second / top.float32_flops,
        "bandwidth": moved / top.bytes_moved,
    }
    return {
        "figures": [
            figure("model-steps/s", rates[OURS]),
            figure(f"s for {epochs} epochs of {models} models", harness.medians(seconds)[OURS]),
            figure("share of the product rate", shares["product_rate"]),
            figure("share of the bandwidth", shares["bandwidth"]),
            *(figure(f"x {name}", rates[OURS] / rates[name], 1) for name in peers),
        ],
        "data": source,
        "widths": widths,
        "repeats": repeats,
        "epochs": epochs,
        "steps_an_epoch": steps,
        "model_steps_per_second": rates,
        "shares": shares,
        "ceilings": top.as_json(),
        "compile_seconds": compile_seconds,
        "transfer_seconds": transfer_seconds,
        "peers_left_out": failed,
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }


def parameters(widths: tuple[int, ...], features: int, classes: int = 10) -> int:
    """Trainable numbers of models of one hidden layer with batch norm, without padding."""
    return sum(width * (features + 2 + classes) + classes for width in widths)
