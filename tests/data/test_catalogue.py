"""Datasets against scikit-learn and NumPy; the real MNIST and CIFAR-10 where `JAXHASH_DATA_DIR` names a folder."""

import gzip
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxhash.data import NAMES, DataError, catalogue, load
from jaxhash.data import images as image_data
from jaxhash.data.download import DataFile
from tests.data.test_download import cache, put, sha256, tar, web  # noqa: F401
from tests.data.test_image_formats import cifar_batches, idx, svhn

REAL_DATA = os.environ.get("JAXHASH_DATA_DIR")


@pytest.fixture(autouse=True)
def no_network(cache):  # noqa: F811
    """Nor files of this machine's user."""


@pytest.fixture
def real_data():
    """The folder with real files, as the environment names it."""
    if not REAL_DATA:
        pytest.skip("JAXHASH_DATA_DIR is not set: no real files to load")
    return Path(REAL_DATA)


def parts(dataset):
    return {
        "train": (dataset.x_train, dataset.y_train),
        "validation": (dataset.x_validation, dataset.y_validation),
        "test": (dataset.x_test, dataset.y_test),
    }


def assert_contract(dataset):
    """What holds for every dataset of which 80 % train."""
    assert_form(dataset)
    assert len(dataset.y_validation) > 0
    training = len(dataset.y_train) + len(dataset.y_validation)
    assert len(dataset.y_train) == int(training * 0.8)


def assert_form(dataset):
    """What holds for every dataset."""
    assert len(dataset.y_train) > 0
    assert len(dataset.y_test) > 0
    for x, y in parts(dataset).values():
        assert type(x) is type(y) is np.ndarray
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
        assert x.flags.c_contiguous
        assert y.flags.c_contiguous
        assert len(x) == len(y)
        assert x.shape[1] == dataset.features
        assert np.isin(y, np.arange(dataset.num_classes)).all()


# --- digits


def test_digits_are_scikit_learns():
    digits = load("digits")
    assert_contract(digits)
    assert (digits.name, digits.features, digits.num_classes) == ("digits", 64, 10)
    assert [len(y) for _, y in parts(digits).values()] == [1150, 288, 359]
    reference = load_digits()
    np.testing.assert_array_equal(np.concatenate([x for x, _ in parts(digits).values()]), reference.data / 16)
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts(digits).values()]), reference.target)
    assert digits.x_train.min() == 0
    assert digits.x_train.max() == 1


# --- the MNIST family


