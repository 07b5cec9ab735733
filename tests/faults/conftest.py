"""A sweep and a fit small enough to be killed again and again, each in a process of its own."""

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxhash.storage import checkpoint, locks
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps import log
from jaxhash.sweeps.models import abstract_models, block_of_description
from jaxhash.sweeps.tasks import TASKS

collect_ignore = ["fuzz_harness.py"]
"""No doctest may import it: it instruments what it imports."""


def seeds(asked: str) -> range:
    """`20`: 0 ... 19; `100-119`: these, both included."""
    first, _, last = asked.rpartition("-")
    return range(int(first), int(last) + 1) if first else range(int(last))


SEEDS = seeds(os.environ.get("FAULT_SEEDS", "1"))
"""Seeds of what happens at random moments and places; the suite takes few, for it has to be quick.

`FAULT_SEEDS=100-119 pytest tests/faults` takes others; the name of a test that fails ends with its seed, `[107]`, and
`FAULT_SEEDS=107-107` repeats it.
"""

# As a person's command would, with two changes: it saves after every epoch, and what takes long to compile (K-Means,
# k-NN, logistic regression) gives way to one number of the codes, which differs with every bit of them.
SWEEP = """
import random, sys, time
from pathlib import Path
from jaxhash.terminal.sweeps import run_sweep
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import measuring
from jaxhash.sweeps import task as tasks
from jaxhash.training.mlp import TrainConfig
from tests.sweeps.stand_in import PROPERTIES

measuring.PROPERTIES, tasks.SECONDS_BETWEEN_SAVES = PROPERTIES, 0.0
if "clock" in sys.argv:
    now, steps = time.time(), random.Random(1)
    def back():
        global now
        now -= 3600 * steps.random()
        return now
    time.time = back
config = sweep.SweepConfig(widths=(4, 12), repeats=3, snapshots=(0, 10, 20), examples=300, train=TrainConfig(epochs=20))
run_sweep(config, Path(sys.argv[1]), None)
"""
# As the command, but it saves at every step.
FIT = """
from jaxhash import cli
from jaxhash.hashing.perfect import resume
from jaxhash.hashing.perfect import workers
resume.SECONDS_BETWEEN_SAVES = workers.SECONDS_BETWEEN_LOOKS = 0.0
cli.main()
"""
SECONDS = 120
"""A process that takes longer hangs."""


class Processes:
    """Starts them."""

    def sweep(self, out, *more):
        """The small sweep, into a folder."""
        return self._start("-c", SWEEP, out, *more)

    def fit(self, *arguments):
        """`jaxhash fit`."""
        return self._start("-c", FIT, "fit", *arguments)

    def _start(self, *arguments):
        command = [sys.executable, *map(str, arguments)]
        one_line_stays_one = os.environ | {"COLUMNS": "2000"}
        return subprocess.Popen(command, env=one_line_stays_one, stderr=subprocess.PIPE, text=True)


def ended(process):
    """Exit status, and the lines on standard error."""
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, [line.rstrip() for line in said.splitlines()]


def wait_until(process, condition):
    """Wait for a process to get somewhere, or to end."""
    gives_up = time.monotonic() + SECONDS
    while process.poll() is None and not condition() and time.monotonic() < gives_up:
        time.sleep(0.005)


def since_start(process, out):
    """What a sweep's process has logged."""
    return [event for event in log.events(out) if event["pid"] == process.pid]


@dataclass(frozen=True)
class Whole:
    """The sweep as it ends when nothing happens to it."""

    out: Path
    seconds: float
    """It took from its first log line to its last."""

    def assert_nothing_wrong(self, out: Path) -> None:
        """What stands in the folder of the same sweep, at whatever moment, is right, and nothing reported is missing.

        Every task, and the results, are as this sweep's, or not there.
        """
        assert locks.holder(out) is None
        for path in (out / TASKS).glob("[!.]*"):
            assert checkpoint.describe(path) == checkpoint.describe(self.out / TASKS / path.name)
            jax.tree.map(np.testing.assert_array_equal, arrays(out, path.name), arrays(self.out, path.name))
        for event in log.events(out):
            if event["event"] == "measured":
                assert (out / TASKS / f"{event['task']}_epoch-{event['epoch']}").is_dir()
        for name in (runs.RESULTS, runs.TABLE):
            if (out / name).exists():
                assert (out / name).read_bytes() == (self.out / name).read_bytes()

    def assert_ended_the_same(self, out: Path) -> None:
        """The same sweep has ended, and left the same, bit for bit."""
        self.assert_nothing_wrong(out)
        for folder in ("", TASKS):
            there, here = ({p.name for p in (run / folder).iterdir()} for run in (out, self.out))
            assert there == here


def arrays(out: Path, name: str):
    """The models of a finished task."""
    description = runs.read_description(out)
    task = next(task for task in runs.tasks_of(description) if name.startswith(task.name + "_"))
    like = abstract_models(block_of_description(description, task), len(task.members))
    return checkpoint.restore(out / TASKS / name, like)


@pytest.fixture(scope="session")
def processes():
    return Processes()


@pytest.fixture(scope="session")
def whole(processes, once):
    def run_twice(folder):
        # The first one compiles; the second one's time is that of those to come.
        for name in ("compiled", "run"):
            assert ended(processes.sweep(folder / name))[0] == 0

    folder = once("whole", run_twice)
    last = log.events(folder / "run")[-1]
    assert last["event"] == "done"
    return Whole(folder / "run", last["seconds"])


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many bytes, empty; gone after the test."""
    mounted, number = [], itertools.count()

    def mount(size):
        folder = tmp_path / f"disk-{next(number)}"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("a file system of its own can be mounted by root only; test_sweep.py limits file sizes instead")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path):
    """An empty folder that cannot be written to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.getuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("root writes everywhere, and a read-only file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def last_event(out: Path):
    """The last line of a log."""
    return json.loads((out / log.LOG).read_text().splitlines()[-1])
