"""Load a dataset by its name, whole and verified: `load("mnist")`. Each name is one function and one line of a table.

    name                            what it is                          train, validation, test
    digits                          8 x 8 pixels, in scikit-learn       1,150, 288, 359
    mnist, fashion_mnist, kmnist    28 x 28 pixels                      48,000, 12,000, 10,000
    cifar10                         32 x 32 x 3 pixels                  40,000, 10,000, 10,000
    svhn                            32 x 32 x 3 pixels                  73,257, 0, 26,032
    adult                           107 columns of the census           22,792, 16,281, 9,769 (tabular.py)
    imdb                            10,000 words, there or not          25,000, 0, 25,000 (text.py)
    <path>.npz                      a user's own arrays                 first 80 %, rest, test (npz.py)

The first 80 % of a training set train and the rest validates, as in the study, unless the table says otherwise.
"""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jaxhash.data.dataset import Dataset
from jaxhash.data.download import find_folder
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


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load a dataset, whole and verified.

    A file of a public dataset is looked up at `<folder>/<dataset>/<file>`, first in `data_dir` (by default in
    `JAXHASH_DATA_DIR`), then in the cache `pooch.os_cache("jaxhash")`; else it is downloaded into that cache.
    Each is checked by its SHA-256 (mnist, svhn, adult, CIFAR-10's python batches) or its published MD5 (fashion_mnist,
    kmnist, imdb, CIFAR-10's archive). Two kinds of local files have no published checksum, so their form and the range
    of their labels are checked: CIFAR-10's binary batches, and the 5,000 reviews of IMDB.

    Args:
        name: one of `NAMES`, or the path of an .npz file that holds the arrays of `Dataset.from_arrays`.
        data_dir: where files are looked up first.

    Raises:
        DataError: if a file is missing, damaged or unfit; nothing half-loaded is ever returned.
        ValueError: if there is no dataset of that name.

    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.num_classes
    ((1150, 64), 10)
    """
    folder = find_folder(data_dir)
    if name.endswith(".npz"):
        return read_npz(Path(name).expanduser())
    if name not in _READERS:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), NAMES, n=1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"dataset {name!r} is not known;{hint} Give one of {', '.join(NAMES)}, or the path of an .npz file"
        )
    return _READERS[name](folder)


_READERS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": read_digits,
    "mnist": partial(read_idx, "mnist", MNIST),
    "fashion_mnist": partial(read_idx, "fashion_mnist", FASHION_MNIST),
    "kmnist": partial(read_idx, "kmnist", KMNIST),
    "cifar10": partial(read_cifar10, CIFAR10),
    "svhn": partial(read_svhn, SVHN),
    "adult": read_adult,
    "imdb": read_imdb,
}

NAMES = tuple(_READERS)
"""The datasets that `load` knows by name."""
