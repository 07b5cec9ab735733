"""Labelled datasets as NumPy arrays, split as in the study: the first 80 % of the training set train, the last
20 % validate, the test set tests (MNIST: 48,000, 12,000, 10,000), unless it is said otherwise.

    digits                          embedded in scikit-learn, 8 x 8 pixels
    mnist, fashion_mnist, kmnist    28 x 28 pixels, IDX files
    cifar10                         32 x 32 x 3 pixels, python batches, or binary batches from a local folder
    svhn                            32 x 32 x 3 pixels, .mat files; all training pictures train: 73,257, 0, 26,032
    adult                           107 columns of the census (tabular_data.py): 22,792, 16,281, 9,769
    imdb                            10,000 words, there or not (text_data.py); all training reviews train:
                                    25,000, 0, 25,000, or a part of 5,000, 0, 5,000 from a local folder
    <path>.npz                      x_train, y_train, x_test, y_test of one's own

Another dataset is another line in `_READERS`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from jaxhash.data.dataset import Examples
from jaxhash.data.download import DataError, find_folder
from jaxhash.data.images import (
    CIFAR10,
    FASHION_MNIST,
    KMNIST,
    MNIST,
    SVHN,
    read_cifar10,
    read_digits,
    read_idx,
    read_svhn,
)
from jaxhash.data.npz import read_npz
from jaxhash.data.tabular import read_adult
from jaxhash.data.text import read_imdb

__all__ = ["NAMES", "DataError", "Dataset", "load", "subset", "uniform_inputs", "with_label_noise"]


# Compared by identity: arrays have no single answer to ==.
@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels, C-contiguous NumPy arrays. Pixels are in [0, 1], an image is one row.

    An image's features run along its rows, a colour picture's in the order height, width, channel (as Keras' do).
    """

    name: str
    x_train: Float32[np.ndarray, "train features"]
    y_train: Int32[np.ndarray, " train"]
    x_validation: Float32[np.ndarray, "validation features"]
    y_validation: Int32[np.ndarray, " validation"]
    x_test: Float32[np.ndarray, "test features"]
    y_test: Int32[np.ndarray, " test"]
    num_classes: int
    """Labels are 0 ... num_classes - 1."""

    @property
    def features(self) -> int:
        """Numbers that describe one example."""
        return self.x_train.shape[1]


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load a dataset, whole and verified.

    A file of a public dataset is looked up at `<folder>/<dataset>/<file>`, first in `data_dir` (by default in
    `JAXHASH_DATA_DIR`), then in the cache `pooch.os_cache("jaxhash")`; else it is downloaded into that cache.
    Each is checked by its SHA-256 (mnist, cifar10, svhn, adult) or its published MD5 (fashion_mnist, kmnist, imdb).
    Only of CIFAR-10's binary batches and of the local part of IMDB no published checksum is known: their form and
    the range of their labels are checked. They are read if `<folder>/<dataset>` holds them and not the files that
    are downloaded, and never downloaded.

    Args:
        name: one of `NAMES`, or the path of an .npz file that holds x_train [n, ...], y_train [n], x_test [m, ...],
            y_test [m]. There uint8 examples are divided by 255, floating-point ones are taken as they are; labels
            are integers 0 ... k - 1, each of which occurs in the first 80 % of y_train.
        data_dir: where files are looked up first.

    Raises:
        DataError: if a file is missing, damaged or unfit; nothing half-loaded is ever returned.
        ValueError: if there is no dataset of that name.
    """
    folder = find_folder(data_dir)
    if name.endswith(".npz"):
        path = Path(name).expanduser()
        return _dataset(path.stem, read_npz(path))
    if name not in _READERS:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), NAMES, n=1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"dataset {name!r} is not known;{hint} Give one of {', '.join(NAMES)}, or the path of an .npz file"
        )
    return _dataset(name, _READERS[name](folder))


def subset(dataset: Dataset, n: int) -> Dataset:
    """The same dataset with the first `n` training examples only.

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


def with_label_noise(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """The same dataset with `round(fraction * n)` training labels replaced by random ones.

    Which ones is drawn without replacement; a new label is uniform over *all* classes, its old one among them, so
    that fraction = 1 leaves nothing to learn (Zhang et al. 2017, "Understanding deep learning requires rethinking
    generalization", section 2). With the same seed, a larger fraction keeps the noise of a smaller one and adds to
    it. Labels of validation and test examples stay.

    Args:
        dataset: left as it is.
        fraction: of the training labels, 0 to 1.
        seed: of NumPy's default generator, 0 or more.

    Raises:
        ValueError: if `fraction` is outside [0, 1] or `seed` negative.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction} is outside [0, 1]; it is a fraction of the training labels")
    generator = _generator(seed)
    n = len(dataset.y_train)
    chosen = generator.permutation(n)[: round(fraction * n)]
    labels = dataset.y_train.copy()
    labels[chosen] = generator.integers(dataset.num_classes, size=n, dtype=np.int32)[: len(chosen)]
    return replace(dataset, y_train=labels)


def uniform_inputs(
    n: int, features: int, low: float = -1.0, high: float = 0.0, seed: int = 0
) -> Float32[np.ndarray, "n features"]:
    """Random inputs [n, features], uniform in [low, high]: the study's control, by default outside the pixels' range.

    Raises:
        ValueError: if `n` or `features` is less than 1, `low < high` does not hold, one of them is not finite, or
            `seed` is negative.
    """
    if n < 1 or features < 1:
        raise ValueError(f"n={n} inputs of features={features} are none; give 1 or more of both")
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"low={low} and high={high} bound no range; give finite numbers with low < high")
    return _generator(seed).uniform(low, high, (n, features)).astype(np.float32)


def _dataset(name: str, examples: Examples) -> Dataset:
    cut = examples.training
    x, y = _as_float32(examples.x_train), examples.y_train
    test = _as_float32(examples.x_test)
    return Dataset(name, x[:cut], y[:cut], x[cut:], y[cut:], test, examples.y_test, examples.num_classes)


def _as_float32(x: np.ndarray) -> Float32[np.ndarray, "n features"]:
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"seed={seed} is negative; give 0 or more")
    return np.random.default_rng(seed)


_READERS: dict[str, Callable[[Path | None], Examples]] = {
    "digits": read_digits,
    "mnist": partial(read_idx, MNIST),
    "fashion_mnist": partial(read_idx, FASHION_MNIST),
    "kmnist": partial(read_idx, KMNIST),
    "cifar10": partial(read_cifar10, CIFAR10),
    "svhn": partial(read_svhn, SVHN),
    "adult": read_adult,
    "imdb": read_imdb,
}

NAMES = tuple(_READERS)
"""The datasets that `load` knows by name."""
