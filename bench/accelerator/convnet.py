"""ResNet-20 on CIFAR-10 for one epoch, batch 128."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bench import harness
from bench.accelerator.ceilings import ceilings
from bench.accelerator.part import Setting, figure
from bench.data import cifar10, random_pixels
from jaxhash.models.convnets import IMAGE, as_images, build, cost
from jaxhash.training.convnets import ConvState, ConvTrainConfig, make_train, steps_a_call
from jaxhash.training.mlp import epoch_order


def run(setting: Setting) -> dict[str, Any]:
    """Images a second in an epoch after a first one, which compiles."""
    quick = setting.quick
    data, source = random_pixels(3072, (8, 1, 1)) if quick else cifar10(setting.data_dir)
    name, factor, batch = ("resnet8", 1 / 64, 4) if quick else ("resnet20", 1.0, ConvTrainConfig.batch_size)
    network, config = build(name, 10, width_factor=factor), ConvTrainConfig(epochs=2, batch_size=batch)
    images, labels = jnp.asarray(as_images(data.x_train)), jnp.asarray(data.y_train)
    steps = len(images) // batch
    learner = make_train(network, config, steps, IMAGE)
    advance, calls, key = jax.jit(learner.advance, donate_argnums=0), steps_a_call(steps), jax.random.key(0)

    def epoch(state: ConvState, number: int) -> tuple[ConvState, list[Any]]:
        order, records = epoch_order(key, number, len(images), batch), []
        for start in range(0, steps, calls):
            state, record = advance(state, key, jnp.asarray(order[start : start + calls]), images, labels)
            records.append(record)
        return jax.block_until_ready((state, records))

    took, losses, state = [], [], learner.init(key)
    for number in range(2):
        harness.say(f"{name}, epoch {number + 1} of 2, {source}")
        seconds, (state, records) = harness.timed(partial(epoch, state, number))
        took.append(seconds)
        losses.append(float(jnp.concatenate([record.loss for record in records]).mean()))
    flops = cost(network).training_flops(batch) * steps / took[1]
    return {
        "figures": [
            figure(f"s, an epoch of {name}", took[1]),
            figure("images/s", steps * batch / took[1]),
            figure("s, compiling", took[0] - took[1]),
            figure("share of the product rate", flops / ceilings(quick).float32_flops),
        ],
        "data": source,
        "network": name,
        "width_factor": factor,
        "batch_size": batch,
        "steps_an_epoch": steps,
        "mean_loss_of_epochs": losses,
    }
