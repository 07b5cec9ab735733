"""A sweep by several processes: one result, the same bits; and what is left when one of them is killed."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from jaxhash.runtime import processes as distributed
from jaxhash.runtime.workers import lanes
from jaxhash.sweeps import log

ROOT = Path(__file__).parents[2]
WITHIN = 60
"""Seconds in which the others stop."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With data, and compiled programs."""
    folder = tmp_path_factory.mktemp("processes")
    rng = np.random.default_rng(0)
    x = rng.random((90, 6), np.float32)
    y = (3 * x[:, 0]).astype(np.int32)
    np.savez(folder / "data.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return folder


def start(
    folder: Path,
    out: str,
    epochs: int,
    *options: str,
    repeats: int = 5,
    experiment: str = "model_capacity",
    **environment: str,
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"experiments.{experiment}", "--dataset", str(folder / "data.npz")]
    command += ["--widths", "3", "5", "--repeats", str(repeats), "--epochs", str(epochs), "--batch-size", "8"]
    command += ["--patience", "0", "--out", str(folder / out), *options]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    environment = dict(os.environ) | cache | environment
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def group(
    folder: Path,
    out: str,
    count: int,
    epochs: int,
    *options: str,
    repeats: int = 5,
    experiment: str = "model_capacity",
) -> list[subprocess.Popen[str]]:
    """Half of them told by flags, half by the environment."""
    address, started = f"localhost:{free_port()}", []
    for i in range(count):
        flags = ["--coordinator", address, "--num-processes", str(count), "--process-id", str(i)]
        told = dict(zip(distributed.ENVIRONMENT.values(), flags[1::2], strict=True))
        if i % 2:
            started.append(start(folder, out, epochs, *options, repeats=repeats, experiment=experiment, **told))
        else:
            started.append(start(folder, out, epochs, *options, *flags, repeats=repeats, experiment=experiment))
    return started


def ended(processes: list[subprocess.Popen[str]], seconds: float = 300) -> list[str]:
    """What they said; killed if they do not end."""
    try:
        return [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


def epochs(out: Path, process: int = 0) -> list[dict[str, Any]]:
    """What a process has logged of its training."""
    return [event for event in log.events(out, process) if event["event"] == "epoch"]


def partial(out: Path) -> dict[str, int]:
    """The epoch at which each unfinished task was saved."""
    return {task.name: int(next(task.iterdir()).name.split("-")[1]) for task in (out / "partial").iterdir()}


def wait_for_epochs(out: Path, count: int, processes: list[subprocess.Popen[str]]) -> None:
    """Wait until so many epochs are logged by process 0, and one by each."""
    until = time.monotonic() + 300
    while len(epochs(out)) < count or not all(epochs(out, i) for i in range(len(processes))):
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def alone(folder):
    """The results of a single process."""
    process = start(folder, "alone", 3)
    (said,) = ended([process])
    assert process.returncode == 0, said
    return (folder / "alone" / "results.nc").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_write_one_result_and_the_same_bits(folder, alone, count):
    out = f"by-{count}"
    processes = group(folder, out, count, 3)
    said = ended(processes)
    assert [process.returncode for process in processes] == [0] * count, said
    assert (folder / out / "results.nc").read_bytes() == alone
    assert all(f"Process {i} is done" in said[i] for i in range(1, count))
    assert "10 of 10 models" in said[0]
    assert len(list((folder / out / "tasks").iterdir())) == 5
    for i in range(count):
        start, *_, end = log.events(folder / out, i)
        assert (start["event"], start["processes"], end["event"]) == ("start", count, "done")


@pytest.mark.slow
def test_variants_are_trained_by_all_processes_one_after_the_other(folder):
    """Two sweeps: with batch norm and without."""
    grids = ["--l2-grid", "1e-6", "--dropout-grid", "0", "--label-noise-grid", "0", "--input-noise-grid", "0"]
    grids += ["--epochs-grid", "3", "--sample-grid"]
    processes = group(folder, "variants", 2, 3, *grids, repeats=2, experiment="regularisation")
    said = ended(processes)
    assert [process.returncode for process in processes] == [0, 0], said
    assert "Process 1 is done" in said[1]
    found = xr.load_dataset(folder / "variants" / "results.nc")
    assert "batch_norm=off" in found["variant"].values
    assert (found["epochs"] == 3).all()
    assert (folder / "variants" / "regularisation.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "message"),
    [(1, "Error: process 1 of 2 has not answered"), (0, "Error: process 0 of 2 does not answer any more")],
    ids=["the second", "the first"],
)
def test_the_others_stop_when_one_is_killed_and_the_same_command_continues(folder, victim, message):
    # As many tasks as lanes, so that each process has some, and all are under way at once.
    name = f"killed-{victim}"
    out, other = folder / name, 1 - victim
    processes = group(folder, name, 2, 200_000, repeats=2 * lanes())
    try:
        wait_for_epochs(out, 1, processes)
        processes[victim].kill()
        killed = time.monotonic()
    finally:
        said = ended(processes, WITHIN)[other]
    assert time.monotonic() - killed < WITHIN
    assert processes[other].returncode == 1, said
    assert message in " ".join(said.split())
    assert "Traceback" not in said
    assert not (out / "results.nc").exists()
    saved = partial(out)
    assert max(saved.values()) > 0

    before = len(epochs(out))
    processes = group(folder, name, 2, 200_000, repeats=2 * lanes())
    try:
        wait_for_epochs(out, before + 1, processes)
        for process in processes:
            process.terminate()
    finally:
        ended(processes, WITHIN)
    # Who sees first that the other stops tells that instead.
    assert {process.returncode for process in processes} <= {143, 1}
    stands = partial(out)
    assert len(stands) == 2 * lanes()
    assert all(stands[task] >= epoch for task, epoch in saved.items())
    assert all(event["epoch"] > saved.get(event["task"], 0) for event in epochs(out)[before:])


def test_who_is_in_the_group_is_told_by_flags_environment_or_slurm():
    told = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"}
    nothing = dict.fromkeys(distributed.ENVIRONMENT)
    assert distributed._asked(nothing, {}) is None
    assert distributed._asked(nothing, told) == ("a:1", 3, 2)
    assert distributed._asked(nothing | {"process_id": 0}, told) == ("a:1", 3, 0)
    assert distributed._asked(nothing | {"num_processes": 1, "process_id": 0}, told) is None


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"JAX_PROCESS_ID": "1"}, "coordinator is missing"),
        ({"JAX_COORDINATOR_ADDRESS": "a", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "has no port"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, r"outside 0 \.\.\. 1"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "whole numbers"),
    ],
)
def test_half_a_group_is_refused(told, error):
    with pytest.raises(ValueError, match=error):
        distributed.join(environment=told)


