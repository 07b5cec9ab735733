"""File readers against bytes written here by the formats' descriptions; downloads against a stand-in for pooch."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests

from jaxhash.datafiles import (
    Archive,
    DataError,
    DataFile,
    fetch,
    find_folder,
    parse_cifar_binary,
    parse_cifar_pickle,
    parse_idx,
)

HERE = Path("somewhere/file")


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def idx(array, magic=None):
    header = bytes((0, 0, 8, array.ndim)) if magic is None else magic
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def cifar_batches(n, seed=0):
    """n random examples as a python batch (opcode by opcode as Python 2 wrote the published ones), as a binary
    batch, and as pictures [n, height, width, channel] and labels."""
    rng = np.random.default_rng(seed)
    planes = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, n)
    binary = b"".join(bytes([y]) + x.tobytes() for x, y in zip(planes, labels, strict=True))
    return cifar_pickle(planes.tobytes(), labels, n), binary, planes.transpose(0, 2, 3, 1), labels


def cifar_pickle(pixels, labels, n, dtype=b"u1"):
    def number(value):
        return b"J" + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t("
        + (b"K\x01" + number(n) + b"M\x00\x0c\x86")
        + (b"cnumpy\ndtype\nq\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87Rq\x0b")
        + (b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
        + (b"T" + struct.pack("<i", len(pixels)) + pixels + b"tb")
    )
    listed = b"](" + b"".join(number(int(y)) for y in labels) + b"e"
    return b"\x80\x02}(U\x06labels" + listed + b"U\x04data" + array + b"u."


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no network: a download fails as pooch's does."""

    def refuse(url, **arguments):
        raise requests.exceptions.ConnectionError("no network in tests")

    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.delenv("JAXHASH_DATA_DIR", raising=False)
    return tmp_path / "cache" / "jaxhash"


# --- IDX


@pytest.mark.parametrize("shape", [(7,), (5, 3, 4), (0,), (0, 28, 28)])
def test_idx_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = parse_idx(gzip.compress(idx(array)), HERE, len(shape))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


