"""Which bits of a neural code belong to which layer: the codes of a single layer and of the first k layers.

A code holds the bits of the first hidden layer, then those of the second, and so on (`codes`), so a layer is a range
of bits, and so are the first k layers. Both are cut out of the packed words; nothing is unpacked.
"""

import itertools

import jax.numpy as jnp
from jaxtyping import Array, UInt32

from jaxhash.codes.code import WORD, Code


def single_layer(code: Code, units: tuple[int, ...], layer: int) -> Code:
    """The bits of one layer alone.

    Args:
        code: codes of whole networks.
        units: hidden units of each layer, first layer first.
        layer: number of the layer, from 0.

    Raises:
        ValueError: if there is no such layer, or `units` are not those of the code.
    """
    ends = _ends(code, units)
    if not 0 <= layer < len(units):
        raise ValueError(f"layer={layer} is none of the {len(units)} hidden layers; give 0 to {len(units) - 1}")
    start, stop = ends[layer], ends[layer + 1]
    return Code(bit_range(code.words, start, stop), stop - start)


def first_layers(code: Code, units: tuple[int, ...], count: int) -> Code:
    """The bits of the first `count` layers; all of them give the code itself. Arguments as of `single_layer`.

    Raises:
        ValueError: if there are not that many layers, or `units` are not those of the code.
    """
    ends = _ends(code, units)
    if not 1 <= count <= len(units):
        raise ValueError(f"count={count} is none of 1 ... {len(units)}, the number of hidden layers")
    return Code(bit_range(code.words, 0, ends[count]), ends[count])


def bit_range(words: UInt32[Array, "n words"], start: int, stop: int) -> UInt32[Array, "n _"]:
    """Bits start ... stop - 1 of packed codes, packed anew: [n, ceil((stop - start) / 32)], unused bits 0.

    Cost: reads each word of the range twice.

    Raises:
        ValueError: if the words do not hold that range, or it is empty.
    """
    held = words.shape[-1] * WORD
    if not 0 <= start < stop <= held:
        raise ValueError(f"start={start}, stop={stop} is no range of bits within the {held} that the words hold")
    count = -(-(stop - start) // WORD)
    first, shift = divmod(start, WORD)
    low = words[:, first : first + count] >> shift
    if shift:
        # The word after the last may not exist: zeros stand in for it.
        high = jnp.pad(words[:, first + 1 : first + 1 + count], ((0, 0), (0, count)))[:, :count]
        low = low | (high << (WORD - shift))
    if unused := count * WORD - (stop - start):
        low = low.at[:, -1].set(low[:, -1] & jnp.uint32(0xFFFFFFFF >> unused))
    return low


def _ends(code: Code, units: tuple[int, ...]) -> list[int]:
    """Where each layer's bits end, after a 0."""
    if sum(units) != code.num_bits:
        raise ValueError(f"units={units} add up to {sum(units)}, but the codes have {code.num_bits} bits")
    return list(itertools.accumulate(units, initial=0))
