"""Codes in files: whole or not there, as written, and refused where damaged."""

import json

import jax
import numpy as np
import pytest

from jaxhash import encode_with_output
from jaxhash.codes import Layer, Skipped, files, load, writing
from jaxhash.codes import write as encode_into
from jaxhash.storage.checkpoint import CheckpointError

LAYERS = (Layer("a", 0, 40, (8, 5)), Layer("b", 40, 3, (3,)), Layer("c", 43, 32, (32,)))


@pytest.fixture
def words():
    found = np.random.default_rng(0).integers(0, 2**32, (11, 3), dtype=np.uint32)
    return found & np.array([2**32 - 1, 2**32 - 1, 2**11 - 1], np.uint32)


def write(path, words, layers=LAYERS, announced=None):
    with writing(path, announced or len(words), 75, layers, [Skipped("d", "smooth")]) as append:
        append(words[:3])
        append(words[3:])


def test_codes_come_back_and_are_a_plain_numpy_file_with_a_description(tmp_path, words, monkeypatch):
    path = tmp_path / "new" / "codes.npy"
    write(path, words)
    np.testing.assert_array_equal(np.load(path), words)
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "num_bits": 75,
        "layers": [
            {"name": "a", "start": 0, "size": 40, "shape": [8, 5], "source": ""},
            {"name": "b", "start": 40, "size": 3, "shape": [3], "source": ""},
            {"name": "c", "start": 43, "size": 32, "shape": [32], "source": ""},
        ],
        "skipped": [{"name": "d", "reason": "smooth"}],
    }
    codes = load(path)
    assert (codes.n, codes.num_words, codes.num_bits, codes.layers) == (11, 3, 75, LAYERS)
    np.testing.assert_array_equal(codes.rows(np.array([10, 0, 0])), words[[10, 0, 0]])
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(bool)
    np.testing.assert_array_equal(codes.layer("a").read().unpack(), bits[:, :40])
    np.testing.assert_array_equal(codes.layer("c").read().unpack(), bits[:, 43:75])
    np.testing.assert_array_equal(codes.up_to("b").layer("b").read().unpack(), bits[:, 40:43])
    assert codes.read().skipped == (Skipped("d", "smooth"),)
    monkeypatch.setattr(files, "BYTES_AT_A_TIME", 4 * 4 * 3)
    chunks = list(files.chunks(codes))
    assert [(start, len(chunk)) for start, chunk in chunks] == [(0, 4), (4, 4), (8, 3)]
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), words)
    assert [path.name for path in path.parent.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_written_whole_is_not_there(tmp_path, words):
    path = tmp_path / "codes.npy"

    def stopped():
        with writing(path, len(words), 75, LAYERS) as append:
            append(words[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(ValueError, match="11 rows were written, 12 were announced"):
        write(path, words, announced=12)
    with pytest.raises(ValueError, match="rows of 2 words given, codes of 75 bits have 3"):
        write(path, words[:, :2])
    with pytest.raises(ValueError, match="the layers have 43 bits, the codes 75"):
        write(path, words, LAYERS[:2])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="no codes here, or not whole; write the codes again"):
        load(path)


def described(path, num_bits=75, layers=()):
    text = json.dumps({"num_bits": num_bits, "layers": [layer._asdict() for layer in layers], "skipped": []})
    path.with_suffix(".json").write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: described(path, num_bits=3),
        lambda path: described(path, num_bits=75, layers=LAYERS[:1]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(11, 3)", b"(99, 4)")),
        lambda path: path.write_bytes(
            path.read_bytes().replace(b"(11, 3), }" + 15 * b" ", b"(4611686018427387904, 4)}")
        ),
        lambda path: path.write_bytes(path.read_bytes().replace(b"False", b"True ")),
        lambda path: path.write_bytes(b"no array"),
        lambda path: described(path, num_bits=0),
        lambda path: described(path, layers=[Layer("a", 0, 140, (140,)), Layer("b", 140, -65, (-65,))]),
        lambda path: np.save(path, np.zeros((11, 3))),
        # NumPy fails in its own ways on these: another format, brackets, a dtype that is no Python, a shape of bools
        lambda path: path.write_bytes(path.read_bytes().replace(b"NUMPY\x01", b"NUMPY\x02")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"NUMPY\x01", b"NUMPY\x09")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(11, 3)", b"(((((((")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'<u4', ", b"'<u4,,',")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(11, 3), }", b"(True, 4),}")),
        lambda path: described(path, num_bits=1e999),
        lambda path: path.with_suffix(".json").write_text("[" * 100_000),
    ],
)
def test_damaged_codes_are_refused(tmp_path, words, damage):
    path = tmp_path / "codes.npy"
    write(path, words)
    damage(path)
    with pytest.raises(CheckpointError, match=r"codes\.npy.*write the codes again") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_layer_that_is_not_there_is_refused(tmp_path, words):
    write(tmp_path / "codes.npy", words)
    with pytest.raises(ValueError, match="no layer 'd'; the layers are a, b, c"):
        load(tmp_path / "codes.npy").layer("d")


def test_examples_are_encoded_batch_by_batch(tmp_path):
    weights = np.random.default_rng(1).normal(size=(6, 40)).astype(np.float32)
    x = np.random.default_rng(2).normal(size=(11, 6)).astype(np.float32)
    told = []

    def model(x):
        return jax.nn.relu(x @ weights).sum(-1)

    encode = encode_with_output(model)
    codes, output = encode_into(tmp_path / "codes.npy", encode, x, batch_size=4, callback=told.append)
    np.testing.assert_array_equal(codes.read().unpack(), x @ weights > 0)
    np.testing.assert_allclose(output, np.maximum(x @ weights, 0).sum(-1), rtol=1e-5)
    assert told == [4, 8, 11]
    with pytest.raises(ValueError, match="0 examples in batches of 4: give at least 1 of both"):
        encode_into(tmp_path / "none.npy", encode, x[:0], batch_size=4)
