from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from jaxhash.codes import cluster_accuracy, pack
from jaxhash.codes import lloyd as module
from jaxhash.codes.lloyd import kmeans_words as kmeans

KEY = jax.random.key(0)


def words_of(bits):
    return pack(jnp.asarray(bits))


def compiled_anew():
    """`_lloyd` without what was compiled before something in the module was replaced."""
    return jax.jit(partial(module._lloyd.__wrapped__), static_argnames=("k", "max_iterations"))


def check_consistent(bits, found):
    """Labels, centroids and inertia belong together; worked out by NumPy."""
    centroids = np.asarray(found.centroids)[:, : bits.shape[1]]
    distances = np.square(bits[:, None].astype(np.float64) - centroids[None]).sum(-1)
    chosen = distances[np.arange(len(bits)), found.labels]
    np.testing.assert_allclose(chosen, distances.min(1), atol=1e-4)
    np.testing.assert_allclose(found.inertia, chosen.sum(), rtol=1e-4)


@pytest.mark.parametrize("width", [20, 40])
def test_inertia_is_scikit_learns_within_one_percent(trained, width):
    bits = trained.bits(width)[0]
    theirs = KMeans(10, n_init=10, random_state=0).fit(bits.astype(np.float32))
    found = kmeans(KEY, words_of(bits), 10)
    check_consistent(bits, found)
    assert abs(found.inertia - theirs.inertia_) <= 0.01 * theirs.inertia_


def test_codes_in_several_chunks(monkeypatch):
    """More codes than are held at a time, the last chunk not full: as if held all at once."""
    rng = np.random.default_rng(0)
    centres = rng.random((4, 60)) < 0.5
    bits = centres[rng.integers(0, 4, 500)] ^ (rng.random((500, 60)) < 0.05)
    at_once = kmeans(KEY, words_of(bits), 4, restarts=3)
    monkeypatch.setattr(module, "CODES_AT_A_TIME", 128)
    monkeypatch.setattr(module, "_lloyd", compiled_anew())
    in_chunks = kmeans(KEY, words_of(bits), 4, restarts=3)
    np.testing.assert_array_equal(at_once.labels, in_chunks.labels)
    np.testing.assert_allclose(at_once.inertia, in_chunks.inertia, rtol=1e-5)
    check_consistent(bits, in_chunks)


def test_one_program_serves_many_numbers_of_codes(monkeypatch):
    lloyd = chex.assert_max_traces(module._lloyd.__wrapped__, n=1)
    monkeypatch.setattr(module, "_lloyd", jax.jit(lloyd, static_argnames=("k", "max_iterations")))
    for n in (7, 900):
        bits = np.arange(n)[:, None] % 4 == np.arange(4)
        assert kmeans(KEY, words_of(bits), 4, restarts=2).labels.shape == (n,)


def test_fewer_different_codes_than_clusters():
    bits = np.repeat(np.array([[0, 0, 1], [1, 1, 0]], bool), 20, axis=0)
    found = kmeans(KEY, words_of(bits), 5)
    assert found.inertia == 0
    assert np.isfinite(found.centroids).all()
    check_consistent(bits, found)


def test_an_empty_cluster_takes_the_farthest_code(monkeypatch):
    """Two of three centroids start at the same place, so that one of them runs empty."""
    bits = np.zeros((30, 40), bool)
    bits[10:20, :20] = True
    bits[20:, 20:] = True
    start = jnp.zeros((1, 3, 64)).at[0, 2, :20].set(1)
    monkeypatch.setattr(module, "seed", lambda *_: start)
    found = kmeans(KEY, words_of(bits), 3, restarts=1)
    assert found.inertia == 0
    assert len(np.unique(found.labels)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k=0 clusters of 5 codes"),
        ({"k": 6}, r"k=6 clusters of 5 codes: k must be in 1 \.\.\. 5"),
        ({"k": 2, "restarts": 0}, "restarts=0"),
        ({"k": 2, "max_iterations": 0}, "max_iterations=0"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kmeans(KEY, jnp.zeros((5, 1), jnp.uint32), **arguments)


def test_clusters_are_matched_with_labels():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, 400)
    clusters = np.where(rng.random(400) < 0.4, (labels + 2) % 6, labels // 3)
    counts = np.zeros((6, 6), int)
    np.add.at(counts, (clusters, labels), 1)
    arguments = jnp.asarray(clusters, jnp.int32), jnp.asarray(labels, jnp.int32), 6
    optimal = counts[linear_sum_assignment(-counts)].sum() / 400
    np.testing.assert_allclose(cluster_accuracy(*arguments), optimal, rtol=1e-6)
    greedy = cluster_accuracy(*arguments, assignment="greedy")
    np.testing.assert_allclose(greedy, counts.max(1).sum() / 400, rtol=1e-6)
    assert greedy > optimal
