"""The ten numbers of a trained model, worked out again from its codes by NumPy and scikit-learn."""

import warnings

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KNeighborsClassifier


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

    for name, codes, labels in (("train", train, y), ("test", test, test_y)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer than 10 different codes
            clusters = KMeans(10, n_init=10, random_state=0).fit_predict(codes)
        counts = np.zeros((10, 10), int)
        np.add.at(counts, (clusters, labels), 1)
        accuracy = counts[linear_sum_assignment(-counts)].sum() / len(labels)
        # Clusterings of nearly the same inertia can differ by whole classes; test_kmeans.py compares the inertia.
        assert abs(found[f"{name}_kmeans_accuracy"] - accuracy) <= 0.15


@pytest.mark.parametrize("width", [3, 20, 40])
def test_losses_and_accuracies_are_those_of_the_loaded_model(trained, width):
    data, found, model = trained.data, trained.results.sel(width=width, repeat=1), trained.model(width, 1)
    for name, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        logits = np.asarray(model.apply(x), np.float64)
        log_likelihood = logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(1))
        np.testing.assert_allclose(found[f"{name}_loss"], -log_likelihood.mean(), rtol=1e-4)
        np.testing.assert_allclose(found[f"{name}_accuracy"], (logits.argmax(1) == y).mean(), atol=1e-3)
