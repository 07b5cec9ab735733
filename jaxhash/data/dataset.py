"""A dataset as its files hold it, before its examples are cut into those that train and those that validate."""

from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
    """Rows of uint8 (pixels 0 ... 255) or float32, labels int32 from 0."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    training: int
    """The first so many of the training set train, the rest validate."""


def first_80_percent(n: int) -> int:
    """How many of n training examples train in the study's sweeps on MNIST and CIFAR-10."""
    return n * 4 // 5
