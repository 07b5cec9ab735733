"""Datasets of pictures: scikit-learn's digits, the MNIST family, CIFAR-10, SVHN."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxhash.data.dataset import Examples, first_80_percent
from jaxhash.data.download import Archive, DataError, DataFile, fetch, read
from jaxhash.data.image_formats import parse_cifar_binary, parse_cifar_pickle, parse_idx, parse_svhn


class IdxFiles(NamedTuple):
    """The four files of a dataset in MNIST's layout."""

    x_train: DataFile
    y_train: DataFile
    x_test: DataFile
    y_test: DataFile


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


def read_digits(folder: Path | None) -> Examples:
    """The first 1,438 of the 1,797 digits are the training set, the last 359 (20 %) the test set."""
    from sklearn.datasets import load_digits  # here, because its import takes more than a second

    pixels, labels = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), labels.astype(np.int32)
    cut = len(y) - len(y) // 5
    return Examples(x[:cut], y[:cut], x[cut:], y[cut:], 10, first_80_percent(cut))


def read_idx(files: IdxFiles, folder: Path | None) -> Examples:
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
    return Examples(x_train, y_train, x_test, y_test, 10, first_80_percent(len(y_train)))


def read_cifar10(archive: Archive, folder: Path | None) -> Examples:
    """CIFAR-10 out of its python batches, or its binary ones if `folder` holds these only.

    Raises:
        DataError: if a batch is missing or damaged.
    """
    names = list(archive.files)  # the test batch last
    local = None if folder is None else folder / "cifar10"
    if local is not None and not any((local / name).exists() for name in names) and any(local.glob("*_batch*.bin")):
        batches = [parse_cifar_binary(read(path), path) for path in (local / f"{name}.bin" for name in names)]
    else:
        found = (fetch(DataFile(f"cifar10/{name}", archive.files[name], archive), folder) for name in names)
        batches = [parse_cifar_pickle(content, path) for path, content in found]
    x, y = zip(*batches, strict=True)
    x_train, y_train = np.concatenate(x[:-1]), np.concatenate(y[:-1])
    return Examples(x_train, y_train, x[-1], y[-1], 10, first_80_percent(len(y_train)))


def read_svhn(files: tuple[DataFile, DataFile], folder: Path | None) -> Examples:
    """SVHN's cropped digits out of its training and its test file. All of the training set trains, as in the study.

    73,257 and 26,032 pictures of 3,072 numbers: 1.2 GB as float32, and 0.5 GB more while it is read.

    Raises:
        DataError: if a file is missing or damaged.
    """
    found = (fetch(file, folder) for file in files)
    (x_train, y_train), (x_test, y_test) = (parse_svhn(content, path) for path, content in found)
    return Examples(x_train, y_train, x_test, y_test, 10, len(y_train))
