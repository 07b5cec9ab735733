"""Neural codes as packed words: packing, exact number of distinct codes, Hamming distance, constant bits.

A neural code is the on/off pattern of every ReLU on one input, layer by layer (arXiv 2101.05490, section 3): bit i is
1 where pre-activation i > 0. It is stored 32 bits to a uint32: bit i is bit i % 32 of word i // 32; unused bits are 0.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

WORD = 32


class Layer(NamedTuple):
    """Which bits of a code come from one place of a network."""

    name: str
    start: int
    """Its first bit."""
    num_bits: int
    shape: tuple[int, ...]
    """Its bits are an array of this shape, in C order."""
    source: str = ""
    """The line of the model's code, as `file.py:12`, if known."""


class Skipped(NamedTuple):
    """An activation that gave no bits."""

    name: str
    reason: str


class Code(flax.struct.PyTreeNode):
    """The codes of n inputs (or of one, without the axis n): packed words, and how many of their bits count."""

    words: UInt32[Array, "*n words"]
    num_bits: int = flax.struct.field(pytree_node=False)
    layers: tuple[Layer, ...] = flax.struct.field(pytree_node=False, default=())
    """Where the bits come from, if that was noted."""
    skipped: tuple[Skipped, ...] = flax.struct.field(pytree_node=False, default=())

    def unpack(self) -> Bool[Array, "*n bits"]:
        """One bool a bit."""
        return unpack(self.words, self.num_bits)


