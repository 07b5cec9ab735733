"""Tokens against plain Python, one key at a time."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxhash.hashing.keys import tokens as module
from jaxhash.hashing.keys.tokens import encode_keys, flatten, tokenize, windows

some_bytes = st.binary(max_size=12) | st.text(alphabet="ab\0", max_size=4).map(str.encode)


def detokenize(tokens):
    """Each key as its tokens say it: the inverse, one key at a time."""
    return [bytes(row[:length]) for row, length in zip(tokens.characters, tokens.lengths, strict=True)]


@given(st.lists(some_bytes, max_size=20), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_tokens_are_the_keys_bytes_then_zeros(keys, spare):
    longest = max(map(len, keys), default=0)
    tokens = tokenize(keys, max(longest, 1) + spare)
    assert detokenize(tokens) == keys
    expected = [list(key.ljust(tokens.characters.shape[1], b"\0")) for key in keys]
    assert tokens.characters.tolist() == expected
    assert tokenize(keys).characters.shape == (len(keys), max(longest, 1))
    assert (tokens.characters.dtype, tokens.lengths.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [""],
        ["a", "", "bc"],
        ["é", "жук"],
        ["a\nb", "c"],
        ["\n", ""],
        [b"a\n", b""],
        ["a", b"b"],
        ("a", "b"),
        iter("ab"),
    ],
)
def test_flat_keys_are_found_at_their_places(keys):
    keys = [*keys]
    flat = flatten(iter(keys))
    found = [flat.text[i : i + n].tobytes() for i, n in zip(flat.starts, flat.lengths, strict=True)]
    assert found == [key.encode() if isinstance(key, str) else key for key in keys]
    rows = windows(flat, 8)
    assert detokenize(rows) == found


@given(st.sets(some_bytes, min_size=2, max_size=20))
@settings(max_examples=100, deadline=None)
def test_different_keys_have_different_tokens(keys):
    tokens = tokenize(keys)
    seen = {(row.tobytes(), int(n)) for row, n in zip(tokens.characters, tokens.lengths, strict=True)}
    assert len(seen) == len(keys)


def test_a_str_is_its_utf8_bytes():
    assert encode_keys(["é", b"\xc3\xa9", "", np.str_("a\0")]) == [b"\xc3\xa9", b"\xc3\xa9", b"", b"a\0"]
    assert encode_keys(key for key in ("a", "b")) == [b"a", b"b"]


def test_composed_and_decomposed_accents_are_two_keys():
    assert encode_keys(["é", "e\u0301"]) == [b"\xc3\xa9", b"e\xcc\x81"]


def test_a_lone_key_is_no_list_of_keys():
    with pytest.raises(TypeError, match="keys is one str, 'apple'; give a list of keys"):
        encode_keys("apple")
    with pytest.raises(TypeError):
        encode_keys(b"apple")


@pytest.mark.parametrize("strange", [3, None, 1.5, ["a"]])
def test_what_is_no_key_is_named(strange):
    with pytest.raises(TypeError, match=re.escape(f"keys[2] is {strange!r}, a {type(strange).__name__}")):
        encode_keys(iter(["a", b"b", strange]))


def test_a_string_that_utf8_cannot_say_is_refused():
    with pytest.raises(ValueError, match=r"keys\[1\] is 'a\\ud800', which has no UTF-8 form"):
        tokenize(["fine", "a\ud800"])


def test_a_key_over_the_limit_is_named():
    with pytest.raises(ValueError, match=r"key b'pear' is 4 bytes long, more than the limit of 3"):
        tokenize(["fig", "pear"], 3)
    with pytest.raises(ValueError, match=r"key b'x+'\.\.\. is 5,000 bytes long, more than the limit of 100"):
        tokenize([b"x" * 5000], 100)
    with pytest.raises(ValueError, match="length=0 is less than 1"):
        tokenize([], 0)


def test_one_long_key_among_many_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "MAX_TOKEN_BYTES", 999)
    assert tokenize([b"x" * 333] + [b""] * 2).characters.shape == (3, 333)
    with pytest.raises(ValueError, match="4 keys of 333 characters take 1,332 bytes, more than 999"):
        tokenize([b"x" * 333] + [b""] * 3)
