"""A sweep by several processes: one result, the same bits; and what is left when one of them is killed."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from jaxhash.runtime import processes as distributed
from jaxhash.runtime.devices import worker_count
from jaxhash.runtime.table import Service, Table
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
    environment = os.environ | environment
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
    [
        (1, "Error: process 1 of 2 has stopped (its connection ended)"),
        (0, "Error: process 0 of 2 does not answer any more"),
    ],
    ids=["the second", "the first"],
)
def test_the_others_stop_when_one_is_killed_and_the_same_command_continues(folder, victim, message):
    # As many tasks as workers, so that each process has some, and all are under way at once.
    name = f"killed-{victim}"
    out, other = folder / name, 1 - victim
    processes = group(folder, name, 2, 200_000, repeats=2 * worker_count())
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
    processes = group(folder, name, 2, 200_000, repeats=2 * worker_count())
    try:
        wait_for_epochs(out, before + 1, processes)
        for process in processes:
            process.terminate()
    finally:
        ended(processes, WITHIN)
    # Who sees first that the other stops tells that instead.
    assert {process.returncode for process in processes} <= {143, 1}
    stands = partial(out)
    assert len(stands) == 2 * worker_count()
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


@pytest.fixture
def service():
    service = Service(0)
    yield service
    service.close()


@pytest.fixture
def table(service):
    """A function that opens the table."""
    tables = []

    def opened(seconds=10.0):
        tables.append(Table(f"localhost:{service.port}", seconds))
        return tables[-1]

    yield opened
    for one in tables:
        one.close()


@pytest.fixture
def first(table, monkeypatch):
    """A function that runs process 0 of 2 until it stops, and the event that is set once it works."""
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)
    works = threading.Event()

    def run():
        stop = threading.Event()
        with distributed.Group(0, 2, table()).sweep(stop):
            works.set()
            assert stop.wait(10)
            raise KeyboardInterrupt

    return run, works


def test_a_process_that_is_started_again_makes_all_start_again(table, first):
    table().increment("sweep-1/started/1")

    def second() -> None:
        with distributed.Group(1, 2, table()).sweep(threading.Event()):
            raise AssertionError("it was let in")

    with pytest.raises(distributed.ProcessLost, match="was here before"):
        second()
    with pytest.raises(distributed.ProcessLost, match=r"process 1 of 2 has stopped \(it was started again\)"):
        first[0]()


def test_a_process_whose_connection_ends_is_lost_at_once(table, first):
    other = table()

    def second() -> None:
        first[1].wait(10)
        with distributed.Group(1, 2, other).sweep(threading.Event()):
            other.close()  # as the system does with a process that is killed

    thread = threading.Thread(target=second)
    thread.start()
    with pytest.raises(distributed.ProcessLost, match=r"process 1 of 2 has stopped \(its connection ended\)"):
        first[0]()
    thread.join()


def test_a_process_that_ends_its_sweep_is_not_lost(table, monkeypatch):
    """Though its connection ends before the others have seen that all is done."""
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)
    stop = threading.Event()
    with distributed.Group(0, 2, table()).sweep(stop):
        group = distributed.Group(1, 2, table())
        with group.sweep(threading.Event()):
            pass
        group.leave()
        assert not stop.wait(0.2)


def test_a_process_that_is_silent_is_given_up(table, first, monkeypatch):
    """Its host has lost its power, say: its connection does not end."""
    monkeypatch.setattr(distributed, "SECONDS_OF_SILENCE", 0.2)
    table().set("sweep-1/alive/1", "1")
    with pytest.raises(distributed.ProcessLost, match="process 1 of 2 has not answered for 0 s"):
        first[0]()


def test_a_first_process_that_is_silent_is_given_up(service, table, monkeypatch):
    """Its host has lost its power, say: no connection is closed, and what is asked of it waits for ever."""
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)
    over, stop = threading.Event(), threading.Event()
    answer = service._server.answer
    group = distributed.Group(1, 2, table(0.2))

    def second() -> None:
        with group.sweep(stop):
            monkeypatch.setattr(service._server, "answer", lambda *asked: over.wait(10) and answer(*asked))
            assert stop.wait(10)
            group.claim("a task")

    with pytest.raises(distributed.ProcessLost, match=r"process 0 of 2 does not answer any more \(silent for 0.2 s\)"):
        second()
    group.leave()
    over.set()


def test_each_count_is_given_once_and_values_are_known_to_all(table):
    one, other = table(), table()
    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(lambda i: (one, other)[i % 2].increment("claims/a"), range(200))
    assert sorted(counts) == list(range(1, 201))
    one.set("left/0", "first")
    one.set("left/0", "x" * 10_000)
    other.set("left/1", "ü\n")
    other.set("alive/1", "1")
    assert one.under("left/") == {"0": "x" * 1000, "1": "ü\n"}
    assert one.under("nothing/") == {}


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"[1]", b"[" * 5000 + b"\n", b"\xff\n", b"[[], {}, 1, 2]\n"]
)
def test_a_stranger_at_the_port_is_no_trouble(service, table, said):
    with socket.create_connection(("localhost", service.port), 10) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(1000):
            pass
    assert table().increment("claims/a") == 1


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b""])
def test_a_stranger_that_serves_the_port_is_not_believed(said, monkeypatch):
    monkeypatch.setattr(distributed, "SECONDS_TO_MEET", 1)

    class Stranger(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(said)

    with socketserver.ThreadingTCPServer(("localhost", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        why = "something else answers there" if said else "it closed the connection"
        with pytest.raises(ConnectionError, match=f"process 1 of 2 cannot meet the others at localhost.*{why}"):
            distributed.join(f"localhost:{server.server_address[1]}", 2, 1)
        server.shutdown()
        thread.join()


def test_processes_meet_and_part(service):
    port = free_port()
    with ThreadPoolExecutor(3) as pool:
        groups = list(pool.map(lambda i: distributed.join(f"localhost:{port}", 3, i), (2, 1, 0)))
        assert [group.index for group in groups] == [2, 1, 0]
        assert [group.claim("a task") for group in groups] == [True, False, False]
        list(pool.map(distributed.Group.leave, groups))
    with pytest.raises(ConnectionError, match=r"process 0 of 2 cannot meet the others.*in use"):
        distributed.join(f"localhost:{service.port}", 2, 0)


def test_who_does_not_come_is_told(monkeypatch):
    monkeypatch.setattr(distributed, "SECONDS_TO_MEET", 0.3)
    with pytest.raises(ConnectionError, match=r"cannot meet the others.*1 of 2 are there after 0.3 s"):
        distributed.join(f"localhost:{free_port()}", 2, 0)
    with pytest.raises(ConnectionError, match=r"cannot meet the others.*refused"):
        distributed.join(f"localhost:{free_port()}", 2, 1)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node[07-09]", "node07"),
        ("node001,host2", "node001"),
        ("node001", "node001"),
        ("node[001,007-015],host2", "node001"),
        ("a[3-4]-ib,b", "a3-ib"),
    ],
)
def test_slurm_tells_who_is_in_the_group(nodes, host):
    told = {
        "SLURM_JOB_ID": "5000",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_NTASKS": "3",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
    }
    # The same port as JAX takes: 61440 + 5000 % 4096.
    assert distributed._asked(dict.fromkeys(distributed.ENVIRONMENT), told) == (f"{host}:62344", 3, 1)
    assert distributed._asked(dict.fromkeys(distributed.ENVIRONMENT), told | {"SLURM_NTASKS": "1"}) is None
