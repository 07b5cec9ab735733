import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxhash.codes import code
from jaxhash.codes.code import (
    Code,
    drop_constant,
    fingerprint,
    hamming,
    keep_bits,
    num_distinct,
    pack,
    unpack,
    varying_bits,
)


def numpy_pack(bits):
    """NumPy's own bit packing, 32 bits to a word."""
    padded = np.pad(bits, [(0, 0), (0, -bits.shape[1] % 32)])
    return np.packbits(padded, axis=1, bitorder="little").view("<u4")


def random_bits(n, bits, seed=0, share=0.5):
    return np.random.default_rng(seed).random((n, bits)) < share


@pytest.mark.parametrize("bits", [1, 31, 32, 33, 70])
def test_packing_is_numpys_little_endian_packing(bits):
    some = random_bits(20, bits)
    words = pack(jnp.asarray(some))
    np.testing.assert_array_equal(words, numpy_pack(some))
    np.testing.assert_array_equal(unpack(words, bits), some)
    assert words.dtype == jnp.uint32


def test_more_bits_than_the_words_hold_are_refused():
    with pytest.raises(ValueError, match="num_bits=65 does not fit 2 words, which hold 64"):
        unpack(jnp.zeros((3, 2), jnp.uint32), 65)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 33, 100]), st.sampled_from([0.02, 0.5, 1.0]))
@settings(max_examples=30, deadline=None)
def test_distinct_codes_are_counted_as_by_numpy(seed, bits, share):
    found = random_bits(200, bits, seed, share)
    assert num_distinct(jnp.asarray(numpy_pack(found))) == len(np.unique(found, axis=0))


@pytest.mark.parametrize("n", [0, 1])
def test_distinct_codes_of_next_to_nothing(n):
    assert num_distinct(jnp.zeros((n, 2), jnp.uint32)) == n


def test_equal_fingerprints_are_checked(monkeypatch):
    """Fingerprints that say nothing for three seeds, and lie between equal codes: the count stays exact."""
    words = jnp.asarray(np.tile([[5, 1], [7, 2], [5, 3]], (20, 1)), jnp.uint32)

    def weak(words, seed):
        return jnp.where(seed < 3, jnp.zeros((len(words), 2), jnp.uint32), fingerprint(words, seed))

    monkeypatch.setattr(code, "fingerprint", weak)
    assert num_distinct.__wrapped__(words) == 3


def test_fingerprints_of_different_codes_differ():
    every = jnp.stack([jnp.arange(2**16, dtype=jnp.uint32), jnp.zeros(2**16, jnp.uint32)], 1)
    for words in (every, every[:, ::-1]):
        prints = np.asarray(fingerprint(words, 0))
        assert len(np.unique(prints, axis=0)) == 2**16
        # Each half alone behaves as a random 32-bit function: 2^32 / 2^33 = 0.5 pairs expected to coincide.
        assert all(len(np.unique(half)) > 2**16 - 10 for half in prints.T)


def test_redundancy_ratio_is_the_share_of_examples_without_a_code_of_their_own():
    bits = random_bits(500, 7)
    expected = (500 - len(np.unique(bits, axis=0))) / 500
    assert code.redundancy_ratio(pack(jnp.asarray(bits))) == expected
    with pytest.raises(ValueError, match="no codes"):
        code.redundancy_ratio(jnp.zeros((0, 2), jnp.uint32))


def test_hamming_counts_differing_bits():
    a, b = random_bits(20, 70, 1), random_bits(30, 70, 2)
    np.testing.assert_array_equal(hamming(pack(jnp.asarray(a)), pack(jnp.asarray(b))), (a[:, None] != b[None]).sum(-1))


def test_constant_bits_are_those_that_no_example_of_either_set_changes():
    train, test = random_bits(40, 50, 1), random_bits(30, 50, 2)
    train[:, [3, 40]] = test[:, [3, 40]] = True
    train[:, 7] = test[:, 7] = False
    train[:, 9], test[:, 9] = True, False  # constant in each, but not in both together
    both = np.concatenate([train, test])
    varies = (both.min(0) != both.max(0)).nonzero()[0]
    assert {3, 7, 40}.isdisjoint(varies)
    assert 9 in varies
    words = pack(jnp.asarray(train))
    mask = varying_bits(words, pack(jnp.asarray(test)))
    np.testing.assert_array_equal(unpack(mask, 50).nonzero()[0], varies)
    np.testing.assert_array_equal(drop_constant(Code(words, 50), mask).unpack(), train[:, varies])
    kept = np.where((both.min(0) != both.max(0)), train, False)
    np.testing.assert_array_equal(unpack(keep_bits(words, mask), 50), kept)