IMAGES = np.random.default_rng(1).integers(0, 256, (9, 6, 6), dtype=np.uint8)
WHOLE = gzip.compress(idx(IMAGES))
HUGE = struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "begins with nothing"),
        (b"not gzip at all", "not a whole gzip file"),
        (WHOLE[: len(WHOLE) // 2], "not a whole gzip file"),
        (WHOLE[:-1], "not a whole gzip file"),
        (WHOLE[:-8] + bytes([WHOLE[-8] ^ 1]) + WHOLE[-7:], "CRC check failed"),
        (WHOLE + b"more", "not a whole gzip file"),
        (gzip.compress(idx(IMAGES, magic=b"\0\0\x0d\3")), "begins with 00000d03"),
        (gzip.compress(idx(IMAGES.reshape(9, 36))), "begins with 00000802"),
        (gzip.compress(b"\0\0\x08\3\0\0"), "ends inside its header"),
        (gzip.compress(idx(IMAGES)[:-1]), "needs 324 bytes, it holds only 323"),
        (gzip.compress(idx(IMAGES) + b"x"), "needs 324 bytes, it holds more"),
        (gzip.compress(b"\0\0\x08\3" + HUGE), "more than a file of its size can hold"),
    ],
)
def test_idx_refuses_what_is_not_whole(content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        parse_idx(content, HERE, 3)
    assert str(caught.value).startswith(f"{HERE}: ")
    assert str(caught.value).endswith("; get the file again from its publisher")


# --- CIFAR-10


def test_both_cifar_formats_give_the_same_pictures_rows_of_pixels_of_three_channels():
    pickled, binary, pictures, labels = cifar_batches(12)
    for x, y in (parse_cifar_pickle(pickled, HERE), parse_cifar_binary(binary, HERE, examples=12)):
        assert (x.dtype, y.dtype) == (np.uint8, np.int32)
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(x.reshape(12, 32, 32, 3), pictures)
        np.testing.assert_array_equal(y, labels)


def test_the_batch_written_here_is_a_pickle_that_numpy_itself_reads():
    pickled, _, pictures, labels = cifar_batches(2)
    # Python batches name numpy.core, which NumPy 2 still answers to, with a warning.
    batch = pickle.loads(pickled.replace(b"numpy.core.multi", b"numpy._core.multi"), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"].reshape(2, 3, 32, 32).transpose(0, 2, 3, 1), pictures)
    assert batch[b"labels"] == list(labels)


class Touch:
    """Unpickled by `pickle.loads`, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    attack = pickle.dumps({b"data": Touch(tmp_path / "run"), b"labels": [1]}, protocol)
    with pytest.raises(DataError, match=r"it asks for .*, which no CIFAR-10 batch needs"):
        parse_cifar_pickle(attack, HERE)
    assert not (tmp_path / "run").exists()
    pickle.loads(attack)  # the attack is a real one
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy\nndarray.tofile", "numpy.core.multiarray\nfromfile"]
)
def test_no_other_name_is_ever_looked_up(name):
    with pytest.raises(DataError, match="which no CIFAR-10 batch needs"):
        parse_cifar_pickle(b"\x80\x02c" + name.encode() + b"\n.", HERE)


PIXELS = bytes(2 * 3072)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        pickle.dumps([1, 2]),
        pickle.dumps({b"labels": [1]}),
        pickle.dumps({b"labels": [1], b"data": b"bytes"}),
        cifar_pickle(PIXELS, [1, 2], 2)[:-2000],
        cifar_pickle(PIXELS, [1, 2, 3], 2),
        cifar_pickle(PIXELS[1:], [1, 2], 2),
        cifar_pickle(PIXELS, [1, 2], 1000),
        cifar_pickle(PIXELS, [1, 2], -2),
        cifar_pickle(PIXELS, [1, 2], 2, dtype=b"u2"),
        cifar_pickle(PIXELS, [1, 10], 2),
        cifar_pickle(PIXELS, [-1, 1], 2),
        # _reconstruct asked for 10^9 x 10^9 numbers: NumPy would try to have the memory
        b"\x80\x02cnumpy\nndarray\nJ\x00\xca\x9a;J\x00\xca\x9a;\x86\x85R.",
    ],
)
def test_cifar_pickle_refuses_what_is_not_a_whole_batch(content):
    with pytest.raises(DataError, match=f"^{HERE}: .*; get the file again from https://www.cs.toronto.edu"):
        parse_cifar_pickle(content, HERE)


@pytest.mark.parametrize("change", [-3073, -1, 1])
def test_cifar_binary_refuses_another_length(change):
    with pytest.raises(DataError, match=r"bytes long, but a CIFAR-10 binary batch has 9,219"):
        parse_cifar_binary(bytes(3 * 3073 + change), HERE, examples=3)


def test_cifar_binary_refuses_other_labels():
    content = bytearray(2 * 3073)
    content[3073] = 10
    with pytest.raises(DataError, match=r"labels 0 \.\.\. 10 where 0 \.\.\. 9"):
        parse_cifar_binary(bytes(content), HERE, examples=2)


# --- where files come from

CONTENT = b"what the publisher published"
FILE = DataFile("set/file.gz", sha256(CONTENT), "https://example.org/files/file.gz")


def put(folder, path, content):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def test_a_file_in_the_given_folder_comes_first(tmp_path, cache):
    put(tmp_path, FILE.path, CONTENT)
    put(cache, FILE.path, CONTENT)
    assert fetch(FILE, tmp_path) == (tmp_path / FILE.path, CONTENT)


def test_the_cache_comes_second(tmp_path, cache):
    put(cache, FILE.path, CONTENT)
    assert fetch(FILE, tmp_path) == (cache / FILE.path, CONTENT)
    assert fetch(FILE, None) == (cache / FILE.path, CONTENT)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_another_checksum_is_refused(tmp_path, cache, algorithm):
    file = DataFile(FILE.path, f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}", FILE.url)
    put(tmp_path, file.path, CONTENT)
    assert fetch(file, tmp_path)[1] == CONTENT
    put(tmp_path, file.path, CONTENT + b"!")
    with pytest.raises(DataError, match=f"{tmp_path / FILE.path}: damaged, .*{algorithm} is not .*; delete it"):
        fetch(file, tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, cache):
    (tmp_path / FILE.path).mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        fetch(FILE, tmp_path)


@pytest.mark.parametrize("in_cache", [None, b"damaged"])
def test_a_missing_file_without_network_is_one_clear_error(tmp_path, cache, in_cache):
    if in_cache is not None:
        put(cache, FILE.path, in_cache)
    with pytest.raises(DataError) as caught:
        fetch(FILE, tmp_path)
    message = str(caught.value)
    for part in (FILE.path, str(tmp_path), str(cache), FILE.url, "no network in tests", "set JAXHASH_DATA_DIR="):
        assert part in message
    assert "\n" not in message


def test_a_missing_file_is_downloaded_into_the_cache(tmp_path, cache, monkeypatch):
    def retrieve(url, known_hash, fname, path):
        assert (url, known_hash, fname) == (FILE.url, FILE.digest, "file.gz")
        put(Path(path), fname, CONTENT)
        return str(Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert fetch(FILE, tmp_path) == (cache / FILE.path, CONTENT)


def tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(members, monkeypatch, **files):
    """An archive that pooch would download: `members` are in it, `files` are what is known of it."""
    content = tar(members)

    def retrieve(url, known_hash, fname, path):
        assert known_hash == sha256(content)
        put(Path(path), fname, content)
        return str(Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return Archive("https://example.org/a.tar.gz", sha256(content), "inside", {k: sha256(v) for k, v in files.items()})


def test_only_the_known_files_of_an_archive_are_unpacked(cache, monkeypatch):
    members = {
        "inside/one": b"1",
        "inside/two": b"2",
        "inside/../../evil": b"!",
        "/one": b"!",
        "two": b"!",
        "x/one": b"!",
    }
    archive = archive_of(members, monkeypatch, one=b"1", two=b"2")
    for name, content in (("one", b"1"), ("two", b"2")):
        assert fetch(DataFile(f"set/{name}", archive.files[name], archive), None) == (cache / "set" / name, content)
    assert sorted(p.name for p in cache.parent.rglob("*") if p.is_file()) == ["a.tar.gz", "one", "two"]


@pytest.mark.parametrize("members", [{"inside/one": b"other"}, {"two": b"1"}, {}])
def test_an_archive_that_lacks_a_file_or_holds_another_is_refused(cache, monkeypatch, members):
    archive = archive_of(members, monkeypatch, one=b"1")
    with pytest.raises(DataError, match=r"does not match its digest|lacks one"):
        fetch(DataFile("set/one", archive.files["one"], archive), None)
    assert not (cache / "set" / "one").exists()


def test_the_folder_is_the_argument_else_the_environment_else_none(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXHASH_DATA_DIR", "/from/environment")
    assert find_folder(tmp_path) == tmp_path
    assert find_folder(None) == Path("/from/environment")
    monkeypatch.setenv("JAXHASH_DATA_DIR", "")
    assert find_folder(None) is None
    monkeypatch.delenv("JAXHASH_DATA_DIR")
    assert find_folder(None) is None


def test_a_data_dir_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", str(tmp_path / "file")):
        with pytest.raises(DataError, match="data_dir is not a folder; create it"):
            find_folder(folder)
