"""Parsers of pictures against bytes written here by the formats' descriptions, and against SciPy's writer."""

import base64
import gzip
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from jaxhash.data.download import DataError
from jaxhash.data.image_formats import parse_cifar_binary, parse_cifar_pickle, parse_idx, parse_svhn
from tests.faults.fuzz_datasets import CIFAR_BATCH

HERE = Path("somewhere/file")


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


@pytest.mark.parametrize("shape", [(7,), (5, 3, 4), (0,), (0, 28, 28)])
def test_idx_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = parse_idx(gzip.compress(idx(array), mtime=0), HERE, len(shape))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


IMAGES = np.random.default_rng(1).integers(0, 256, (9, 6, 6), dtype=np.uint8)
WHOLE = gzip.compress(idx(IMAGES), mtime=0)
HUGE = struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
EMPTY_AND_ENDLESS = struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "begins with nothing"),
        (b"not gzip at all", "not a whole gzip file"),
        (WHOLE[: len(WHOLE) // 2], "not a whole gzip file"),
        (WHOLE[:-1], "not a whole gzip file"),
        (WHOLE[:-8] + bytes([WHOLE[-8] ^ 1]) + WHOLE[-7:], "CRC check failed"),
        (WHOLE + b"more", "not a whole gzip file"),
        (gzip.compress(idx(IMAGES, magic=b"\0\0\x0d\3"), mtime=0), "begins with 00000d03"),
        (gzip.compress(idx(IMAGES.reshape(9, 36)), mtime=0), "begins with 00000802"),
        (gzip.compress(b"\0\0\x08\3\0\0", mtime=0), "ends inside its header"),
        (gzip.compress(idx(IMAGES)[:-1], mtime=0), "needs 324 bytes, it holds only 323"),
        (gzip.compress(idx(IMAGES) + b"x", mtime=0), "needs 324 bytes, it holds more"),
        (gzip.compress(b"\0\0\x08\3" + HUGE, mtime=0), "more than a file of its size can hold"),
        (gzip.compress(b"\0\0\x08\3" + EMPTY_AND_ENDLESS, mtime=0), "more than a file of its size can hold"),
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
    with pytest.raises(DataError, match=r"it asks for .*, which no such file needs"):
        parse_cifar_pickle(attack, HERE)
    assert not (tmp_path / "run").exists()
    pickle.loads(attack)  # the attack is a real one
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy\nndarray.tofile", "numpy.core.multiarray\nfromfile"]
)
def test_no_other_name_is_ever_looked_up(name):
    with pytest.raises(DataError, match="which no such file needs"):
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
    ],
)
def test_cifar_pickle_refuses_what_is_not_a_whole_batch(content):
    with pytest.raises(DataError, match=f"^{HERE}: .*; get the file again from https://www.cs.toronto.edu"):
        parse_cifar_pickle(content, HERE)


def test_cifar_pickle_gives_numpy_no_flags_of_the_file():
    """Found by the fuzzer: NumPy takes the flags of a pickled dtype as they are, and then leaves its memory."""
    assert CIFAR_BATCH.count(b"K\x00tb\x89") == 1
    pixels, labels = parse_cifar_pickle(CIFAR_BATCH.replace(b"K\x00tb\x89", b"K\x3dtb\x89"), HERE)
    assert pixels.shape == (1, 3072)
    assert labels.tolist() == [1]
    assert not pixels.any()
    assert not pixels.dtype.hasobject


@pytest.mark.parametrize("change", [-3073, -1, 1])
def test_cifar_binary_refuses_another_length(change):
    with pytest.raises(DataError, match=r"bytes long, but a CIFAR-10 binary batch has 9,219"):
        parse_cifar_binary(bytes(3 * 3073 + change), HERE, examples=3)


def test_cifar_binary_refuses_other_labels():
    content = bytearray(2 * 3073)
    content[3073] = 10
    with pytest.raises(DataError, match=r"labels 0 \.\.\. 10 where 0 \.\.\. 9"):
        parse_cifar_binary(bytes(content), HERE, examples=2)


# --- SVHN


