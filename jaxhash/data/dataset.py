"""Dataset: labelled examples as NumPy arrays, split into training, validation and test; subsets, label noise, controls.

A dataset comes by name (`catalogue.load`), from a file (`npz`) or from arrays in memory (`Dataset.from_arrays`).
Whatever is drawn at random takes a NumPy generator; `generator` makes one from a seed and the name of a stream.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32

Labels = Int32[np.ndarray, " _"] | Float32[np.ndarray, "..."]
"""Classes, or targets that are none."""
_MEND_LABELS = "number the classes 0, 1, 2, ..."


# Compared by identity: arrays have no single answer to ==.
@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels, C-contiguous NumPy arrays. Pixels are in [0, 1], an image is one row.

    An image's features run along its rows, a colour picture's in the order height, width, channel (as Keras' do).
    """

    name: str
    x_train: Float32[np.ndarray, "train features"]
    y_train: Labels
    x_validation: Float32[np.ndarray, "validation features"]
    y_validation: Labels
    x_test: Float32[np.ndarray, "test features"]
    y_test: Labels
    num_classes: int
    """Labels are 0 ... num_classes - 1. 0: they are no classes, but float32 targets."""
    as_given: tuple[int, ...] | None = None
    """Shape of an example before it became a row, where that was given."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example, as models of one's own get it: as the arrays had it, else a row."""
        return (self.features,) if self.as_given is None else self.as_given

    @property
    def features(self) -> int:
        """Numbers that describe one example."""
        return self.x_train.shape[1]

    @classmethod
    def from_arrays(cls, x_train: Any, y_train: Any, x_test: Any, y_test: Any, *, name: str = "arrays") -> "Dataset":
        """A dataset from arrays in memory. The first 80 % of the training examples train, the rest validate.

        Args:
            x_train: examples [n, ...], uint8 (pixels, divided by 255) or floating point (taken as they are). Images are
                flattened.
            y_train: labels [n] or [n, 1], integers 0 ... k - 1, each of which occurs in the first 80 %; or targets that
                are no classes, floating point [n, ...], for models of one's own (`jaxhash.sweep`).
            x_test: examples [m, ...], of the same kind and size.
            y_test: labels [m] or [m, 1].
            name: what the dataset is called in messages and results.

        Raises:
            ValueError: if the arrays do not fit together, or hold what cannot be learned from.

        >>> import numpy as np
        >>> x, y = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2
        >>> Dataset.from_arrays(x, y, x[:4], y[:4]).x_train.shape
        (8, 16)
        """
        kinds, shape = [np.asarray(x).dtype for x in (x_train, x_test)], np.shape(x_train)[1:]
        x_train, x_test = _examples("x_train", x_train), _examples("x_test", x_test)
        y_train, y_test = _labels("y_train", y_train), _labels("y_test", y_test)
        for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
            if len(x) != len(y):
                raise ValueError(f"x_{part} has {len(x):,} examples, y_{part} {len(y):,} labels; give as many of both")
        if x_train.shape[1] != x_test.shape[1]:
            raise ValueError(
                f"examples of x_train have {x_train.shape[1]} features, of x_test {x_test.shape[1]}; "
                "give as many in both"
            )
        if x_train.dtype != x_test.dtype:
            raise ValueError(
                f"x_train is {kinds[0]}, x_test {kinds[1]}, and only uint8 is divided by 255; "
                "give both as uint8, or both as floating point in one range"
            )
        training = first_80_percent(len(y_train))
        if y_train.dtype != y_test.dtype or y_train.shape[1:] != y_test.shape[1:]:
            raise ValueError(
                f"y_train is {y_train.dtype} {list(y_train.shape)}, y_test {y_test.dtype} {list(y_test.shape)}; give "
                "labels in both, or targets of one shape"
            )
        classes = _count_classes(y_train, y_test, training) if y_train.dtype == np.int32 else 0
        return cls(name, *split(x_train, y_train, training), as_float32(x_test), y_test, classes, shape)


def first_80_percent(n: int) -> int:
    """How many of n training examples train in the study; the others validate."""
    return n * 4 // 5


def split(
    x: np.ndarray, y: Labels, training: int
) -> tuple[
    Float32[np.ndarray, "train features"],
    Labels,
    Float32[np.ndarray, "validation features"],
    Labels,
]:
    """Examples and labels of the first `training` examples, then of the others; pixels (uint8) in [0, 1]."""
    x = as_float32(x)
    return x[:training], y[:training], x[training:], y[training:]


