"""Codes in files, a few rows at a time, against NumPy and the functions for codes in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.codes import analytics, files
from jaxhash.codes.files import Layer, load, writing
from jaxhash.codes.properties import measure

BITS = 1000


def in_file(path, bits, layers):
    """One bool a bit -> a file whose layers begin with a new word, packed by NumPy."""
    parts, start = [], 0
    for layer in layers:
        some = np.pad(bits[:, start : start + layer.bits], [(0, 0), (0, -layer.bits % 32)])
        parts.append(np.packbits(some, axis=1, bitorder="little").view("<u4"))
        start += layer.bits
    with writing(path, len(bits), layers) as append:
        append(np.concatenate(parts, axis=1))
    return load(path)


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Codes of two classes around two centres, some of them twice, bits that never vary, one layer of 3 bits."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 230)
    bits = random.random((2, BITS))[labels] * 0.6 + random.random((230, BITS)) * 0.4 > 0.5
    bits[:, ::7] = True
    bits[50:80], labels[50:80] = bits[20:50], labels[20:50]
    bits[225:] = bits[150:155]
    layers = (Layer("one", 500), Layer("two", 3), Layer("three", BITS - 503))
    folder = tmp_path_factory.mktemp("codes")
    train, test = in_file(folder / "train.npy", bits[:115], layers), in_file(folder / "test.npy", bits[115:], layers)
    return train, test, bits, labels


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(files, "BYTES_AT_A_TIME", 4 * 33 * 40)  # 40 rows of the whole code


@pytest.mark.parametrize("layer", [None, "two", "three"])
def test_distinct_codes_are_numpys(some, layer):
    train, test, bits, _ = some
    columns = {None: slice(None), "two": slice(500, 503), "three": slice(503, None)}[layer]
    for codes, own in ((train, bits[:115]), (test, bits[115:])):
        codes = codes.layer(layer) if layer else codes
        distinct = len(np.unique(own[:, columns], axis=0))
        assert distinct < len(own)
        assert analytics.num_distinct(codes) == distinct
        assert analytics.redundancy_ratio(codes) == (len(own) - distinct) / len(own)


def test_fingerprints_that_coincide_are_checked(some, monkeypatch):
    train, _, bits, _ = some
    monkeypatch.setattr(analytics, "fingerprints", lambda codes: np.arange(codes.n, dtype=np.uint64) % 5)
    # Equal codes lie 30 rows apart, so they share the fingerprint, as they must; most of those that do differ.
    assert analytics.num_distinct(train) == len(np.unique(bits[:115], axis=0)) == 85


def test_every_word_counts_for_the_fingerprint(some, tmp_path):
    bits = np.zeros((BITS + 1, BITS), bool)
    bits[np.arange(BITS), np.arange(BITS)] = True
    codes = in_file(tmp_path / "codes.npy", bits, (Layer("all", BITS),))
    assert len(np.unique(analytics.fingerprints(codes))) == BITS + 1


@pytest.mark.parametrize("k", [1, 9])
def test_neighbours_are_those_of_a_full_sort(some, k):
    train, test, bits, _ = some
    distance = (bits[115:, None] != bits[None, :115]).sum(-1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    distances, indices = analytics.nearest(train, test, k=k)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(distance, order, 1))


def test_sampled_bits_are_bits_that_vary_the_same_in_both_files(some):
    train, test, bits, _ = some
    mask = analytics.varying_bits(train, test)
    varies = bits.min(0) != bits.max(0)
    assert np.bitwise_count(mask).sum() == varies.sum() < BITS
    everything = analytics.sample_bits(test, mask, 2000, seed=1)
    assert everything.num_bits == varies.sum()
    np.testing.assert_array_equal(everything.unpack(), bits[115:, varies])
    assert everything.words.shape[1] == 63
    few = [np.asarray(analytics.sample_bits(codes, mask, 20, seed=1).unpack()) for codes in (train, test)]
    columns = np.concatenate(few)
    found = [np.flatnonzero((bits == column[:, None]).all(0)) for column in columns.T]
    assert all(len(where) >= 1 for where in found)
    assert len({where[0] for where in found}) == 20
    other = analytics.sample_bits(test, mask, 20, seed=2).unpack()
    assert (np.asarray(other) != few[1]).any()


@pytest.mark.slow
def test_all_properties_are_those_of_the_codes_in_memory(some):
    train, test, _, labels = some
    train, test = train.layer("one"), test.layer("one")
    found = analytics.measure(
        jax.random.key(0), train, labels[:115], test, labels[115:], num_classes=2, sampled_bits=500
    )
    words = [jnp.asarray(codes.rows(slice(None))) for codes in (train, test)]
    y = [jnp.asarray(some, jnp.int32) for some in (labels[:115], labels[115:])]
    expected = measure(jax.random.split(jax.random.key(0), 3)[0], words[0], y[0], words[1], y[1], num_classes=2)
    for name in ("train_redundancy", "test_redundancy", "knn_accuracy", "logistic_accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-6), name
    # Seeded otherwise: two clusters so far apart are found from any seeding.
    for name in ("train_kmeans_accuracy", "test_kmeans_accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=0.01), name


def test_what_cannot_be_measured_is_refused(some):
    train, test, _, _ = some
    with pytest.raises(ValueError, match="k=116 neighbours of 115 training codes"):
        analytics.nearest(train, test, k=116)
    with pytest.raises(ValueError, match="codes of 33 and of 1 words"):
        analytics.nearest(train, test.layer("two"), k=1)
    with pytest.raises(ValueError, match="count=0 bits"):
        analytics.sample_bits(train, np.ones(33, np.uint32), 0, seed=0)
