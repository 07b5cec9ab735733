"""The benchmark of properties: its ratios, and that answers which differ are told."""

import numpy as np
import pytest

from bench import properties


@pytest.fixture(scope="module")
def codes():
    """Forty-eight codes of 20 bits, the test codes among them."""
    bits = np.random.default_rng(0).random((48, 20)) < 0.5
    bits[40:] = bits[:8]
    labels = np.arange(48, dtype=np.int32) % 2
    code, test = properties.Code.of(bits), properties.Code.of(bits[40:])
    return properties.Codes(bits, bits[40:], labels, labels[40:], code, test)


def test_ratios_are_those_of_median_seconds():
    first = {"9-NN": [5.0], "distinct codes": [1.5], "all together": [20.0]}
    seconds = {"jaxhash 9-NN": [2.0, 1.0, 3.0], "jaxhash distinct codes": [0.5], "jaxhash all together": [4.0]}
    seconds |= {"scikit-learn 9-NN": [30.0, 10.0], "scikit-learn distinct codes": [1.0], "FAISS 9-NN": [5.0]}
    found = properties.figures(first, seconds)
    assert found["ratios"] == pytest.approx({"9-NN": 10.0, "distinct codes": 2.0})
    assert found["ratio_vs_sklearn"] == pytest.approx(21 / 4)
    assert found["knn_vs_faiss"] == pytest.approx(2.5)
    assert found["compile_seconds"] == pytest.approx(3 + 1 + 16)
    del seconds["FAISS 9-NN"]
    assert properties.figures(first, seconds)["knn_vs_faiss"] is None


def test_answers_that_differ_are_told(codes):
    distances = np.sort((codes.test[:, None] ^ codes.train[None]).sum(-1), axis=1)[:, : properties.NEIGHBOURS]
    ours = {
        "distinct codes": (8 / 48, 0.0),
        "9-NN": codes.test_labels,
        "logistic regression": codes.test_labels,
        "K-Means, training codes": 101.0,
        "K-Means, test codes": 50.0,
    }
    latest = {f"scikit-learn {name}": answer for name, answer in ours.items()} | {"FAISS 9-NN": distances}
    said = properties._agreement(codes, ours, latest)
    assert said[:2] == ["redundancy ratios equal NumPy's", "0 of 72 neighbour distances differ from FAISS'"]
    latest["FAISS 9-NN"] = distances + (np.arange(properties.NEIGHBOURS) == 2)
    latest["scikit-learn distinct codes"] = (8 / 48, 0.25)
    latest["scikit-learn 9-NN"] = np.where(np.arange(8) < 2, 1 - codes.test_labels, codes.test_labels)
    latest["scikit-learn K-Means, training codes"] = 100.0
    said = properties._agreement(codes, ours, latest)
    assert said[0] == "redundancy ratios equal NumPy's to 2.5e-01"
    assert said[1].startswith("8 of 72")
    assert "75.00% of the test examples" in said[2]
    assert "(accuracy 1.0000 and 0.7500;" in said[2]
    assert said[4] == "K-Means, training codes: inertia +1.00% against scikit-learn's"
