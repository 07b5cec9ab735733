import gzip
import io

import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.fingerprint import as_numbers, fingerprint
from jaxhash.hashing.keys.source import KeyFile, KeyList, spooled
from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.perfect import separation
from jaxhash.hashing.perfect.separation import separate
from jaxhash.storage import checked_read

FRUIT = ["fig", "pear", "plum", "", "a\0", "a", "x" * 100, "pear", "pear", "fig"]


@pytest.fixture(params=["list", "file", "gzip", "stream"])
def source(request, tmp_path, monkeypatch):
    """The same keys from everywhere, a few bytes at a time."""
    monkeypatch.setattr("jaxhash.hashing.keys.tokens.KEYS_A_BLOCK", 3)
    monkeypatch.setattr("jaxhash.hashing.keys.lines.BLOCK_BYTES", 7)
    text = "\r\n".join(FRUIT).encode()
    path = tmp_path / "fruit"
    path.write_bytes(gzip.compress(text) if request.param == "gzip" else text)
    if request.param == "stream":
        with spooled(io.BytesIO(text)) as file:
            yield file
    else:
        yield KeyList(FRUIT) if request.param == "list" else KeyFile(path)


def test_every_different_key_once(source):
    found = separate(source, 5, drop_duplicates=True)
    prints = as_numbers(np.asarray(fingerprint(tokenize(sorted(set(FRUIT))), jnp.uint32(5))))
    np.testing.assert_array_equal(found.numbers, np.sort(prints))
    assert (found.seed, found.entries) == (5, len(FRUIT))


def test_repeats_are_counted_and_named(source):
    places = r"keys\[1\] and keys\[7\]" if isinstance(source, KeyList) else "lines 2 and 8"
    with pytest.raises(ValueError, match=rf": 3 of 10 keys repeat an earlier one, such as b'pear' \({places}\)"):
        separate(source, 0)


@pytest.fixture
def alike_below(monkeypatch):
    """Makes all fingerprints 0 under seeds below this one."""
    honest = separation.fingerprints

    def alike(least):
        def some(blocks, seed):
            return (numbers * np.uint64(seed >= least) for numbers in honest(blocks, seed))

        monkeypatch.setattr(separation, "fingerprints", some)

    return alike


@pytest.mark.parametrize("keys", [["a", "b", "c"], ["a", "b", "a", "c", "c"]])
def test_fingerprints_that_collide_are_drawn_again(alike_below, keys):
    alike_below(7)
    found = separate(KeyList(keys), 4, drop_duplicates=True)
    assert found.seed == 7
    assert len(set(found.numbers.tolist())) == 3
    alike_below(4 + separation.SEEDS)
    with pytest.raises(ValueError, match="20 seeds from 4 on all give two of the keys the same fingerprint"):
        separate(KeyList(keys), 4, drop_duplicates=True)


def test_more_keys_than_can_be(monkeypatch, tmp_path):
    (tmp_path / "bomb").write_bytes(gzip.compress(b"\n" * 1000))
    monkeypatch.setattr(separation, "MAX_KEYS", 999)
    with pytest.raises(ValueError, match="bomb: more than 999 keys, the limit"):
        separate(KeyFile(tmp_path / "bomb"), 0)
    monkeypatch.setattr(separation, "MAX_KEYS", 1000)
    monkeypatch.setattr(checked_read, "memory_bytes", lambda: 31_999)
    with pytest.raises(ValueError, match=r"bomb: 1,000 keys and more take over .* give fewer"):
        separate(KeyFile(tmp_path / "bomb"), 0)
    monkeypatch.setattr(checked_read, "memory_bytes", lambda: 32_000)
    with pytest.raises(ValueError, match="999 of 1,000 keys repeat"):
        separate(KeyFile(tmp_path / "bomb"), 0)


def test_no_keys(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for source in (KeyList([]), KeyFile(tmp_path / "empty")):
        found = separate(source, 3)
        assert (found.seed, found.entries, found.numbers.tolist()) == (3, 0, [])
