"""A name that leads to a pipe, a device or a flood: an error at once."""

import errno
import hashlib
import json
import os
import socket
import tracemalloc

import pytest

from jaxhash.storage import checked_read


@pytest.fixture(params=["pipe", "endless", "folder", "circle", "socket"])
def odd(request, tmp_path, monkeypatch):
    path = tmp_path / "x"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "circle":
            path.symlink_to("x")
        case "socket":
            monkeypatch.chdir(tmp_path)  # names of sockets are short
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("x")
    return path


@pytest.mark.parametrize("read", [checked_read.read_json, checked_read.sha256])
def test_what_is_no_file(odd, read):
    with pytest.raises(OSError, match=str(odd)):
        read(odd)


def test_no_more_is_read_than_asked_for(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    assert checked_read.read(path, 100) == bytes(100)
    with pytest.raises(OSError, match="longer than 99 bytes") as caught:
        checked_read.read(path, 99)
    assert caught.value.errno == errno.EFBIG
    with path.open("r+b") as file:
        file.truncate(2**42)  # takes no room
    with pytest.raises(OSError, match="longer than"):
        checked_read.read_json(path)


def test_a_small_file_takes_little_memory_however_much_may_be_read(tmp_path):
    (tmp_path / "a").write_text("[1]")
    tracemalloc.start()
    try:
        assert checked_read.read(tmp_path / "a", 2**30) == b"[1]"
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 5_000, b"\xff", b"", b"{"])
def test_json_that_is_none_or_too_much(tmp_path, text):
    path = tmp_path / "x"
    path.write_bytes(text)
    with pytest.raises(ValueError):  # noqa: PT011 (Python words some of them)
        checked_read.read_json(path)


@pytest.mark.parametrize(("one", "share"), [("[]", 0.4), ("{}", 0.4), ("[" * 500 + "]" * 500, 0.9)])
def test_json_takes_no_more_memory_than_is_reckoned_with(one, share):
    text = "[" + f"{one}," * (300_000 // len(one)) + "[]]"
    tracemalloc.start()
    value = json.loads(text)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(value) == 300_000 // len(one) + 1
    assert share < taken / len(text) / checked_read._MEMORY_PER_BYTE_OF_JSON <= 1.1


def test_the_memory_is_what_the_container_may_take(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_read, "_CGROUP_LIMITS", (tmp_path / "none", tmp_path / "max", tmp_path / "limit"))
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text(f"{2**60}\n")
    assert checked_read.memory_bytes() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "limit").write_text("123456789\n")
    assert checked_read.memory_bytes() == 123456789


def test_digests(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert checked_read.sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
