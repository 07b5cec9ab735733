"""Datasets of pictures: scikit-learn's digits, the MNIST family, CIFAR-10, SVHN."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxhash.data.dataset import Dataset, as_float32, first_80_percent, split
from jaxhash.data.download import DataError, DataFile, fetch, fetch_local, fetch_members, read
from jaxhash.data.image_formats import parse_cifar_binary, parse_cifar_pickle, parse_idx, parse_svhn


class IdxFiles(NamedTuple):
    """The four files of a dataset in MNIST's layout."""

    x_train: DataFile
    y_train: DataFile
    x_test: DataFile
    y_test: DataFile


class Cifar(NamedTuple):
    """The batches of CIFAR-10, the test batch last: five of training examples, one of test examples."""

    archive: DataFile
    """The binary version, a .tar.gz, which is downloaded."""
    members: tuple[str, ...]
    """The batches in it."""
    python: tuple[DataFile, ...]
    """The batches of the python version, which a folder may hold."""


def idx_files(dataset: str, url: str, digests: tuple[str, str, str, str]) -> IdxFiles:
    """The files `<dataset>/train-images-idx3-ubyte.gz` and so on, below `url`; digests in the order of `IdxFiles`."""
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = (f"{name}-ubyte.gz" for name in names)
    return IdxFiles(*(DataFile(f"{dataset}/{f}", d, url + f) for f, d in zip(files, digests, strict=True)))


MNIST = idx_files(
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

FASHION_MNIST = idx_files(
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

KMNIST = idx_files(
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

_CIFAR_PYTHON_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_CIFAR_BATCHES = {
    "data_batch_1": "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}
CIFAR10 = Cifar(
    archive=DataFile(
        "cifar10/cifar-10-binary.tar.gz",
        "md5:c32a1d4ab5d03f1284b67883e8d87530",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
    members=tuple(f"cifar-10-batches-bin/{name}.bin" for name in _CIFAR_BATCHES),
    python=tuple(DataFile(f"cifar10/{name}", digest, _CIFAR_PYTHON_URL) for name, digest in _CIFAR_BATCHES.items()),
)
"""Krizhevsky, "Learning multiple layers of features from tiny images" (2009): photographs of 10 kinds of things."""

_SVHN_URL = "http://ufldl.stanford.edu/housenumbers/"
SVHN = (
    DataFile(
        "svhn/train_32x32.mat",
        "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        f"{_SVHN_URL}train_32x32.mat",
    ),
    DataFile(
        "svhn/test_32x32.mat",
        "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        f"{_SVHN_URL}test_32x32.mat",
    ),
)
"""Netzer et al., "Reading digits in natural images with unsupervised feature learning" (2011): the digits of house
numbers, cut out. The checksums are those that TensorFlow Datasets publishes (url_checksums/svhn_cropped.txt)."""


def read_digits(folder: Path | None) -> Dataset:
    """The first 1,438 of the 1,797 digits are the training set, the last 359 (20 %) the test set."""
    from sklearn.datasets import load_digits  # here, because its import takes more than a second

    pixels, labels = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), labels.astype(np.int32)
    cut = len(y) - len(y) // 5
    return Dataset("digits", *split(x[:cut], y[:cut], first_80_percent(cut)), x[cut:], y[cut:], 10)


def read_idx(name: str, files: IdxFiles, folder: Path | None) -> Dataset:
    """A dataset in MNIST's layout; the first 80 % of its training set train.

    Raises:
        DataError: if a file is missing or damaged, or the files do not fit together.
    """

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
    training = first_80_percent(len(y_train))
    return Dataset(name, *split(x_train, y_train, training), as_float32(x_test), y_test, 10)


def read_cifar10(cifar: Cifar, folder: Path | None) -> Dataset:
    """CIFAR-10 out of its python batches or its binary ones in `folder/cifar10`, else out of the published archive.

    Raises:
        DataError: if a batch is missing or damaged.
    """
    names = [Path(file.path).name for file in cifar.python]
    binary = [] if folder is None else [folder / "cifar10" / f"{name}.bin" for name in names]
    python = [found for file in cifar.python if (found := fetch_local(file, folder))]
    if python and len(python) < len(names):
        there = ", ".join(path.name for path, _ in python)
        raise DataError(f"{folder}/cifar10: holds {there} only; put all of {', '.join(names)} there, or none")
    if python:
        batches = [parse_cifar_pickle(content, path) for path, content in python]
    else:
        paths = binary if any(path.exists() for path in binary) else fetch_members(cifar.archive, cifar.members, folder)
        batches = [parse_cifar_binary(read(path), path) for path in paths]
    x, y = zip(*batches, strict=True)
    x_train, y_train = np.concatenate(x[:-1]), np.concatenate(y[:-1])
    training = first_80_percent(len(y_train))
    return Dataset("cifar10", *split(x_train, y_train, training), as_float32(x[-1]), y[-1], 10)


def read_svhn(files: tuple[DataFile, DataFile], folder: Path | None) -> Dataset:
    """SVHN's cropped digits out of its training and its test file. All of the training set trains, as in the study.

    73,257 and 26,032 pictures of 3,072 numbers: 1.2 GB as float32, and 0.5 GB more while it is read.

    Raises:
        DataError: if a file is missing or damaged.
    """
    found = (fetch(file, folder) for file in files)
    (x_train, y_train), (x_test, y_test) = (parse_svhn(content, path) for path, content in found)
    return Dataset("svhn", *split(x_train, y_train, len(y_train)), as_float32(x_test), y_test, 10)
