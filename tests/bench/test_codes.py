"""What the benchmark of a million codes says of agreement, from answers made by NumPy, and its ratios."""

import numpy as np
import pytest

from bench import codes
from bench.codes import GROUPS, UNIQUE
from bench.data import write_codes

N, M, BITS, COPIES = 300, 20, 40, 30


@pytest.fixture
def known(tmp_path):
    """The codes, and right answers of both sides."""
    base, _ = write_codes(tmp_path / "codes.npy", N, BITS, classes=3, copies=COPIES)
    queries, _ = write_codes(tmp_path / "queries.npy", M, BITS, classes=3, seed=1)
    words, asked = base.rows(slice(None)), queries.rows(slice(None))
    unique, first, inverse, sizes = np.unique(words, axis=0, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.argsort(order)
    groups = codes.codes.Groups(rank[inverse.ravel()], first[order], sizes[order])
    distance = np.bitwise_count(asked[:, None] ^ words[None]).sum(-1, dtype=np.int64)
    indices = np.argsort(distance, axis=1, kind="stable")
    nearest = np.take_along_axis(distance, indices, 1)
    own = {f"{k}-NN": (nearest[:, :k], indices[:, :k]) for k in codes.NEIGHBOURS}
    theirs = {f"FAISS {name}": answer for name, answer in own.items()}
    own[GROUPS] = groups
    theirs[UNIQUE] = (unique, inverse, sizes)
    theirs["scikit-learn 10-NN"] = (nearest[:, :10] / BITS, indices[:, :10])
    return base, queries, own, theirs


def test_right_answers_agree(known):
    distinct = len(known[2][GROUPS].first)
    assert distinct <= N - COPIES
    assert codes.agreement(*known) == [
        f"{distinct} distinct codes, {distinct} by NumPy; the groups are the same",
        *[f"{k}-NN: of {M * k:,} distances 0 differ from FAISS', of the indices 0 (ties)" for k in codes.NEIGHBOURS],
        "10-NN: of 200 distances 0 differ from scikit-learn's on its subset",
    ]


def test_wrong_answers_are_told(known):
    base, queries, own, theirs = known
    groups = own[GROUPS]
    assert tuple(groups.group[:2]) == (0, 1)
    merged = groups.group.copy()
    merged[0] = 1
    own[GROUPS] = groups._replace(group=merged)
    own["10-NN"] = (own["10-NN"][0] + (np.arange(10) == 3), own["10-NN"][1])
    theirs["scikit-learn 10-NN"] = (theirs["scikit-learn 10-NN"][0] + np.eye(M, 10), None)
    said = codes.agreement(base, queries, own, theirs)
    assert "the groups are NOT the same" in said[0]
    assert said[2] == "10-NN: of 200 distances 20 differ from FAISS', of the indices 0 (ties)"
    assert said[4] == "10-NN: of 200 distances 10 differ from scikit-learn's on its subset"


def test_ratios_are_those_of_median_seconds_and_scikit_learns_time_is_scaled_to_all_pairs():
    seconds = {f"{who} {k}-NN": [k, 3.0 * k, 2.0 * k] for who in ("jaxhash",) for k in codes.NEIGHBOURS}
    seconds |= {f"FAISS {k}-NN": [10.0 * k] for k in codes.NEIGHBOURS}
    seconds |= {"scikit-learn 10-NN": [4.0], "jaxhash distinct codes, groups": [0.5]}
    seconds |= {"NumPy distinct codes, groups": [2.0]}
    n, m = 10 * codes.SKLEARN_CODES, 3 * codes.SKLEARN_QUERIES
    once = {"a": {"first_seconds": 1.0, "peak_gb": 1.5}, "K-Means": {"first_seconds": 7.0, "peak_gb": 4.5}}
    found = codes.figures(codes.Config(), n, m, once, seconds, {"K-Means": 3})
    assert found["knn_vs_faiss"] == dict.fromkeys(codes.NEIGHBOURS, 5.0)
    assert found["knn_vs_sklearn"] == pytest.approx(30 * 4.0 / 20.0)
    assert found["distinct_vs_numpy"] == 4.0
    assert found["giga_comparisons_per_second"]["jaxhash 10-NN"] == pytest.approx(n * m / 20.0 / 1e9)
    assert (found["peak_gb"], found["within_limit"]) == (4.5, False)
    assert found["median_seconds"]["jaxhash K-Means"] == 7.0
    without_faiss = {name: some for name, some in seconds.items() if not name.startswith("FAISS")}
    assert codes.figures(codes.Config(), n, m, once, without_faiss, {})["knn_vs_faiss"] == {}


def test_planted_codes_are_noise_around_the_centres_of_their_classes(tmp_path):
    base, labels = write_codes(tmp_path / "codes.npy", 2000, 1000, classes=4, copies=200, halvings=2)
    words = base.rows(slice(None))
    assert words.shape == (2000, 32)
    np.testing.assert_array_equal(words[1800:], words[:200])
    np.testing.assert_array_equal(labels[1800:], labels[:200])
    assert len(np.unique(words, axis=0)) == 1800
    other, classes = write_codes(tmp_path / "other.npy", 2000, 1000, classes=4, seed=1)
    bits, others = (codes.unpacked(codes_of.rows(slice(None)), 1000) for codes_of in (base, other))
    assert not np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, 1000:].any()
    for label in range(4):
        centre = bits[labels == label].mean(0) > 0.5
        assert (bits[labels == label] ^ centre).mean() == pytest.approx(1 / 4, abs=0.01)
        assert (others[classes == label] ^ centre).mean() == pytest.approx(1 / 8, abs=0.01)
