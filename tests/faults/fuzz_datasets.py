"""Readers of data sets and key lists, for the fuzzer (`fuzz_readers.py`)."""

import contextlib
import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.fuzz_reader import Reader, zipped

CIFAR_BATCH = (
    b"\x80\x02}(U\x06labels]K\x01aU\x04data"
    b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t(K\x01K\x01M\x00\x0c\x86"
    b"cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    b"T" + struct.pack("<i", 3072) + bytes(3072) + b"tbu."
)
"""A python batch of one black picture, as Python 2 wrote them."""


def idx(_: Path) -> Reader:
    """MNIST's format: gzipped, or to be gzipped."""
    from jaxhash.data.download import DataError
    from jaxhash.data.image_formats import parse_idx

    images = b"\0\0\x08\x03" + struct.pack(">3I", 3, 2, 2) + bytes(range(12))

    def read(kind: int, content: bytes) -> None:
        packed = _gzipped(content) if kind else content
        with contextlib.suppress(DataError):
            assert parse_idx(packed, Path("images"), 3).size <= 1032 * len(packed)

    return Reader([_gzipped(images), images], read)


def cifar_python(_: Path) -> Reader:
    """CIFAR-10's pickles."""
    from jaxhash.data.download import DataError
    from jaxhash.data.image_formats import parse_cifar_pickle

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(DataError):
            pixels, labels = parse_cifar_pickle(content, Path("batch"))
            assert pixels.shape == (len(labels), 3072)

    return Reader([CIFAR_BATCH], read)


def cifar_binary(_: Path) -> Reader:
    """CIFAR-10's binary batches, of one picture."""
    from jaxhash.data.download import DataError
    from jaxhash.data.image_formats import parse_cifar_binary

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(DataError):
            assert 0 <= parse_cifar_binary(content, Path("batch"), 1)[1][0] <= 9

    return Reader([bytes(3073)], read)


def svhn(_: Path) -> Reader:
    """SVHN's .mat files, plain and compressed."""
    from scipy.io import savemat

    from jaxhash.data.download import DataError
    from jaxhash.data.image_formats import parse_svhn

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(DataError):
            pixels, labels = parse_svhn(content, Path("mat"))
            assert pixels.shape == (len(labels), 3072)
            assert set(labels.tolist()) <= set(range(10))

    files = []
    for compressed in (False, True):
        savemat(
            file := io.BytesIO(),
            {"X": np.zeros((32, 32, 3, 1), np.uint8), "y": np.array([[7]], np.uint8)},
            do_compression=compressed,
        )
        files.append(file.getvalue())
    return Reader(files, read)


def npz(folder: Path) -> Reader:
    """A user's dataset: the archive, or one array of a whole one."""
    from jaxhash.data.dataset import Dataset
    from jaxhash.data.download import DataError
    from jaxhash.data.npz import read_npz

    x, y = np.zeros((10, 2), np.float32), np.arange(10) % 2
    parts = {
        name: _saved(np.save, array) for name, array in {"x_train": x, "y_train": y, "x_test": x, "y_test": y}.items()
    }

    def read(kind: int, content: bytes) -> None:
        path = folder / "x.npz"
        path.write_bytes(content if kind == 0 else zipped(parts | {"x_train" if kind == 1 else "y_train": content}))
        with contextlib.suppress(DataError):
            found = read_npz(path)
            assert isinstance(found, Dataset)
            assert len(found.x_train) == len(found.y_train) > 0

    return Reader([zipped(parts), parts["x_train"], parts["y_train"]], read)


def adult(_: Path) -> Reader:
    """Records of UCI Adult."""
    from jaxhash.data.download import DataError
    from jaxhash.data.tabular import FEATURES, parse_adult

    record = (
        b"39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, "
        b"United-States, <=50K\n"
    )

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(DataError):
            x, y = parse_adult(content, Path("adult.data"))
            assert x.shape == (len(y), FEATURES)

    return Reader([b"|1x3 Cross validator\n" + record + record.replace(b"<=50K", b">50K.")], read)


def imdb_lines(folder: Path) -> Reader:
    """Reviews as gzipped JSON lines, or to be gzipped."""
    from jaxhash.data.download import DataError, read_gzip
    from jaxhash.data.text import parse_jsonl

    lines = b'{"label": 1, "text": "good"}\n{"label": 0, "text": "bad"}\n'

    def read(kind: int, content: bytes) -> None:
        path = folder / "x.jsonl.gz"
        path.write_bytes(_gzipped(content) if kind else content)
        with contextlib.suppress(DataError):
            assert set(parse_jsonl(read_gzip(path), path).labels) == {0, 1}

    return Reader([_gzipped(lines), lines], read, text=True)


def imdb_archive(_: Path) -> Reader:
    """The published archive of reviews: a .tar.gz, or a .tar to be gzipped."""
    from jaxhash.data.download import DataError
    from jaxhash.data.text import parse_archive

    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        for name in ("train/neg/0_3", "train/pos/1_8", "test/neg/2_1", "test/pos/3_9"):
            member = tarfile.TarInfo(f"aclImdb/{name}.txt")
            member.size = 3
            archive.addfile(member, io.BytesIO(b"yes"))
    whole = file.getvalue()

    def read(kind: int, content: bytes) -> None:
        with contextlib.suppress(DataError):
            train, test = parse_archive(_gzipped(content) if kind else content, Path("x.tar.gz"))
            assert set(train.labels) == set(test.labels) == {0, 1}

    return Reader([_gzipped(whole), whole], read)


def keys(_: Path) -> Reader:
    """Keys, one a line, plain or gzipped."""
    from jaxhash.data.download import DataError
    from jaxhash.hashing.keys.words import read_keys

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(DataError):
            found = read_keys(io.BytesIO(content), drop_duplicates=True)
            assert len(set(found)) == len(found)

    return Reader([b"a\nb\r\n\nc", _gzipped(b"a\nb\n")], read)


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


def _saved(save: Callable[..., object], array: np.ndarray) -> bytes:
    save(file := io.BytesIO(), array)
    return file.getvalue()
