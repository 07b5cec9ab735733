"""Word lists and files of keys against plain Python, one line at a time."""

import gzip
import hashlib
import io
import os
import re
from importlib import resources

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxhash.data.download import DataError, DataFile
from jaxhash.hashing.keys import words
from jaxhash.hashing.keys.words import load_keys, read_keys, read_lines


@given(st.lists(st.binary(max_size=3).filter(lambda key: b"\n" not in key and not key.endswith(b"\r")), max_size=12))
@settings(max_examples=100, deadline=None)
def test_repeats_are_refused_or_dropped(keys):
    content, once = b"".join(key + b"\n" for key in keys), list(dict.fromkeys(keys))
    assume(not content.startswith(b"\x1f\x8b\x08"))
    assert read_keys(io.BytesIO(content), drop_duplicates=True) == once
    if len(once) == len(keys):
        assert read_keys(io.BytesIO(content)) == once
    else:
        with pytest.raises(ValueError, match=f"{len(keys) - len(once)} of {len(keys)} keys repeat") as raised:
            read_keys(io.BytesIO(content))
        first, again = map(int, re.findall(r"lines (\d+) and (\d+)", str(raised.value))[0])
        assert first < again
        assert keys[first - 1] == keys[again - 1]


@given(st.lists(st.tuples(st.binary(max_size=6).filter(lambda b: b"\n" not in b), st.sampled_from([b"\n", b"\r\n"]))))
@settings(max_examples=200, deadline=None)
def test_lines_against_a_reader_of_one_line_at_a_time(lines):
    """Python's own file iteration finds the lines; then `\\n` or `\\r\\n` goes, and nothing else."""
    content = b"".join(key + end for key, end in lines)
    assume(not content.startswith(b"\x1f\x8b\x08"))
    expected = [line.removesuffix(b"\n").removesuffix(b"\r") for line in io.BytesIO(content)]
    assert read_lines(io.BytesIO(content)) == expected
    assert len(expected) == len(lines)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"a\r", [b"a\r"]),
        (b"a\r\r\n", [b"a\r"]),
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b"a\0\na\n\0\n", [b"a\0", b"a", b"\0"]),
        (b"\xff\xfe\n\xc3\x28\n", [b"\xff\xfe", b"\xc3\x28"]),
        (b"\xef\xbb\xbfa\n a \n", [b"\xef\xbb\xbfa", b" a "]),
        (b"a\x0bb\x0cc\x1cd\xc2\x85e\n", [b"a\x0bb\x0cc\x1cd\xc2\x85e"]),
    ],
)
def test_files_are_read_as_documented(tmp_path, content, expected):
    plain, packed = tmp_path / "keys.txt", tmp_path / "keys.txt.gz"
    plain.write_bytes(content)
    # Told by content: the names say the opposite of what the files are.
    packed.write_bytes(content)
    plain.write_bytes(gzip.compress(content))
    for source in (plain, str(packed), io.BytesIO(content), io.BytesIO(gzip.compress(content))):
        assert read_keys(source) == expected


def test_repeated_lines_are_named_with_their_file(tmp_path):
    path = tmp_path / "fruit.txt"
    path.write_bytes(b"fig\npear\r\nplum\npear\npear\n")
    with pytest.raises(ValueError, match=r"fruit\.txt: 2 of 5 keys repeat .* b'pear' \(lines 2 and 4\)"):
        read_keys(path)
    assert read_keys(path, drop_duplicates=True) == [b"fig", b"pear", b"plum"]
    assert read_lines(path) == [b"fig", b"pear", b"plum", b"pear", b"pear"]


def test_keys_come_through_a_pipe():
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        stream.write(b"a\nb\n")
    with os.fdopen(reader, "rb") as stream:
        assert read_keys(stream) == [b"a", b"b"]


def test_what_cannot_be_read_is_told_in_one_line(tmp_path):
    packed = gzip.compress(b"apple\n" * 1000)
    broken = {
        "short": packed[:-9],
        "header": packed[:4],
        "changed": packed[:20] + bytes([packed[20] ^ 255]) + packed[21:],
        "tail": packed + b"more",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: begins as a gzip file and is not a whole one"):
            read_keys(tmp_path / name)
    with pytest.raises(DataError, match="missing: no such file"):
        read_keys(tmp_path / "missing")
    with pytest.raises(DataError, match="cannot be read"):
        read_keys(tmp_path)


def test_a_text_stream_is_refused():
    with pytest.raises(TypeError, match="open as text"):
        read_keys(io.StringIO("a\n"))


def test_the_english_words_are_what_their_notice_says():
    english = load_keys("english")
    assert len(english) == 10_902
    assert english == sorted(set(english))
    assert all(re.fullmatch(rb"[a-z]+", word) for word in english)
    assert {b"the", b"hash", b"table"} <= set(english)
    notice = (resources.files("jaxhash.hashing.keys") / "english.NOTICE.txt").read_text()
    assert "10,902" in notice
    assert "Copyright 2000-2011 by Kevin Atkinson" in notice
    assert load_keys("english", count=3) == english[:3]


@pytest.mark.parametrize("packed", [False, True])
def test_the_studys_dictionary_is_looked_up_and_verified(tmp_path, monkeypatch, packed):
    """With a stand-in for the list, whose digest is swapped for the published one."""
    content = b"2\n1080\n&c\n"
    stand_in = DataFile("words/words.txt", "sha256:" + hashlib.sha256(content).hexdigest(), "https://nowhere.invalid/w")
    monkeypatch.setattr(words, "DWYL", stand_in)
    monkeypatch.setenv("JAXHASH_DATA_DIR", str(tmp_path))
    path = tmp_path / ("words/words.txt.gz" if packed else "words/words.txt")
    path.parent.mkdir()
    path.write_bytes(gzip.compress(content) if packed else content)
    assert load_keys("dwyl") == [b"2", b"1080", b"&c"]
    path.write_bytes(gzip.compress(content[:-1]) if packed else content[:-1])
    with pytest.raises(DataError, match=r"damaged, or not the published"):
        load_keys("dwyl")


def test_key_sets_by_path_and_their_errors(tmp_path):
    path = tmp_path / "mine"
    path.write_bytes(b"x\ny\n")
    assert load_keys(str(path)) == [b"x", b"y"]
    assert load_keys(str(path), count=0) == []
    with pytest.raises(ValueError, match="count=3 is more than the 2 keys"):
        load_keys(str(path), count=3)
    with pytest.raises(ValueError, match="count=-1 is negative"):
        load_keys(str(path), count=-1)
    with pytest.raises(DataError, match=r"englsh: no such file, and no named key set; give a file .* english, dwyl"):
        load_keys("englsh")
