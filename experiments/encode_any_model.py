"""The neural code of a model that knows nothing of jaxhash: a residual network on the digits, layer by layer.

A plain JAX function with a scan over its blocks is trained with Optax. `jaxhash.encode` then gives its codes, with no
change to it: for each layer how redundant they are, and how well 9-NN by Hamming distance classifies by them alone.

    python -m experiments.encode_any_model                        # some ten seconds on 2 cores
    python -m experiments.encode_any_model --width 8 --blocks 6
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

import jaxhash
from jaxhash.codes import Code, knn, redundancy
from jaxhash.data import catalogue
from jaxhash.terminal.command import command

Params = dict[str, Array]


@dataclass(frozen=True)
class Config:
    """Codes of a residual network trained on the digits."""

    width: int = 16
    """Units of the first layer and of each block."""
    blocks: int = 4
    """Residual blocks."""
    steps: int = 500
    """Optimiser steps: Adam, learning rate 0.01, all training examples at once."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not valid: {name} must be 1 or more")


def init(config: Config, features: int, classes: int) -> Params:
    """He-normal weights."""
    stem, blocks, head = jax.random.split(jax.random.key(config.seed), 3)
    he = jax.nn.initializers.he_normal()
    shape = (config.width, config.width)
    return {
        "stem": he(stem, (features, config.width)),
        "blocks": jax.vmap(lambda key: he(key, shape))(jax.random.split(blocks, config.blocks)),
        "head": he(head, (config.width, classes)),
    }


def model(params: Params, x: Float[Array, "n features"]) -> Float[Array, "n classes"]:
    """Logits. There is nothing here for `encode` to find but the ReLUs themselves."""
    with jax.named_scope("stem"):
        h = jax.nn.relu(x @ params["stem"])
    with jax.named_scope("blocks"):
        h, _ = jax.lax.scan(lambda h, w: (h + jax.nn.relu(h @ w), None), h, params["blocks"])
    return h @ params["head"]


def train(config: Config, params: Params, x: Array, y: Array) -> Params:
    """The trained model, in one compiled loop."""
    adam = optax.adam(0.01)

    def loss(params: Params) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(params, x), y).mean()

    def step(state: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], None]:
        params, moments = state
        updates, moments = adam.update(jax.grad(loss)(params), moments)
        return (optax.apply_updates(params, updates), moments), None

    return jax.jit(lambda state: jax.lax.scan(step, state, length=config.steps)[0][0])((params, adam.init(params)))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


def body(config: Config) -> None:
    """Train, encode, measure each layer."""
    console = Console()
    digits = catalogue.load("digits")
    params = init(config, digits.x_train.shape[1], digits.num_classes)
    params = train(config, params, jnp.asarray(digits.x_train), jnp.asarray(digits.y_train))

    encode = jax.jit(jaxhash.encode(model))
    codes: tuple[Code, Code] = (encode(params, digits.x_train), encode(params, digits.x_test))
    ranges = [("all layers", 0, codes[0].num_bits)]
    for layer in codes[0].layers:  # the scan's is an array [blocks, width]: a layer for each block
        count = layer.shape[0] if len(layer.shape) > 1 else 1
        size = layer.size // count
        names = [layer.name] if count == 1 else [f"{layer.name}, block {i}" for i in range(count)]
        ranges += [(name, layer.start + i * size, layer.start + (i + 1) * size) for i, name in enumerate(names)]

    table = Table(title="codes of the test examples")
    for column in ("layer", "bits", "redundancy", "9-NN accuracy"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for name, start, stop in ranges:
        some_train, some_test = (code.bits(start, stop) for code in codes)
        predicted = knn(some_train, digits.y_train, some_test, k=9, num_classes=digits.num_classes)
        accuracy = np.mean(np.asarray(predicted) == digits.y_test)
        table.add_row(name, str(stop - start), f"{redundancy(some_test):.3f}", f"{accuracy:.3f}")
    logits = model(params, jnp.asarray(digits.x_test))
    console.print(table)
    console.print(f"Accuracy of the network itself: {np.mean(np.asarray(logits.argmax(1)) == digits.y_test):.3f}")
    for name, reason in codes[0].skipped:
        console.print(f"Skipped: {name}: {reason}")


if __name__ == "__main__":
    main()