def as_float32(x: np.ndarray) -> Float32[np.ndarray, "n features"]:
    """Pixels (uint8) divided by 255; float32 as it is."""
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def subset(dataset: Dataset, n: int) -> Dataset:
    """The same dataset with the first `n` of its training examples only, so that a larger n adds to a smaller one.

    Raises:
        ValueError: if there are not that many, or `n` is less than 1.
    """
    available = len(dataset.y_train)
    if not 1 <= n <= available:
        raise ValueError(
            f"n={n} training examples cannot be taken from the {available:,} of {dataset.name}; "
            f"give a number from 1 to {available}"
        )
    return replace(dataset, x_train=dataset.x_train[:n], y_train=dataset.y_train[:n])


def with_label_noise(
    y: Int[np.ndarray, " n"], fraction: float, num_classes: int, rng: np.random.Generator
) -> Int32[np.ndarray, " n"]:
    """Labels of which `round(fraction * n)` are replaced by random ones.

    Which ones is drawn without replacement; a new label is uniform over *all* classes, its old one among them, so
    that fraction = 1 leaves nothing to learn (Zhang et al. 2017, "Understanding deep learning requires rethinking
    generalization", section 2). With generators in the same state, a larger fraction keeps the noise of a smaller one
    and adds to it.

    Args:
        y: labels int [n], left as they are.
        fraction: of the labels, 0 to 1.
        num_classes: labels are 0 ... num_classes - 1.
        rng: what draws; each repeat of a sweep has its own.

    Returns:
        labels int32 [n].

    Raises:
        ValueError: if `fraction` is outside [0, 1].

    >>> import numpy as np
    >>> int((with_label_noise(np.zeros(10, int), 0.3, 10**6, np.random.default_rng(0)) > 0).sum())
    3
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction} is outside [0, 1]; it is a fraction of the training labels")
    n = len(y)
    chosen = rng.permutation(n)[: round(fraction * n)]
    labels = np.array(y, np.int32)
    labels[chosen] = rng.integers(num_classes, size=n, dtype=np.int32)[: len(chosen)]
    return labels


def uniform_inputs(n: int, features: int, rng: np.random.Generator) -> Float32[np.ndarray, "n features"]:
    """Random inputs [n, features], uniform in [-1, 0], outside the range of pixels: the control of the study.

    Raises:
        ValueError: if `n` or `features` is less than 1.
    """
    if n < 1 or features < 1:
        raise ValueError(f"n={n} inputs of features={features} are none; give 1 or more of both")
    return rng.uniform(-1.0, 0.0, (n, features)).astype(np.float32)


def _examples(name: str, given: Any) -> np.ndarray:
    x = np.asarray(given)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"{name} has shape {x.shape}; give it as [n, features] or as images [n, ...]")
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x.reshape(len(x), -1))
    if x.dtype.kind != "f":
        raise ValueError(f"{name} is {x.dtype}; give pixels as uint8, other numbers as float32")
    with np.errstate(over="ignore"):  # what does not fit float32 is infinite, and refused below
        x = np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float32)
    if not np.isfinite(x).all():
        raise ValueError(
            f"{name} holds NaN or infinite numbers (as float32), the first in example "
            f"{np.isfinite(x).all(1).argmin()}; remove or replace them"
        )
    return x


def _labels(name: str, given: Any) -> Labels:
    y = np.asarray(given)
    if y.dtype.kind == "f" and y.ndim:
        targets = np.ascontiguousarray(y, np.float32)
        if not np.isfinite(targets).all():
            raise ValueError(f"{name} holds NaN or infinite numbers (as float32); remove or replace them")
        return targets
    if y.ndim == 2 and y.shape[1] == 1:  # as Keras has them
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"{name} has shape {y.shape}; give one label for each example, [n]")
    if y.dtype.kind not in "iu":
        raise ValueError(f"{name} is {y.dtype}; give labels as integers 0, 1, 2, ..., or targets as floating point")
    if len(y) and not 0 <= y.min() <= y.max() < 2**31:
        raise ValueError(f"{name} holds labels {y.min()} ... {y.max()}; {_MEND_LABELS}")
    return np.ascontiguousarray(y, dtype=np.int32)


def _count_classes(y_train: np.ndarray, y_test: np.ndarray, training: int) -> int:
    """How many classes there are, once it is sure that training can know them all."""
    classes = np.union1d(y_train, y_test)
    if len(classes) < 2:
        raise ValueError(f"the labels hold {len(classes)} class; a classifier needs 2 or more")
    if len(classes) != classes[-1] + 1:
        gap = int((classes != np.arange(len(classes))).argmax())
        raise ValueError(
            f"the labels hold {len(classes)} classes, up to {classes[-1]}, none of them {gap}; "
            f"{_MEND_LABELS} without a gap (numpy.unique(labels, return_inverse=True) does)"
        )
    unseen = np.setdiff1d(classes, y_train[:training])
    if len(unseen):
        raise ValueError(
            f"no label {unseen[0]} in the first 80 % of y_train, which train (the last 20 % validate); "
            "shuffle x_train and y_train together, or leave that class out"
        )
    return len(classes)
