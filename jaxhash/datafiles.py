"""Files of public datasets: found in a folder, the cache or the network, verified, and taken apart.

Every file is looked up in the user's folder, then in pooch's cache, then downloaded into that cache. What does not
match its checksum is refused before it is parsed, and the parsers still trust nothing that a file says of itself.
"""

import gzip
import hashlib
import io
import math
import os
import pickle
import tarfile
import textwrap
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pooch
from jaxtyping import Int32, UInt8

CIFAR_SHAPE = (3, 32, 32)
"""Channel, height, width: the order in which CIFAR files store a picture."""
CIFAR_FEATURES = math.prod(CIFAR_SHAPE)

# Deflate cannot pack more than 1,032 bytes into one (zlib's technical notes): a larger claim is false.
_MOST_BYTES_PER_PACKED_BYTE = 1032


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

    Looked up in `folder`, then in `pooch.os_cache("jaxhash")`; else downloaded into that cache.

    Raises:
        DataError: if the file in `folder` is not the published one, or the file is nowhere and cannot be downloaded.
    """
    if folder is not None and (folder / file.path).exists():
        return folder / file.path, _read_verified(folder / file.path, file.digest)
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
    return cached, _read_verified(cached, file.digest)


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; put it there, or give another folder") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it a file that you may read") from error


def parse_idx(content: bytes, path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """The array in a gzipped IDX file of unsigned bytes, uint8 with `axes` axes.

    Format: https://yann.lecun.com/exdb/mnist: two zero bytes, type 8, number of axes; a big-endian uint32 for each
    axis; the bytes, last axis fastest.

    Args:
        content: the gzipped file.
        path: where it is from, for error messages.
        axes: 3 for images [n, height, width], 1 for labels [n].

    Raises:
        DataError: if it is not exactly such a file.
    """
    mend = "get the file again from its publisher"
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            magic = stream.read(4)
            if magic != bytes((0, 0, 8, axes)):
                raise DataError(
                    f"{path}: begins with {magic.hex() or 'nothing'}, but an IDX file of bytes with {axes} axes "
                    f"begins with 000008{axes:02x}; {mend}"
                )
            header = stream.read(4 * axes)
            if len(header) < 4 * axes:
                raise DataError(f"{path}: ends inside its header; {mend}")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
            expected = math.prod(shape)
            if expected > _MOST_BYTES_PER_PACKED_BYTE * len(content):
                raise DataError(f"{path}: claims {shape} bytes, more than a file of its size can hold; {mend}")
            # One byte more than there should be: it shows what is left over, and makes gzip check its checksum.
            values = stream.read(expected + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); {mend}") from error
    if len(values) != expected:
        found = f"only {len(values):,}" if len(values) < expected else "more"
        raise DataError(f"{path}: its header {shape} needs {expected:,} bytes, it holds {found}; {mend}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def parse_cifar_pickle(content: bytes, path: Path) -> tuple[UInt8[np.ndarray, "n 3072"], Int32[np.ndarray, " n"]]:
    """Pictures uint8 [n, 3072] (height, width, channel) and labels int32 [n] of a CIFAR-10 python batch.

    The format is a pickle. Nothing in it is run: the names of NumPy's array and dtype stand for an inert record
    whose parts are then checked and put together here, and any other name is refused.
    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).

    Raises:
        DataError: if it is not exactly such a batch.
    """
    mend = "get the file again from https://www.cs.toronto.edu/~kriz/cifar.html"
    try:
        batch = _InertUnpickler(io.BytesIO(content), encoding="bytes").load()
        _, shape, dtype, by_columns, pixels = batch[b"data"].state
        labels = batch[b"labels"]
        whole = (
            type(labels) is list
            and all(type(label) is int for label in labels)
            and dtype.arguments[0] == b"u1"
            and not by_columns
            and type(pixels) is bytes
            and shape == (len(labels), CIFAR_FEATURES)
            and len(pixels) == math.prod(shape)
        )
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: not a CIFAR-10 python batch ({error}); {mend}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(f"{path}: not a CIFAR-10 python batch ({type(error).__name__}); {mend}") from error
    if not whole:
        raise DataError(f"{path}: not a CIFAR-10 python batch (no uint8 [n, 3072] with n labels); {mend}")
    return _channels_last(np.frombuffer(pixels, np.uint8)), _cifar_labels(labels, path, mend)


def parse_cifar_binary(
    content: bytes, path: Path, examples: int = 10_000
) -> tuple[UInt8[np.ndarray, "n 3072"], Int32[np.ndarray, " n"]]:
    """Pictures uint8 [n, 3072] (height, width, channel) and labels int32 [n] of a CIFAR-10 binary batch.

    Format: https://www.cs.toronto.edu/~kriz/cifar.html: for each example a label byte and 3,072 pixel bytes.

    Raises:
        DataError: if it does not have exactly `examples` examples, or a label is not 0 ... 9.
    """
    mend = "get the file again from https://www.cs.toronto.edu/~kriz/cifar.html (binary version)"
    expected = examples * (1 + CIFAR_FEATURES)
    if len(content) != expected:
        raise DataError(f"{path}: {len(content):,} bytes long, but a CIFAR-10 binary batch has {expected:,}; {mend}")
    rows = np.frombuffer(content, np.uint8).reshape(examples, 1 + CIFAR_FEATURES)
    return _channels_last(rows[:, 1:]), _cifar_labels(rows[:, 0], path, mend)


class _Inert:
    """What every NumPy object in a pickle becomes: the arguments and the state it was given, and no code."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    allowed = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")
        return _Inert


def _channels_last(pixels: np.ndarray) -> UInt8[np.ndarray, "n 3072"]:
    pictures = pixels.reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures).reshape(-1, CIFAR_FEATURES)


def _cifar_labels(labels: Any, path: Path, mend: str) -> Int32[np.ndarray, " n"]:
    if len(labels) and not 0 <= min(labels) <= max(labels) <= 9:
        raise DataError(f"{path}: holds labels {min(labels)} ... {max(labels)} where 0 ... 9 are expected; {mend}")
    return np.asarray(labels, np.int32)


def _read_verified(path: Path, digest: str) -> bytes:
    content = read(path)
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
