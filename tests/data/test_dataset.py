"""Dataset from arrays; subsets, label noise and random inputs against counting."""

import numpy as np
import pytest

from jaxhash.data import load, subset, uniform_inputs, with_label_noise


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_subset_takes_the_first_training_examples(digits):
    some = subset(digits, 100)
    np.testing.assert_array_equal(some.x_train, digits.x_train[:100])
    np.testing.assert_array_equal(some.y_train, digits.y_train[:100])
    assert some.x_validation is digits.x_validation
    assert some.x_test is digits.x_test
    assert (some.name, some.num_classes) == (digits.name, digits.num_classes)
    assert len(subset(digits, 1150).y_train) == 1150


@pytest.mark.parametrize("n", [-1, 0, 1151])
def test_subset_refuses_more_than_there_are(digits, n):
    with pytest.raises(ValueError, match=rf"n={n} .* 1,150 of digits; give a number from 1 to 1150"):
        subset(digits, n)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.333, 0.5, 1.0])
def test_exactly_so_many_labels_are_drawn_from_all_classes(fraction):
    n, classes = 10_000, 10
    noisy = with_label_noise(np.zeros(n, int), fraction, classes, np.random.default_rng(3))
    counts = np.bincount(noisy, minlength=classes)
    drawn = round(fraction * n)
    # of the drawn labels a tenth is the old label again, within four standard deviations
    assert abs(counts[1:].sum() - 0.9 * drawn) <= 4 * np.sqrt(drawn * 0.09)
    assert np.abs(counts[1:] - drawn / classes).max() <= 5 * np.sqrt(drawn * 0.09)


def test_never_more_labels_change_than_asked_for():
    # with a million classes practically every drawn label is another one
    noisy = with_label_noise(np.zeros(1000, np.int64), 0.25, 2**31 - 1, np.random.default_rng(0))
    assert (noisy != 0).sum() == 250
    assert noisy.dtype == np.int32


def test_label_noise_is_that_of_its_generator_nested_and_leaves_what_it_is_given():
    y = np.arange(1000, dtype=np.int32) % 10
    some, more = (with_label_noise(y, fraction, 10, np.random.default_rng(5)) for fraction in (0.3, 0.6))
    np.testing.assert_array_equal(y, np.arange(1000) % 10)
    np.testing.assert_array_equal(some[some != y], more[some != y])
    assert (with_label_noise(y, 0.3, 10, np.random.default_rng(6)) != some).any()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_label_noise_refuses_other_fractions(fraction):
    with pytest.raises(ValueError, match=rf"fraction={fraction} is outside \[0, 1\]"):
        with_label_noise(np.zeros(3, int), fraction, 2, np.random.default_rng(0))


def test_uniform_inputs_fill_their_range():
    x = uniform_inputs(1000, 20, np.random.default_rng(0))
    assert (x.shape, x.dtype) == ((1000, 20), np.float32)
    assert x.flags.c_contiguous
    assert x.min() >= -1
    assert x.max() <= 0
    np.testing.assert_allclose(x.mean(), -0.5, atol=0.01)
    np.testing.assert_allclose(x.std(), 1 / np.sqrt(12), atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"n": 0, "features": 3}, "n=0"),
        ({"n": 3, "features": -1}, "features=-1"),
    ],
)
def test_uniform_inputs_refuse(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        uniform_inputs(**arguments, rng=np.random.default_rng(0))
