"""Reductions: fewer bits than units, such as one a channel, or a random sample of the units.

A reduction takes the pre-activations of one unit, float [n, *shape], and returns bool [n, *bits]. `codes.active`,
a bit per unit, is one; the others are made here. A map is an array of positions and channels, such as [height, width,
channels]; its channels are the last axis (Flax, Haiku), or the first, `channel_axis=0` (Equinox).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Shaped

from jaxhash.codes.code import active

Reduction = Callable[[Float[Array, "n *shape"]], Bool[Array, "n *bits"]]


def any_position(channel_axis: int = -1) -> Reduction:
    """A bit per channel: it is active at one position or more. What is no map keeps a bit per unit."""
    return lambda x: _positions_last(active(x), channel_axis).any(-1)


def all_positions(channel_axis: int = -1) -> Reduction:
    """A bit per channel: it is active at all positions."""
    return lambda x: _positions_last(active(x), channel_axis).all(-1)


def centre_position(channel_axis: int = -1) -> Reduction:
    """A bit per channel: it is active at the position in the middle (of an even number, the one after it)."""

    def reduce(x: Float[Array, "n *shape"]) -> Bool[Array, "n *bits"]:
        channels_last = jnp.moveaxis(x, _channels(x, channel_axis), -1)
        middle = tuple(size // 2 for size in channels_last.shape[1:-1])
        return active(channels_last[(slice(None), *middle)])

    return reduce


def channel_sum(channel_axis: int = -1) -> Reduction:
    """A bit per channel: the sum of its pre-activations over all positions is greater than 0.

    The sum of the outputs of a ReLU, by which the study's authors code ImageNet networks, is greater than 0 where one
    of them is: that is `any_position`.
    """
    return lambda x: active(_positions_last(x, channel_axis).sum(-1))


def sample(num_bits: int, key: Key[Array, ""]) -> Reduction:
    """Some units, drawn without replacement, the same for all examples, in their order in the layer.

    Raises:
        ValueError: when it is applied, if the layer has fewer units.
    """
    if num_bits < 1:
        raise ValueError(f"num_bits={num_bits} is not valid: num_bits must be 1 or more")

    def reduce(x: Float[Array, "n *shape"]) -> Bool[Array, "n bits"]:
        units = x.reshape(x.shape[0], int(np.prod(x.shape[1:], dtype=np.int64)))
        if num_bits > units.shape[1]:
            raise ValueError(
                f"num_bits={num_bits} is more than the {units.shape[1]} units of the layer; give at most so many"
            )
        chosen = jnp.sort(jax.random.choice(key, units.shape[1], (num_bits,), replace=False))
        return active(units[:, chosen])

    return reduce


def sampled_positions(count: int, key: Key[Array, ""], channel_axis: int = -1) -> Reduction:
    """A bit per channel and position, at `count` positions drawn without replacement, the same for all examples and
    all layers of equal size; what is no map, or has no more positions, keeps a bit per unit.

    Raises:
        ValueError: if count is less than 1.
    """
    if count < 1:
        raise ValueError(f"count={count} positions are less than 1; give 1 or more")

    def reduce(x: Float[Array, "n *shape"]) -> Bool[Array, "n *bits"]:
        maps = _positions_last(x, channel_axis)
        if maps.shape[2] > count:
            maps = maps[..., jnp.sort(jax.random.choice(key, maps.shape[2], (count,), replace=False))]
        return active(maps)

    return reduce


def _channels(x: Array, channel_axis: int) -> int:
    """The axis of x, whose axis 0 numbers examples, that numbers channels."""
    return channel_axis % (x.ndim - 1) + 1


def _positions_last(x: Shaped[Array, "n *shape"], channel_axis: int) -> Shaped[Array, "n channels positions"]:
    channels_first = jnp.moveaxis(x, _channels(x, channel_axis), 1)
    positions = int(np.prod(channels_first.shape[2:], dtype=np.int64))
    return channels_first.reshape(*channels_first.shape[:2], positions)
