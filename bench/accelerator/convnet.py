"""VGG-16 and ResNet-20 on CIFAR-10 as a sweep trains them, one epoch, batch 64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import harness
from bench.accelerator.ceilings import ceilings
from bench.accelerator.part import Setting, figure
from bench.data import cifar10, random_pixels
from jaxhash.data import Dataset
from jaxhash.models.convnets import classifier, cost
from jaxhash.sweeps.presets import CONVNETS
from jaxhash.training.mlp import epoch_order
from jaxhash.training.vmapped import ModelSpec, make_trainable

RECIPE = CONVNETS.train


def run(setting: Setting) -> dict[str, Any]:
    """Images a second in an epoch after a first one, which compiles."""
    quick = setting.quick
    data, source = random_pixels(3072, (128, 1, 1)) if quick else cifar10(setting.data_dir)
    factor, names = (1 / 64, ("resnet8",)) if quick else (1.0, ("resnet20", "vgg16"))
    figures, networks = [], {}
    for name in names:
        took, losses = _two_epochs(data, name, factor)
        steps = len(data.x_train) // RECIPE.batch_size
        flops = cost(classifier(name, width_factor=factor).network).training_flops(RECIPE.batch_size) * steps / took[1]
        figures += [
            figure(f"s, an epoch of {name}", took[1]),
            figure(f"images/s, {name}", steps * RECIPE.batch_size / took[1]),
            figure(f"s, compiling {name}", took[0] - took[1]),
            figure(f"share of the product rate, {name}", flops / ceilings(quick).float32_flops),
        ]
        networks[name] = {"steps_an_epoch": steps, "mean_loss_of_epochs": losses}
    shared = {"data": source, "width_factor": factor, "batch_size": RECIPE.batch_size}
    return {"figures": figures, "networks": networks, **shared}


def _two_epochs(data: Dataset, name: str, factor: float) -> tuple[list[float], list[float]]:
    """Seconds and mean losses of the first two epochs."""
    values = {"network": name, "width_factor": factor}
    trainable = make_trainable(ModelSpec(classifier), RECIPE, values, (data.features,), 10)
    images, labels, key = jnp.asarray(data.x_train), jnp.asarray(data.y_train), jax.random.key(0)
    steps = len(images) // RECIPE.batch_size
    advance = jax.jit(trainable.advance, donate_argnums=0)
    state = [jax.jit(trainable.init)(key, {}, images)]
    took, losses = [], []
    for number in range(2):
        harness.say(f"{name}, epoch {number + 1} of 2")
        order = jnp.asarray(epoch_order(key, number, len(images), RECIPE.batch_size))
        given: tuple[Any, ...] = key, order, images, labels, {}, np.int32(0), np.int32(steps)
        start = harness.clock()
        state[0] = jax.block_until_ready(advance(state[0], *given))
        took.append(harness.clock() - start)
        losses.append(float(state[0].loss))
    return took, losses
