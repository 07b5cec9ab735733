"""Two processes in one folder: the second is refused, with one line that names the first; a dead one is no obstacle."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from jaxhash import cli
from jaxhash.storage import locks
from jaxhash.storage.locks import InUse, held, holder
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.sweeps import run_sweep
from tests.commands import status_of

# Not by our code: a process that holds the lock until it is ended.
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(folder):
    """Another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLD, folder / locks.LOCK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    with holding(tmp_path) as process:
        yield process


def note(**changes):
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": "yesterday"} | changes)


def test_a_second_sweep(tmp_path, other, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / locks.NOTE).write_text(note(pid=other.pid))
    with pytest.raises(SystemExit) as caught:
        run_sweep(SweepConfig(), tmp_path, None)
    assert caught.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"Error: {tmp_path} is in use by another process: process {other.pid} on ")
    assert {path.name for path in tmp_path.iterdir()} == {locks.LOCK, locks.NOTE}
    assert (tmp_path / locks.NOTE).read_text() == note(pid=other.pid)


def test_a_second_fit(trained, tmp_path, capfd):
    """An existing folder is refused, finished or not."""
    (tmp_path / "words").write_text("a\nb\n")
    assert status_of(cli.Fit(str(tmp_path / "words"), trained.out)) == 1
    assert "exists; give another folder as --out" in capfd.readouterr().err


def test_a_second_fit_into_a_folder_that_is_still_to_come(tmp_path, capfd):
    (tmp_path / "words").write_text("a\nb\n")
    begun = tmp_path / "my.hash.unfinished"
    begun.mkdir()
    with holding(begun):
        assert status_of(cli.Fit(str(tmp_path / "words"), tmp_path / "my.hash")) == 1
        said = capfd.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"Error: {begun} is in use by another process")
        assert {path.name for path in tmp_path.iterdir()} == {"words", begun.name}
        assert [path.name for path in begun.iterdir()] == [locks.LOCK]
    assert cli.run(cli.Fit(str(tmp_path / "words"), tmp_path / "my.hash")) == cli.OK
    assert {path.name for path in tmp_path.iterdir()} == {"words", "my.hash"}


@pytest.mark.parametrize("name", [locks.LOCK, locks.NOTE])
def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path, name):
    """A link in a folder from somebody else might lead to a file of one's own, which the lock would empty."""
    mine, folder = tmp_path / "mine", tmp_path / "run"
    mine.write_text("precious")
    folder.mkdir()
    (folder / name).symlink_to(mine)
    with suppress(OSError), held(folder):
        pass
    assert mine.read_text() == "precious"


def test_the_first_is_named_until_it_ends(tmp_path):
    assert holder(tmp_path) is None
    with held(tmp_path):
        first = holder(tmp_path)
        assert (first.pid, first.host) == (os.getpid(), socket.gethostname())
        with pytest.raises(InUse, match=f"process {first.pid} on "), held(tmp_path):
            pass
        assert holder(tmp_path) == first
    assert holder(tmp_path) is None
    with held(tmp_path):
        pass


def test_a_lock_that_was_deleted_keeps_nobody_out_and_the_next_lock_does(tmp_path):
    """As a fit does at its end, while another waits for the lock."""
    with held(tmp_path):
        (tmp_path / locks.LOCK).unlink()
        with held(tmp_path), pytest.raises(InUse), held(tmp_path):
            pass


def test_one_that_says_nothing_is_respected_while_it_lives(tmp_path, other):
    with pytest.raises(InUse, match="a host that did not say"), held(tmp_path):
        pass
    assert holder(tmp_path) == locks.UNKNOWN
    (tmp_path / locks.NOTE).write_text(note(pid=other.pid))
    assert holder(tmp_path).pid == other.pid
    other.kill()
    other.wait()
    # What it wrote is still there, and not believed.
    assert holder(tmp_path) is None
    with held(tmp_path):
        assert holder(tmp_path).pid == os.getpid()


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def without_locks(request, monkeypatch):
    """A file system that has no locks, and says so in one way or another."""

    def refuse(*_):
        number = getattr(errno, request.param)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_file_system_without_locks(tmp_path, without_locks):
    with held(tmp_path):
        assert holder(tmp_path).pid == os.getpid()
        with (
            pytest.raises(InUse, match=r"has no locks: if that process has ended, delete .*\.lock\.soft"),
            held(tmp_path),
        ):
            pass
    assert holder(tmp_path) is None
    (tmp_path / locks.SOFT).write_text("1\nelsewhere\n")
    (tmp_path / locks.NOTE).write_text(note(host="elsewhere"))
    with pytest.raises(InUse, match="on elsewhere since yesterday"), held(tmp_path):
        pass
    for torn in ("", "{", "[]", '{"pid": 1}', note(pid="x")):
        (tmp_path / locks.NOTE).write_text(torn)
        assert holder(tmp_path) == locks.UNKNOWN


def test_a_soft_lock_that_a_dead_process_left_keeps_nobody_out(tmp_path, without_locks):
    left = f"import filelock, os; x = filelock.SoftFileLock({str(tmp_path / locks.SOFT)!r}); x.acquire(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", left]).returncode == 9
    (tmp_path / locks.NOTE).write_text(note())
    assert (tmp_path / locks.SOFT).exists()
    assert holder(tmp_path) is None
    with held(tmp_path):
        assert holder(tmp_path).pid == os.getpid()


@pytest.mark.parametrize(
    "content", ["", "1\n", "one\ntwo\n", f"{10**30}\n{socket.gethostname()}\n", f"-99999\n{socket.gethostname()}\n"]
)
def test_a_soft_lock_that_says_nothing_is_respected(tmp_path, content):
    (tmp_path / locks.SOFT).write_text(content)
    assert holder(tmp_path) == locks.UNKNOWN


def test_a_pipe_in_the_place_of_the_lock_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / locks.LOCK)
    with pytest.raises(OSError, match="not a regular file"), held(tmp_path):
        pass
    with pytest.raises(OSError, match="not a regular file"):
        holder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {locks.LOCK}


def test_a_pipe_in_the_place_of_the_soft_lock_is_refused_at_once(tmp_path, without_locks):
    os.mkfifo(tmp_path / locks.SOFT)
    with pytest.raises(InUse), held(tmp_path):
        pass
    assert holder(tmp_path) == locks.UNKNOWN


def test_other_troubles_with_the_lock_are_told(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output"), held(tmp_path):
        pass
