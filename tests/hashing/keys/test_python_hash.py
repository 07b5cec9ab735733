"""Python's hash against Python: other processes, started with a salt."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxhash.hashing.keys.python_hash import MAX_SALT, _siphash13, python_bins, python_hash
from jaxhash.hashing.keys.words import load_keys

BYTES = [bytes(range(1, n + 1)) for n in range(30)] + [b"\0", b"\0\0", b"a\0", b"\xff" * 17, b"x" * 1000]
# One, two and four bytes a character, and lone surrogates.
TEXT = ["", "apple", "é", "naïve café", "日本語", "\u0100", "😀 smile", "\ud800", "x" * 300 + "ÿ", "a\0"]


def of_python(salt):
    """`hash` of BYTES and of TEXT in a Python process of that salt."""
    program = (
        "import json, sys; data, text = json.load(sys.stdin);"
        "print(json.dumps([hash(bytes(k)) for k in data] + [hash(k) for k in text]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([[list(key) for key in BYTES], TEXT]),
        env=os.environ | {"PYTHONHASHSEED": str(salt)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("salt", [0, 1, 42, MAX_SALT])
def test_hashes_are_those_of_a_python_process_with_that_salt(salt):
    expected = of_python(salt)
    assert python_hash([*BYTES, *TEXT], salt).tolist() == expected
    assert len(set(expected)) > len(expected) - 5
    words = [key for key in TEXT if key.isascii()]
    assert python_hash(words, salt).tolist() == python_hash([key.encode() for key in words], salt).tolist()


def test_bins_are_pythons_remainders():
    words = load_keys("english", count=500)
    bins = python_bins(words, 97, 3)
    assert bins.tolist() == [value % 97 for value in python_hash(words, 3).tolist()]
    assert bins.dtype == np.int32
    assert (python_hash(words, 3) < 0).any()
    assert bins.min() >= 0


def test_a_hash_of_minus_one_becomes_minus_two(monkeypatch):
    """No key that hashes to -1 is known; so the rule is shown on a stand-in for SipHash."""
    assert hash(-1) == -2
    monkeypatch.setattr("jaxhash.hashing.keys.python_hash._siphash13", lambda *_: np.array([5, -1, -2]))
    assert python_hash(["a", "b", "c"], 1).tolist() == [5, -2, -2]


def test_no_keys_and_no_such_salts():
    assert python_hash([], 1).shape == (0,)
    assert _siphash13([b""], np.uint64(1), np.uint64(2)).tolist() == [0]
    for salt in (-1, MAX_SALT + 1):
        with pytest.raises(ValueError, match=f"salt={salt} is not in 0"):
            python_hash(["a"], salt)
    with pytest.raises(ValueError, match="num_bins=0 is not in 1"):
        python_bins(["a"], 0, 1)
    with pytest.raises(TypeError, match="one str"):
        python_hash("apple", 1)
