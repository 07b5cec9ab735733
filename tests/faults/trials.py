"""What is tried under faults: a save, a resume, a fit, a sweep, in forks of a process that has imported everything.

After a fault: what was reported as saved loads and is right, what was there before is not lost, the same operation
works once there is no fault any more, and the error is one line.
"""

import concurrent.futures.thread
import contextlib
import faulthandler
import functools
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxhash import cli
from jaxhash.hashing.perfect import resume, workers
from jaxhash.hashing.perfect.hasher import load_hasher
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.storage.saves import StepSaves
from jaxhash.sweeps import measuring
from jaxhash.terminal import capacity
from tests.faults.conftest import Whole
from tests.sweeps.stand_in import PROPERTIES

SECONDS = 60
"""A trial that takes longer hangs."""
LOST_THREAD = re.compile(r'threading\.py", line \d+ in wait\n.*threading\.py", line \d+ in start\n')
"""Python waits for ever for a thread that has no memory to begin (python/cpython#140746); Ctrl-C ends that."""
WENT_WRONG = "went wrong"
"""What a record calls trials after which something was not as it has to be."""
KEYS = b"".join(b"key %d\n" % i for i in range(70))


LOADING = re.compile(r"\A.*\n.*\n.* in _call_with_frames_removed\n.* in create_module\n")
"""A library in C that has no memory to be loaded (of SciPy, say) may try for ever."""


class Outcome(NamedTuple):
    """How an operation ended."""

    status: str
    """done, refused (by a documented error), wrong (any other exception), died (by a signal, which `said` names), or
    waits (see `LOST_THREAD` and `LOADING`)."""
    said: list[str]
    """Lines of the error, or of the exception."""
    value: Any = None
    """What a resume found: the step and whether its arrays are right."""

    def __str__(self) -> str:
        """For a record."""
        return f"died by {self.said[0]}" if self.status == "died" else self.status


class Operation(NamedTuple):
    """Something that is tried."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], Any]
    check: Callable[[Path, Outcome], None]
    """After the failure, and after the operation was run again without one: raises AssertionError."""


def saves(folder: Path) -> StepSaves:
    """The saves of a training that does not exist."""
    return StepSaves(folder / "saves", {"training": 1})


def arrays(step: int) -> dict[str, np.ndarray]:
    """What it has learned after a step."""
    return {"a": np.full((20, 5), step, np.float32), "b": np.arange(step, step + 7, dtype=np.int32)}


def found(folder: Path) -> list[Any] | None:
    """The step that a resume finds, and whether its arrays are right."""
    latest = saves(folder).latest(arrays(0))
    if latest is None:
        return None
    step, there = latest
    same = all(np.array_equal(there[name], array) for name, array in arrays(step).items())
    return [step, same]


def save_again(folder: Path) -> None:
    """A second save."""
    saves(folder).save(2, arrays(2))


def fit(folder: Path) -> None:
    """`jaxhash fit`, which saves at every step."""
    resume.SECONDS_BETWEEN_SAVES = workers.SECONDS_BETWEEN_LOOKS = 0.0
    with without_traceback():
        cli.main(["fit", str(folder / "keys"), "--out", str(folder / "my.hash")])


def check_save(folder: Path, outcome: Outcome) -> None:
    """The first save is there until the second is; what was reported as saved is."""
    after = outcome_of(found, folder)
    assert after.status == "done", repr(after)
    assert after.value in ([1, True], [2, True]), repr(after)
    assert outcome.status != "done" or after.value == [2, True], repr(after)
    assert outcome_of(save_again, folder).status == "done"
    assert outcome_of(found, folder).value == [2, True]


@contextlib.contextmanager
def prepared(operation: "Operation") -> Iterator[Path]:
    """A folder in which an operation can begin, with another one around it."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "work"
        folder.mkdir()
        outcome_of(operation.prepare, folder)
        yield folder


def check_resume(folder: Path, outcome: Outcome) -> None:
    """It found the save, or said that it could not; the save is still there."""
    assert outcome.status != "done" or outcome.value in (None, [1, True]), repr(outcome)
    assert outcome_of(found, folder).value == [1, True]


def check_fit(folder: Path, outcome: Outcome) -> None:
    """The function is there whole, or not at all; the same command makes it then."""
    out = folder / "my.hash"
    assert outcome.status != "done" or out.exists()
    if not out.exists():
        again = outcome_of(fit, folder)
        assert again.status == "done", repr(again)
    assert outcome_of(lambda folder: perfect(folder / "my.hash"), folder).value is True


def sweep(folder: Path) -> None:
    """`jaxhash sweep`, a small one, with its figure; one number of the codes serves for those that compile long."""
    measuring.PROPERTIES = PROPERTIES
    grid = ("--examples", "300", "--widths", "4", "--repeats", "2", "--epochs", "2", "--snapshots", "1", "2")
    with without_traceback():
        capacity.main([*grid, "--out", str(folder / "run")])


@contextlib.contextmanager
def without_traceback() -> Iterator[None]:
    """A command tells its errors itself; one that it raises would be a traceback."""
    try:
        yield
    except Exception as error:
        raise AssertionError("ends with a traceback") from error