def write_idx(folder, monkeypatch, *, train=(50, 4, 4), test=(10, 4, 4), train_labels=None, test_labels=None):
    """A small dataset "mnist" in `folder`, registered with its checksums: images and labels of both parts."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in (train, test)]
    labels = [
        rng.integers(0, 10, shape[0], dtype=np.uint8) if given is None else np.asarray(given, np.uint8)
        for shape, given in ((train, train_labels), (test, test_labels))
    ]
    contents = [gzip.compress(idx(a)) for a in (images[0], labels[0], images[1], labels[1])]
    files = image_data.idx_files("mnist", "https://example.org/", tuple(sha256(c) for c in contents))
    for file, content in zip(files, contents, strict=True):
        put(folder, file.path, content)
    monkeypatch.setitem(catalogue._READERS, "mnist", partial(image_data.read_idx, "mnist", files))
    return images, labels


def test_idx_files_become_rows_of_pixels_from_0_to_1(tmp_path, monkeypatch):
    images, labels = write_idx(tmp_path, monkeypatch)
    mnist = load("mnist", tmp_path)
    assert_contract(mnist)
    x = images[0].reshape(50, 16).astype(np.float32) / 255
    np.testing.assert_array_equal(mnist.x_train, x[:40])
    np.testing.assert_array_equal(mnist.x_validation, x[40:])
    np.testing.assert_array_equal(mnist.x_test, images[1].reshape(10, 16).astype(np.float32) / 255)
    np.testing.assert_array_equal(np.concatenate((mnist.y_train, mnist.y_validation)), labels[0])
    np.testing.assert_array_equal(mnist.y_test, labels[1])


def test_the_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    write_idx(tmp_path, monkeypatch)
    monkeypatch.setenv("JAXHASH_DATA_DIR", str(tmp_path))
    assert len(load("mnist").y_train) == 40


@pytest.mark.parametrize("number", range(4))
def test_each_file_is_needed_and_each_is_verified(tmp_path, monkeypatch, number):
    write_idx(tmp_path, monkeypatch)
    file = tmp_path / image_data.idx_files("mnist", "", ("",) * 4)[number].path
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{file}: damaged, or not the published file"):
        load("mnist", tmp_path)
    file.unlink()
    with pytest.raises(
        DataError, match=rf"mnist/{file.name}: not found .* in {tmp_path} and .*example.org/{file.name}"
    ):
        load("mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train_labels": [1, 2, 3]}, r"holds 3 labels for images of shape \(50, 4, 4\)"),
        ({"test_labels": [10] + [0] * 9}, r"holds the label 10 where 0 \.\.\. 9"),
        ({"test": (10, 4, 5)}, "images have 20 pixels, the training images 16"),
        ({"test": (0, 4, 4)}, r"0 labels for images of shape \(0, 4, 4\)"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, monkeypatch, change, complaint):
    write_idx(tmp_path, monkeypatch, **change)
    with pytest.raises(DataError, match=complaint):
        load("mnist", tmp_path)


def test_a_file_of_another_kind_is_refused_though_its_checksum_fits(tmp_path, monkeypatch):
    write_idx(tmp_path, monkeypatch, train=(50, 16))
    with pytest.raises(
        DataError, match=r"begins with 00000802, but an IDX file of bytes with 3 axes begins with 00000803"
    ):
        load("mnist", tmp_path)


# --- CIFAR-10


@pytest.fixture
def small_cifar(monkeypatch):
    """Six batches of five examples, registered with their checksums: name -> (python, binary, pictures, labels)."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    batches = {name: cifar_batches(5, seed) for seed, name in enumerate(names)}
    archive = tar({f"inside/{name}.bin": binary for name, (_, binary, _, _) in batches.items()})
    cifar = image_data.Cifar(
        DataFile("cifar10/c.tar.gz", sha256(archive), "https://example.org/c.tar.gz"),
        tuple(f"inside/{name}.bin" for name in names),
        tuple(
            DataFile(f"cifar10/{name}", sha256(b[0]), "https://example.org/c-python.tar.gz")
            for name, b in batches.items()
        ),
    )
    monkeypatch.setitem(catalogue._READERS, "cifar10", partial(image_data.read_cifar10, cifar))
    monkeypatch.setattr(image_data, "parse_cifar_binary", partial(image_data.parse_cifar_binary, examples=5))
    return batches, archive


def test_python_batches_binary_batches_and_the_archive_give_identical_datasets(tmp_path, small_cifar):
    batches, archive = small_cifar
    for name, (python, binary, _, _) in batches.items():
        put(tmp_path / "python", f"cifar10/{name}", python)
        put(tmp_path / "binary", f"cifar10/{name}.bin", binary)
    put(tmp_path / "cache/jaxhash", "cifar10/c.tar.gz", archive)
    pictures = np.concatenate([b[2] for b in batches.values()]).reshape(30, 3072).astype(np.float32) / 255
    labels = np.concatenate([b[3] for b in batches.values()])
    for folder in (tmp_path / "python", tmp_path / "binary", tmp_path):
        cifar = load("cifar10", folder)
        assert_contract(cifar)
        assert [len(y) for _, y in parts(cifar).values()] == [20, 5, 5]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts(cifar).values()]), pictures)
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts(cifar).values()]), labels)


@pytest.mark.parametrize(
    ("suffix", "complaint"),
    [
        ("", r"cifar10: holds data_batch_1, data_batch_2, data_batch_4, .* only; put all"),
        (".bin", r"data_batch_3.bin: no such file"),
    ],
)
def test_no_batch_may_be_missing(tmp_path, small_cifar, suffix, complaint):
    for name, (python, binary, _, _) in small_cifar[0].items():
        put(tmp_path, f"cifar10/{name}{suffix}", binary if suffix else python)
    (tmp_path / f"cifar10/data_batch_3{suffix}").unlink()
    with pytest.raises(DataError, match=complaint):
        load("cifar10", tmp_path)


