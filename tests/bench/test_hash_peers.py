"""Peers of the hash benchmark: right answers pass, and each kind of wrong answer ends the benchmark."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from bench import data, harness, hash_peers
from jaxhash.hashing.keys.tokens import Tokens, tokenize

WORDS = data.derived(300)
ROWS = tokenize(WORDS, 24)
ENDS = pytest.raises(SystemExit, match="Wrong answers")


class Function:
    """Slots of a perfect hash by a table; `change` makes them wrong."""

    def __init__(self, keys, change=lambda slots: slots):
        self.slot = {key: i for i, key in enumerate(reversed(keys))}
        self.range_size, self.bits_per_key, self.change = len(keys), 2.5, change

    def lookup(self, keys):
        return self.change([self.slot[key] for key in keys])

    def lookup_fixed(self, rows):
        return np.array(self.lookup([row.tobytes() for row in rows]))

    def lookup_many(self, hashes):
        return self.lookup_fixed(hashes)

    def save(self, path):
        with open(path, "wb") as file:
            file.write(bytes(75))


def package(monkeypatch, found):
    monkeypatch.setattr(harness, "peer", lambda name: found)


SAME = {"same": lambda slots: slots}
WRONG = {
    "two share a slot": lambda slots: [slots[1], *slots[1:]],
    "out of range": lambda slots: [len(slots) if slot == 0 else slot for slot in slots],
    "below 0": lambda slots: [-1 if slot == 0 else slot for slot in slots],
    "one is missing": lambda slots: slots[1:],
}


def phobic_by(words, rows):
    """A package whose functions of words and of rows have slots as the two changes make them."""
    return SimpleNamespace(build=lambda keys, **_: Function(keys, words if isinstance(keys[0], str) else rows))


def test_phobic_that_is_right_is_asked_for_rows_it_was_built_from(monkeypatch):
    package(monkeypatch, phobic_by(SAME["same"], SAME["same"]))
    asked = Tokens(ROWS.characters[:100], ROWS.lengths[:100])
    peer = hash_peers.phobic(WORDS, ROWS, asked)
    assert peer.of_words(WORDS) == [*range(299, -1, -1)]
    assert peer.of_tokens(asked).tolist() == [*range(299, 199, -1)]
    assert peer.bits_per_key == 2.5
    assert "300 words" in peer.agreement
    assert "all 100 rows" in peer.agreement


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("of_rows", [False, True])
def test_phobic_that_is_wrong_ends_the_benchmark(monkeypatch, wrong, of_rows):
    right = SAME["same"]
    package(monkeypatch, phobic_by(*((right, wrong) if of_rows else (wrong, right))))
    with ENDS:
        hash_peers.phobic(WORDS, ROWS, ROWS)


def test_phobic_that_is_asked_for_rows_of_another_width_ends_the_benchmark(monkeypatch):
    package(monkeypatch, phobic_by(SAME["same"], SAME["same"]))
    with ENDS:
        hash_peers.phobic(WORDS, ROWS, tokenize(WORDS, 28))


@pytest.mark.parametrize("change", [*SAME.values(), *WRONG.values()], ids=[*SAME, *WRONG])
def test_bbhash_is_minimal_or_ends_the_benchmark(monkeypatch, change):
    def function(hashes, count, threads, gamma):
        assert len(hashes) == count == 300
        return Function([np.uint64(key).tobytes() for key in hashes], change)

    package(monkeypatch, SimpleNamespace(PyMPHF=function))
    if change is SAME["same"]:
        peer = hash_peers.bbhash(WORDS)
        assert peer.bits_per_key == 8 * 75 / 300
        assert peer.of_words(WORDS[:2]).tolist() == [299, 298]
    else:
        with ENDS:
            hash_peers.bbhash(WORDS)


def digest_of(parts):
    return int.from_bytes(hashlib.sha256(parts).digest()[:8], "big") if parts else hash_peers.XXH3_OF_NOTHING


class Stream:
    def __init__(self):
        self.parts = b""

    def update(self, more):
        self.parts += more

    def digest(self):
        return digest_of(self.parts).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("digest", "right"),
    [
        (digest_of, True),
        (lambda parts: digest_of(parts) + (not parts), False),
        (lambda parts: digest_of(parts) + (parts == WORDS[5].encode()), False),
        (lambda parts, calls=[]: digest_of(parts) + (calls.append(1) or len(calls) == 200), False),
    ],
    ids=["right", "another hash function", "one word", "now and then"],
)
def test_xxhash_is_its_published_self_or_ends_the_benchmark(monkeypatch, digest, right):
    package(monkeypatch, SimpleNamespace(xxh3_64_intdigest=digest, xxh3_64=Stream))
    if right:
        assert hash_peers.xxhash_loop(7, WORDS).of_words(WORDS[:3]) == [digest_of(w.encode()) % 7 for w in WORDS[:3]]
    else:
        with ENDS:
            hash_peers.xxhash_loop(7, WORDS)


def test_a_wrong_dictionary_ends_the_benchmark():
    table = {word: i for i, word in enumerate(WORDS)}
    assert hash_peers.dict_lookup(table, WORDS[5:9]).of_words(WORDS[5:9]) == [5, 6, 7, 8]
    table[WORDS[5]] = 6
    with ENDS:
        hash_peers.dict_lookup(table, WORDS[5:9])


def test_the_map_into_numpy_is_pythons_own_hash_or_ends_the_benchmark(monkeypatch):
    found = hash_peers.numpy_map(7, WORDS).of_words(WORDS)
    assert found.tolist() == [hash(word) % 7 for word in WORDS]
    monkeypatch.setattr(hash_peers, "_hashes", lambda words: np.fromiter(map(hash, words), np.int64) >> 1)
    with ENDS:
        hash_peers.numpy_map(7, WORDS)


def test_missing_packages_are_none(monkeypatch):
    package(monkeypatch, None)
    assert hash_peers.phobic(WORDS, ROWS, ROWS) is None
    assert hash_peers.bbhash(WORDS) is hash_peers.xxhash_loop(7, WORDS) is hash_peers.study_policy(7, WORDS) is None


def test_the_packages_themselves():
    for name in ("xxhash", "phobic", "bbhash"):
        pytest.importorskip(name)
    assert hash_peers.xxhash_loop(7, WORDS).agreement.startswith("xxhash")
    assert hash_peers.phobic(WORDS, ROWS, ROWS).agreement.startswith("phobic")
    assert hash_peers.bbhash(WORDS).bits_per_key > 2


def test_the_studys_policy_is_a_numpy_forward_pass_or_ends_the_benchmark(monkeypatch):
    torch = pytest.importorskip("torch")
    assert hash_peers.study_policy(50, WORDS).of_words(WORDS).shape == (300,)
    monkeypatch.setattr(torch.nn, "ReLU", torch.nn.Tanh)
    with ENDS:
        hash_peers.study_policy(50, WORDS)
