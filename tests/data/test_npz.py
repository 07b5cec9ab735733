"""A user's own arrays: taken as they are, or refused with what to mend."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxhash.data import DataError, load
from jaxhash.storage import checked_read
from tests.data.test_catalogue import assert_contract

RNG = np.random.default_rng(0)
OWN = {
    "x_train": RNG.normal(size=(20, 3)),
    "y_train": np.arange(20) % 4,
    "x_test": RNG.normal(size=(8, 3)),
    "y_test": np.arange(8) % 4,
}


def save(folder, **changes):
    path = folder / "own.npz"
    np.savez(path, **{k: v for k, v in {**OWN, **changes}.items() if v is not None})
    return str(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_own_floats_are_taken_as_they_are(tmp_path, dtype):
    x_train, x_test = OWN["x_train"].astype(dtype), OWN["x_test"].astype(dtype)
    own = load(save(tmp_path, x_train=x_train, x_test=x_test))
    assert_contract(own)
    assert (own.name, own.features, own.num_classes) == ("own", 3, 4)
    np.testing.assert_array_equal(own.x_train, x_train[:16].astype(np.float32))
    np.testing.assert_array_equal(own.x_validation, x_train[16:].astype(np.float32))
    np.testing.assert_array_equal(own.x_test, x_test.astype(np.float32))
    np.testing.assert_array_equal(own.y_validation, OWN["y_train"][16:])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_own_images_are_scaled_and_flattened(tmp_path, order, labels):
    images = np.asarray(RNG.integers(0, 256, (20, 5, 4, 3)), np.uint8, order=order)
    column = OWN["y_train"].astype(labels)[:, None]  # as Keras' datasets have them
    own = load(save(tmp_path, x_train=images, x_test=images[:8], y_train=column))
    assert_contract(own)
    assert own.features == 60
    np.testing.assert_array_equal(own.x_train, images[:16].reshape(16, 60).astype(np.float32) / 255)
    np.testing.assert_array_equal(own.y_train, OWN["y_train"][:16])


def poisoned(value):
    x = OWN["x_train"].copy()
    x[7, 2] = value
    return x


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"y_test": None}, "lacks y_test; save the arrays x_train, y_train, x_test, y_test"),
        ({"x_train": None, "y_test": None}, "lacks x_train and y_test"),
        ({"x_train": poisoned(np.nan)}, "x_train holds NaN or infinite numbers .* in example 7; remove"),
        ({"x_train": poisoned(-np.inf)}, "holds NaN or infinite"),
        ({"x_train": poisoned(1e300)}, r"infinite numbers \(as float32\)"),
        ({"x_train": OWN["x_train"][:19]}, "x_train has 19 examples, y_train 20 labels; give as many"),
        ({"y_test": np.arange(7) % 4}, "x_test has 8 examples, y_test 7 labels"),
        ({"x_test": np.zeros((8, 4))}, "x_train have 3 features, of x_test 4"),
        ({"x_test": np.zeros((8, 3), np.uint8)}, "x_train is float64, x_test uint8, and only uint8 is"),
        ({"x_train": OWN["y_train"].astype(float)}, r"x_train has shape \(20,\); give it as"),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0, int)}, r"x_test has shape \(0, 3\)"),
        ({"x_train": OWN["x_train"].astype(int)}, "x_train is int64; give pixels as uint8"),
        ({"x_train": OWN["x_train"].astype(str)}, "x_train is <U"),
        ({"x_train": OWN["x_train"].astype(complex)}, "x_train is complex128"),
        ({"x_train": OWN["x_train"].astype(object)}, "cannot be read as .npz .*allow_pickle"),
        (
            {"y_train": OWN["y_train"].astype(float)},
            r"y_train is float32 \[20\], y_test int32 \[8\]; give labels in both",
        ),
        (
            {"y_train": np.eye(4)[OWN["y_train"]]},
            r"y_train is float32 \[20, 4\], y_test int32 \[8\]; give labels in both",
        ),
        ({"y_train": OWN["y_train"] - 1}, r"y_train holds labels -1 \.\.\. 2; number the classes"),
        ({"y_test": OWN["y_test"] + 2**33}, "y_test holds labels 8589934592"),
        ({"y_train": OWN["y_train"] * 2}, "up to 6, none of them 5; number the classes .*return_inverse"),
        (
            {"y_train": OWN["y_train"] + 1, "y_test": OWN["y_test"] + 1},
            "hold 4 classes, up to 4, none of them 0",
        ),
        ({"y_train": np.zeros(20, int), "y_test": np.zeros(8, int)}, "hold 1 class; a classifier needs 2"),
        ({"y_train": np.arange(20) // 4}, "no label 4 in the first 80 % of y_train, .*; shuffle x_train"),
        ({"y_test": np.full(8, 4)}, "no label 4 in the first 80 % of y_train"),
    ],
)
def test_own_arrays_that_cannot_serve_are_refused(tmp_path, changes, complaint):
    path = save(tmp_path, **changes)
    with pytest.raises(DataError, match=complaint) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def npy_bytes():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 and no more", npy_bytes(), None, "truncated"])
def test_own_files_that_are_no_npz_are_refused(tmp_path, content):
    path = Path(save(tmp_path))
    path.write_bytes(path.read_bytes()[:-50] if content in (None, "truncated") else content)
    if content is None:
        path.unlink()
    with pytest.raises(DataError, match="no such file" if content is None else "cannot be read as .npz"):
        load(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["x_train.npy", "x_train"])
def test_two_arrays_of_one_name_are_refused(tmp_path, name):
    path = save(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, npy_bytes())
    with pytest.raises(DataError, match="two arrays in it have the same name"):
        load(path)


def test_more_than_fits_into_memory_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    path = save(tmp_path)
    monkeypatch.setattr(checked_read, "memory_bytes", lambda: 1_000)
    with pytest.raises(DataError, match="and this machine has 0 GB of memory"):
        load(path)
