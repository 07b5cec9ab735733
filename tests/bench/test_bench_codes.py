"""What the benchmark of a million codes says of agreement, from answers made by NumPy, and its ratios."""

import numpy as np
import pytest

from bench import codes

N, M, BITS = 300, 20, 40


@pytest.fixture
def known(tmp_path):
    """The codes, and right answers of both sides."""
    base, queries, labels, _ = codes.write(tmp_path, N, M, BITS)
    words, asked = base.rows(slice(None)), queries.rows(slice(None))
    assert len(labels) == N
    unique, first, inverse, sizes = np.unique(words, axis=0, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.argsort(order)
    groups = codes.code_analytics.Groups(rank[inverse.ravel()], first[order], sizes[order])
    distance = np.bitwise_count(asked[:, None] ^ words[None]).sum(-1, dtype=np.int64)
    indices = np.argsort(distance, axis=1, kind="stable")
    nearest = np.take_along_axis(distance, indices, 1)
    own = {f"{k}-NN": (nearest[:, :k], indices[:, :k]) for k in codes.NEIGHBOURS}
    theirs = {f"FAISS {name}": answer for name, answer in own.items()}
    own["distinct codes, groups"] = groups
    theirs["NumPy, groups too distinct codes, groups"] = (unique, inverse, sizes)
    theirs["scikit-learn 10-NN"] = (nearest[:, :10] / BITS, indices[:, :10])
    return base, queries, own, theirs


def test_right_answers_agree(known):
    distinct = len(known[2]["distinct codes, groups"].first)
    assert distinct <= N - round(codes.COPIES * N)
    assert codes.agreement(*known) == [
        f"{distinct} distinct codes, {distinct} by NumPy; the groups are the same",
        *[f"{k}-NN: of {M * k:,} distances 0 differ from FAISS', of the indices 0 (ties)" for k in codes.NEIGHBOURS],
        "10-NN: of 200 distances 0 differ from scikit-learn's on its subset",
    ]


def test_wrong_answers_are_told(known):
    base, queries, own, theirs = known
    groups = own["distinct codes, groups"]
    assert tuple(groups.group[:2]) == (0, 1)
    merged = groups.group.copy()
    merged[0] = 1
    own["distinct codes, groups"] = groups._replace(group=merged)
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
    once = {"a": {"first_seconds": 1.0, "peak_gb": 1.5}, "b": {"first_seconds": 1.0, "peak_gb": 4.5}}
    found = codes.figures(codes.Config(), n, m, once, seconds, {}, {})
    assert found["knn_vs_faiss"] == dict.fromkeys(codes.NEIGHBOURS, 5.0)
    assert found["knn_vs_sklearn"] == pytest.approx(30 * 4.0 / 20.0)
    assert found["distinct_vs_numpy"] == 4.0
    assert found["giga_comparisons_per_second"]["jaxhash 10-NN"] == pytest.approx(n * m / 20.0 / 1e9)
    assert (found["peak_gb"], found["within_limit"]) == (4.5, False)
