"""Fingerprint of a key: 64 bits, in 32-bit integer arithmetic that is the same on every device.

A key is read as little-endian 32-bit characters w_0, w_1, ..., zero-padded. Each of its two halves is

    mix(sum_i mix(w_i * a_i) ^ mix(length + b)),   sums and products modulo 2^32,

where the odd multipliers a_i and the offset b are drawn from the seed. As mix(0) = 0, padding adds nothing: the
fingerprint does not depend on how wide the array is that a key stands in. Two keys that differ in one w_i, or only in
length, always differ; any others share a fingerprint with probability about 2^-64, which `separation.py` finds.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32, UInt64

from jaxhash.hashing.keys.tokens import Tokens

BYTES_PER_WORD = 4
# Fractional bits of the golden ratio and of pi: nothing up the sleeve.
_GOLDEN = 0x9E3779B9
_HALVES = (0x243F6A88, 0x85A308D3)


def fingerprint(tokens: Tokens, seed: UInt32[Array, ""]) -> UInt32[Array, "n 2"]:
    """64 bits of each key, in two words. Cost: 2 mixes for every 4 characters.

    Args:
        tokens: n keys; on a device or not. Characters after a key's end are not read.
        seed: another seed is another function.
    """
    characters = jnp.asarray(tokens.characters)
    num_words = -(-characters.shape[1] // BYTES_PER_WORD)
    padded = jnp.pad(characters, [(0, 0), (0, num_words * BYTES_PER_WORD - characters.shape[1])])
    # As fast as a bitcast, and unlike it, StableHLO refines it where the shape is left open (`export.py`).
    octets = padded.reshape(-1, num_words, BYTES_PER_WORD).astype(jnp.uint32)
    words = octets[..., 0] | octets[..., 1] << 8 | octets[..., 2] << 16 | octets[..., 3] << 24
    lengths = jnp.asarray(tokens.lengths).astype(jnp.uint32)
    left = lengths.astype(jnp.int32)[:, None] - BYTES_PER_WORD * jnp.arange(num_words, dtype=jnp.int32)
    # 0 to 4 characters of each word are the key's; a shift by 32 bits would be undefined, hence two by half.
    unread = 4 * (BYTES_PER_WORD - jnp.clip(left, 0, BYTES_PER_WORD)).astype(jnp.uint32)
    words = words & (jnp.uint32(0xFFFFFFFF) >> unread >> unread)
    place = jnp.arange(1, num_words + 1, dtype=jnp.uint32) * jnp.uint32(_GOLDEN)

    def half(constant: int) -> Array:
        start = mix(seed ^ jnp.uint32(constant))
        multipliers = mix(place + start) | jnp.uint32(1)
        total = mix(words * multipliers).sum(1, dtype=jnp.uint32)
        return mix(total ^ mix(lengths + start))

    return jnp.stack([half(constant) for constant in _HALVES], 1)


def mix(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """A bijection of 32-bit words in which every bit of the result depends on every bit of x; 0 stays 0.

    Source: C. Wellons, "Prospecting for Hash Functions" (2018), lowbias32, public domain.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def as_numbers(prints: UInt32[np.ndarray, "n 2"]) -> UInt64[np.ndarray, " n"]:
    """Fingerprints as one number each, on the host; the first word counts most."""
    return (prints[:, 0].astype(np.uint64) << np.uint64(32)) | prints[:, 1]
