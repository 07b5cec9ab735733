"""Files from strangers, once more: made up by a fuzzer that sees which lines they reach (atheris, where it installs).

`FUZZ_SECONDS` in the environment gives each reader so long instead of some thousand files, `FAULT_SEEDS` other files.
`python -m tests.faults.fuzz` gives each a million.
"""

import importlib.util
import os

import pytest

from tests.faults.conftest import SEEDS
from tests.faults.fuzz import Config, Fuzzing
from tests.faults.fuzz_readers import READERS

SECONDS = os.environ.get("FUZZ_SECONDS")
INPUTS = 2_000 if SECONDS is None else 2**31 - 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris does not install here")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", READERS)
def test_a_reader(tmp_path, name, seed):
    config = Config(INPUTS, minutes=int(SECONDS or 600) / 60, seed=seed)
    row = Fuzzing(name, config, tmp_path / "x").row()
    assert row["finding"] is None, (tmp_path / "x" / "log").read_text()[-3000:]
    assert row["inputs"] > 0
