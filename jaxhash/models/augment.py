"""Random rotations, shifts and flips of images on the device, as Keras' `ImageDataGenerator` makes them.

The study's authors train their convolutional networks on them (arXiv 2101.05490): rotation up to 15 degrees, shifts up
to 10 % of height and width, left-right flips; pixels from outside are the nearest ones of the border.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float, Key


@dataclass(frozen=True)
class AugmentConfig:
    """How far images are moved; the defaults are the study's. 0 switches a movement off."""

    rotation: float = 15.0
    """Largest angle either way, in degrees."""
    shift: float = 0.1
    """Largest shift either way, as a fraction of height and of width."""
    flip: bool = True
    """Mirror every second image, on average, left to right."""

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation={self.rotation} is outside [0, 180] degrees; 0 switches rotation off")
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift={self.shift} is outside [0, 1]; it is a fraction of height and width")


class Movement(NamedTuple):
    """What is done to each of n images, in this order: rotated and shifted in one interpolation, then mirrored."""

    angle: Float[Array, " n"]
    """Radians."""
    rows: Float[Array, " n"]
    """Pixels."""
    columns: Float[Array, " n"]
    """Pixels."""
    mirrored: Bool[Array, " n"]


def draw(config: AugmentConfig, key: Key[Array, ""], n: int, height: int, width: int) -> Movement:
    """Movements of n images: angle and shifts uniform over their ranges, mirrored with probability 1/2."""
    angle_key, row_key, column_key, mirror_key = jax.random.split(key, 4)

    def uniform(key: Array, limit: float) -> Array:
        return jax.random.uniform(key, (n,), minval=-limit, maxval=limit)

    return Movement(
        angle=uniform(angle_key, float(np.deg2rad(config.rotation))),
        rows=uniform(row_key, config.shift * height),
        columns=uniform(column_key, config.shift * width),
        mirrored=jax.random.bernoulli(mirror_key, 0.5, (n,)) & config.flip,
    )


def move(
    images: Float[Array, "n height width channels"], movement: Movement
) -> Float[Array, "n height width channels"]:
    """Images moved, interpolated linearly, the nearest border pixel where there is none.

    The pixel at offset p from the centre is read at offset R (p + shift) from the centre, R the rotation by the angle.

    Cost: 4 reads a pixel and channel.
    """
    height, width = images.shape[1:3]
    # The centre of the pixels 0 ... height - 1. Keras before 2.9 took height / 2 + 0.5, one pixel off.
    middle = (height - 1) / 2, (width - 1) / 2
    row, column = jnp.mgrid[:height, :width].astype(jnp.float32)

    def one(image: Array, angle: Array, rows: Array, columns: Array) -> Array:
        y, x = row - middle[0] + rows, column - middle[1] + columns
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        source = [cos * y - sin * x + middle[0], sin * y + cos * x + middle[1]]

        def channel(pixels: Array) -> Array:
            return map_coordinates(pixels, source, order=1, mode="nearest")

        return jax.vmap(channel, in_axes=2, out_axes=2)(image)

    moved = jax.vmap(one)(images, movement.angle, movement.rows, movement.columns)
    return jnp.where(movement.mirrored[:, None, None, None], moved[:, :, ::-1], moved)


def augment(
    config: AugmentConfig, key: Key[Array, ""], images: Float[Array, "n height width channels"]
) -> Float[Array, "n height width channels"]:
    """Each image moved by a movement of its own."""
    n, height, width, _ = images.shape
    return move(images, draw(config, key, n, height, width))
