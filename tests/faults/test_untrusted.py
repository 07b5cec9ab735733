"""Files from strangers: whatever stands in them, the answer is a value or the one documented error.

`FUZZ_EXAMPLES` in the environment asks for more examples than the few of every run.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxhash.data.download import DataError
from jaxhash.data.image_formats import parse_cifar_binary, parse_cifar_pickle, parse_idx
from jaxhash.hashing.keys.words import load_keys, read_keys
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.hasher import Hasher, load_hasher
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError
from tests.faults.fuzz_datasets import CIFAR_BATCH

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def damaged(data):
    """A file with some bytes changed, cut, repeated, or all made up."""
    cut = st.integers(0, len(data)).map(lambda n: data[:n])
    longer = st.binary(max_size=20).map(lambda more: data + more)
    places = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=8)

    def changed(edits):
        made = bytearray(data)
        for place, byte in edits:
            made[place] = byte
        return bytes(made)

    return cut | longer | places.map(changed) | st.binary(max_size=300)


IDX = b"\0\0\x08\x03" + struct.pack(">3I", 3, 2, 2) + bytes(range(12))


@given(damaged(IDX))
@fuzz
def test_idx_files(content):
    with contextlib.suppress(DataError):
        assert parse_idx(content, Path("images"), 3).size <= len(content)


def test_an_idx_header_does_not_ask_for_memory():
    with pytest.raises(DataError):
        parse_idx(b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100), Path("images"), 3)


@given(damaged(CIFAR_BATCH))
@fuzz
def test_cifar_batches(content):
    assert len(parse_cifar_pickle(CIFAR_BATCH, Path("batch"))[0]) == 1
    with contextlib.suppress(DataError):
        pixels, labels = parse_cifar_pickle(content, Path("batch"))
        assert len(pixels) == len(labels)
    with contextlib.suppress(DataError):
        parse_cifar_binary(content, Path("batch.bin"))


class Bomb:
    """A pickle of it calls a function of its own choice when it is read by `pickle.loads`."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("where", ["whole", "data", "labels", "key"])
def test_a_cifar_batch_runs_no_code(tmp_path, where):
    bomb = Bomb(tmp_path / "ran")
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]}
    made = {
        "whole": bomb,
        "data": batch | {b"data": bomb},
        "labels": batch | {b"labels": [bomb, 2]},
        "key": batch | {b"more": bomb},
    }[where]
    with contextlib.suppress(DataError):
        parse_cifar_pickle(pickle.dumps(made, 2), tmp_path / "batch")
    assert not (tmp_path / "ran").exists()


@given(damaged(b"a\nb\r\n\nc") | damaged(b"\x1f\x8b\x08\0" + bytes(20)))
@fuzz
def test_key_files(content):
    with contextlib.suppress(ValueError, EOFError, OSError):
        keys = read_keys(io.BytesIO(content), drop_duplicates=True)
        assert len(set(keys)) == len(keys)


@pytest.fixture(scope="module", params=["seeds", "sharded"])
def saved(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("untrusted") / "hasher"
    keys = load_keys("english", count=60)
    fit(keys, FitConfig(method=request.param, seeds=SeedsConfig(6, 3))).save(path)
    return path


def signed(path, meta):
    """Write a description with a digest that fits, as a forger would."""
    meta = {name: value for name, value in meta.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (path / "meta.json").write_text(json.dumps({**meta, "sha256": digest}))


@given(st.data())
@fuzz
def test_forged_descriptions_of_a_hasher(saved, tmp_path, data):
    """A field anywhere in the description is replaced or dropped, and the digest made to fit."""
    meta = json.loads((saved / "meta.json").read_text())
    original = copy.deepcopy(meta)
    where = meta["description"] if data.draw(st.booleans()) else meta
    while True:
        name = data.draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
        inner = where[name]
        if isinstance(inner, dict | list) and len(inner) and data.draw(st.booleans()):
            where = inner
            continue
        if data.draw(st.booleans()):
            where[name] = data.draw(json_values)
        else:
            del where[name]
        break
    forged = tmp_path / "forged"
    shutil.rmtree(forged, ignore_errors=True)
    shutil.copytree(saved, forged)
    signed(forged, meta)
    with contextlib.suppress(CheckpointError):
        hasher = load_hasher(forged)
        assert isinstance(hasher, Hasher)
        # What was believed computes what the true one does, unless the number of bins or of collisions was the lie.
        if meta["description"].get("num_bins") == original["description"]["num_bins"]:
            np.testing.assert_array_equal(hasher(["some", "keys"]), load_hasher(saved)(["some", "keys"]))


@pytest.mark.parametrize("saved", ["seeds"], indirect=True)
def test_forged_arrays_of_a_hasher(saved, tmp_path):
    description = checkpoint.describe(saved)
    like = {n: jax.ShapeDtypeStruct(s, np.dtype(t)) for n, (s, t) in description["arrays"].items()}
    arrays = {name: np.asarray(a) for name, a in checkpoint.restore(saved, like).items()}
    forgeries = {
        "descending": {"thresholds": arrays["thresholds"][::-1].copy()},
        "crowded": {"sizes": arrays["sizes"] + np.uint8(9)},
        "short": {"splits": arrays["splits"][:-1]},
        "floats": {"seeds": arrays["seeds"].astype(np.float32)},
        "flat": {"seeds": arrays["seeds"].ravel()},
    }
    for name, change in forgeries.items():
        forged = arrays | change
        shapes = {n: [list(a.shape), str(a.dtype)] for n, a in forged.items()}
        checkpoint.save(tmp_path / name, forged, description | {"arrays": shapes})
        with pytest.raises(CheckpointError, match=name):
            load_hasher(tmp_path / name)


@pytest.mark.parametrize("saved", ["seeds"], indirect=True)
def test_a_claim_of_more_memory_than_there_is_is_refused_before_it_is_taken(saved, tmp_path):
    meta = json.loads((saved / "meta.json").read_text())
    meta["description"]["arrays"]["seeds"][0] = [2**40, 4]
    meta["arrays"] = {name: f"[{2**40}, 4] uint16" if "seeds" in name else a for name, a in meta["arrays"].items()}
    shutil.copytree(saved, tmp_path / "huge")
    signed(tmp_path / "huge", meta)
    with pytest.raises(CheckpointError, match="claims 8,796 GB of arrays"):
        load_hasher(tmp_path / "huge")
