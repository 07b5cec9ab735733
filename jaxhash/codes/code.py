"""Neural code as packed bits: the type `Code`, packing and unpacking, and which bits belong to which layer.

A neural code is the on/off pattern of every ReLU on one input, layer by layer (arXiv 2101.05490, section 3): bit i is
1 where pre-activation i > 0. It is stored 32 bits to a uint32: bit i is bit i % 32 of word i // 32; unused bits are 0.
Files hold the same words (`jaxhash.codes.files`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

WORD = 32


class Layer(NamedTuple):
    """Which bits of a code come from one place of a network."""

    name: str
    start: int
    """Its first bit."""
    size: int
    """Its number of bits."""
    shape: tuple[int, ...]
    """Its bits are an array of this shape, in C order."""
    source: str = ""
    """The line of the model's code, as `file.py:12`, if known."""


class Skipped(NamedTuple):
    """An activation that gave no bits."""

    name: str
    reason: str


class Code(flax.struct.PyTreeNode):
    """The codes of n inputs (or of one, without the axis n): packed words, and how many of their bits count.

    >>> code = Code.of(jnp.array([[True, False, True], [False, False, False]]))
    >>> code.words, code.num_bits
    (Array([[5],
           [0]], dtype=uint32), 3)
    """

    words: UInt32[Array, "*n words"]
    num_bits: int = flax.struct.field(pytree_node=False)
    layers: tuple[Layer, ...] = flax.struct.field(pytree_node=False, default=())
    """Where the bits come from, if that was noted."""
    skipped: tuple[Skipped, ...] = flax.struct.field(pytree_node=False, default=())

    @classmethod
    def of(cls, bits: Bool[Array, "*n bits"] | Bool[np.ndarray, "*n bits"]) -> "Code":
        """The code of bits that are there as one bool each."""
        return cls(pack(jnp.asarray(bits)), bits.shape[-1])

    @property
    def n(self) -> int:
        """Number of codes.

        Raises:
            ValueError: if this is the code of one input, or an array of more axes.
        """
        if self.words.ndim != 2:
            raise ValueError(f"words of shape {self.words.shape} are no list of codes; give uint32 [n, words]")
        return self.words.shape[0]

    @property
    def num_words(self) -> int:
        """Words of a code."""
        return self.words.shape[-1]

    def unpack(self) -> Bool[Array, "*n bits"]:
        """One bool a bit."""
        return unpack(self.words, self.num_bits)

    def bits(self, start: int, stop: int) -> "Code":
        """The code of bits start ... stop - 1 alone; the layers within that range are kept.

        Raises:
            ValueError: if the code has no such bits.
        """
        check_range(start, stop, self.num_bits)
        return self.replace(
            words=bit_range(self.words, start, stop),
            num_bits=stop - start,
            layers=layers_within(self.layers, start, stop),
        )

    def layer(self, name: str) -> "Code":
        """The code of one layer.

        Raises:
            ValueError: if there is no such layer.
        """
        return self.bits(*range_of(self.layers, name))

    def up_to(self, name: str) -> "Code":
        """The code of the layers from the first to this one.

        Raises:
            ValueError: if there is no such layer.
        """
        return self.bits(0, range_of(self.layers, name)[1])

    def rows(self, which: slice | Int[np.ndarray, " rows"]) -> UInt32[np.ndarray, "rows words"]:
        """The words of some codes as a NumPy array; a slice of codes on the CPU is not copied."""
        return np.asarray(self.words)[which]


