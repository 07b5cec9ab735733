"""Files of public datasets: found in a folder, the cache or the network, and verified.

Every file is looked up in the user's folder, then in pooch's cache, then downloaded into that cache. What does not
match its checksum is refused before anything is read out of it.
"""

import gzip
import hashlib
import io
import os
import tarfile
import textwrap
import zlib
from dataclasses import dataclass
from pathlib import Path

import pooch

from jaxhash.storage import checked_read

MAX_UNPACKED_BYTES = 2**28
"""Most that is taken out of one gzipped text file: far more than any dataset's text, far less than the memory."""


class DataError(ValueError):
    """A dataset's file is missing, damaged, or not what it should be: `<path>: <what is wrong>; <mend>`."""


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset, and where it comes from."""

    path: str
    """Below a data folder: `<dataset>/<file>`."""
    digest: str
    """`algorithm:hex` of the file, as pooch takes it."""
    url: str
    """Where it is published."""


def find_folder(data_dir: str | Path | None) -> Path | None:
    """The folder in which files are looked up first: `data_dir`, else `JAXHASH_DATA_DIR`, else none.

    Raises:
        DataError: if `data_dir` is given and is no folder.
    """
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if not folder.is_dir():
            raise DataError(f"{folder}: data_dir is not a folder; create it, or give another data_dir")
        return folder
    from_environment = os.environ.get("JAXHASH_DATA_DIR")
    return Path(from_environment).expanduser() if from_environment else None


def fetch(file: DataFile, folder: Path | None) -> tuple[Path, bytes]:
    """Where a file was found, and its verified content.

    Looked up in `folder`, as it is or gzipped (`<file>.gz`), then in `pooch.os_cache("jaxhash")`; else downloaded
    into that cache.

    Raises:
        DataError: if the file in `folder` is not the published one, or the file is nowhere and cannot be downloaded.
    """
    if (found := fetch_local(file, folder)) is not None:
        return found
    cached = _retrieve(file, folder)
    return cached, read(cached)


def fetch_local(file: DataFile, folder: Path | None) -> tuple[Path, bytes] | None:
    """Where a file stands in `folder`, as it is or gzipped (`<file>.gz`), and its verified content; None if nowhere.

    Raises:
        DataError: if it is not the published one.
    """
    if folder is None:
        return None
    plain, packed = folder / file.path, folder / f"{file.path}.gz"
    if plain.exists():
        return plain, _verified(plain, read(plain), file.digest)
    return (packed, _verified(packed, read_gzip(packed), file.digest)) if packed.exists() else None


def fetch_members(archive: DataFile, members: tuple[str, ...], folder: Path | None) -> list[Path]:
    """Where files of a .tar.gz are unpacked: beside it in the cache, into which it is downloaded if it is not there.

    Nothing is unpacked before the archive matched its digest.

    Raises:
        DataError: if the archive cannot be downloaded.
    """
    unpacked = _retrieve(archive, folder, pooch.Untar(list(members), "unpacked")).with_name("unpacked")
    return [unpacked / member for member in members]


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with checked_read.opened(path) as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; put it there, or give another folder") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it a file that you may read") from error


def read_gzip(path: Path) -> bytes:
    """The unpacked content of a gzipped text file.

    Raises:
        DataError: if it cannot be read, is no whole gzip file, or holds more than `MAX_UNPACKED_BYTES`.
    """
    packed = read(path)
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            content = stream.read(MAX_UNPACKED_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); get it again, or put it there unpacked") from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise DataError(
            f"{path}: holds more than {MAX_UNPACKED_BYTES:,} bytes unpacked, which no file of a known dataset does; "
            "replace it by the published one"
        )
    return content


def _verified(path: Path, content: bytes, digest: str) -> bytes:
    if not _matches(content, digest):
        algorithm, expected = digest.split(":")
        raise DataError(
            f"{path}: damaged, or not the published file (its {algorithm} is not {expected}); "
            "delete it so that it is downloaded, or replace it by the published one"
        )
    return content


def _matches(content: bytes, digest: str) -> bool:
    algorithm, expected = digest.split(":")
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == expected


def _retrieve(file: DataFile, folder: Path | None, processor: pooch.Untar | None = None) -> Path:
    """Where a file stands in the cache; downloaded if it is not there whole, and put there once its digest matched."""
    cache = Path(pooch.os_cache("jaxhash"))
    target = cache / file.path
    try:
        pooch.retrieve(file.url, known_hash=file.digest, fname=target.name, path=target.parent, processor=processor)
    except (OSError, ValueError, tarfile.TarError, EOFError, zlib.error) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240, placeholder=" ...")
        looked = " and ".join(str(place) for place in (folder, cache) if place is not None)
        raise DataError(
            f"{file.path}: not found (or damaged) in {looked}, and not downloaded from {file.url} ({reason}); "
            f"put the file at <folder>/{file.path} and set JAXHASH_DATA_DIR=<folder>, or allow the download"
        ) from error
    return target