class Table:
    """What `Group` asks of JAX's coordination service, in one process."""

    def __init__(self, counts: dict[str, Any]) -> None:
        self.counts = counts

    def key_value_increment(self, key: str, by: int) -> int:
        self.counts[key] = self.counts.get(key, 0) + by
        return self.counts[key]

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        assert allow_overwrite
        self.counts[key] = value

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.counts.items() if key.startswith(folder)]


def test_a_process_that_is_started_again_makes_all_start_again(monkeypatch):
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)
    table: dict[str, Any] = {"jaxhash/1/started/1": 1}
    stop = threading.Event()

    def first() -> None:
        with distributed.Group(0, 2, Table(table)).sweep(stop):
            assert stop.wait(10)
            raise KeyboardInterrupt

    def second() -> None:
        with distributed.Group(1, 2, Table(table)).sweep(threading.Event()):
            raise AssertionError("it was let in")

    with pytest.raises(distributed.ProcessLost, match="was here before"):
        second()
    with pytest.raises(distributed.ProcessLost, match=r"process 1 of 2 has stopped \(it was started again\)"):
        first()


def test_a_first_process_that_is_silent_is_given_up(monkeypatch):
    """Its host has lost its power, say: no connection is closed, and what is asked of it waits for ever."""
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(distributed, "SECONDS_OF_SILENCE", 0.2)
    lost, over, stop = threading.Event(), threading.Event(), threading.Event()

    class Lost(Table):
        def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
            if lost.is_set():
                over.wait()
            return super().key_value_dir_get(folder)

    group = distributed.Group(1, 2, Lost({}))

    def second() -> None:
        with group.sweep(stop):
            lost.set()
            assert stop.wait(10)
            group.claim("a task")

    with pytest.raises(distributed.ProcessLost, match=r"process 0 of 2 does not answer any more \(silent for 0.2 s\)"):
        second()
    group.leave()
    over.set()


def test_slurm_tells_who_is_in_the_group(monkeypatch):
    told = {
        "SLURM_JOB_ID": "5000",
        "SLURM_STEP_NODELIST": "node[07-09]",
        "SLURM_NTASKS": "3",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    found = distributed._asked(dict.fromkeys(distributed.ENVIRONMENT), os.environ)
    assert found is not None
    address, count, index = found
    assert (address.split(":")[0], count, index) == ("node07", 3, 1)
    assert distributed._asked(dict.fromkeys(distributed.ENVIRONMENT), told | {"SLURM_NTASKS": "1"}) is None
