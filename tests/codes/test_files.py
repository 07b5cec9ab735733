import json

import numpy as np
import pytest

from jaxhash.codes import files
from jaxhash.codes.files import Layer, load, writing
from jaxhash.storage.checkpoint import CheckpointError

LAYERS = (Layer("a", 40), Layer("b", 3), Layer("c", 32))


@pytest.fixture
def words():
    return np.random.default_rng(0).integers(0, 2**32, (11, 4), dtype=np.uint32)


def write(path, words, layers=LAYERS, announced=None):
    with writing(path, announced or len(words), layers) as append:
        append(words[:3])
        append(words[3:])


def test_codes_come_back_and_are_a_plain_numpy_file_with_a_description(tmp_path, words, monkeypatch):
    path = tmp_path / "new" / "codes.npy"
    write(path, words)
    np.testing.assert_array_equal(np.load(path), words)
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "num_bits": 75,
        "layers": [{"name": "a", "bits": 40}, {"name": "b", "bits": 3}, {"name": "c", "bits": 32}],
    }
    codes = load(path)
    assert (codes.n, codes.num_words, codes.num_bits, codes.layers) == (11, 4, 75, LAYERS)
    np.testing.assert_array_equal(codes.rows(np.array([10, 0, 0])), words[[10, 0, 0]])
    np.testing.assert_array_equal(codes.layer("a").rows(slice(2, 5)), words[2:5, :2])
    np.testing.assert_array_equal(codes.layer("c").rows(slice(None)), words[:, 3:])
    monkeypatch.setattr(files, "BYTES_AT_A_TIME", 4 * 4 * 4)
    chunks = list(codes.chunks())
    assert [(start, len(chunk)) for start, chunk in chunks] == [(0, 4), (4, 4), (8, 3)]
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), words)
    assert [path.name for path in path.parent.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_written_whole_is_not_there(tmp_path, words):
    path = tmp_path / "codes.npy"

    def stopped():
        with writing(path, len(words), LAYERS) as append:
            append(words[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(ValueError, match="11 rows were written, 12 were announced"):
        write(path, words, announced=12)
    with pytest.raises(ValueError, match="rows of 4 words given, the layers have 3"):
        write(path, words, LAYERS[:2])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="no codes here, or not whole; write the codes again"):
        load(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text('{"num_bits": 75, "layers": [{"name": "a", "bits": 75}]}'),
        lambda path: path.with_suffix(".json").write_text('{"num_bits": 3, "layers": [{"name": "a", "bits": 128}]}'),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(11, 4)", b"(99, 4)")),
        lambda path: path.write_bytes(
            path.read_bytes().replace(b"(11, 4), }" + 15 * b" ", b"(4611686018427387904, 4)}")
        ),
        lambda path: path.write_bytes(path.read_bytes().replace(b"False", b"True ")),
        lambda path: path.write_bytes(b"no array"),
        lambda path: path.with_suffix(".json").write_text('{"num_bits": 0, "layers": []}'),
        lambda path: path.with_suffix(".json").write_text(
            '{"num_bits": 75, "layers": [{"name": "a", "bits": 140}, {"name": "b", "bits": -65}]}'
        ),
        lambda path: np.save(path, np.zeros((11, 4))),
        # NumPy fails in its own ways on these: another format, brackets, a dtype that is no Python, a shape of bools
        lambda path: path.write_bytes(path.read_bytes().replace(b"NUMPY\x01", b"NUMPY\x02")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"NUMPY\x01", b"NUMPY\x09")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(11, 4)", b"(((((((")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'<u4', ", b"'<u4,,',")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"(11, 4), }", b"(True, 4),}")),
        lambda path: path.with_suffix(".json").write_text('{"num_bits": 75, "layers": [{"name": "a", "bits": 1e999}]}'),
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
    with pytest.raises(ValueError, match="no layer 'd'; its layers: a, b, c"):
        load(tmp_path / "codes.npy").layer("d")
