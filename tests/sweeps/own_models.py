"""Models of one's own for tests: a residual MLP with dropout, a CNN with batch norm, a transformer; four libraries."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

BATCH = 32
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(3, 12))
Y = RNG.integers(0, 3, 400).astype(np.int32)
X = (CENTRES[Y] + RNG.normal(size=(400, 12))).astype(np.float32)
DATA = (X[:300], Y[:300], X[300:], Y[300:])
"""Twelve features, three classes; 240 examples train."""
IMAGES = tuple(a.reshape(-1, 4, 3, 1) if a.ndim > 1 else a for a in DATA)


class Residual(nn.Module):
    """Two blocks with a shortcut, and dropout."""

    width: int = 8
    rate: float = 0.25
    classes: int = 3

    @nn.compact
    def __call__(self, x, *, deterministic):
        h = nn.relu(nn.Dense(self.width)(x))
        for _ in range(2):
            h = h + nn.Dropout(self.rate, deterministic=deterministic)(nn.relu(nn.Dense(self.width)(h)))
        return nn.Dense(self.classes)(h)


class Conv(nn.Module):
    """A convolution, batch norm, and a code of every position."""

    channels: int = 4

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Conv(self.channels, (3, 3))(x)))
        return nn.Dense(3)(x.mean((1, 2)))


class Transformer(nn.Module):
    """Two layers of attention over four tokens of three numbers."""

    width: int = 8

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width)(x.reshape(len(x), 4, 3))
        for _ in range(2):
            h = h + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(h))
            h = h + nn.Dense(self.width)(nn.relu(nn.Dense(2 * self.width)(nn.LayerNorm()(h))))
        return nn.Dense(3)(h.mean(1))


class OfNnx(nnx.Module):
    """Batch norm and dropout, in NNX."""

    def __init__(self, width=8, *, rngs):
        self.first = nnx.Linear(12, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class OfEquinox(eqx.Module):
    """Dropout, in Equinox; of one example."""

    first: eqx.nn.Linear
    last: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, width=8, *, key):
        keys = jax.random.split(key)
        self.first = eqx.nn.Linear(12, width, key=keys[0])
        self.last = eqx.nn.Linear(width, 3, key=keys[1])
        self.dropout = eqx.nn.Dropout(0.2)

    def __call__(self, x, key=None):
        return self.last(self.dropout(jax.nn.relu(self.first(x)), key=key))


def of_haiku(width=8):
    """A pair init, apply(params, key, x)."""
    return hk.transform(lambda x: hk.Linear(3)(jax.nn.relu(hk.Linear(width)(x))))


def pair(width=8):
    """A pair of functions of one's own."""

    def init(key, x):
        return {
            "a": jax.random.normal(key, (x.shape[1], width)) / 4,
            "b": jax.random.normal(jax.random.fold_in(key, 1), (width, 3)) / 4,
        }

    return init, lambda params, x: jnp.maximum(x @ params["a"], 0) @ params["b"]


def without_units():
    """A pair without an activation."""
    return (lambda key, x: jnp.zeros((12, 3)) + 0.1), lambda params, x: x @ params


def momentum(learning_rate):
    """Not Adam: of a gradient that is 0 up to rounding it makes a full step, in any direction."""
    return optax.sgd(10 * learning_rate, momentum=0.9)
