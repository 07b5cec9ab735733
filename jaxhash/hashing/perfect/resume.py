"""Resuming a fit: what has been learned is saved in a folder until it is done, so that the same fit can go on.

    my.hash.unfinished/.lock       held by the fit that works there
                       step-3/     the third save (`storage/saves.py`); the one before is deleted once it is whole
                       log.jsonl   events `start` (host, method), `fit` (stage, keys, steps, collisions; a line a second
                                   at most), `damaged` (a save that is passed over), `stopped`, `failed` (error)

A fit of seconds writes nothing: the folder appears once a fit has lasted a minute.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxhash.hashing.perfect.workers import Learned
from jaxhash.storage import checkpoint, event_log, locks, saves
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.storage.event_log import EventLog
from jaxhash.storage.saves import Interrupted, OtherTraining, StepSaves

FORMAT = 2
"""Raised whenever the same arrays come to mean something else."""
SECONDS_BETWEEN_SAVES = 60.0
"""Before the first one too."""


@contextmanager
def opened(folder: Path, method: str, say: Callable[[str], None] = lambda _: None) -> Iterator["Unfinished"]:
    """Where a fit saves what it has learned; work alone there. At the end of the fit the folder is gone, unless
    something was saved there and the fit has not come to its end.

    Args:
        folder: made once there is something to save; one that is there already is gone on with.
        method: of the fit, for its log.
        say: told of a damaged save, which is passed over.

    Raises:
        InUse: (a ValueError) if another process works there.
        OSError: if it cannot be read or written.
    """
    with ExitStack() as stack:
        unfinished = Unfinished(folder, method, say, stack)
        if folder.exists():
            unfinished._open()
        yield unfinished
        unfinished._finished = True


class Unfinished:
    """The folder, while a fit works."""

    def __init__(self, folder: Path, method: str, say: Callable[[str], None], stack: ExitStack) -> None:
        self.folder = folder
        self._method, self._say, self._stack, self._finished = method, say, stack, False
        self._began = self._saved = time.monotonic()
        self._log: EventLog | None = None
        self._saves = StepSaves(folder, {}, say)

    def load(self, fit: dict[str, Any], fresh: Learned) -> Learned:
        """What was saved last; `fresh` if nothing was, or nothing that is whole.

        Args:
            fit: a JSON-able description of the fit; another one's state is no use.
            fresh: what the fit begins with, arrays of the same shapes.

        Raises:
            CheckpointError: if what is there is another fit's; nothing is changed.
        """
        self._saves = StepSaves(self.folder, {"format": FORMAT} | fit, self._passed_over)
        try:
            found = self._saves.latest(fresh)
        except OtherTraining as error:
            raise CheckpointError(
                f"{self.folder} holds what another fit has learned (another {error.differing[0]}); give the same as "
                f"there, delete {self.folder} to begin anew, or give another --out"
            ) from None
        return fresh if found is None else {name: np.array(array) for name, array in found[1].items()}

    def note(self, stage: str, keys: int, steps: int, collisions: int) -> None:
        """Log where the fit stands, once it has lasted a minute.

        Raises:
            InUse: (a ValueError) if another process has begun to work there meanwhile.
            OSError: if the log cannot be written.
        """
        if time.monotonic() < self._began + SECONDS_BETWEEN_SAVES:
            return
        log = self._open()
        if log.due(stage):
            log.write("fit", stage=stage, keys=keys, steps=steps, collisions=collisions)

    def save(self, learned: Callable[[], Learned], *, last: bool = False) -> None:
        """Once a minute, keep this instead of what was saved before; `load` comes first.

        Args:
            learned: asked only when it is saved.
            last: do not wait for the minute to be over, if it is not the first.

        Raises:
            OSError: if it cannot be written; what was saved before is still there.
        """
        if time.monotonic() < (self._began if last else self._saved) + SECONDS_BETWEEN_SAVES:
            return
        self._open()
        self._saves.save(max(saves.steps(self.folder), default=0) + 1, learned())
        self._saved = time.monotonic()

    def _open(self) -> EventLog:
        """Make the folder, keep other processes out, and log."""
        while self._log is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another fit has just ended, and removed it
                self._stack.enter_context(locks.held(self.folder))
                self._stack.callback(self._close)
                checkpoint.remove_drafts(self.folder)
                log = event_log.writing(self.folder / event_log.LOG, Interrupted, method=self._method)
                self._log = self._stack.enter_context(log)
        return self._log

    def _close(self) -> None:
        if self._finished or not saves.steps(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _passed_over(self, text: str) -> None:
        self._open().write("damaged", error=text)
        self._say(text)


def table(folder: Path) -> dict[str, str]:
    """How a fit stands, for people: what, and how it is.

    Raises:
        ValueError: if the folder is none of a fit.
        OSError: if it cannot be read.
    """
    events, holder = event_log.read(folder / event_log.LOG), locks.holder(folder)
    begun: dict[str, Any] = next((e for e in reversed(events) if e["event"] == "start"), {})
    if "method" not in begun:
        raise ValueError(f"{folder}: no fit has begun there; give the folder of a sweep or a fit in progress")
    last, rows = events[-1], {"fit": f"{folder} ({begun['method']})"}
    if holder is not None:
        rows["state"] = f"running: {holder}"
    else:
        ended = last["event"] if last["event"] in ("stopped", "failed") else "killed"
        error = f" ({last['error']})" if "error" in last else ""
        rows["state"] = f"{ended}{error}; the same command continues it"
    numbers = ("keys", "collisions", "steps")
    told = [e for e in events if e["event"] == "fit" and all(isinstance(e.get(name), int) for name in numbers)]
    if told:
        rows["stage"] = f"{told[-1].get('stage')}, {told[-1]['keys']:,} keys"
    fitting = [e for e in told if e.get("stage") == "fitting"]
    if fitting:
        rows["collisions"] = f"{fitting[-1]['collisions']:,} left, step {fitting[-1]['steps']:,}"
    rows["saved"] = ", ".join(sorted(path.name for path in folder.glob("step-*"))) or "nothing yet"
    rows["last sign"] = f"{last['time']} ({event_log.ago(last['time'])})"
    return rows


def digest(array: np.ndarray) -> str:
    """What tells arrays apart: the SHA-256 of their bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()
