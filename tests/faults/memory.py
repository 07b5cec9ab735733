"""Too little memory: a save, a resume, a fit and a sweep with less address space, and with allocations that fail.

    python -m tests.faults.memory                                        # a few thousand trials
    python -m tests.faults.memory --operations save --faults lines

limit    the address space ends a little above what the process has, then higher, up to what the operation needs
         (`ulimit -v`), so that allocations fail at different places
lines    MemoryError at a line of jaxhash, at one of the times it is run; each line that the operation runs has its turn
command  `jaxhash fit` as a process of its own, under such limits: what it says is all that stands on standard error

After each: what was reported as saved loads and is right, what was there before is not lost, the same operation works
once there is memory, nothing is left running, and the error is one line. Where address space ends, a library written
in C++ may end the process (`died`), Python may wait for a thread that had no memory to begin, and a library for memory
to be loaded with (`waits`). Linux; a trial is a fork of one process that has imported everything.
"""

import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import tyro

import jaxhash
from tests.faults.trials import (
    OPERATIONS,
    SECONDS,
    WENT_WRONG,
    Outcome,
    compiled_once,
    death,
    outcome_of,
    prepared,
    record,
    runs,
)

WATCHED = tuple(f"{Path(jaxhash.__file__).parent / folder}{os.sep}" for folder in ("storage", "hashing", "sweeps"))
"""Where allocations fail by themselves."""
COMMANDS = {"fit", "sweep"}
"""Operations that a person runs: what they say names the want of memory."""
WANT = re.compile("out of memory|Cannot allocate memory|cannot be (written|read): ")
PROGRESS = re.compile(r"\d+ s: ")
FIT = """
import resource, sys
from jaxhash import cli
room = int(sys.argv.pop(1))
if room:
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, resource.RLIM_INFINITY))
cli.main()
"""
Work = Callable[[Path], Any]


class Place(NamedTuple):
    """A line of jaxhash, and one of the times that it is run."""

    line: str
    time: int


@dataclass(frozen=True)
class Config:
    """Give operations too little memory."""

    operations: tuple[str, ...] = tuple(OPERATIONS)
    faults: tuple[str, ...] = ("limit", "lines", "command")
    limits: int = 60
    """Steps of the address space, of an operation and of the command."""
    lines: int | None = None
    """Only so many trials of failing lines of each operation, drawn at random; by default every line once."""
    seed: int = 0
    """Of the draw."""
    record: Path | None = None
    """File that keeps what came of them; its other operations and faults stay."""


def limited(work: Work, room: int) -> Work:
    """The same with so many bytes of address space more than the process has."""

    def run(folder: Path) -> Any:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + room, hard))
        try:
            return work(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return run


def needed(work: Work) -> Work:
    """How many bytes of address space it takes, more than the process has."""

    def run(folder: Path) -> int:
        before = address_space()
        work(folder)
        return address_space("VmPeak") - before

    return run


def address_space(which: str = "VmSize") -> int:
    """Bytes of this process."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def watched(work: Work, at: Place | None) -> Work:
    """The same with a MemoryError at a place; what was met stands in the file `lines` beside its folder.

    Without a place, that is how often each line was run.
    """

    def run(folder: Path) -> Any:
        times: Counter[str] = Counter()
        met: list[str] = []

        def inside(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                times[line] += 1
                if at is not None and not met and at == (line, times[line]):
                    met.append(line)
                    raise MemoryError
            return inside

        def called(frame: FrameType, *_: Any) -> Any:
            return inside if frame.f_code.co_filename.startswith(WATCHED) else None

        threading.settrace(called)
        sys.settrace(called)
        try:
            return work(folder)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            (folder.parent / "lines").write_text(json.dumps(met if at is not None else times))

    return run


def trial(name: str, faulty: Callable[[Work], Work]) -> tuple[str | None, str | None]:
    """How an operation ends with too little memory, and what went wrong; None if it did not come to the fault."""
    operation = OPERATIONS[name]
    ended = "hangs"
    with prepared(operation) as folder:
        try:
            outcome = outcome_of(faulty(operation.run), folder)
            lines = folder.parent / "lines"
            if lines.exists() and not json.loads(lines.read_text()):
                return None, None
            ended = str(outcome)
            check_said(outcome, name in COMMANDS)
            operation.check(folder, outcome)
        except AssertionError as wrong:
            return ended, str(wrong)
    return ended, None


def check_said(outcome: Outcome, by_command: bool) -> None:
    """An error is one line, and a command's is about memory."""
    assert outcome.status in {"done", "refused", "died", "waits"}, repr(outcome)
    if outcome.status == "refused":
        assert len(outcome.said) == 1, repr(outcome)
        assert not by_command or WANT.search(outcome.said[0]), repr(outcome)


def command(room: int) -> tuple[str, str | None]:
    """How `jaxhash fit` ends with so many bytes of address space, and what went wrong."""
    operation = OPERATIONS["fit"]
    ended = "hangs"
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above)
        outcome_of(operation.prepare, folder)
        try:
            outcome = _outcome_of_fit(folder, room)
            ended = str(outcome)
            check_said(outcome, by_command=True)
            operation.check(folder, outcome)
        except AssertionError as wrong:
            return ended, str(wrong)
    return ended, None