def active(pre_activation: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """The bit of a unit: its pre-activation is greater than 0. At 0, and where it is not a number, the bit is 0.

    >>> active(jnp.array([-1.0, 0.0, 2.0]))
    Array([False, False,  True], dtype=bool)
    """
    return pre_activation > 0


def pack(bits: Bool[Array, "*batch bits"]) -> UInt32[Array, "*batch words"]:
    """Bits -> ceil(bits / 32) words. Cost: reads each bit once.

    >>> pack(jnp.array([True, False, True]))
    Array([5], dtype=uint32)
    """
    num_words = -(-bits.shape[-1] // WORD)
    missing = num_words * WORD - bits.shape[-1]
    padded = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    columns = padded.reshape(*bits.shape[:-1], num_words, WORD).astype(jnp.uint32)
    return (columns << jnp.arange(WORD, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def unpack(words: UInt32[Array, "*batch words"], num_bits: int) -> Bool[Array, "*batch bits"]:
    """Words -> the first `num_bits` bits.

    Raises:
        ValueError: if the words do not hold so many bits.

    >>> unpack(jnp.array([5], jnp.uint32), 3)
    Array([ True, False,  True], dtype=bool)
    """
    if not 0 <= num_bits <= words.shape[-1] * WORD:
        raise ValueError(
            f"num_bits={num_bits} does not fit {words.shape[-1]} words, which hold {words.shape[-1] * WORD}"
        )
    columns = (words[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1
    return columns.reshape(*words.shape[:-1], -1)[..., :num_bits].astype(bool)


def bit_range(
    words: UInt32[Array, "*n words"] | UInt32[np.ndarray, "*n words"], start: int, stop: int
) -> UInt32[Array, "*n _"] | UInt32[np.ndarray, "*n _"]:
    """Bits start ... stop - 1 of packed words, packed anew: [..., ceil((stop - start) / 32)], unused bits 0.

    NumPy's words give NumPy's. Cost: reads each word of the range twice.
    """
    xp = np if isinstance(words, np.ndarray) else jnp
    count = -(-(stop - start) // WORD)
    first, shift = divmod(start, WORD)
    found = words[..., first : first + count] >> xp.uint32(shift)
    if shift:
        following = words[..., first + 1 : first + 1 + count]
        # The word after the last may not exist: zeros stand in for it.
        missing = [(0, 0)] * (words.ndim - 1) + [(0, count - following.shape[-1])]
        found = found | (xp.pad(following, missing) << xp.uint32(WORD - shift))
    if unused := count * WORD - (stop - start):
        keep = np.full(count, 0xFFFFFFFF, np.uint32)
        keep[-1] >>= np.uint32(unused)
        found = found & keep
    return found


def drop_constant(code: Code, mask: UInt32[np.ndarray, " words"] | UInt32[Array, " words"]) -> Code:
    """Codes with the bits outside the mask removed and the others moved together; on the host.

    Of layers that lose bits, and of no others, the shape is lost too.
    """
    keep = np.asarray(unpack(jnp.asarray(mask), code.num_bits))
    kept = np.flatnonzero(keep)
    before = np.concatenate([[0], np.cumsum(keep)])
    layers = []
    for layer in code.layers:
        start, stop = (int(before[bit]) for bit in (layer.start, layer.start + layer.size))
        shape = layer.shape if stop - start == layer.size else (stop - start,)
        layers.append(layer._replace(start=start, size=stop - start, shape=shape))
    return code.replace(words=pack(code.unpack()[:, kept]), num_bits=len(kept), layers=tuple(layers))


def range_of(layers: Sequence[Layer], name: str) -> tuple[int, int]:
    """The first bit of a layer, and the one after its last.

    Raises:
        ValueError: if there is no such layer.
    """
    for layer in layers:
        if layer.name == name:
            return layer.start, layer.start + layer.size
    raise ValueError(f"no layer {name!r}; the layers are {', '.join(layer.name for layer in layers) or 'not noted'}")


def layers_within(layers: Sequence[Layer], start: int, stop: int) -> tuple[Layer, ...]:
    """The layers whose bits are all within a range, counted from its start."""
    inside = (layer for layer in layers if start <= layer.start and layer.start + layer.size <= stop)
    return tuple(layer._replace(start=layer.start - start) for layer in inside)


def check_range(start: int, stop: int, num_bits: int) -> None:
    """Refuse a range of bits that a code does not have."""
    if not 0 <= start < stop <= num_bits:
        raise ValueError(f"bits {start} to {stop} are no range within the {num_bits} bits of the code")
