"""Population: many MLPs of different widths as one pytree, trained together.

The first hidden layers of all models of a block stand side by side as one wide layer, so that the costly product
(features x units) is a single matrix product without a padded row. What follows is small: it is laid out
`[models, units of the widest, ...]` and padded with zeros, which stay exactly zero throughout training because
no gradient reaches them.

Activations are units-major, `[..., units, n]`: the kernels are stored `[units, features]`, and the measured
products of that shape are the fastest on CPU (bench/README.md).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jaxhash.models.mlp import (
    NORM_EPSILON,
    NORM_MOMENTUM,
    ModelConfig,
    dropout_mask,
    glorot_limit,
    glorot_unit,
    kernel_keys,
)
from jaxhash.runtime.streams import Stream, stream_key

Variables = dict[str, Any]
"""The variables of one Flax model: {"params": ..., "batch_stats": ...}."""


@dataclass(frozen=True)
class Block:
    """The models that train side by side: their widths, and what they share."""

    widths: tuple[int, ...]
    """Total hidden units of each model."""
    model: ModelConfig
    features: int
    classes: int

    @property
    def units(self) -> tuple[int, ...]:
        """Units in a layer of each model."""
        return tuple(self.model.units(width) for width in self.widths)

    @property
    def widest(self) -> int:
        """Units in a layer of the widest model."""
        return max(self.units)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each model's rows begin in the concatenated first layer."""
        return tuple(sum(self.units[:m]) for m in range(len(self.units)))

    def flops_per_step(self, batch_size: int) -> int:
        """FLOPs of the matrix products of one training step of all models, padding not counted.

        Forward, kernel gradient, and (from the second layer on) input gradient: 2 FLOPs a multiply-add.
        """
        first, later = self._products
        return 2 * batch_size * (2 * first + 3 * later)

    def flops_forward(self, n: int) -> int:
        """FLOPs of the matrix products of a pass of n examples through all models, padding not counted."""
        return 2 * n * sum(self._products)

    @property
    def _products(self) -> tuple[int, int]:
        """Multiply-adds of one example in the first layer, and in all later ones."""
        later = sum(u * u * (self.model.depth - 1) + u * self.classes for u in self.units)
        return sum(u * self.features for u in self.units), later


class Params(NamedTuple):
    """Trainable arrays of a block, float32. `widest` is the number of units of the widest model."""

    first: Float[Array, "units features"]
    """First kernels, models one below the other, without padding."""
    hidden: tuple[Float[Array, "models widest widest"], ...]
    """Kernels of layers 2 ... depth, `[out, in]`."""
    scale: Float[Array, "depth models widest"] | None
    """Batch norm scale; None without batch norm."""
    offset: Float[Array, "depth models widest"]
    """Batch norm offset, or the layers' biases without batch norm."""
    output: Float[Array, "models classes widest"]
    output_bias: Float[Array, "models classes"]


class NormStats(NamedTuple):
    """Running statistics of batch norm, float32."""

    mean: Float[Array, "depth models widest"]
    variance: Float[Array, "depth models widest"]


class Forward(NamedTuple):
    """What a pass through a block gives."""

    logits: Float[Array, "models classes n"]
    pre_activations: tuple[Float[Array, "models widest n"], ...]
    """Inputs of the ReLUs, one array a layer; rows beyond a model's own units are padding."""
    stats: NormStats | None


def plan_blocks(
    widths: tuple[int, ...], model: ModelConfig, features: int, classes: int, *, units_per_block: int
) -> tuple[Block, ...]:
    """Cut a list of widths into blocks of similar widths, with at most `units_per_block` first-layer units each.

    A model wider than that gets a block of its own. Models of similar width stand together, so little is padded.

    Raises:
        ValueError: if a width stands twice, or is too small for the depth.
    """
    if len(set(widths)) != len(widths):
        twice = next(w for w in widths if widths.count(w) > 1)
        raise ValueError(f"width {twice} is given more than once; give every width once, and use repeats instead")
    groups: list[list[int]] = []
    total = 0
    for width in sorted(widths):
        units = model.units(width)
        if not groups or total + units > units_per_block:
            groups.append([])
            total = 0
        groups[-1].append(width)
        total += units
    return tuple(Block(tuple(group), model, features, classes) for group in groups)


def model_key(repeat_key: Key[Array, ""], width: int) -> Key[Array, ""]:
    """The initialisation key of one model: a function of the repeat and the width, not of its neighbours."""
    return stream_key(repeat_key, Stream.INIT, width)


def init_block(block: Block, repeat_key: Key[Array, ""]) -> tuple[Params, NormStats | None]:
    """Every model of the block as Flax initialises it alone from its own `model_key`, put side by side.

    The kernels of all models are drawn in one go: one random program a layer, not one a model and layer.
    """
    depth, models, widest = block.model.depth, len(block.widths), block.widest
    units = np.array(block.units)
    keys = jax.vmap(partial(kernel_keys, block.model))(
        jnp.stack([model_key(repeat_key, width) for width in block.widths])
    )

    owner = np.repeat(np.arange(models), units)
    own_unit = jnp.concatenate([jnp.arange(u) for u in units])
    limit = glorot_limit(np.array(block.features), units[owner])
    first = jax.vmap(partial(glorot_unit, fan_in=block.features))(keys[owner, 0], own_unit, limit)

    inside = jnp.arange(widest) < units[:, None]
    draw = jax.vmap(  # over models, and over the units of each
        jax.vmap(partial(glorot_unit, fan_in=widest), in_axes=(None, 0, None)), in_axes=(0, None, 0)
    )
    square = inside[:, :, None] & inside[:, None, :]
    hidden = tuple(
        jnp.where(square, draw(keys[:, layer], jnp.arange(widest), glorot_limit(units, units)), 0)
        for layer in range(1, depth)
    )
    output = draw(keys[:, depth], jnp.arange(block.classes), glorot_limit(units, block.classes))

    ones = jnp.broadcast_to(inside.astype(jnp.float32), (depth, models, widest))
    zeros = jnp.zeros_like(ones)
    norm = block.model.batch_norm
    params = Params(
        first=first,
        hidden=hidden,
        scale=ones if norm else None,
        offset=zeros,
        output=jnp.where(inside[:, None, :], output, 0),
        output_bias=jnp.zeros((models, block.classes)),
    )
    return params, NormStats(mean=zeros, variance=ones) if norm else None


