"""Losses of power in a save (`power_loss.py`): a few of them; the command tries a thousand."""

import subprocess
import sys

import pytest

from tests.faults.conftest import SEEDS
from tests.faults.test_system_calls import can_trace

WITHOUT_SYNC = """
from jaxhash.storage import atomic
atomic._sync = lambda path: None
"""
LOSE = """
import sys
from tests.faults import power_loss
power_loss.main(power_loss.Config(losses=60, seed=int(sys.argv[1])))
"""


def lose_power(seed, before=""):
    command = [sys.executable, "-c", before + LOSE, str(seed)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace a process")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_save_is_there_whole_or_the_one_before_it(seed):
    done = lose_power(seed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("60 losses of power in ")
    assert ", 0 wrong" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace a process")
def test_a_save_that_does_not_sync_is_found():
    done = lose_power(0, WITHOUT_SYNC)
    assert done.returncode == 1, done.stdout + done.stderr
    assert ", 0 wrong" not in done.stdout
