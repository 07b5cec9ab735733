"""Nearest neighbours of codes in memory, and k-NN, against NumPy and scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from jaxhash.codes import Code, knn, nearest
from jaxhash.codes.nearest_words import nearest_words


@pytest.mark.parametrize(
    ("n", "m", "bits", "k"),
    [
        (1000, 300, 3, 9),  # few bits: nearly all distances are ties
        (130, 5, 40, 9),  # blocks that are not full, fewer queries than a tile
        (7, 3, 33, 7),  # every training code is a neighbour
        (1, 1, 1, 1),
    ],
)
def test_neighbours_are_those_of_a_full_stable_sort(n, m, bits, k):
    rng = np.random.default_rng(n)
    train, test = rng.random((n, bits)) < 0.5, rng.random((m, bits)) < 0.5
    distances, indices = nearest(Code.of(train), Code.of(test), k=k)
    expected = (train[None] != test[:, None]).sum(-1)
    order = np.argsort(expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(expected, order, 1))


@pytest.mark.parametrize(("num_words", "differing"), [(33, 32), (70, 40), (70, 69)])
def test_long_codes_in_one_program_as_accelerators_search_them(num_words, differing):
    """One word tells the codes apart, wherever it stands, and most blocks of codes are not looked into."""
    words = np.zeros((2000, num_words), np.uint32)
    words[:, differing] = np.random.default_rng(num_words).integers(0, 2**32, 2000, dtype=np.uint32)
    distances, indices = nearest_words(jnp.asarray(words), jnp.asarray(words[:20]), k=2)
    expected = np.bitwise_count(words[:20, None] ^ words[None]).sum(-1, dtype=int)
    order = np.argsort(expected, axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(expected, order, 1))


def test_of_the_first_codes_alone_the_others_have_no_vote():
    train, query = Code.of(np.array([[0, 1], [1, 1], [0, 0], [0, 0]], bool)), Code.of(np.array([[0, 0]], bool))
    labels = jnp.array([1, 0, 2, 2], jnp.int32)
    assert knn(train, labels, query, k=3, num_classes=3).tolist() == [2]
    assert knn(train, labels, query, k=1, num_classes=3, count=2).tolist() == [1]
    # Fewer codes than neighbours: what is beyond them votes for nobody.
    assert knn(train, labels, query, k=3, num_classes=3, count=1).tolist() == [1]


def test_votes_are_scikit_learns_wherever_nothing_is_tied(trained):
    x, y = trained.bits(40)[0], trained.data.y_train
    queries = trained.bits(40)[1]
    ours = np.asarray(knn(Code.of(x), y, Code.of(queries), k=9, num_classes=10))
    theirs = KNeighborsClassifier(9, metric="hamming", algorithm="brute").fit(x, y)
    distances = np.sort((queries[:, None] != x[None]).sum(-1), axis=1)
    # A tie between the 9th and the 10th neighbour can be settled either way.
    settled = distances[:, 8] != distances[:, 9]
    assert 0.1 < settled.mean() < 1
    np.testing.assert_array_equal(ours[settled], theirs.predict(queries[settled]))


def test_of_equally_frequent_labels_the_smallest_wins():
    train, query = Code.of(np.array([[0, 0], [0, 0], [1, 1], [1, 1]], bool)), Code.of(np.array([[0, 0]], bool))
    labels = jnp.array([3, 3, 1, 1], jnp.int32)
    assert knn(train, labels, query, k=4, num_classes=4).tolist() == [1]
    assert knn(train, labels, query, k=2, num_classes=4).tolist() == [3]


@pytest.mark.parametrize("k", [0, 6])
def test_impossible_numbers_of_neighbours_are_refused(k):
    code = Code(jnp.zeros((5, 1), jnp.uint32), 32)
    with pytest.raises(ValueError, match=rf"k={k} neighbours of 5 training codes: k must be in 1 \.\.\. 5"):
        nearest(code, code, k=k)


def test_more_codes_than_31_bits_can_number_are_refused():
    words = jnp.zeros((2**17, 512), jnp.uint32)
    with pytest.raises(ValueError, match="give at most 131064 codes"):
        nearest_words(words, words[:1], k=1)
