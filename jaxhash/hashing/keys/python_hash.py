"""Python's own `hash` of strings (SipHash-1-3), on whole arrays and with a salt of one's choice.

CPython hashes `str` and `bytes` by SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012;
one round a word, three at the end; the default since 3.11, Python/pyhash.c) under a secret of 128 bits, which it draws
anew for every process, so that `hash("apple")` differs from run to run. With PYTHONHASHSEED=<salt> the secret is made
from the salt by a linear congruential generator (Python/bootstrap_hash.c), and 0 switches it off. `python_hash(keys,
salt)` is what `hash` returns in a 64-bit process started with PYTHONHASHSEED=<salt>: a fixed function for each salt.

`hash` looks at a string's characters in memory, not at its UTF-8: one byte a character as long as all are below
U+0100, else two or four. A key of ASCII characters has one hash as `str` and as `bytes`; other keys have two.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from jaxhash.hashing.keys.tokens import encode_keys, tokenize

MAX_SALT = 2**32 - 1
"""The largest PYTHONHASHSEED."""


def python_hash(keys: Sequence[str | bytes], salt: int) -> Int64[np.ndarray, " n"]:
    """`hash(key)` of each key under PYTHONHASHSEED=<salt>.

    Cost: one SipHash round for eight bytes and four more for a key, on whole arrays: about 1 us a word.

    Args:
        keys: n keys, `str` or `bytes`.
        salt: 0 ... MAX_SALT.

    Raises:
        TypeError, ValueError: as `jaxhash.hashing.keys.tokens.tokenize`.
        ValueError: if `salt` is out of range.
    """
    if not 0 <= salt <= MAX_SALT:
        raise ValueError(f"salt={salt} is not in 0 ... {MAX_SALT}; PYTHONHASHSEED is an unsigned 32-bit number")
    if isinstance(keys, str | bytes):
        encode_keys(keys)  # raises: one key is no list of keys
    hashes = _siphash13([_memory(key) if isinstance(key, str) else key for key in keys], *_secret(salt))
    # -1 tells of an error in CPython's interface, so that -2 takes its place.
    return np.where(hashes == -1, -2, hashes)


def python_bins(keys: Sequence[str | bytes], num_bins: int, salt: int) -> Int32[np.ndarray, " n"]:
    """`hash(key) % num_bins` of each key under PYTHONHASHSEED=<salt>: the hash function the study compares with.

    Raises:
        TypeError, ValueError: as `python_hash`.
        ValueError: if `num_bins` is not 1 ... 2^31 - 1.
    """
    if not 1 <= num_bins < 2**31:
        raise ValueError(f"num_bins={num_bins} is not in 1 ... 2^31 - 1; give a number of bins that an int32 can name")
    return (python_hash(keys, salt) % num_bins).astype(np.int32)


def _memory(key: str) -> bytes:
    """The characters of a string as CPython stores them (PEP 393), little-endian; a lone surrogate is a character."""
    if key.isascii():
        return key.encode()
    last = max(key)
    if last < "\u0100":
        return key.encode("latin-1")
    return key.encode("utf-16-le" if last < "\U00010000" else "utf-32-le", "surrogatepass")


def _secret(salt: int) -> tuple[np.uint64, np.uint64]:
    """The two halves of SipHash's key: bytes 16 ... 23 of each state of x -> 214013 x + 2531011 mod 2^32."""
    if salt == 0:
        return np.uint64(0), np.uint64(0)
    secret, state = bytearray(), salt
    for _ in range(16):
        state = (state * 214013 + 2531011) % 2**32
        secret.append(state >> 16 & 0xFF)
    first, second = np.frombuffer(bytes(secret), "<u8")
    return first, second


def _siphash13(keys: list[bytes], first: np.uint64, second: np.uint64) -> Int64[np.ndarray, " n"]:
    """SipHash-1-3 of each key, except that the empty key is 0 as in CPython."""
    characters, lengths = tokenize(keys)
    # Whole words, and one more that ends with the length: the key's last 0 to 7 bytes lie in it already.
    num_words = characters.shape[1] // 8 + 1
    padded = np.pad(characters, [(0, 0), (0, 8 * num_words - characters.shape[1])])
    words = padded.view("<u8").astype(np.uint64, copy=False)
    last = lengths // 8
    words[np.arange(len(keys)), last] |= lengths.astype(np.uint64) << np.uint64(56)

    # "somepseudorandomlygeneratedbytes"
    constants = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    state = np.empty((4, len(keys)), np.uint64)
    state[:] = (np.array(constants, np.uint64) ^ np.array([first, second, first, second]))[:, None]
    for i in range(num_words):
        rows = np.flatnonzero(last >= i)
        part = state[:, rows]
        part[3] ^= words[rows, i]
        part = _round(part)
        part[0] ^= words[rows, i]
        state[:, rows] = part
    state[2] ^= np.uint64(0xFF)
    for _ in range(3):
        state = _round(state)
    hashes = state[0] ^ state[1] ^ state[2] ^ state[3]
    return np.where(lengths == 0, 0, hashes.view(np.int64))


def _round(state: UInt64[np.ndarray, "4 n"]) -> UInt64[np.ndarray, "4 n"]:
    """SipRound (section 2.2)."""
    v0, v1, v2, v3 = state
    v0 = v0 + v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 = v2 + v3
    v3 = _rotate(v3, 16) ^ v2
    v0 = v0 + v3
    v3 = _rotate(v3, 21) ^ v0
    v2 = v2 + v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return np.stack([v0, v1, v2, v3])


def _rotate(x: UInt64[np.ndarray, " n"], bits: int) -> UInt64[np.ndarray, " n"]:
    return x << np.uint64(bits) | x >> np.uint64(64 - bits)
