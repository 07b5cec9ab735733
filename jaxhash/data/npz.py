"""Dataset in an .npz file: x_train [n, ...], y_train [n], x_test [m, ...], y_test [m], as `Dataset.from_arrays`."""

from pathlib import Path

import numpy as np

from jaxhash.data.dataset import Dataset
from jaxhash.data.download import DataError
from jaxhash.storage import checked_read


def read_npz(path: Path) -> Dataset:
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
    try:
        return Dataset.from_arrays(**arrays, name=path.stem)
    except ValueError as error:
        raise DataError(f"{path}: {error}, and save the file again") from error


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
