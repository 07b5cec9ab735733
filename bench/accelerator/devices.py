"""One device and all of them: training, and a fit of a perfect hash. Left out where there is one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import harness
from bench.accelerator import inputs
from bench.accelerator.part import Setting, figure
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.models.mlp import ModelConfig
from jaxhash.runtime.devices import Place
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.programs import programs_of
from jaxhash.training.mlp import TrainConfig, epoch_order
from jaxhash.training.population import Block


def run(setting: Setting) -> dict[str, Any]:
    """How many times as fast all devices together are as one."""
    devices = tuple(jax.devices())
    if len(devices) == 1:
        return {"figures": [], "left_out": "this process has one device"}
    quick = setting.quick
    data, source = inputs.mnist(setting)
    words, of_words = inputs.words(quick)
    counts = (1, len(devices))
    epochs = {
        count: _epoch(quick, Place(devices[:count]), len(devices), data.x_train, data.y_train) for count in counts
    }
    config = FitConfig(method="sharded")
    fits = {count: partial(fit, words, config, mesh=str(count)) for count in counts}
    works: dict[str, harness.Timed] = {_name("training", count): work for count, work in epochs.items()}
    works |= {_name("fit", count): work for count, work in fits.items()}
    seconds, answers = harness.interleaved(works, 1 if quick else 3, warm_up=True)
    policies = [jax.tree.leaves(answers[_name("fit", count)].policy) for count in counts]
    same = all(np.array_equal(a, b) for a, b in zip(*policies, strict=True))
    middle = harness.medians(seconds)
    return {
        "figures": [
            figure(f"{what}: x one device", middle[_name(what, 1)] / middle[_name(what, len(devices))])
            for what in ("training", "fit")
        ],
        "devices": len(devices),
        "data": [source, of_words],
        "words": len(words),
        "agreement": harness.checked(same, "the function that was fitted is the same bits on one device and on all"),
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }


def _name(what: str, count: int) -> str:
    return f"{what}, {count} devices"


def _epoch(quick: bool, place: Place, most: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """A call that trains all models one epoch more; repeats are split between the devices."""
    widths, train = (3, 5) if quick else STUDIES["mnist"].widths, TrainConfig()
    # As many for each device, whatever their number.
    repeats = most if quick else most * -(-10 // most)
    config = SweepConfig(dataset="mnist", widths=widths, repeats=repeats, train=train)
    programs = programs_of(Block(widths, ModelConfig(), x.shape[1], 10), train)
    own = jnp.stack([config.repeat_key(repeat) for repeat in range(repeats)])
    orders = np.stack([epoch_order(key, 0, len(x), train.batch_size) for key in own])
    labels = np.broadcast_to(y, (repeats, len(y))).astype(np.int32)
    keys, order, of_repeats = place.spread((own, orders, labels))
    pixels = jax.device_put(x, place.whole)
    state = [place.spread(programs.init(own))]

    def run() -> None:
        state[0], _ = programs.epoch(state[0], keys, order, pixels, of_repeats, {})
        jax.block_until_ready(state[0])

    return run
