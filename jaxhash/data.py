"""Labelled datasets as NumPy arrays, split as in the study: the first 80 % of the training set train, the last
20 % validate, the test set tests (MNIST: 48,000, 12,000, 10,000).

    digits                          embedded in scikit-learn, 8 x 8 pixels
    mnist, fashion_mnist, kmnist    28 x 28 pixels, IDX files
    cifar10                         32 x 32 x 3 pixels, python batches, or binary batches from a local folder
    <path>.npz                      x_train, y_train, x_test, y_test of one's own

Another dataset is another line in `_READERS`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from jaxhash.datafiles import (
    Archive,
    DataError,
    DataFile,
    fetch,
    find_folder,
    parse_cifar_binary,
    parse_cifar_pickle,
    parse_idx,
    read,
)

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
    Each is checked by its SHA-256 (mnist, cifar10) or its published MD5 (fashion_mnist, kmnist). Only of CIFAR-10's
    binary batches no published checksum is known: their length and the range of their labels are checked. They
    are read if `<folder>/cifar10` holds them and no python batch, and never downloaded.

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
        return _dataset(path.stem, _read_npz(path))
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


class _Examples(NamedTuple):
    """A dataset before it is split: rows of uint8 (pixels 0 ... 255) or float32, labels int32 from 0."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int


def _dataset(name: str, examples: _Examples) -> Dataset:
    cut = _training_examples(len(examples.y_train))
    x, y = _as_float32(examples.x_train), examples.y_train
    test = _as_float32(examples.x_test)
    return Dataset(name, x[:cut], y[:cut], x[cut:], y[cut:], test, examples.y_test, examples.num_classes)


def _training_examples(n: int) -> int:
    return n * 4 // 5


def _as_float32(x: np.ndarray) -> Float32[np.ndarray, "n features"]:
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"seed={seed} is negative; give 0 or more")
    return np.random.default_rng(seed)


def _read_digits(folder: Path | None) -> _Examples:
    """The first 1,438 of the 1,797 digits are the training set, the last 359 (20 %) the test set."""
    from sklearn.datasets import load_digits  # here, because its import takes more than a second

    pixels, labels = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), labels.astype(np.int32)
    cut = len(y) - len(y) // 5
    return _Examples(x[:cut], y[:cut], x[cut:], y[cut:], 10)


class _IdxFiles(NamedTuple):
    """The four files of a dataset in MNIST's layout."""

    x_train: DataFile
    y_train: DataFile
    x_test: DataFile
    y_test: DataFile


def _idx_files(dataset: str, url: str, digests: tuple[str, str, str, str]) -> _IdxFiles:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = (f"{name}-ubyte.gz" for name in names)
    return _IdxFiles(*(DataFile(f"{dataset}/{f}", d, url + f) for f, d in zip(files, digests, strict=True)))


def _read_idx(files: _IdxFiles, folder: Path | None) -> _Examples:
    def part(images: DataFile, labels: DataFile) -> tuple[np.ndarray, np.ndarray]:
        images_path, content = fetch(images, folder)
        x = parse_idx(content, images_path, 3)
        labels_path, content = fetch(labels, folder)
        y = parse_idx(content, labels_path, 1)
        mend = "get the files again from their publisher"
        if not x.size or len(x) != len(y):
            raise DataError(f"{labels_path}: holds {len(y):,} labels for images of shape {x.shape}; {mend}")
        if y.max() > 9:
            raise DataError(f"{labels_path}: holds the label {y.max()} where 0 ... 9 are expected; {mend}")
        return x.reshape(len(x), -1), y.astype(np.int32)

    x_train, y_train = part(files.x_train, files.y_train)
    x_test, y_test = part(files.x_test, files.y_test)
    if x_train.shape[1] != x_test.shape[1]:
        raise DataError(
            f"{files.x_test.path}: its images have {x_test.shape[1]} pixels, the training images "
            f"{x_train.shape[1]}; get the files again from their publisher"
        )
    return _Examples(x_train, y_train, x_test, y_test, 10)


def _read_cifar10(archive: Archive, folder: Path | None) -> _Examples:
    names = list(archive.files)  # the test batch last
    local = None if folder is None else folder / "cifar10"
    if local is not None and not any((local / name).exists() for name in names) and any(local.glob("*_batch*.bin")):
        batches = [parse_cifar_binary(read(path), path) for path in (local / f"{name}.bin" for name in names)]
    else:
        found = (fetch(DataFile(f"cifar10/{name}", archive.files[name], archive), folder) for name in names)
        batches = [parse_cifar_pickle(content, path) for path, content in found]
    x, y = zip(*batches, strict=True)
    return _Examples(np.concatenate(x[:-1]), np.concatenate(y[:-1]), x[-1], y[-1], 10)


