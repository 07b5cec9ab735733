"""System calls that fail: strace makes the Nth call of a save, a resume or a fit fail, for every N until none is left.

    python -m tests.faults.system_calls                                   # all of them
    python -m tests.faults.system_calls --operations save --calls write --errors EIO

After each failure: what was reported as saved loads and is right, what was there before is not lost, the same operation
works once calls do not fail any more, and the error is one line. A call is failed in every thread that makes so many.
Linux, with strace; each trial is a fork of one process that has imported everything.
"""

import contextlib
import io
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from jaxhash import cli
from jaxhash.hashing.perfect import resume, workers
from jaxhash.hashing.perfect.hasher import load_hasher
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.storage.saves import StepSaves

CALLS = {
    "openat": "openat",
    "write": "write,pwrite64,writev",
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "mkdir": "mkdir,mkdirat",
    "unlink": "unlink,unlinkat,rmdir",
    "flock": "flock",
    "mmap": "mmap",
}
ERRORS = ("EIO", "ENOSPC", "EINTR")
MAY_DIE = {"mmap"}
"""Without memory a library may end the process, or not be loaded; what is saved has to be right all the same."""
SECONDS = 120
"""A trial that takes longer hangs."""
KEYS = b"".join(b"key %d\n" % i for i in range(70))


class Outcome(NamedTuple):
    """How an operation ended."""

    status: str
    """done, refused (by a documented error), wrong (any other exception), or died (by a signal)."""
    said: list[str]
    """Lines of the error, or of the exception."""
    value: Any = None
    """What a resume found: the step and whether its arrays are right."""


class Operation(NamedTuple):
    """Something that is tried."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], Any]
    check: Callable[[Path, Outcome], None]
    """After the failure, and after the operation was run again without one: raises AssertionError."""


class Failure(NamedTuple):
    """A trial that went wrong."""

    operation: str
    call: str
    error: str
    number: int
    what: str


@dataclass(frozen=True)
class Config:
    """Fail every system call of a save, a resume and a fit once."""

    operations: tuple[str, ...] = ("save", "resume", "fit")
    calls: tuple[str, ...] = tuple(CALLS)
    errors: tuple[str, ...] = ERRORS
    sample: int | None = None
    """Only so many trials of each operation, drawn at random; by default every one."""
    seed: int = 0
    """Of the draw."""
    most: int = field(default=10_000)
    """Calls of one kind, at most."""


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
    cli.main(["fit", str(folder / "keys"), "--out", str(folder / "my.hash")])


def check_save(folder: Path, outcome: Outcome) -> None:
    """The first save is there until the second is; what was reported as saved is."""
    after = outcome_of(found, folder)
    assert after.status == "done", after
    assert after.value in ([1, True], [2, True]), after
    assert outcome.status != "done" or after.value == [2, True], after
    assert outcome_of(save_again, folder).status == "done"
    assert outcome_of(found, folder).value == [2, True]


def check_resume(folder: Path, outcome: Outcome) -> None:
    """It found the save, or said that it could not; the save is still there."""
    assert outcome.status != "done" or outcome.value in (None, [1, True]), outcome
    assert outcome_of(found, folder).value == [1, True]


def check_fit(folder: Path, outcome: Outcome) -> None:
    """The function is there whole, or not at all; the same command makes it then."""
    out = folder / "my.hash"
    assert outcome.status != "done" or out.exists()
    if not out.exists():
        again = outcome_of(fit, folder)
        assert again.status == "done", again
    assert outcome_of(lambda folder: perfect(folder / "my.hash"), folder).value is True


def perfect(out: Path) -> bool:
    """Whether a saved function loads and is perfect."""
    keys = KEYS.splitlines()
    return sorted(np.asarray(load_hasher(out)(keys)).tolist()) == list(range(len(keys)))


OPERATIONS = {
    "save": Operation(lambda folder: saves(folder).save(1, arrays(1)), save_again, check_save),
    "resume": Operation(lambda folder: saves(folder).save(1, arrays(1)), found, check_resume),
    "fit": Operation(lambda folder: (folder / "keys").write_bytes(KEYS) and None, fit, check_fit),
}


def outcome_of(work: Callable[[Path], Any], folder: Path, *traced: str) -> Outcome:
    """Do something in a fork of this process; under strace, if its options are given."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _in_child(work, folder, theirs)
    theirs.close()
    log = folder.parent / f"{folder.name}.strace"
    tracer = None
    try:
        if traced:
            tracer = _traced(child, traced, log)
        ours.send(b"go")
        ready, _, _ = select.select([ours], [], [], SECONDS)
        assert ready, f"hangs for {SECONDS} s"
        died = not ours.recv(16)
        if tracer is not None:
            tracer.send_signal(signal.SIGINT)  # it lets go of the process, which can then report
            tracer.wait(SECONDS)
        if died:
            return Outcome("died", [str(os.waitpid(child, 0)[1])])
        ours.send(b"on")
        report = b"".join(iter(lambda: ours.recv(65536), b""))
        os.waitpid(child, 0)
        return Outcome(*json.loads(report))
    finally:
        ours.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if tracer is not None:
            tracer.kill()
            tracer.wait()


