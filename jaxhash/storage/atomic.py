"""Atomic files and folders: what stands under a name is on the disk before the name is.

A file system may write a rename to the disk before the contents of what was renamed; after a power cut the new name
then leads to an empty or torn file. POSIX leaves it to `fsync`, of the files, of the folders that name them, and of the
folder renamed into. (Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting
Crash-Consistent Applications", OSDI 2014, found this missing in most programs.)
"""

import errno
import os
from pathlib import Path

# What some network file systems answer when they are asked to sync a folder: there it is theirs to keep names.
_NO_SYNC_OF_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}


def rename(draft: Path, path: Path, *, made: list[Path]) -> None:
    """Give a finished file or folder its name, for good: it replaces a file, or an empty folder, of that name.

    Args:
        draft: in the folder of `path`.
        path: the name.
        made: folders that were made for it, as `make_folder` returns them.

    Raises:
        OSError: if it cannot be written. Where only the last step failed, `path` exists, though a power cut may take
            it back.
    """
    for inner, _, files in os.walk(draft, topdown=False):
        for name in files:
            _sync(Path(inner, name))
        _sync_folder(Path(inner))
    if draft.is_file():
        _sync(draft)
    draft.replace(path)
    for folder in (path.parent, *(folder.parent for folder in made)):
        _sync_folder(folder)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it, where they are missing.

    Returns:
        Those that were made, the innermost first; `rename` makes their names last.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _sync_folder(folder: Path) -> None:
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS:
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)