def _read_npz(path: Path) -> _Examples:
    names = ("x_train", "y_train", "x_test", "y_test")
    if not path.is_file():
        raise DataError(f"{path}: no such file; write one with numpy.savez(path, x_train=..., and so on)")
    try:
        # opened here, because np.load leaves a file that is no archive open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            arrays = {name: archive[name] for name in names if name not in missing}
    except Exception as error:  # a damaged archive can fail in any way
        raise DataError(
            f"{path}: cannot be read as .npz ({type(error).__name__}: {error}); "
            "write it with numpy.savez, with arrays of numbers only"
        ) from error
    if missing:
        raise DataError(f"{path}: lacks {' and '.join(missing)}; save the arrays {', '.join(names)}")
    x_train, x_test = _own_examples(path, "x_train", arrays), _own_examples(path, "x_test", arrays)
    y_train, y_test = _own_labels(path, "y_train", arrays), _own_labels(path, "y_test", arrays)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y):
            raise DataError(
                f"{path}: x_{part} has {len(x):,} examples, y_{part} {len(y):,} labels; save as many of both"
            )
    if x_train.shape[1] != x_test.shape[1]:
        raise DataError(
            f"{path}: examples of x_train have {x_train.shape[1]} features, of x_test {x_test.shape[1]}; "
            "save as many in both"
        )
    if x_train.dtype != x_test.dtype:
        raise DataError(
            f"{path}: x_train is {arrays['x_train'].dtype}, x_test {arrays['x_test'].dtype}, and only uint8 is "
            "divided by 255; save both as uint8, or both as floating point in one range"
        )
    return _Examples(x_train, y_train, x_test, y_test, _count_classes(path, y_train, y_test))


def _own_examples(path: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    x = arrays[name]
    if x.ndim < 2 or not x.size:
        raise DataError(f"{path}: {name} has shape {x.shape}; save it as [n, features] or as images [n, ...]")
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x.reshape(len(x), -1))
    if x.dtype.kind != "f":
        raise DataError(f"{path}: {name} is {x.dtype}; save pixels as uint8, other numbers as float32")
    with np.errstate(over="ignore"):  # what does not fit float32 is infinite, and refused below
        x = np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float32)
    if not np.isfinite(x).all():
        raise DataError(
            f"{path}: {name} holds NaN or infinite numbers (as float32), the first in example "
            f"{np.isfinite(x).all(1).argmin()}; remove or replace them"
        )
    return x


def _own_labels(path: Path, name: str, arrays: dict[str, np.ndarray]) -> Int32[np.ndarray, " n"]:
    y = arrays[name]
    if y.ndim == 2 and y.shape[1] == 1:  # as Keras has them
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{path}: {name} has shape {y.shape}; save one label for each example, [n]")
    if y.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} is {y.dtype}; save labels as integers 0, 1, 2, ...")
    if len(y) and not 0 <= y.min() <= y.max() < 2**31:
        raise DataError(f"{path}: {name} holds labels {y.min()} ... {y.max()}; number the classes 0, 1, 2, ...")
    return np.ascontiguousarray(y, dtype=np.int32)


def _count_classes(path: Path, y_train: np.ndarray, y_test: np.ndarray) -> int:
    """How many classes there are, once it is sure that training can know them all."""
    classes = np.union1d(y_train, y_test)
    if len(classes) < 2:
        raise DataError(f"{path}: holds {len(classes)} class; a classifier needs 2 or more")
    if len(classes) != classes[-1] + 1:
        gap = int((classes != np.arange(len(classes))).argmax())
        raise DataError(
            f"{path}: holds {len(classes)} classes, labels up to {classes[-1]}, none of them {gap}; "
            "number the classes 0, 1, 2, ... without a gap (numpy.unique(labels, return_inverse=True) does)"
        )
    trained = np.unique(y_train[: _training_examples(len(y_train))])
    if len(trained) != len(classes):
        unseen = np.setdiff1d(classes, trained)
        raise DataError(
            f"{path}: no label {unseen[0]} in the first 80 % of y_train, which train (the last 20 % validate); "
            "shuffle x_train and y_train together, or leave that class out"
        )
    return len(classes)


MNIST = _idx_files(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    (
        "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
"""LeCun, Cortes, Burges: handwritten digits."""

FASHION_MNIST = _idx_files(
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    (
        "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "md5:25c81989df183df01b3e8a0aad5dffbe",
        "md5:bef4ecab320f06d8554ea6380940ec79",
        "md5:bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
"""Xiao, Rasul, Vollgraf (arXiv 1708.07747): articles of clothing."""

KMNIST = _idx_files(
    "kmnist",
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    (
        "md5:bdb82020997e1d708af4cf47b453dcf7",
        "md5:e144d726b3acfaa3e44228e80efcd344",
        "md5:5c965bf0a639b31b8f53240b1b52f4d7",
        "md5:7320c461ea6c1c855c0b718fb2a4b134",
    ),
)
"""Clanuwat et al. (arXiv 1812.01718): cursive Japanese characters."""

CIFAR10 = Archive(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "md5:c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
    {
        "data_batch_1": "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
)
"""Krizhevsky, "Learning multiple layers of features from tiny images" (2009): photographs of 10 kinds of things."""

_READERS: dict[str, Callable[[Path | None], _Examples]] = {
    "digits": _read_digits,
    "mnist": partial(_read_idx, MNIST),
    "fashion_mnist": partial(_read_idx, FASHION_MNIST),
    "kmnist": partial(_read_idx, KMNIST),
    "cifar10": partial(_read_cifar10, CIFAR10),
}

NAMES = tuple(_READERS)
"""The datasets that `load` knows by name."""