def failed(folder: Path) -> bool:
    """Whether strace made a call fail."""
    return "(INJECTED)" in (folder.parent / f"{folder.name}.strace").read_text(errors="replace")


def trial(name: str, call: str, error: str, number: int) -> tuple[bool, Failure | None]:
    """Whether the operation makes so many calls, and what went wrong when the last of them failed."""
    operation = OPERATIONS[name]
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "work"
        folder.mkdir()
        outcome_of(operation.prepare, folder)
        fault = "-e", f"trace={CALLS[call]}", "-e", f"inject={CALLS[call]}:error={error}:when={number}"
        try:
            outcome = outcome_of(operation.run, folder, *fault)
            if not failed(folder):
                return False, None
            allowed = {"done", "refused"} | ({"died", "wrong"} if call in MAY_DIE else set())
            assert outcome.status in allowed, outcome
            assert outcome.status != "refused" or len(outcome.said) == 1, outcome
            operation.check(folder, outcome)
        except AssertionError as wrong:
            return True, Failure(name, call, error, number, str(wrong))
    return True, None


def main(config: Config) -> None:
    """Try them, say how many there were, and exit with 1 if any went wrong."""
    wrong: list[Failure] = []
    for name in config.operations:
        tried: Counter[str] = Counter()
        started = time.monotonic()
        for call, error, number in _trials(config, name):
            there, failure = trial(name, call, error, number)
            tried[call] += there
            if failure is not None:
                wrong.append(failure)
                print(*failure, flush=True)
        counted = ", ".join(f"{call} {count}" for call, count in tried.items())
        print(f"{name}: {tried.total()} failures in {time.monotonic() - started:.0f} s ({counted})", flush=True)
    print(f"{len(wrong)} of them went wrong")
    sys.exit(bool(wrong))


def _trials(config: Config, name: str) -> Iterator[tuple[str, str, int]]:
    """Every call of every kind with every error; or some of them."""
    counts = {call: min(count, config.most) for call, count in calls_of(name).items() if call in config.calls}
    every = [(c, e, n) for c in config.calls for e in config.errors for n in range(1, counts[c] + 1)]
    yield from (
        every if config.sample is None else random.Random(config.seed).sample(every, min(config.sample, len(every)))
    )


def calls_of(name: str) -> dict[str, int]:
    """The most calls of each kind that a thread makes in an operation."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "work"
        folder.mkdir()
        outcome_of(OPERATIONS[name].prepare, folder)
        ended = outcome_of(OPERATIONS[name].run, folder, "-e", "trace=" + ",".join(CALLS.values()))
        assert ended.status == "done", ended
        lines = (folder.parent / "work.strace").read_text(errors="replace").splitlines()
    made: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if match := re.match(r"(\d+)\s+(\w+)\(", line):
            made[match[1], match[2]] += 1
    return {
        call: max((count for (_, name), count in made.items() if name in names.split(",")), default=0)
        for call, names in CALLS.items()
    }


def _in_child(work: Callable[[Path], Any], folder: Path, harness: socket.socket) -> None:
    """Wait until told to go, work, say that it is done, wait until nothing fails any more, report."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries write when they end the process
    harness.recv(16)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            value = work(folder)
        outcome = Outcome("done", [], value)
    except SystemExit as ended:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("Error: ")]
        outcome = Outcome("refused" if ended.code else "done", lines)
    except (OSError, CheckpointError) as error:
        outcome = Outcome("refused", str(error).splitlines())
    except BaseException:
        outcome = Outcome("wrong", traceback.format_exc().splitlines()[-12:])
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


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
