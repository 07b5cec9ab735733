"""Streamed analytics of codes against NumPy, SciPy and scikit-learn; chunks and tiles are made small, to be many."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.cluster import KMeans

from jaxhash.codes import analytics, clusters, files, hamming
from jaxhash.codes import histogram as code_distances
from jaxhash.codes.files import CodeArray, Layer, load, writing
from jaxhash.codes.neighbours import nearest, nearest_of_other_class

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
    monkeypatch.setattr(hamming, "ROWS_A_TILE", 96)
    monkeypatch.setattr(clusters, "_ROWS_A_TILE", 64)


@pytest.fixture(params=["memory", "file"])
def codes(request, words, tmp_path):
    if request.param == "memory":
        return CodeArray(words)
    with writing(tmp_path / "codes.npy", N, [Layer("all", BITS)]) as append:
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
    found = analytics.groups(codes)
    assert len(unique) < N
    np.testing.assert_array_equal(found.first, first[order])
    np.testing.assert_array_equal(found.sizes, counts[order])
    np.testing.assert_array_equal(found.group, rank[inverse.ravel()])


def test_groups_of_fingerprints_that_coincide(codes, bits, monkeypatch):
    honest = analytics.groups(codes)
    prints = honest.group % 7
    monkeypatch.setattr(analytics, "fingerprints", lambda codes: prints.astype(np.uint64))
    found = analytics.groups(codes)
    for one, other in zip(found, honest, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [1, 100, N])
def test_neighbours_are_scipys_with_ties_to_the_lower_index(codes, bits, k):
    queries = slice(50, 50 + M)
    told = []
    found = nearest(codes, CodeArray(codes.rows(queries)), k=k, report=lambda done, of: told.append((done, of)))
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
        found = nearest(CodeArray(words), CodeArray(words[:20]), k=5)
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
    with pytest.raises(ValueError, match="699 labels for 700 training codes"):
        nearest_of_other_class(codes, labels[1:], codes, labels)
    with pytest.raises(ValueError, match="codes of 3 and of 4 words"):
        nearest(codes, CodeArray(np.zeros((5, 4), np.uint32)), k=1)


def test_the_histogram_of_all_pairs_is_scipys(codes, bits):
    expected = np.bincount(np.rint(pdist(bits, "hamming") * BITS).astype(int), minlength=97)
    np.testing.assert_array_equal(code_distances.histogram(codes), expected)


def test_a_sampled_histogram_is_near_that_of_all_pairs(codes, bits):
    expected = np.bincount(np.rint(pdist(bits, "hamming") * BITS).astype(int), minlength=97) / (N * (N - 1) / 2)
    pairs = 100_000
    found = code_distances.sampled_histogram(codes, pairs, seed=1)
    assert found.sum() == pairs
    # Five standard deviations, and a little for shares near 0.
    assert (abs(found / pairs - expected) <= 5 * np.sqrt(expected / pairs) + 1e-4).all()
    assert found[0] > 0  # copies, and none of them a row paired with itself: there are far more rows than copies
    assert (code_distances.sampled_histogram(codes, pairs, seed=1) == found).all()
    assert (code_distances.sampled_histogram(codes, pairs, seed=2) != found).any()
    with pytest.raises(ValueError, match="0 pairs of 700 codes"):
        code_distances.sampled_histogram(codes, 0)


def test_kmeans_ends_where_scikit_learn_stays(codes, bits):
    told = []
    found = clusters.kmeans(KEY, codes, 6, sample=256, tolerance=0.0, report=lambda passes, cost: told.append(cost))
    own = found.centroids[:, :BITS]
    theirs = KMeans(6, init=own, n_init=1, tol=0).fit(bits.astype(np.float32))
    np.testing.assert_array_equal(theirs.labels_, found.labels)
    np.testing.assert_allclose(theirs.cluster_centers_, own, atol=1e-5)
    assert theirs.inertia_ == pytest.approx(found.inertia, rel=1e-5)
    free = KMeans(6, n_init=10, random_state=0).fit(bits.astype(np.float32))
    assert found.inertia <= free.inertia_ * 1.01
    assert len(told) == found.passes
    assert all(later <= before * (1 + 1e-6) for before, later in pairwise(told))


def test_k_majority_is_a_loop_of_votes(codes, bits):
    found = clusters.k_majority(KEY, codes, 6, sample=256, restarts=5)
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
    found = clusters.k_majority(KEY, CodeArray(words), 6, sample=256, restarts=5)
    assert found.cost == 0
    assert set(found.labels[:300]).isdisjoint(found.labels[300:])
    assert found.centres.shape == (6, 3)


def test_no_codes_have_no_groups_and_no_neighbours(codes):
    none = CodeArray(np.zeros((0, 3), np.uint32))
    assert [len(part) for part in analytics.groups(none)] == [0, 0, 0]
    assert [found.shape for found in nearest(codes, none, k=2)] == [(0, 2), (0, 2)]
    assert code_distances.histogram(none).sum() == 0


def test_clusters_that_cannot_be_are_refused(codes):
    for cluster in (clusters.kmeans, clusters.k_majority):
        with pytest.raises(ValueError, match="k=51 clusters of 700 codes, sample=50"):
            cluster(KEY, codes, 51, sample=50)
        with pytest.raises(ValueError, match="the smaller is 0"):
            cluster(KEY, codes, 5, max_passes=0)
