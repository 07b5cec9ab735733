"""A user's own dataset: an .npz file of x_train [n, ...], y_train [n], x_test [m, ...], y_test [m].

Examples are uint8 (pixels 0 ... 255) or floating-point numbers, which are taken as they are; labels are integers
0 ... k - 1, each of which occurs among the examples that train.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int32

from jaxhash.data.dataset import Examples, first_80_percent
from jaxhash.data.download import DataError
from jaxhash.storage import checked_read


def read_npz(path: Path) -> Examples:
    """The dataset in an .npz file; its first 80 % of training examples train.

    Raises:
        DataError: if the file is missing, damaged, or its arrays do not fit; never unpickles.
    """
    names = ("x_train", "y_train", "x_test", "y_test")
    if not path.is_file():
        raise DataError(f"{path}: no such file; write one with numpy.savez(path, x_train=..., and so on)")
    try:
        # opened here, because np.load leaves a file that is no archive open
        with checked_read.opened(path) as stream, np.load(stream, allow_pickle=False) as archive:
            _bounded(archive)
            missing = [name for name in names if name not in archive]
            arrays = {name: archive[name] for name in names if name not in missing}
    except Exception as error:  # a damaged archive can fail in any way
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise DataError(
            f"{path}: cannot be read as .npz ({reason}); write it with numpy.savez, with arrays of numbers only"
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
    classes = _count_classes(path, y_train, y_test)
    return Examples(x_train, y_train, x_test, y_test, classes, first_80_percent(len(y_train)))


def _bounded(archive: np.lib.npyio.NpzFile) -> None:
    """Whether an archive holds one array a name, and no more than fits into memory.

    Raises:
        ValueError: if it does not.
    """
    if len(set(archive.files)) < len(archive.files):
        raise ValueError("two arrays in it have the same name")
    parts = [] if archive.zip is None else archive.zip.infolist()
    claimed: int = sum(part.file_size for part in parts)
    memory = checked_read.memory_bytes()
    if claimed > checked_read.MEMORY_SHARE * memory:
        raise ValueError(f"it claims {claimed / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of memory")


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
    trained = np.unique(y_train[: first_80_percent(len(y_train))])
    if len(trained) != len(classes):
        unseen = np.setdiff1d(classes, trained)
        raise DataError(
            f"{path}: no label {unseen[0]} in the first 80 % of y_train, which train (the last 20 % validate); "
            "shuffle x_train and y_train together, or leave that class out"
        )
    return len(classes)
