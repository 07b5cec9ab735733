"""System calls that fail: strace makes the Nth call of a save, a resume or a fit fail, for every N until none is left.

    python -m tests.faults.system_calls                                   # all of them
    python -m tests.faults.system_calls --operations save --calls write --errors EIO

After each failure: what was reported as saved loads and is right, what was there before is not lost, the same operation
works once calls do not fail any more, and the error is one line. A call is failed in every thread that makes so many.
Linux, with strace; each trial is a fork of one process that has imported everything.
"""

import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from tests.faults.trials import OPERATIONS, WENT_WRONG, compiled_once, outcome_of, prepared, record

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
"""Without memory a library may end the process, or not be loaded; what is saved has to be right all the same. So may
one whose own calls fail: of random numbers, of threads that wake each other, of its code."""


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
    most: int | None = None
    """Trials of one kind of call, at most: each call once, with the errors in turn, before any a second time."""
    record: Path | None = None
    """File that keeps what came of them; its other operations and calls stay."""


def failed(folder: Path) -> list[bool]:
    """Of each call that strace made fail, whether it was about a file of the operation."""
    log = (folder.parent / f"{folder.name}.strace").read_text(errors="replace")
    return [str(folder) in line for line in log.splitlines() if "(INJECTED)" in line]


def trial(name: str, call: str, error: str, number: int) -> tuple[str | None, Failure | None]:
    """How the operation ends when so many calls are made and the last of them fails; what went wrong then.

    None if it makes fewer.
    """
    operation = OPERATIONS[name]
    ended = "hangs"
    with prepared(operation) as folder:
        fault = "-y", "-e", f"trace={CALLS[call]}", "-e", f"inject={CALLS[call]}:error={error}:when={number}"
        try:
            outcome = outcome_of(operation.run, folder, *fault)
            if not (were_ours := failed(folder)):
                return None, None
            ended = str(outcome)
            may_die = call in MAY_DIE or not all(were_ours)
            allowed = {"done", "refused"} | ({"died", "wrong", "waits"} if may_die else set())
            assert outcome.status in allowed, repr(outcome)
            assert outcome.status != "refused" or len(outcome.said) == 1, repr(outcome)
            operation.check(folder, outcome)
        except AssertionError as wrong:
            return ended, Failure(name, call, error, number, str(wrong))
    return ended, None


def main(config: Config) -> None:
    """Try them, say how many there were, and exit with 1 if any went wrong."""
    wrong: list[Failure] = []
    ends: Counter[tuple[str, ...]] = Counter()
    with compiled_once():
        for name in config.operations:
            started, tried = time.monotonic(), Counter[str]()
            made = {call: count for call, count in calls_of(name).items() if call in config.calls}
            ends.update({(name, call, "calls"): count for call, count in made.items()})
            for call, error, number in _trials(config, made):
                ended, failure = trial(name, call, error, number)
                if ended is None:
                    continue
                tried[call] += 1
                ends[name, call, error, ended if failure is None else WENT_WRONG] += 1
                if failure is not None:
                    wrong.append(failure)
                    print(*failure, flush=True)
                if config.record is not None:
                    record(config.record, ends)
            counted = ", ".join(f"{call} {count}" for call, count in tried.items())
            print(f"{name}: {tried.total()} failures in {time.monotonic() - started:.0f} s ({counted})", flush=True)
    print(f"{len(wrong)} of them went wrong")
    sys.exit(bool(wrong))


def _trials(config: Config, made: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    """Every call of every kind with every error; or some of them."""
    rng = random.Random(config.seed)
    every = []
    for call, count in made.items():
        numbers = rng.sample(range(1, count + 1), count)
        # Each number once, with the errors in turn; then each with the next error.
        errors = [config.errors[turn:] + config.errors[:turn] for turn in range(len(config.errors))]
        turns = [(call, order[i % len(order)], number) for order in errors for i, number in enumerate(numbers)]
        every += turns[: config.most]
    yield from every if config.sample is None else rng.sample(every, min(config.sample, len(every)))


def calls_of(name: str) -> dict[str, int]:
    """The most calls of each kind that a thread makes in an operation."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "work"
        folder.mkdir()
        outcome_of(OPERATIONS[name].prepare, folder)
        ended = outcome_of(OPERATIONS[name].run, folder, "-e", "trace=" + ",".join(CALLS.values()))
        assert ended.status == "done", repr(ended)
        lines = (folder.parent / "work.strace").read_text(errors="replace").splitlines()
    made: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if match := re.match(r"(\d+)\s+(\w+)\(", line):
            made[match[1], match[2]] += 1
    return {
        call: max((count for (_, name), count in made.items() if name in names.split(",")), default=0)
        for call, names in CALLS.items()
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