def _outcome_of_fit(folder: Path, room: int) -> Outcome:
    arguments = ["fit", str(folder / "keys"), "--out", str(folder / "my.hash")]
    one_line_stays_one = os.environ | {"COLUMNS": "2000"}
    process = subprocess.Popen(
        [sys.executable, "-c", FIT, str(room), *arguments],
        env=one_line_stays_one,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = process.communicate(timeout=SECONDS)[1].splitlines()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"hangs for {SECONDS} s") from None
    finally:
        process.kill()
        process.wait()
    assert not runs(process.pid), "left a process behind"
    if process.returncode not in (0, 1):
        return death(process.returncode)
    if process.returncode == 0:
        return Outcome("done", [])
    return Outcome("refused", [line for line in lines if not PROGRESS.match(line)])


def main(config: Config) -> None:
    """Try them, say how many there were, and exit with 1 if any went wrong."""
    ends: Counter[tuple[str, ...]] = Counter()
    wrong = 0
    with compiled_once():
        for name, fault, what, (ended, why) in _trials(config):
            if ended is None:
                continue
            ends[name, fault, ended if why is None else WENT_WRONG] += 1
            if why is not None:
                wrong += 1
                print(name, fault, what, why, flush=True)
            if config.record is not None:
                record(config.record, ends)
    for name, fault in dict.fromkeys((name, fault) for name, fault, _ in ends):
        counted = {status: count for (n, f, status), count in ends.items() if (n, f) == (name, fault)}
        told = ", ".join(f"{status} {count}" for status, count in counted.items())
        print(f"{name} {fault}: {sum(counted.values())} trials ({told})", flush=True)
    print(f"{wrong} of them went wrong")
    sys.exit(bool(wrong))


def _trials(config: Config) -> Iterator[tuple[str, str, object, tuple[str | None, str | None]]]:
    """Operation, fault, where, how it ended and what went wrong."""
    rng = random.Random(config.seed)
    for name in config.operations:
        if "limit" in config.faults:
            for room in steps(_met(name, needed), config.limits):
                yield name, "limit", room, trial(name, lambda work, room=room: limited(work, room))
        if "lines" in config.faults:
            for place in places(_met(name, lambda work: watched(work, None)), config.lines, rng):
                yield name, "lines", place, trial(name, lambda work, place=place: watched(work, place))
    if "command" in config.faults:
        for room in steps(_met("fit", needed), config.limits):
            yield "fit", "command", room, command(room)


def steps(most: int, count: int) -> list[int]:
    """So many sizes of the address space, up to the most."""
    return [most * step // count for step in range(1, count + 1)]


def places(times: dict[str, int], count: int | None, rng: random.Random) -> list[Place]:
    """Each line at one of the times it is run, half of them at the first; or so many of them."""
    every = [Place(line, rng.choice((1, rng.randint(1, most)))) for line, most in sorted(times.items())]
    return every if count is None else rng.sample(every, min(count, len(every)))


def _met(name: str, looked_at: Callable[[Work], Work]) -> Any:
    """What a run without a fault needs."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "work"
        folder.mkdir()
        outcome_of(OPERATIONS[name].prepare, folder)
        ended = outcome_of(looked_at(OPERATIONS[name].run), folder)
        assert ended.status == "done", repr(ended)
        lines = folder.parent / "lines"
        return json.loads(lines.read_text()) if lines.exists() else ended.value


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
