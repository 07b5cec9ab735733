"""Packing, distinct codes, distances, ranges of bits and layers, against NumPy."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxhash
from jaxhash.codes import Code, distinct, drop_constant, groups, hamming, kmeans, pack, redundancy, unpack, varying
from jaxhash.codes.code import Layer, bit_range
from jaxhash.codes.distinct import fingerprint, num_distinct
from jaxhash.models.mlp import ModelConfig, build


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

    monkeypatch.setattr(sys.modules["jaxhash.codes.distinct"], "fingerprint", weak)
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
    assert redundancy(Code.of(bits)) == expected
    with pytest.raises(ValueError, match="no codes"):
        redundancy(Code(jnp.zeros((0, 2), jnp.uint32), 40))


def operations(num_words):
    """In the program that counts distinct codes, loops counted once."""
    jaxpr = jax.make_jaxpr(num_distinct)(jax.ShapeDtypeStruct((10, num_words), jnp.uint32))
    return str(jaxpr).count("=")


def test_the_program_that_counts_distinct_codes_does_not_grow_with_them():
    # Whole blocks of words go through one loop; what is left over after the last is at most a block.
    assert operations(6016) == operations(96) <= operations(128) < 1.5 * operations(63)
    words = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, (50, 517), np.uint32))
    words = words.at[30:].set(words[:20]).at[49, 516].add(1)
    assert num_distinct(words) == 31


def test_hamming_counts_differing_bits():
    a, b = random_bits(20, 70, 1), random_bits(30, 70, 2)
    np.testing.assert_array_equal(hamming(Code.of(a), Code.of(b)), (a[:, None] != b[None]).sum(-1))
    with pytest.raises(ValueError, match="codes of 70 and of 3 bits cannot be compared"):
        hamming(Code.of(a), Code.of(b[:, :3]))


def test_hamming_holds_no_more_memory_than_its_result():
    words = jax.ShapeDtypeStruct((500, 40), jnp.uint32)
    program = sys.modules["jaxhash.codes.hamming"].hamming_words.lower(words, words).compile()
    assert program.memory_analysis().temp_size_in_bytes <= 2 * 4 * 500 * 500


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 32), (0, 100), (5, 6), (31, 33), (32, 64), (7, 96), (40, 100), (63, 64)]
)
def test_a_range_of_bits_is_the_slice_of_the_unpacked_bits(start, stop):
    bits = random_bits(20, 100, start)
    np.testing.assert_array_equal(Code.of(bits).bits(start, stop).words, numpy_pack(bits[:, start:stop]))
    np.testing.assert_array_equal(bit_range(numpy_pack(bits), start, stop), numpy_pack(bits[:, start:stop]))


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (5, 3), (0, 97)])
def test_no_range_is_refused(start, stop):
    with pytest.raises(ValueError, match=f"bits {start} to {stop} are no range within the 96 bits of the code"):
        Code(jnp.zeros((2, 3), jnp.uint32), 96).bits(start, stop)


def test_layers_are_the_signs_of_their_own_pre_activations():
    net = build(ModelConfig(depth=3), 60, 10)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 7)), jnp.float32)
    variables = net.init(jax.random.key(0), x)
    signs = [np.asarray(z) > 0 for z in net.apply(variables, x)[1]]
    code = jaxhash.encode(lambda x: net.apply(variables, x)[0])(x)
    for i, layer in enumerate(code.layers):
        single, first = code.layer(layer.name), code.up_to(layer.name)
        np.testing.assert_array_equal(single.unpack(), signs[i])
        np.testing.assert_array_equal(first.unpack(), np.concatenate(signs[: i + 1], 1))
        assert single.layers == (layer._replace(start=0),)
        assert first.layers == code.layers[: i + 1]
    np.testing.assert_array_equal(first.words, code.words)
    with pytest.raises(ValueError, match="no layer 'x'; the layers are "):
        code.layer("x")


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
    mask = varying(Code(words, 50), Code.of(test))
    np.testing.assert_array_equal(unpack(mask, 50).nonzero()[0], varies)
    np.testing.assert_array_equal(drop_constant(Code(words, 50), mask).unpack(), train[:, varies])


def test_layers_keep_their_place_where_constant_bits_go():
    bits = np.array([[1, 0, 1, 0, 1, 1], [1, 1, 0, 0, 0, 1]], bool)
    layers = (Layer("a", 0, 2, (1, 2)), Layer("b", 2, 2, (2, 1)), Layer("c", 4, 1, (1, 1)), Layer("d", 5, 1, (1,)))
    code = Code.of(bits).replace(layers=layers)
    kept = drop_constant(code, varying(code))
    np.testing.assert_array_equal(kept.unpack(), bits[:, [1, 2, 4]])
    assert [(layer.name, layer.start, layer.size, layer.shape) for layer in kept.layers] == [
        ("a", 0, 1, (1,)),
        ("b", 1, 1, (1,)),
        ("c", 2, 1, (1, 1)),
        ("d", 3, 0, (0,)),
    ]


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3)])
@pytest.mark.parametrize(
    "question",
    [
        distinct,
        redundancy,
        groups,
        varying,
        lambda code: kmeans(jax.random.key(0), code, 2),
    ],
)
def test_what_is_no_list_of_codes_is_refused(question, shape):
    with pytest.raises(
        ValueError, match=rf"words of shape \({shape[0]},.*\) are no list of codes; give uint32 \[n, words\]"
    ):
        question(Code(jnp.zeros(shape, jnp.uint32), 96))
