"""Policy and value networks of the learners: an MLP that reads one-hot characters or character embeddings of a key.

The study (A. Museth, "Neural Hash Functions", CS285) lets a policy read the characters of a word and choose a bin:
one-hot positions and two hidden layers of 300 are its policy. Character embeddings stand in its future work.
A policy that sees the table too (`TablePolicy`) is not a function of the key alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxhash.hashing.keys.tokens import Tokens

Params = Any
"""The pytree of a network's parameters, as Flax makes it."""

BLOCK = 32
"""Bins whose probabilities `sample` sums up first; about the root of the usual number of bins is fastest."""


@dataclass(frozen=True)
class NetworkConfig:
    """What a network of a learner is, apart from what comes out of it."""

    hidden: tuple[int, ...] = (300, 300)
    """Units of each hidden layer; the study's policies have two of 300."""
    reader: Literal["one_hot", "embedding", "bits"] = "one_hot"
    """How characters enter: an input for each pair of position and character, a learned vector a character, or an input
    for each bit of the character, without an alphabet."""
    embedding: int = 16
    """Numbers in a character's vector; `embedding` only."""
    alphabet: tuple[int, ...] = tuple(range(256))
    """The bytes that have an input of their own (`alphabet_of`); all the others share one.

    Keys that differ in other bytes only are one and the same key to the network.
    """

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden={self.hidden} is not valid: give one or more layers of 1 or more units")
        if self.embedding < 1:
            raise ValueError(f"embedding={self.embedding} is less than 1; a character needs at least one number")
        if not self.alphabet or not set(self.alphabet) <= set(range(256)):
            raise ValueError(f"alphabet={self.alphabet} is not valid: give one or more bytes, each from 0 to 255")


def alphabet_of(tokens: Tokens) -> tuple[int, ...]:
    """The bytes that occur in keys, in order: the smallest alphabet that tells them all apart; on the host."""
    characters = np.asarray(tokens.characters)
    inside = np.arange(characters.shape[1]) < np.asarray(tokens.lengths)[:, None]
    return tuple(int(byte) for byte in np.unique(characters[inside])) or (0,)


class Functions(NamedTuple):
    """A network as two pure functions."""

    init: Callable[..., Params]
    """(key, tokens) -> parameters."""
    apply: Callable[..., Float[Array, "n outputs"]]
    """(parameters, tokens) -> logits or values, float32."""


def make_network(config: NetworkConfig, outputs: int) -> Functions:
    """The network that reads keys and gives so many numbers for each.

    Cost: 2 * parameters FLOPs a key forward, whichever the reader (the one-hot product is done as a product).
    """
    module = Network(READERS[config.reader](config), config.hidden, outputs)
    return Functions(module.init, module.apply)  # type: ignore[arg-type]


class Network(nn.Module):
    """A reader of keys, ReLU layers, and a linear output."""

    reader: nn.Module
    hidden: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, tokens: Tokens) -> Float[Array, "n outputs"]:
        """Logits or values of each key."""
        h = self.reader(tokens)
        for units in self.hidden:
            h = nn.relu(nn.Dense(units, kernel_init=nn.initializers.he_uniform())(h))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.glorot_uniform())(h)


class TablePolicy(nn.Module):
    """The study's MLP with a wider input; its first layer in two parts, so that a table changes it bin by bin."""

    config: NetworkConfig
    num_bins: int

    def setup(self) -> None:
        """Layers."""
        he = nn.initializers.he_uniform()
        first, *rest = self.config.hidden
        self.reader = READERS[self.config.reader](self.config)
        self.of_key = nn.Dense(first, kernel_init=he)
        self.of_table = self.param("of_table", he, (self.num_bins, first))
        self.hidden = [nn.Dense(units, kernel_init=he) for units in rest]
        self.output = nn.Dense(self.num_bins, kernel_init=nn.initializers.glorot_uniform())

    def __call__(self, tokens: Tokens, occupied: Bool[Array, "*episodes n bins"]) -> Float[Array, "*episodes n bins"]:
        """Logits of each key, each with the table it finds."""
        return self.choose(self.read(tokens) + occupied.astype(jnp.float32) @ self.of_table)

    def read(self, tokens: Tokens) -> Float[Array, "n units"]:
        """What the keys add to the first layer."""
        return self.of_key(self.reader(tokens))

    def choose(self, first: Float[Array, "*batch units"]) -> Float[Array, "*batch bins"]:
        """Logits, from the first layer's inputs."""
        h = nn.relu(first)
        for layer in self.hidden:
            h = nn.relu(layer(h))
        return self.output(h)


class OneHot(nn.Module):
    """One input for each position and letter: 1 where the key has that letter there."""

    config: NetworkConfig

    def __call__(self, tokens: Tokens) -> Float[Array, "n features"]:
        """Float32 [n, length * (alphabet + 1)]."""
        letters = _letters(self.config, tokens)
        # Letter 0 is "after the key's end" and has no input: a key of zero bytes and no key at all stay different.
        one_hot = jax.nn.one_hot(letters - 1, len(self.config.alphabet) + 1)
        return one_hot.reshape(letters.shape[0], -1)


