"""The ten numbers of a trained model, worked out again from its codes by NumPy and scikit-learn."""

import sys

import chex
import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KNeighborsClassifier

from jaxhash.codes import PROPERTIES, Code, Property, kmeans, measure, properties


@pytest.mark.parametrize("width", [3, 20, 40])
def test_a_sweeps_numbers_are_scikit_learns(trained, width):
    found = trained.results.sel(width=width, repeat=0)
    (train, test), y, test_y = trained.bits(width), trained.data.y_train, trained.data.y_test

    assert found["train_redundancy"] == (len(train) - len(np.unique(train, axis=0))) / len(train)
    assert found["test_redundancy"] == (len(test) - len(np.unique(test, axis=0))) / len(test)

    both = np.concatenate([train, test])
    varies = both.min(0) != both.max(0)
    train, test = train[:, varies].astype(float), test[:, varies].astype(float)

    logistic = OneVsOneClassifier(LogisticRegression(tol=1e-8, max_iter=10_000)).fit(train, y)
    assert abs(found["logistic_accuracy"] - logistic.score(test, test_y)) <= 0.003

    # What every way of settling ties between neighbours lies between: labels of all codes as near as the 9th.
    distances = np.abs(test[:, None] - train[None]).sum(-1)
    votes = KNeighborsClassifier(9, metric="manhattan", algorithm="brute").fit(train, y).predict(test)
    untied = np.sort(distances, 1)[:, 8] != np.sort(distances, 1)[:, 9]
    tied = (~untied).mean()
    assert abs(found["knn_accuracy"] - (votes == test_y).mean()) <= tied


@pytest.mark.parametrize("assignment", ["optimal", "greedy"])
def test_kmeans_accuracy_is_worked_out_from_the_clusters(trained, assignment):
    """The clusters are scikit-learn's when it starts from the same centres; labels are matched by SciPy."""
    (train, test), y, test_y = trained.bits(20), trained.data.y_train, trained.data.y_test
    key = jax.random.key(5)
    asked = {name: PROPERTIES[name] for name in ("train_kmeans_accuracy", "test_kmeans_accuracy")}
    found = measure(Code.of(train), y, Code.of(test), test_y, key=key, assignment=assignment, properties=asked)
    both = np.concatenate([train, test])
    varies = both.min(0) != both.max(0)
    keys = jax.random.split(key)
    for name, bits, labels, own in (("train", train, y, keys[0]), ("test", test, test_y, keys[1])):
        clusters = kmeans(own, Code.of(bits & varies), 10, restarts=10)
        theirs = KMeans(10, init=np.asarray(clusters.centroids)[:, : bits.shape[1]], n_init=1, max_iter=1)
        agree = theirs.fit((bits & varies).astype(np.float32)).labels_ == np.asarray(clusters.labels)
        assert agree.mean() > 0.99  # one more iteration of theirs moves hardly a code
        counts = np.zeros((10, 10), int)
        np.add.at(counts, (np.asarray(clusters.labels), labels), 1)
        hits = counts.max(1).sum() if assignment == "greedy" else counts[linear_sum_assignment(-counts)].sum()
        assert found[f"{name}_kmeans_accuracy"] == pytest.approx(hits / len(labels), abs=1e-6)


def test_a_property_of_the_users_own_is_a_line_in_the_table(trained):
    (train, test), y, test_y = trained.bits(20), trained.data.y_train, trained.data.y_test
    share = Property("share of ones", lambda data: data.test.unpack().mean())
    found = measure(Code.of(train), y, Code.of(test), test_y, properties={"ones": share})
    assert found == {"ones": pytest.approx(test.mean(), abs=1e-6)}
    assert list(measure(Code.of(train), y, Code.of(test), test_y)) == list(PROPERTIES)


def test_codes_and_labels_that_do_not_fit_are_refused():
    codes, y = Code.of(np.ones((4, 3), bool)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) for 4 training codes; give one each"):
        measure(codes, y[:3], codes, y)
    with pytest.raises(ValueError, match="codes of 3 and of 2 bits cannot be compared"):
        measure(codes, y, Code.of(np.ones((4, 2), bool)), y)


def test_codes_without_bits_are_refused():
    none, labels = Code.of(np.zeros((3, 0), bool)), np.array([0, 1, 1])
    with pytest.raises(ValueError, match="the codes have no bits"):
        measure(none, labels, none, labels)


@pytest.mark.parametrize("side", ["train", "test"])
def test_fewer_codes_than_classes_have_no_kmeans_accuracy(side):
    few, many = (Code.of(np.random.default_rng(n).random((n, 20)) > 0.5) for n in (2, 12))
    codes = {"train": many, "test": many, side: few}
    labels = {name: np.arange(code.n) % 3 for name, code in codes.items()}
    both = {name: PROPERTIES[name] for name in ("train_kmeans_accuracy", "test_kmeans_accuracy")}
    found = measure(codes["train"], labels["train"], codes["test"], labels["test"], num_classes=3, properties=both)
    assert [name for name, number in found.items() if np.isnan(number)] == [f"{side}_kmeans_accuracy"]


@pytest.mark.parametrize("width", [3, 20, 40])
def test_losses_and_accuracies_are_those_of_the_loaded_model(trained, width):
    data, found, model = trained.data, trained.results.sel(width=width, repeat=1), trained.model(width, 1)
    for name, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        logits = np.asarray(model.apply(x), np.float64)
        log_likelihood = logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(1))
        np.testing.assert_allclose(found[f"{name}_loss"], -log_likelihood.mean(), rtol=1e-4)
        np.testing.assert_allclose(found[f"{name}_accuracy"], (logits.argmax(1) == y).mean(), atol=1e-3)


def test_few_codes_of_different_lengths_share_their_programs(trained, monkeypatch):
    """Their words are filled up to as many, which no property sees; where they lie does not matter."""
    lloyd = sys.modules["jaxhash.codes.lloyd"]
    once = chex.assert_max_traces(lloyd._lloyd.__wrapped__, n=1)
    monkeypatch.setattr(lloyd, "_lloyd", jax.jit(once, static_argnames=("k", "max_iterations")))
    y, test_y = trained.data.y_train, trained.data.y_test
    some = {name: PROPERTIES[name] for name in ("train_kmeans_accuracy", "logistic_accuracy")}
    found = {}
    for width in (20, 40):
        codes = [Code.of(bits) for bits in trained.bits(width)]
        placed = [code.replace(words=jax.device_put(code.words, jax.devices()[0])) for code in codes]
        found[width] = measure(codes[0], y, codes[1], test_y, properties=some)
        assert measure(placed[0], y, placed[1], test_y, properties=some) == found[width]
        assert all(properties._filled(code, 4).words.committed for code in placed)
    monkeypatch.undo()
    monkeypatch.setattr(properties, "words_measured", lambda n, num_words: num_words)
    assert measure(codes[0], y, codes[1], test_y, properties=some) == found[40]
