"""Codes looked at a few rows at a time against NumPy, SciPy and scikit-learn; chunks and tiles are small."""

import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from jaxhash import codes as questions
from jaxhash.codes import (
    Code,
    Layer,
    files,
    load,
    measure,
    nearest,
    nearest_of_other_class,
    nearest_words,
    neighbours,
    writing,
)

BITS, N, M = 75, 700, 150
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def bits():
    """Codes around 6 centres; some are there several times, far apart in the file."""
    random = np.random.default_rng(0)
    found = (random.random((6, BITS)) < 0.5)[random.integers(0, 6, N)] ^ (random.random((N, BITS)) < 0.12)
    found[400:460], found[600:620], found[5] = found[:60], found[:20], found[4]
    return found


@pytest.fixture(scope="module")
def words(bits):
    return np.packbits(np.pad(bits, [(0, 0), (0, 96 - BITS)]), axis=1, bitorder="little").view("<u4")


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).choice(4, N, p=[0.85, 0.1, 0.04, 0.01]).astype(np.int32)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(files, "BYTES_AT_A_TIME", 4 * 3 * 300)  # 300 codes a chunk
    monkeypatch.setattr(neighbours, "ROWS_A_TILE", 96)
    monkeypatch.setattr(nearest_words, "WORDS_IN_ONE_PROGRAM", 0)
    monkeypatch.setattr(sys.modules["jaxhash.codes.kmeans"], "_ROWS_A_TILE", 64)
    monkeypatch.setattr(sys.modules["jaxhash.codes.kmeans"], "UNPACKED_BYTES", 0)


def code_of(words, num_bits=BITS):
    return Code(jnp.asarray(words), num_bits)


@pytest.fixture(params=["memory", "file"])
def codes(request, words, tmp_path):
    if request.param == "memory":
        return code_of(words)
    with writing(tmp_path / "codes.npy", N, BITS, [Layer("all", 0, BITS, (BITS,))]) as append:
        for start in range(0, N, 128):
            append(words[start : start + 128])
    return load(tmp_path / "codes.npy")


def brute_force(distance, k):
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), order