class Embedding(nn.Module):
    """A learned vector for each letter, the same at every position; positions side by side."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, tokens: Tokens) -> Float[Array, "n features"]:
        """Float32 [n, length * embedding]; zeros after a key's end."""
        letters = _letters(self.config, tokens)
        vectors = nn.Embed(len(self.config.alphabet) + 1, self.config.embedding, name="characters")(
            jnp.maximum(letters - 1, 0)
        )
        return jnp.where(letters[..., None] > 0, vectors, 0.0).reshape(letters.shape[0], -1)


class Bits(nn.Module):
    """One input for each position and bit: -1 or 1, the lowest bit first; 0 after a key's end."""

    config: NetworkConfig

    def __call__(self, tokens: Tokens) -> Float[Array, "n features"]:
        """Float32 [n, length * 8]."""
        characters = jnp.asarray(tokens.characters)
        bits = (characters[:, :, None] >> jnp.arange(8, dtype=jnp.uint8)) & 1
        inside = jnp.arange(characters.shape[1]) < jnp.asarray(tokens.lengths)[:, None]
        signs = jnp.where(inside[:, :, None], bits.astype(jnp.float32) * 2 - 1, 0.0)
        return signs.reshape(characters.shape[0], -1)


READERS: dict[str, Callable[[NetworkConfig], nn.Module]] = {"one_hot": OneHot, "embedding": Embedding, "bits": Bits}


def take(tokens: Tokens, index: Int[Array, " some"]) -> Tokens:
    """Some of the keys."""
    return Tokens(jnp.asarray(tokens.characters)[index], jnp.asarray(tokens.lengths)[index])


def output_layer(params: Params) -> tuple[str, Params]:
    """The name of the last layer, and its parameters: kernel and bias."""
    name = max(params["params"], key=_number_of_layer)
    return name, params["params"][name]


def sample(key: Key[Array, ""], logits: Float[Array, "*batch bins"], draws: int) -> Int[Array, "draws *batch"]:
    """Bins drawn from softmax(logits), `draws` times, int32.

    By the inverse of the cumulative distribution: one random number a draw, where the Gumbel trick needs one a bin.
    """
    num_bins = logits.shape[-1]
    p = jax.nn.softmax(logits).reshape(-1, num_bins)
    u = jax.random.uniform(key, (draws, p.shape[0]))
    # First the block of bins, then the bin in it: two short sums instead of one over all bins.
    blocks = jnp.pad(p, ((0, 0), (0, -num_bins % BLOCK))).reshape(p.shape[0], -1, BLOCK)
    of_blocks = jnp.cumsum(blocks.sum(-1), axis=-1)
    # Scaled by the last sum, which rounding may leave a little off 1: no draw can fall behind the last bin.
    u = u * of_blocks[:, -1]
    block = jnp.minimum((of_blocks <= u[..., None]).sum(-1), of_blocks.shape[-1] - 1)
    row = jnp.arange(p.shape[0])
    before = jnp.where(block > 0, of_blocks[row, block - 1], 0.0)
    inside = jnp.cumsum(blocks[row, block], axis=-1)
    bins = block * BLOCK + jnp.minimum((inside <= (u - before)[..., None]).sum(-1), BLOCK - 1)
    return jnp.minimum(bins, num_bins - 1).reshape(draws, *logits.shape[:-1]).astype(jnp.int32)


def log_probability(
    logits: Float[Array, "*batch bins"], bins: Int[Array, "*draws_batch"]
) -> Float[Array, "*draws_batch"]:
    """log softmax(logits) at the chosen bins; leading axes of `bins` that `logits` lacks are draws."""
    log_p = jax.nn.log_softmax(logits)
    flat = log_p.reshape(-1, log_p.shape[-1])
    # One gather from the one table: a copy of it for each draw would cost draws * n * bins.
    return flat[jnp.arange(flat.shape[0]), bins.reshape(-1, flat.shape[0])].reshape(bins.shape)


def entropy(logits: Float[Array, "*batch bins"]) -> Float[Array, "*batch"]:
    """Entropy of softmax(logits) in nats."""
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_p) * log_p).sum(-1)


def _letters(config: NetworkConfig, tokens: Tokens) -> Int[Array, "n length"]:
    """0 after a key's end, 1 ... for the bytes of the alphabet, one more for every other byte."""
    letter = np.full(256, len(config.alphabet) + 1, np.int32)
    letter[list(config.alphabet)] = np.arange(1, len(config.alphabet) + 1)
    characters = jnp.asarray(tokens.characters)
    inside = jnp.arange(characters.shape[1]) < jnp.asarray(tokens.lengths)[:, None]
    return jnp.where(inside, jnp.asarray(letter)[characters], 0)


def _number_of_layer(name: str) -> int:
    kind, _, number = name.rpartition("_")
    return int(number) if kind == "Dense" else -1