def svhn(n, seed=0, compress=True, **changes):
    """A .mat file of n random digits as MATLAB's own layout has them, and the digits: [n, 32, 32, 3] and 0 ... 9."""
    rng = np.random.default_rng(seed)
    pictures, labels = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10
    stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    arrays = {"X": pictures.transpose(1, 2, 3, 0), "y": stored} | changes
    stream = io.BytesIO()
    savemat(stream, {name: array for name, array in arrays.items() if array is not None}, do_compression=compress)
    return stream.getvalue(), pictures, labels


@pytest.mark.parametrize("compress", [True, False])
def test_svhn_pictures_are_rows_of_pixels_of_three_channels_and_ten_is_the_digit_zero(compress):
    content, pictures, labels = svhn(13, compress=compress)
    x, y = parse_svhn(content, HERE)
    assert (x.dtype, y.dtype, x.flags.c_contiguous) == (np.uint8, np.int32, True)
    np.testing.assert_array_equal(x, pictures.reshape(13, 3072))
    np.testing.assert_array_equal(y, labels)


def test_one_svhn_picture_is_enough():
    content, pictures, _ = svhn(1, y=np.array([[3]], np.uint8))
    x, y = parse_svhn(content, HERE)
    np.testing.assert_array_equal(x, pictures.reshape(1, 3072))
    assert y.tolist() == [3]


DIGITS = np.zeros((32, 32, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a whole .mat file"),
        (b"MATLAB 5.0 MAT-file, and no more", "not a whole .mat file"),
        (svhn(4)[0][:-500], "not a whole .mat file"),
        (svhn(4, X=None)[0], "not a whole .mat file of digits .*'X'"),
        (svhn(4, y=None)[0], "not a whole .mat file of digits .*'y'"),
        (svhn(4, X=DIGITS.astype(float))[0], r"holds X: double \(32, 32, 3, 4\), y: uint8 \(4, 1\), not X: uint8"),
        (svhn(4, X=DIGITS[..., :3])[0], r"not X: uint8 \(32, 32, 3, n\) and y: \(n, 1\)"),
        (svhn(4, X=DIGITS.reshape(3072, 4))[0], r"holds X: uint8 \(3072, 4\)"),
        (svhn(4, y=np.zeros((4, 1), np.uint8))[0], r"labels 0 \.\.\. 0 where 1 \.\.\. 10"),
        (svhn(4, y=np.full((4, 1), 1.5))[0], r"labels 1.5 \.\.\. 1.5 where 1 \.\.\. 10"),
        (svhn(4, y=np.full((4, 1), 11, np.uint8))[0], "labels 11"),
    ],
)
def test_svhn_refuses_what_is_not_a_whole_file_of_digits(content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        parse_svhn(content, HERE)
    assert str(caught.value).startswith(f"{HERE}: ")
    assert "get the file again from http://ufldl.stanford.edu" in str(caught.value)


def test_svhn_refuses_a_header_that_claims_more_than_the_file_can_hold():
    content = bytearray(svhn(4, compress=False, y=np.ones((4, 1)))[0])
    for claim, n in ((b"\x20\0\0\0\x20\0\0\0\x03\0\0\0\x04\0\0\0", 16), (b"\x04\0\0\0\x01\0\0\0", 8)):
        at = content.find(claim)
        assert at > 0
        content[at + (12 if n == 16 else 0) : at + (16 if n == 16 else 4)] = struct.pack("<i", 2**30)
    with pytest.raises(DataError, match=r"holds X: uint8 \(32, 32, 3, 1073741824\)"):
        parse_svhn(bytes(content), HERE)


def test_svhn_refuses_a_file_that_ends_the_process_of_other_readers():
    """Found by the fuzzer: SciPy's reader follows its tags out of its memory."""
    found = (
        "DwAAAD8AAAB4nO3K2wnAIBQE0b2GiIKIJaQMS0n/lbh5dOEcGPZnu6TZpOwtrupzuuGuv8PFW+j2pucA1AAABGAjCyxsASsPAAAAJgAAAHic42Ng"
        "YDAAYjYg5gBiTgYIYIXyGeGYkaESSDMBaXYgDQAYmADq"
    )
    with pytest.raises(DataError, match=r"not a whole \.mat file"):
        parse_svhn(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + base64.b64decode(found), HERE)