def active(pre_activation: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """The bit of a unit: its pre-activation is greater than 0. At 0, and where it is not a number, the bit is 0."""
    return pre_activation > 0


def pack(bits: Bool[Array, "*batch bits"]) -> UInt32[Array, "*batch words"]:
    """Bits -> ceil(bits / 32) words. Cost: reads each bit once."""
    num_words = -(-bits.shape[-1] // WORD)
    missing = num_words * WORD - bits.shape[-1]
    padded = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    lanes = padded.reshape(*bits.shape[:-1], num_words, WORD).astype(jnp.uint32)
    return (lanes << jnp.arange(WORD, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def unpack(words: UInt32[Array, "*batch words"], num_bits: int) -> Bool[Array, "*batch bits"]:
    """Words -> the first `num_bits` bits.

    Raises:
        ValueError: if the words do not hold so many bits.
    """
    if not 0 <= num_bits <= words.shape[-1] * WORD:
        raise ValueError(
            f"num_bits={num_bits} does not fit {words.shape[-1]} words, which hold {words.shape[-1] * WORD}"
        )
    lanes = (words[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1
    return lanes.reshape(*words.shape[:-1], -1)[..., :num_bits].astype(bool)


def fingerprint(words: UInt32[Array, "n words"], seed: UInt32[Array, ""] | int) -> UInt32[Array, "n 2"]:
    """64 bits of each code that equal codes share, and different codes share with probability about 2^-64.

    Each word is mixed in by MurmurHash3's finaliser (Appleby, public domain), in two lanes of different seed.
    """
    start = jnp.asarray(seed, jnp.uint32) * jnp.uint32(0x9E3779B9)
    states = [jnp.broadcast_to(_mix(start + jnp.uint32(lane)), words.shape[:1]) for lane in (0x243F6A88, 0x85A308D3)]
    # Lane by lane: elementwise over the codes, XLA's CPU backend is several times as fast as over [n, 2].
    for i in range(words.shape[1]):
        states = [_mix((state ^ words[:, i]) * jnp.uint32(5) + jnp.uint32(0xE6546B64 + i)) for state in states]
    return jnp.stack(states, axis=1)


@jax.jit
def num_distinct(words: UInt32[Array, "n words"]) -> Int[Array, ""]:
    """Number of different codes, exactly, int32.

    Codes are sorted by fingerprint; neighbours are then compared in full. If two neighbours share a fingerprint but
    not the code, the fingerprints cannot be trusted to bring equal codes together, and another seed is tried.

    Cost: one sort of n triples of 32-bit numbers, and two passes over the words.
    """
    n = words.shape[0]
    if n == 0:
        return jnp.zeros((), jnp.int32)

    def attempt(seed: Array) -> tuple[Array, Array]:
        prints = fingerprint(words, seed)
        first, second, order = jax.lax.sort((prints[:, 0], prints[:, 1], jnp.arange(n)), num_keys=2)
        ordered = words[order]
        same_code = (ordered[1:] == ordered[:-1]).all(1)
        same_print = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
        return n - same_code.sum(dtype=jnp.int32), (same_print & ~same_code).any()

    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        seed = carry[0] + 1
        return seed, *attempt(seed)

    seed = jnp.zeros((), jnp.uint32)
    _, count, _ = jax.lax.while_loop(lambda carry: carry[2], again, (seed, *attempt(seed)))
    return count


@jax.jit
def first_repeated(words: UInt32[Array, "n words"], count: Int[Array, ""] | int) -> UInt32[Array, "n words"]:
    """Codes with all but the first `count` replaced by the first: of one shape for every count.

    There are as many distinct codes and varying bits among all n as among the first `count`.
    """
    return jnp.where(jnp.arange(words.shape[0])[:, None] < count, words, words[0])


def redundancy_ratio(words: UInt32[Array, "n words"], count: int | None = None) -> float:
    """(n - number of distinct codes) / n; 0 when every example has a code of its own (perfect determinism).

    Args:
        words: packed codes.
        count: n, where the codes beyond the first n only repeat others, as `first_repeated` makes them.

    Raises:
        ValueError: if there are no codes.
    """
    n = words.shape[0] if count is None else count
    if n == 0:
        raise ValueError("no codes; the redundancy ratio needs at least 1")
    # Divided on the host: compiled float32 division may be off by one in the last place.
    return (n - int(num_distinct(words))) / n


def hamming(a: UInt32[Array, "n words"], b: UInt32[Array, "m words"]) -> Int[Array, "n m"]:
    """Number of bits in which codes differ, every a against every b, int32. Memory: n * m words."""
    return jax.lax.population_count(a[:, None] ^ b[None]).sum(-1, dtype=jnp.int32)


def varying_bits(*words: UInt32[Array, "_ words"]) -> UInt32[Array, " words"]:
    """A mask of the bits that are not the same in all codes of all the arrays together."""
    every = [jax.lax.reduce(w, jnp.uint32(0xFFFFFFFF), jax.lax.bitwise_and, (0,)) for w in words]
    some = [jax.lax.reduce(w, jnp.uint32(0), jax.lax.bitwise_or, (0,)) for w in words]
    mask_every, mask_some = every[0], some[0]
    for e, s in zip(every[1:], some[1:], strict=True):
        mask_every, mask_some = mask_every & e, mask_some | s
    return mask_some & ~mask_every


def keep_bits(words: UInt32[Array, "n words"], mask: UInt32[Array, " words"]) -> UInt32[Array, "n words"]:
    """Codes with every bit outside the mask set to 0.

    For Hamming distance, K-Means and logistic regression that is the same as dropping those bits, and the shape
    stays what it was.
    """
    return words & mask


def drop_constant(code: Code, mask: UInt32[np.ndarray, " words"] | UInt32[Array, " words"]) -> Code:
    """Codes with the bits outside the mask removed and the others moved together; on the host.

    Of layers that lose bits, and of no others, the shape is lost too.
    """
    keep = np.asarray(unpack(jnp.asarray(mask), code.num_bits))
    kept = np.flatnonzero(keep)
    before = np.concatenate([[0], np.cumsum(keep)])
    layers = []
    for layer in code.layers:
        start, stop = (int(before[bit]) for bit in (layer.start, layer.start + layer.num_bits))
        shape = layer.shape if stop - start == layer.num_bits else (stop - start,)
        layers.append(layer._replace(start=start, num_bits=stop - start, shape=shape))
    return code.replace(words=pack(code.unpack()[:, kept]), num_bits=len(kept), layers=tuple(layers))


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