def check_sweep(folder: Path, outcome: Outcome) -> None:
    """Nothing that was reported is missing, and the same command ends as if nothing had happened."""
    expected = whole()
    there = outcome_of(lambda folder: expected.assert_nothing_wrong(folder / "run"), folder)
    assert there.status == "done", repr(there)
    assert outcome.status != "done" or (folder / "run" / "results.nc").exists()
    again = outcome_of(sweep, folder)
    assert again.status == "done", repr(again)
    same = outcome_of(lambda folder: expected.assert_ended_the_same(folder / "run"), folder)
    assert same.status == "done", repr(same)


@functools.cache
def whole() -> Whole:
    """The sweep that nothing happens to."""
    folder = Path(_kept_to_the_end().name)
    assert outcome_of(sweep, folder).status == "done"
    return Whole(folder / "run", 0.0)


@functools.cache
def _kept_to_the_end() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()


def perfect(out: Path) -> bool:
    """Whether a saved function loads and is perfect."""
    keys = KEYS.splitlines()
    return sorted(np.asarray(load_hasher(out)(keys)).tolist()) == list(range(len(keys)))


OPERATIONS = {
    "save": Operation(lambda folder: saves(folder).save(1, arrays(1)), save_again, check_save),
    "resume": Operation(lambda folder: saves(folder).save(1, arrays(1)), found, check_resume),
    "fit": Operation(lambda folder: (folder / "keys").write_bytes(KEYS) and None, fit, check_fit),
    "sweep": Operation(lambda folder: None, sweep, check_sweep),
}


def outcome_of(work: Callable[[Path], Any], folder: Path, *traced: str) -> Outcome:
    """Do something in a fork of this process; under strace, if its options are given."""
    ours, theirs = socket.socketpair()
    stacks = folder.parent / f"{folder.name}.stacks"
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            with stacks.open("w") as file:
                faulthandler.dump_traceback_later(0.9 * SECONDS, file=file)
                _in_child(work, folder, theirs)
        finally:
            os._exit(1)
    theirs.close()
    ours.recv(16)
    log, tracer = folder.parent / f"{folder.name}.strace", None
    try:
        if traced:
            tracer = _traced(child, traced, log)
        ours.send(b"go")
        ready, _, _ = select.select([ours], [], [], SECONDS)
        if not ready:
            at = stacks.read_text()
            assert LOST_THREAD.search(at) or LOADING.search(at), f"hangs for {SECONDS} s: {at}"
            return Outcome("waits", [])
        died = not _received(ours)
        if tracer is not None:
            # It lets go of the process, which can then report; of one that has died it may wait for a thread for ever.
            tracer.send_signal(signal.SIGKILL if died else signal.SIGINT)
            tracer.wait(SECONDS)
        if died:
            return death(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        ours.send(b"on")
        report = b"".join(iter(lambda: ours.recv(65536), b""))
        os.waitpid(child, 0)
        assert not runs(child), "left a process behind"
        return Outcome(*json.loads(report))
    finally:
        ours.close()
        if tracer is not None:
            tracer.kill()
            tracer.wait()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def waited_for() -> list[threading.Thread]:
    """Threads for which Python would wait at the end of the process, and that do not end by themselves."""
    pools = concurrent.futures.thread._threads_queues  # their threads are told to end
    found = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread() and t not in pools]
    for thread in found:
        thread.join(2)
    return [thread for thread in found if thread.is_alive()]


def death(status: int) -> Outcome:
    """A process that a library ended: by a signal, or as glibc without memory for a thread, by exit status 127."""
    return Outcome("died", [signal.Signals(-status).name if status < 0 else f"exit status {status}"])


def runs(group: int) -> bool:
    """Whether a process of a group is there still."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Keep what is compiled: the programs are the same in every trial, and compiling takes most of the time."""
    with tempfile.TemporaryDirectory() as folder:
        cli.keep_compiled(Path(folder))
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", None)


def record(path: Path, counts: "Counter[tuple[str, ...]]") -> None:
    """Keep counts in a JSON file, nested by their names; what is there under other names of the first two stays."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for first, second in {names[:2] for names in counts}:
        kept.setdefault(first, {})[second] = {}
    for names, count in counts.items():
        inner = kept
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
        inner[names[-1]] = count
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _received(ours: socket.socket) -> bytes:
    """What a child says; nothing from one that has died."""
    try:
        return ours.recv(16)
    except ConnectionResetError:
        return b""


def _in_child(work: Callable[[Path], Any], folder: Path, harness: socket.socket) -> None:
    """Wait until told to go, work, say that it is done, wait until nothing fails any more, report."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries write when they end the process
    harness.send(b"ready")
    harness.recv(16)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            value = work(folder)
        outcome = Outcome("done", [], value)
    except SystemExit as ended:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("Error: ")]
        outcome = Outcome("refused" if ended.code else "done", lines)
    except (OSError, MemoryError, CheckpointError) as error:
        outcome = Outcome("refused", (str(error) or type(error).__name__).splitlines())
    except BaseException:
        outcome = Outcome("wrong", traceback.format_exc().splitlines()[-40:])
    if left := waited_for():
        outcome = Outcome("wrong", [f"keep the process from ending: {left}", *outcome.said])
    harness.send(b"done")
    harness.recv(16)
    harness.sendall(json.dumps(outcome).encode())
    harness.close()
    os._exit(0)


def _traced(child: int, options: tuple[str, ...], log: Path) -> "subprocess.Popen[str]":
    command = ["strace", "-f", "-p", str(child), "-o", str(log), *options]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    attached = tracer.stderr.readline()
    assert "attached" in attached, attached
    return tracer
