"""Neural codes of convolutional networks, streamed over the images and packed on the device layer by layer.

A VGG-16 has 277,504 ReLU units for one 32 x 32 image: a batch's activations exist while the batch is looked at, and
only packed words leave the device. What becomes a bit is a reduction's choice:

    every_position      every unit: pre-activation > 0
    channel_sums        a bit a channel: the sum of its ReLU's outputs over the map > 0, that is, the channel is active
                        anywhere; so the study's authors reduce their ImageNet networks (arXiv 2101.05490)
    sampled_positions   every channel at a few positions of the map, the same ones for all images
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, UInt32

from jaxhash.codes import files
from jaxhash.codes.code import active, pack
from jaxhash.codes.files import CodeFile, Layer
from jaxhash.models.convnets import ConvNet, Variables

Reduce = Callable[[str, Float[Array, "n ..."]], Bool[Array, "n bits"]]
"""(name of the layer, its pre-activations) -> the bits of each example."""
Report = Callable[[int], None]
"""Told how many images were encoded."""


def every_position(name: str, z: Float[Array, "n ..."]) -> Bool[Array, "n bits"]:
    """One bit a unit, along rows, then columns, then channels."""
    return active(z).reshape(z.shape[0], -1)


def channel_sums(name: str, z: Float[Array, "n ..."]) -> Bool[Array, "n bits"]:
    """One bit a channel (of a dense layer, a unit)."""
    # A sum of numbers that are not negative is positive where one of them is.
    return active(z).any(tuple(range(1, z.ndim - 1)))


def sampled_positions(count: int, seed: int) -> Reduce:
    """The reduction that keeps every channel at `count` positions of each map; of smaller maps and dense layers all.

    Raises:
        ValueError: if count is less than 1.
    """
    if count < 1:
        raise ValueError(f"count={count} positions are less than 1; give 1 or more")

    def reduce(name: str, z: Float[Array, "n ..."]) -> Bool[Array, "n bits"]:
        maps = z.reshape(z.shape[0], -1, z.shape[-1])
        positions = maps.shape[1]
        if positions > count:
            # By name, so that a layer's positions do not depend on the layers before it.
            random = np.random.default_rng((seed, zlib.crc32(name.encode())))
            maps = maps[:, np.sort(random.choice(positions, count, replace=False))]
        return active(maps).reshape(z.shape[0], -1)

    return reduce


class Encoded(NamedTuple):
    """What a network makes of a batch, in inference mode."""

    logits: Float[Array, "n classes"]
    words: UInt32[Array, "n words"]
    """The packed bits of each layer, each layer from a new word on."""


def make_encode(network: ConvNet, reduce: Reduce) -> Callable[[Variables, Array], Encoded]:
    """The pure function `encode(variables, images) -> Encoded`; images float32 [n, height, width, channels].

    Cost: one forward pass; memory: the pre-activations of the images, 4 bytes a ReLU unit each.
    """

    def encode(variables: Variables, images: Float[Array, "n height width channels"]) -> Encoded:
        result: Any = network.apply(variables, images)
        logits, pre_activations = result
        words = [pack(reduce(name, z)) for name, z in pre_activations.items()]
        return Encoded(logits, jnp.concatenate(words, axis=1))

    return encode


def layers_of(network: ConvNet, reduce: Reduce, variables: Variables, image: tuple[int, ...]) -> tuple[Layer, ...]:
    """The layers of a network's code for one image [height, width, channels]; nothing is computed."""

    def bits(variables: Variables, x: Array) -> dict[str, Array]:
        result: Any = network.apply(variables, x)
        return {name: reduce(name, z) for name, z in result[1].items()}

    found = jax.eval_shape(bits, variables, jax.ShapeDtypeStruct((1, *image), jnp.float32))
    return tuple(Layer(name, shape.shape[1]) for name, shape in found.items())


def write_codes(
    path: Path,
    network: ConvNet,
    variables: Variables,
    images: Float32[np.ndarray, "n height width channels"],
    reduce: Reduce = every_position,
    *,
    batch_size: int = 128,
    report: Report = lambda done: None,
) -> tuple[CodeFile, Float32[np.ndarray, "n classes"]]:
    """Encode images into a file of codes.

    Memory: the activations and words of one batch, and the logits.

    Args:
        path: of the .npy to be written (see `code_files`).
        batch_size: images at a time.
        report: called after every batch.

    Returns:
        The codes, and the logits.

    Raises:
        ValueError: if there are no images, or batch_size is less than 1.
        OSError: if the codes cannot be written.
    """
    n = len(images)
    if n < 1 or batch_size < 1:
        raise ValueError(f"{n} images in batches of {batch_size}: give at least 1 of both")
    encode = jax.jit(make_encode(network, reduce))
    logits = []
    with files.writing(path, n, layers_of(network, reduce, variables, images.shape[1:])) as append:
        for start in range(0, n, batch_size):
            some = images[start : start + batch_size]
            # The last batch is filled up, so that one program serves all.
            full = np.pad(some, [(0, batch_size - len(some)), (0, 0), (0, 0), (0, 0)])
            found = encode(variables, jnp.asarray(full))
            append(np.asarray(found.words)[: len(some)])
            logits.append(np.asarray(found.logits)[: len(some)])
            report(start + len(some))
    return files.load(path), np.concatenate(logits)
