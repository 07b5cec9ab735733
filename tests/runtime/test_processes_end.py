"""A test that starts a process ends it in every case: `tests/conftest.py` sees to it."""

import subprocess
import sys

import pytest

STUBBORN = (
    "import signal, sys; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print(flush=True); sys.stdin.read()"
)
left: list[subprocess.Popen] = []


@pytest.fixture
def from_a_fixture():
    left.append(subprocess.Popen([sys.executable, "-c", STUBBORN], stdin=subprocess.PIPE, stdout=subprocess.PIPE))


def test_a_process_is_left_behind(from_a_fixture):
    left.append(subprocess.Popen([sys.executable, "-c", STUBBORN], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for process in left:
        process.stdout.readline()
        assert process.poll() is None


def test_it_has_been_ended():
    if not left:
        pytest.skip("another process of the suite ran the test before")
    assert [process.returncode for process in left] == [-9, -9]