def test_groups_are_numpys_unique_rows_in_order_of_appearance(codes, bits):
    unique, first, inverse, counts = np.unique(bits, axis=0, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.argsort(order)
    found = questions.groups(codes)
    assert len(unique) < N
    np.testing.assert_array_equal(found.first, first[order])
    np.testing.assert_array_equal(found.sizes, counts[order])
    np.testing.assert_array_equal(found.group, rank[inverse.ravel()])


def test_groups_of_fingerprints_that_coincide(codes, bits, monkeypatch):
    honest = questions.groups(codes)
    prints = honest.group % 7
    monkeypatch.setattr(sys.modules["jaxhash.codes.distinct"], "fingerprints", lambda codes: prints.astype(np.uint64))
    found = questions.groups(codes)
    for one, other in zip(found, honest, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [1, 100, N])
def test_neighbours_are_scipys_with_ties_to_the_lower_index(codes, bits, k):
    queries = slice(50, 50 + M)
    told = []
    found = nearest(codes, code_of(codes.rows(queries)), k=k, callback=lambda done, of: told.append((done, of)))
    distance = np.rint(cdist(bits[queries], bits, "hamming") * BITS).astype(int)
    for one, other in zip(found, brute_force(distance, k), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.int32
    assert told[-1] == (N * M, N * M)
    assert told == sorted(told)


def test_long_codes_are_added_up_in_steps_of_equal_length():
    random = np.random.default_rng(3)
    for num_words in (33, 100):
        words = random.integers(0, 2**32, (70, num_words), dtype=np.uint32)
        distance = np.bitwise_count(words[:20, None] ^ words[None]).sum(-1, dtype=int)
        found = nearest(code_of(words, 32 * num_words), code_of(words[:20], 32 * num_words), k=5)
        for one, other in zip(found, brute_force(distance, 5), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [1, 7])
def test_neighbours_of_other_classes(codes, bits, labels, k):
    distance = (bits[:, None] != bits[None]).sum(-1)
    distance[labels[:, None] == labels] = 10**6
    found = nearest_of_other_class(codes, labels, codes, labels, k=k)
    for one, other in zip(found, brute_force(distance, k), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_has_no_neighbours_is_refused(codes, labels):
    one_class = np.zeros(N, np.int32)
    with pytest.raises(ValueError, match=r"k must be in 1 \.\.\. 0"):
        nearest_of_other_class(codes, one_class, codes, one_class)
    with pytest.raises(ValueError, match=r"labels of shape \(699,\) for 700 training codes"):
        nearest_of_other_class(codes, labels[1:], codes, labels)
    with pytest.raises(ValueError, match="codes of 75 and of 128 bits"):
        nearest(codes, code_of(np.zeros((5, 4), np.uint32), 128), k=1)


def test_kmeans_ends_where_scikit_learn_stays(codes, bits):
    told = []
    found = questions.kmeans(KEY, codes, 6, sample=256, tolerance=0.0, callback=lambda passes, cost: told.append(cost))
    own = found.centroids[:, :BITS]
    theirs = KMeans(6, init=own, n_init=1, tol=0).fit(bits.astype(np.float32))
    np.testing.assert_array_equal(theirs.labels_, found.labels)
    np.testing.assert_allclose(theirs.cluster_centers_, own, atol=1e-5)
    assert theirs.inertia_ == pytest.approx(found.inertia, rel=1e-5)
    free = KMeans(6, n_init=10, random_state=0).fit(bits.astype(np.float32))
    assert found.inertia <= free.inertia_ * 1.01
    assert len(told) == found.iterations
    assert all(later <= before * (1 + 1e-6) for before, later in pairwise(told))


def test_k_majority_is_a_loop_of_votes(codes, bits):
    found = questions.k_majority(KEY, codes, 6, sample=256, restarts=5)
    centres = np.unpackbits(found.centres.view(np.uint8), axis=1, bitorder="little")[:, :BITS].astype(bool)
    distance = (bits[:, None] != centres).sum(-1)
    best = np.inf
    while distance.min(1).sum() < best:  # by hand, from where it ended: nothing may fall further
        kept, best = centres, distance.min(1).sum()
        label = distance.argmin(1)
        centres = np.stack([2 * bits[label == c].sum(0) > (label == c).sum() for c in range(6)])
        distance = (bits[:, None] != centres).sum(-1)
    assert found.cost == best == (bits[:, None] != kept).sum(-1).min(1).sum()
    np.testing.assert_array_equal(found.labels, (bits[:, None] != kept).sum(-1).argmin(1))
    # Six centres that are far apart: the clusters are those the codes were drawn from, as scikit-learn finds them too.
    theirs = KMeans(6, n_init=10, random_state=0).fit_predict(bits.astype(np.float32))
    pairs = np.zeros((6, 6), int)
    np.add.at(pairs, (found.labels, theirs), 1)
    assert pairs.max(1).sum() >= 0.99 * N


def test_a_cluster_without_codes_keeps_its_centre():
    words = np.zeros((N, 3), np.uint32)
    words[:300] = 2**32 - 1
    found = questions.k_majority(KEY, code_of(words), 6, sample=256, restarts=5)
    assert found.cost == 0
    assert set(found.labels[:300]).isdisjoint(found.labels[300:])
    assert found.centres.shape == (6, 3)


def test_no_codes_have_no_groups_and_no_neighbours(codes):
    none = code_of(np.zeros((0, 3), np.uint32))
    assert [len(part) for part in questions.groups(none)] == [0, 0, 0]
    assert [found.shape for found in nearest(codes, none, k=2)] == [(0, 2), (0, 2)]


def test_a_limit_on_passes_ends_with_the_votes_of_the_last(codes, bits):
    told = []
    found = questions.k_majority(
        KEY, codes, 6, sample=256, restarts=1, max_passes=1, callback=lambda passes, cost: told.append((passes, cost))
    )
    centres = np.unpackbits(found.centres.view(np.uint8), axis=1, bitorder="little")[:, :BITS].astype(bool)
    assert found.cost == (bits[:, None] != centres).sum(-1).min(1).sum()
    assert (found.passes, told) == (1, [(1, found.cost)])


@pytest.mark.parametrize("codes", ["file"], indirect=True)
def test_the_first_codes_of_a_file_alone_have_to_be_read(codes, labels):
    for question in (
        lambda: questions.kmeans(KEY, codes, 2, count=100),
        lambda: questions.knn(codes, labels, code_of(codes.rows(slice(5))), k=1, num_classes=4, count=100),
    ):
        with pytest.raises(ValueError, match=r"count=100 needs codes in memory; give codes.read\(\)"):
            question()


def test_clusters_that_cannot_be_are_refused(codes):
    for cluster, most in ((questions.kmeans, "max_iterations"), (questions.k_majority, "max_passes")):
        with pytest.raises(ValueError, match="k=51 clusters of 700 codes, sample=50"):
            cluster(KEY, codes, 51, sample=50)
        with pytest.raises(ValueError, match="the smaller is 0"):
            cluster(KEY, codes, 5, **{most: 0})


def test_sampled_bits_are_bits_that_vary_the_same_in_both_files(codes, bits):
    mask = np.asarray(questions.varying(codes))
    varies = bits.min(0) != bits.max(0)
    everything = questions.sample_bits(codes, mask, 2000, seed=1)
    assert everything.num_bits == varies.sum()
    np.testing.assert_array_equal(everything.unpack(), bits[:, varies])
    assert everything.words.shape[1] == 63
    few = np.asarray(questions.sample_bits(codes, mask, 20, seed=1).unpack())
    found = [np.flatnonzero((bits == column[:, None]).all(0)) for column in few.T]
    assert len({where[0] for where in found}) == 20
    assert (np.asarray(questions.sample_bits(codes, mask, 20, seed=2).unpack()) != few).any()
    with pytest.raises(ValueError, match="count=0 bits"):
        questions.sample_bits(codes, mask, 0, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("codes", ["file"], indirect=True)
def test_all_properties_of_a_file_are_those_of_the_codes_in_memory(codes, labels, monkeypatch):
    train, test = codes, code_of(codes.rows(slice(0, M)))
    found = measure(train, labels, test, labels[:M])
    monkeypatch.undo()
    expected = measure(code_of(codes.rows(slice(None))), labels, test, labels[:M])
    for name in ("train_redundancy", "test_redundancy", "knn_accuracy", "logistic_accuracy"):
        assert found[name] == expected[name], name
