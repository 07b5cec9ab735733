"""The encoding properties of one model's neural codes: determinism and categorisation.

Definitions: He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490), section 3, and the
authors' code for what the text leaves open.
"""

import math
from typing import Literal, NamedTuple

import jax
from jaxtyping import Array, Int, Key, UInt32

from jaxhash.codes.code import first_repeated, keep_bits, redundancy_ratio, varying_bits
from jaxhash.codes.kmeans import cluster_accuracy, kmeans
from jaxhash.codes.knn import knn_predict
from jaxhash.codes.logistic import logistic_accuracy

NEIGHBOURS = 9
RESTARTS = 10

Assignment = Literal["optimal", "greedy"]


class Properties(NamedTuple):
    """Six of the ten numbers that are kept of every model (the others are losses and accuracies), each in [0, 1]."""

    train_redundancy: float
    test_redundancy: float
    train_kmeans_accuracy: float
    test_kmeans_accuracy: float
    knn_accuracy: float
    logistic_accuracy: float


def measure(
    key: Key[Array, ""],
    train_words: UInt32[Array, "train words"],
    train_labels: Int[Array, " train"],
    test_words: UInt32[Array, "test words"],
    test_labels: Int[Array, " test"],
    *,
    num_classes: int,
    assignment: Assignment = "optimal",
    count: int | None = None,
) -> Properties:
    """All encoding properties of one model.

    Bits that are constant over train and test together are dropped before clustering and classification, as the
    authors do. K-Means runs on the training codes and on the test codes separately; k-NN and logistic regression
    are fitted on the training codes and scored on the test codes.

    Args:
        key: decides the K-Means seedings.
        train_words: packed codes of the training examples, uint32.
        test_words: packed codes of the test examples, uint32.
        num_classes: number of classes, and of clusters.
        assignment: how clusters get their labels: the best one-to-one, or the authors' greedy one.
        count: the training examples are the first so many of those given (all by default). The programs are the same
            for every count, so that a sweep over sample sizes compiles them once. Of fewer than 9 training examples
            each votes in 9-NN; a class without any is never predicted; of fewer than there are classes no K-Means
            is made, and `train_kmeans_accuracy` is NaN.
    """
    given = len(train_words) if count is None else count
    if count is not None:
        train_words = first_repeated(train_words, count)
    mask = varying_bits(train_words, test_words)
    train, test = keep_bits(train_words, mask), keep_bits(test_words, mask)
    train_key, test_key = jax.random.split(key)

    def clusters(key: Array, words: Array, labels: Array, count: int | None = None) -> float:
        found = kmeans(key, words, num_classes, restarts=RESTARTS, count=count)
        return float(cluster_accuracy(found.labels, labels, num_classes, assignment=assignment, count=count))

    k = min(NEIGHBOURS, len(train_words))
    neighbours = knn_predict(train, train_labels, test, k=k, num_classes=num_classes, count=count)
    logistic = logistic_accuracy(train, train_labels, test, test_labels, num_classes=num_classes, count=count)
    return Properties(
        train_redundancy=redundancy_ratio(train_words, count),
        test_redundancy=redundancy_ratio(test_words),
        train_kmeans_accuracy=clusters(train_key, train, train_labels, count) if given >= num_classes else math.nan,
        test_kmeans_accuracy=clusters(test_key, test, test_labels),
        knn_accuracy=float((neighbours == test_labels).mean()),
        logistic_accuracy=float(logistic),
    )
