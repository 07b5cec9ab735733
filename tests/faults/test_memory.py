"""Too little memory (`memory.py`): a few trials; the command tries every line, and finer steps."""

import subprocess
import sys

import pytest

from tests.faults.conftest import SEEDS

# It removes the save before, and then saves.
HASTY = """
from jaxhash.storage.saves import StepSaves
save = StepSaves.save
def hasty(self, step, arrays):
    self.clear()
    save(self, step, arrays)
StepSaves.save = hasty
"""
TRY = """
import sys
from tests.faults import memory
faults, lines, seed = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])
memory.main(memory.Config(("save",), faults, limits=2, lines=lines, seed=seed))
"""


def give_too_little(before, faults, lines, seed):
    command = [sys.executable, "-c", before + TRY, faults, str(lines), str(seed)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by what /proc says of it")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_save_is_there_whole_and_so_is_the_one_before_it(seed):
    done = give_too_little("", "limit,lines", 3, seed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "save limit: 2 trials (" in done.stdout
    assert "save lines: 3 trials (refused 3)" in done.stdout
    assert done.stdout.endswith("0 of them went wrong\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by what /proc says of it")
def test_a_save_that_loses_the_one_before_it_is_found():
    done = give_too_little(HASTY, "lines", 3, 0)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 of them went wrong" not in done.stdout
