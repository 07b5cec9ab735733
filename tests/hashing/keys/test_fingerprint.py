import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxhash.hashing.keys.fingerprint import as_numbers, fingerprint, mix
from jaxhash.hashing.keys.tokens import Tokens, list_blocks, tokenize
from jaxhash.hashing.perfect import separation

M = 2**32 - 1


def python_mix(x):
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & M
    x = ((x ^ (x >> 15)) * 0x846CA68B) & M
    return x ^ (x >> 16)


def python_fingerprint(key, seed):
    """The formula at the top of fingerprint.py in Python's integers, without padding."""
    lanes = []
    for constant in (0x243F6A88, 0x85A308D3):
        start = python_mix(seed ^ constant)
        total = 0
        for i in range(0, len(key), 4):
            word = int.from_bytes(key[i : i + 4], "little")
            multiplier = python_mix(((i // 4 + 1) * 0x9E3779B9 + start) & M) | 1
            total += python_mix(word * multiplier & M)
        lanes.append(python_mix((total & M) ^ python_mix((len(key) + start) & M)))
    return lanes


def fingerprints(keys, seed):
    """Of a fit's first step, as two words each."""
    numbers = np.concatenate([np.empty(0, np.uint64), *separation.fingerprints(list_blocks(keys), seed)])
    return np.stack([numbers >> np.uint64(32), numbers], 1).astype(np.uint32)


@given(st.lists(st.binary(max_size=70), max_size=20), st.integers(0, M))
@settings(max_examples=25, deadline=None)
def test_it_is_the_formula_for_any_bytes_and_any_padding(keys, seed):
    expected = np.array([python_fingerprint(key, seed) for key in keys], np.uint32).reshape(-1, 2)
    np.testing.assert_array_equal(fingerprints(keys, seed), expected)


def test_neither_padding_nor_jit_nor_the_batch_changes_it():
    keys = [b"", b"a", b"abc", b"abcd", b"abcde"]
    expected = [python_fingerprint(key, 7) for key in keys]
    for length in (5, 6, 8, 33):
        tokens = tokenize(keys, length)
        np.testing.assert_array_equal(fingerprint(tokens, jnp.uint32(7)), expected)
        np.testing.assert_array_equal(jax.jit(fingerprint)(tokens, jnp.uint32(7)), expected)
    with jax.disable_jit():
        np.testing.assert_array_equal(fingerprint(tokens, jnp.uint32(7)), expected)


def test_zeros_count_by_length():
    keys = [b"\0" * i for i in range(20)] + [b"a" + b"\0" * i for i in range(20)]
    assert len(np.unique(fingerprints(keys, 0), axis=0)) == 40


def test_regular_keys_spread_as_chance_would_have_it():
    """1, 2, 3, ... as text and keys that share all but four bytes: both words behave as random 32-bit numbers."""
    numbers = [str(i).encode() for i in range(2**16)]
    binary = [b"prefix" * 5 + i.to_bytes(4, "big") for i in range(2**16)]
    for keys in (numbers, binary):
        prints = fingerprints(keys, 0)
        assert len(np.unique(as_numbers(prints))) == 2**16
        for word in prints.T:
            # 2^31 / 2^32 = 0.5 pairs are expected to coincide.
            assert len(np.unique(word)) > 2**16 - 10
            # Chi-square of 256 equal ranges has mean 255 and standard deviation 22.6.
            counts = np.bincount(word >> 24, minlength=256)
            assert abs(((counts - 256) ** 2 / 256).sum() - 255) < 5 * 22.6


def test_as_numbers_the_first_word_counts_most():
    prints = np.array([[1, 2], [2, 1]], np.uint32)
    np.testing.assert_array_equal(as_numbers(prints), [2**32 + 2, 2**33 + 1])


def test_mixing_is_a_bijection_that_keeps_zero():
    some = np.arange(2**16, dtype=np.uint32) * np.uint32(65537)
    mixed = np.asarray(mix(jnp.asarray(some)))
    assert mixed[0] == 0
    assert len(np.unique(mixed)) == 2**16
    assert mixed[12345] == python_mix(int(some[12345]))


def test_what_stands_after_a_key_is_not_read():
    keys = [b"", b"a", b"abc", b"abcd", b"abcde", b"abcdefgh", b"abcdefghi"]
    clean = tokenize(keys, 12)
    after = np.arange(12) >= np.array([len(key) for key in keys])[:, None]
    dirty = Tokens(np.where(after, np.uint8(0xA5), clean.characters), clean.lengths)
    np.testing.assert_array_equal(fingerprint(dirty, jnp.uint32(3)), fingerprint(clean, jnp.uint32(3)))
