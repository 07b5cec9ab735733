"""Word lists and other key sets: by name (`english`, `dwyl`) or from a file, each key once.

Two equal keys are refused with a count and an example, or dropped where asked for.
"""

import hashlib
import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from jaxhash.data.download import DataError, DataFile, fetch, find_folder, read_gzip
from jaxhash.hashing.keys.lines import ByteStream, blocks, file_blocks, keys_of, name_of
from jaxhash.hashing.keys.tokens import shown

DWYL = DataFile(
    "words/words.txt",
    "sha256:5bef207ef2a954ce7df13cee21e8a181ac6a6f9ccb663a0671fc42dc86fc68c0",
    "https://raw.githubusercontent.com/dwyl/english-words/master/words.txt",
)
"""The word list of "Neural Hash Functions" (Unlicense): 466,551 words, where the study counts 466,550."""


def load_keys(name_or_path: str, *, count: int | None = None) -> list[bytes]:
    """A key set by name, or from a file.

    Args:
        name_or_path: `english` (about 10,000 common words, in this package), `dwyl` (the study's dictionary, 466,551
            words: `<JAXHASH_DATA_DIR>/words/words.txt` or `.gz`, pooch's cache, or a download into it), or the path
            of a file as `read_keys` takes it (`./english` for a file of that name).
        count: take only the first `count` keys.

    Raises:
        DataError: if a file is missing, damaged or not the published one.
        ValueError: if keys repeat, or there are fewer than `count`.
    """
    if count is not None and count < 0:
        raise ValueError(f"count={count} is negative; it is the number of keys to take")
    if name_or_path in KEY_SETS:
        keys = KEY_SETS[name_or_path]()
    elif Path(name_or_path).expanduser().exists():
        keys = read_keys(Path(name_or_path).expanduser())
    else:
        raise DataError(
            f"{name_or_path}: no such file, and no named key set; give a file of one key a line, or one of "
            f"{', '.join(KEY_SETS)}"
        )
    if count is not None and count > len(keys):
        raise ValueError(f"count={count:,} is more than the {len(keys):,} keys of {name_or_path}; ask for fewer")
    return keys[:count]


def read_lines(source: str | Path | ByteStream) -> list[bytes]:
    """The lines of a file as keys, in order, repeats included; see `lines.py` for what a line is.

    Args:
        source: a path, or a binary stream, plain or gzipped.

    Raises:
        DataError: if it cannot be read, begins as gzip and is none, or a line is too long.
        TypeError: if it is a text stream.
    """
    found = (
        file_blocks(Path(source), str(source)) if isinstance(source, str | Path) else blocks(source, name_of(source))
    )
    return [key for block in found for key in keys_of(block)]


def read_keys(source: str | Path | ByteStream, *, drop_duplicates: bool = False) -> list[bytes]:
    """The key set in a file: `read_lines`, each key once.

    Raises:
        DataError, TypeError: as `read_lines`.
        ValueError: if keys repeat and `drop_duplicates` is not set; names the file and two lines.
    """
    name = str(source) if isinstance(source, str | Path) else name_of(source)
    keys = read_lines(source)
    once = list(dict.fromkeys(keys))
    if drop_duplicates or len(once) == len(keys):
        return once
    seen: dict[bytes, int] = {}
    for again, key in enumerate(keys):
        if (first := seen.setdefault(key, again)) != again:
            break
    raise Repeated(name, len(keys) - len(once), len(keys), key, f"lines {first + 1} and {again + 1}")


class Repeated(ValueError):
    """Keys that were to be different are not."""

    def __init__(self, name: str, repeats: int, n: int, example: bytes, places: str) -> None:
        super().__init__(
            f"{name}: {repeats:,} of {n:,} keys repeat an earlier one, such as {shown(example)} ({places}); remove "
            "them, or ask for duplicates to be dropped"
        )


def _english() -> list[bytes]:
    return read_lines(io.BytesIO((resources.files("jaxhash.hashing.keys") / "english.txt.gz").read_bytes()))


def _dwyl() -> list[bytes]:
    folder = find_folder(None)
    packed = None if folder is None else folder / f"{DWYL.path}.gz"
    if packed is None or not packed.exists():
        return read_lines(io.BytesIO(fetch(DWYL, folder)[1]))
    content = read_gzip(packed)
    if hashlib.sha256(content, usedforsecurity=False).hexdigest() != DWYL.digest.partition(":")[2]:
        raise DataError(
            f"{packed}: damaged, or not the published list (its text does not match {DWYL.digest}); delete it so that "
            f"the list is downloaded, or replace it by {DWYL.url}"
        )
    return read_lines(io.BytesIO(content))


KEY_SETS: dict[str, Callable[[], list[bytes]]] = {"english": _english, "dwyl": _dwyl}