def test_a_python_batch_of_unknown_digest_is_not_even_unpickled(tmp_path, small_cifar, monkeypatch):
    monkeypatch.setattr(image_data, "parse_cifar_pickle", lambda content, path: pytest.fail("it was unpickled"))
    put(tmp_path, "cifar10/data_batch_1", b"\x80\x02cos\nsystem\n.")
    with pytest.raises(DataError, match=r"sha256 is not .*replace it by the published one"):
        load("cifar10", tmp_path)


# --- SVHN


def test_all_svhn_training_pictures_train(tmp_path, monkeypatch):
    (train, pictures, labels), (test, test_pictures, test_labels) = svhn(20, 0), svhn(10, 1)
    files = tuple(
        DataFile(f"svhn/{part}_32x32.mat", sha256(content), f"https://example.org/{part}_32x32.mat")
        for part, content in (("train", train), ("test", test))
    )
    for file, content in zip(files, (train, test), strict=True):
        put(tmp_path, file.path, content)
    monkeypatch.setitem(catalogue._READERS, "svhn", partial(image_data.read_svhn, files))
    dataset = load("svhn", tmp_path)
    assert_form(dataset)
    assert [len(y) for _, y in parts(dataset).values()] == [20, 0, 10]
    np.testing.assert_array_equal(dataset.x_train, pictures.reshape(20, 3072).astype(np.float32) / 255)
    np.testing.assert_array_equal(dataset.x_test, test_pictures.reshape(10, 3072).astype(np.float32) / 255)
    np.testing.assert_array_equal(dataset.y_train, labels)
    np.testing.assert_array_equal(dataset.y_test, test_labels)
    put(tmp_path, files[1].path, test[:-1])
    with pytest.raises(DataError, match=r"test_32x32.mat: damaged, .* sha256"):
        load("svhn", tmp_path)


# --- real files


@pytest.mark.parametrize(
    ("name", "sizes", "features", "first_labels", "mean"),
    [
        # the mean of all training pixels, as the literature has it: 0.1307; 0.4914, 0.4822, 0.4465 by channel
        ("mnist", [48_000, 12_000, 10_000], 784, [5, 0, 4, 1, 9], [0.1307]),
        ("cifar10", [40_000, 10_000, 10_000], 3072, [6, 9, 9, 4, 1], [0.4914, 0.4822, 0.4465]),
    ],
)
def test_real_files(real_data, name, sizes, features, first_labels, mean):
    if not (real_data / name).is_dir():
        pytest.skip(f"{real_data} has no {name}/")
    dataset = load(name, real_data)
    assert_contract(dataset)
    assert [len(y) for _, y in parts(dataset).values()] == sizes
    assert (dataset.features, dataset.num_classes) == (features, 10)
    assert dataset.y_train[:5].tolist() == first_labels
    assert dataset.x_train.min() == 0
    assert dataset.x_train.max() == 1
    sums = dataset.x_train.sum(0, dtype=np.float64) + dataset.x_validation.sum(0, dtype=np.float64)
    n = sizes[0] + sizes[1]
    np.testing.assert_allclose((sums / n).reshape(-1, len(mean)).mean(0), mean, atol=5e-5)
    if name == "cifar10":
        assert np.bincount(dataset.y_test).tolist() == [1000] * 10


# --- names


def test_names():
    assert NAMES == ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "svhn", "adult", "imdb")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mnits", "mnist"), ("Fashion-MNIST", "fashion_mnist"), ("cifar-10", "cifar10"), ("imagenet", None)],
)
def test_an_unknown_name_lists_the_known_ones(name, hint):
    with pytest.raises(ValueError, match=f"dataset '{name}' is not known; .*{', '.join(NAMES)}, or the path") as caught:
        load(name)
    assert ("did you mean" in str(caught.value)) == (hint is not None)
    assert hint is None or f"did you mean {hint}?" in str(caught.value)


def test_a_data_dir_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="data_dir is not a folder"):
        load("digits", tmp_path / "missing")


@pytest.mark.parametrize("name", NAMES[1:])
def test_without_files_or_network_every_dataset_says_what_to_do(tmp_path, name):
    with pytest.raises(DataError, match=rf"^{name}/.*: not found .* set JAXHASH_DATA_DIR=<folder>"):
        load(name, tmp_path)
