"""Multilayer perceptrons (MLP) of the study as Flax Linen modules that return logits and every pre-activation."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

# Keras' BatchNormalization defaults, which the study's authors leave as they are (STUDY.md, section 1).
NORM_MOMENTUM = 0.99
NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class ModelConfig:
    """What a network is, apart from its width."""

    depth: int = 1
    """Number of hidden layers. A model's width is its total number of hidden units, width // depth a layer."""
    batch_norm: bool = True
    """Normalise every hidden layer over the batch, before its ReLU."""
    dropout: float = 0.0
    """Probability with which a hidden unit is left out of a training step, 0 <= dropout < 1."""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth={self.depth} is less than 1; a network needs at least one hidden layer")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is outside [0, 1); 0 switches dropout off")

    def units(self, width: int) -> int:
        """Hidden units in each layer of a model of total width `width`.

        Raises:
            ValueError: if that leaves a layer without a unit.
        """
        if width < self.depth:
            raise ValueError(
                f"width={width} leaves no unit for each of {self.depth} hidden layers; "
                f"width is the total number of hidden units, give at least {self.depth}"
            )
        return width // self.depth


def glorot_limit(fan_in: np.ndarray | int, fan_out: np.ndarray | int) -> np.ndarray | np.float32:
    """Kernels are uniform in [-limit, limit]: sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    return np.sqrt(6 / np.add(fan_in, fan_out)).astype(np.float32)


def glorot_unit(
    key: Array, unit: Array | int, limit: Array | np.ndarray | np.float32, fan_in: int
) -> Float[Array, " fan_in"]:
    """The incoming kernel of one unit, drawn from the kernel's key folded with the unit's index.

    Unit by unit, so that a unit's draw does not depend on how many others the layer has, and the kernels of a
    whole population can be drawn by one program (`population.init_block`).
    """
    draw = jax.random.uniform(jax.random.fold_in(key, unit), (fan_in,), minval=-1.0, maxval=1.0)
    return jnp.asarray(limit) * draw


def glorot_uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Glorot-uniform kernel `[fan_in, fan_out]`, float32; a Flax initialiser."""
    fan_in, fan_out = shape
    draw = jax.vmap(glorot_unit, in_axes=(None, 0, None, None), out_axes=1)
    return draw(key, jnp.arange(fan_out), glorot_limit(fan_in, fan_out), fan_in).astype(dtype)


class MLP(nn.Module):
    """Dense -> batch norm -> ReLU -> dropout for each hidden layer, then Dense logits.

    Kernels are Glorot-uniform, biases zero (STUDY.md, section 1). With batch norm a hidden layer has no bias of
    its own: the normalisation subtracts it again, and only rounding noise would ever move it.

    Cost: 2 * parameters FLOPs an example forward.
    """

    units: tuple[int, ...]
    classes: int
    batch_norm: bool = True
    dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = glorot_uniform

    @nn.compact
    def __call__(
        self, x: Float[Array, "n features"], *, train: bool = False, dropout_key: Key[Array, ""] | None = None
    ) -> tuple[Float[Array, "n classes"], tuple[Float[Array, "n _"], ...]]:
        """Logits, and the pre-activation (input of the ReLU) of each hidden layer, first layer first.

        Args:
            x: inputs, float32.
            train: normalise with the statistics of this batch, and drop units out.
            dropout_key: needed when `train` and `dropout > 0`.
        """
        pre_activations = []
        h = x
        for layer, units in enumerate(self.units):
            z = nn.Dense(units, use_bias=not self.batch_norm, kernel_init=self.kernel_init, name=f"hidden_{layer}")(h)
            if self.batch_norm:
                z = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=NORM_MOMENTUM,
                    epsilon=NORM_EPSILON,
                    use_fast_variance=False,
                    name=f"norm_{layer}",
                )(z)
            pre_activations.append(z)
            h = nn.relu(z)
            if train and self.dropout > 0:
                if dropout_key is None:
                    raise ValueError("dropout in training needs a dropout_key")
                h = h * dropout_mask(dropout_key, layer, units, x.shape[0], self.dropout).T
        logits = nn.Dense(self.classes, kernel_init=self.kernel_init, name="output")(h)
        return logits, tuple(pre_activations)


def kernel_keys(config: ModelConfig, key: Key[Array, ""]) -> Key[Array, " kernels"]:
    """The keys from which `MLP.init(key, ...)` draws its kernels: hidden layers first, the output last."""
    keys = []

    def note_key(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        keys.append(key)
        return jnp.zeros(shape, dtype)

    # Flax derives them from the names of the layers alone, so a network of one unit a layer has the same keys.
    MLP((1,) * config.depth, 1, config.batch_norm, config.dropout, note_key).init(key, jnp.zeros((1, 1)))
    return jnp.stack(keys)


def dropout_mask(
    key: Key[Array, ""], layer: int, units: int, n: int, rate: Float[Array, ""] | float
) -> Float[Array, "units n"]:
    """0 where a unit is dropped, 1 / (1 - rate) where it stays; the same for a model alone or in a population."""
    keep = jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, (units, n))
    return keep / (1.0 - rate)


def build(config: ModelConfig, width: int, classes: int) -> MLP:
    """The Flax module of one model of total width `width`.

    Raises:
        ValueError: if the width leaves a layer without a unit.
    """
    return MLP(
        units=(config.units(width),) * config.depth,
        classes=classes,
        batch_norm=config.batch_norm,
        dropout=config.dropout,
    )
