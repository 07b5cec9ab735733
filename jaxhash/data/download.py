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
import uuid
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
class Archive:
    """A .tar.gz from which files are taken."""

    url: str
    digest: str
    """`algorithm:hex` of the archive, as pooch takes it."""
    folder: str
    """Folder inside the archive that holds the files."""
    files: dict[str, str]
    """Name -> digest of each file to take; the others stay packed."""


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset, and where it comes from."""

    path: str
    """Below a data folder: `<dataset>/<file>`."""
    digest: str
    """`algorithm:hex` of the file, as pooch takes it."""
    source: str | Archive
    """Its URL, or the archive that holds it."""

    @property
    def url(self) -> str:
        """What is downloaded."""
        return self.source if isinstance(self.source, str) else self.source.url


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
    if folder is not None and (folder / file.path).exists():
        return folder / file.path, _verified(folder / file.path, read(folder / file.path), file.digest)
    if folder is not None and (packed := folder / f"{file.path}.gz").exists():
        return packed, _verified(packed, read_gzip(packed), file.digest)
    cache = Path(pooch.os_cache("jaxhash"))
    cached = cache / file.path
    if cached.is_file() and _matches(content := read(cached), file.digest):
        return cached, content
    try:
        _download(file, cached.parent)
    except (OSError, ValueError, tarfile.TarError, EOFError, zlib.error) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240, placeholder=" ...")
        looked = " and ".join(str(place) for place in (folder, cache) if place is not None)
        raise DataError(
            f"{file.path}: not found (or damaged) in {looked}, and not downloaded from {file.url} ({reason}); "
            f"put the file at <folder>/{file.path} and set JAXHASH_DATA_DIR=<folder>, or allow the download"
        ) from error
    return cached, _verified(cached, read(cached), file.digest)


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


def _download(file: DataFile, folder: Path) -> None:
    """Put a file into `folder`, verified; pooch moves it there only after it matched its digest."""
    name = file.url.rsplit("/", 1)[-1]
    if isinstance(file.source, str):
        pooch.retrieve(file.source, known_hash=file.digest, fname=name, path=folder)
    else:
        archive = pooch.retrieve(file.source.url, known_hash=file.source.digest, fname=name, path=folder)
        _unpack(file.source, Path(archive), folder)


def _unpack(archive: Archive, path: Path, folder: Path) -> None:
    """Write the known files of an archive, and nothing else, into `folder`; each whole or not at all."""
    missing = dict(archive.files)
    with tarfile.open(path) as packed:
        for member in packed:
            name = member.name.rpartition("/")[2]
            if member.name != f"{archive.folder}/{name}" or name not in missing or not member.isreg():
                continue
            stream = packed.extractfile(member)
            content = stream.read() if stream is not None else b""
            if not _matches(content, missing.pop(name)):
                raise ValueError(f"{member.name} in {path} does not match its digest")
            draft = folder / f".{name}.{uuid.uuid4().hex}"
            try:
                draft.write_bytes(content)
                draft.replace(folder / name)
            finally:
                draft.unlink(missing_ok=True)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