def split(block: Block, params: Params, stats: NormStats | None) -> list[Variables]:
    """The arrays of a block -> Flax variables of each model, in the order of `block.widths`."""
    models = []
    for m, (units, start) in enumerate(zip(block.units, block.offsets, strict=True)):
        own: dict[str, dict[str, Array]] = {}
        running: dict[str, dict[str, Array]] = {}
        for layer in range(block.model.depth):
            rows = params.first[start : start + units] if layer == 0 else params.hidden[layer - 1][m, :units, :units]
            own[f"hidden_{layer}"] = {"kernel": rows.T}
            offset = params.offset[layer, m, :units]
            if params.scale is None or stats is None:
                own[f"hidden_{layer}"]["bias"] = offset
            else:
                own[f"norm_{layer}"] = {"scale": params.scale[layer, m, :units], "bias": offset}
                running[f"norm_{layer}"] = {
                    "mean": stats.mean[layer, m, :units],
                    "var": stats.variance[layer, m, :units],
                }
        own["output"] = {"kernel": params.output[m, :, :units].T, "bias": params.output_bias[m]}
        models.append({"params": own, "batch_stats": running} if running else {"params": own})
    return models


def forward(
    block: Block,
    params: Params,
    stats: NormStats | None,
    x: Float[Array, "n features"],
    *,
    train: bool,
    dropout_key: Key[Array, ""] | None = None,
    dropout: Float[Array, ""] | float | None = None,
) -> Forward:
    """All models of a block on the same inputs: what `MLP.__call__` gives for each of them alone.

    Args:
        train: use the statistics of this batch, update the running ones, and drop units out.
        dropout_key: the key of a step, which is folded with the width of each model for its dropout masks.
        dropout: the probability with which a unit is left out; that of the block's model by default.
    """
    dropout = block.model.dropout if dropout is None else dropout
    drops_out = not isinstance(dropout, float | int) or dropout > 0
    # The signs of what a trained model computes are its code: on GPUs and TPUs the default would round to TF32 or BF16.
    precision = None if train else jax.lax.Precision.HIGHEST
    pre_activations = []
    means, variances = [], []
    h = x
    for layer in range(block.model.depth):
        if layer == 0:
            z = _side_by_side(
                block, jax.lax.dot_general(params.first, x, (((1,), (1,)), ((), ())), precision=precision)
            )
        else:
            z = jnp.einsum("moi,min->mon", params.hidden[layer - 1], h, precision=precision)
        if params.scale is None or stats is None:
            z = z + params.offset[layer][..., None]
        else:
            if train:
                mean = z.mean(-1)
                centred = z - mean[..., None]
                variance = jnp.square(centred).mean(-1)
                means.append(NORM_MOMENTUM * stats.mean[layer] + (1 - NORM_MOMENTUM) * mean)
                variances.append(NORM_MOMENTUM * stats.variance[layer] + (1 - NORM_MOMENTUM) * variance)
            else:
                centred = z - stats.mean[layer][..., None]
                variance = stats.variance[layer]
            slope = params.scale[layer] * jax.lax.rsqrt(variance + NORM_EPSILON)
            z = centred * slope[..., None] + params.offset[layer][..., None]
        pre_activations.append(z)
        h = jax.nn.relu(z)
        if train and drops_out and dropout_key is not None:
            h = h * _dropout_masks(block, dropout_key, layer, x.shape[0], dropout)
    logits = jnp.einsum("mcu,mun->mcn", params.output, h, precision=precision) + params.output_bias[..., None]
    if train and stats is not None:
        stats = NormStats(jnp.stack(means), jnp.stack(variances))
    return Forward(logits, tuple(pre_activations), stats)


def rows_of_models(block: Block, per_model: Bool[Array, " models"]) -> Bool[Array, " units"]:
    """A flag for each model -> a flag for each row of the concatenated first layer."""
    return jnp.repeat(per_model, jnp.array(block.units), total_repeat_length=sum(block.units))


def _side_by_side(block: Block, z: Float[Array, "units n"]) -> Float[Array, "models widest n"]:
    """Concatenated rows -> one padded slab a model. One split and one concatenation, and so is its gradient."""
    slabs = []
    for rows in jax.lax.split(z, block.units):
        slabs.append(rows)
        if rows.shape[0] < block.widest:
            slabs.append(jnp.zeros((block.widest - rows.shape[0], z.shape[1])))
    return jnp.concatenate(slabs).reshape(len(block.units), block.widest, z.shape[1])


def _dropout_masks(
    block: Block, key: Key[Array, ""], layer: int, n: int, rate: Float[Array, ""] | float
) -> Float[Array, "models widest n"]:
    return jnp.stack(
        [
            jnp.pad(
                dropout_mask(jax.random.fold_in(key, width), layer, units, n, rate),
                ((0, block.widest - units), (0, 0)),
            )
            for width, units in zip(block.widths, block.units, strict=True)
        ]
    )
