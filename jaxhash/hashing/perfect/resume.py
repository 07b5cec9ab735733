"""Resuming a fit: what has been learned is saved in a folder until it is done, so that the same fit can go on.

    my.hash.unfinished/.lock       held by the fit that works there
                       state-3/    an Orbax checkpoint with its description; the one before is deleted once it is whole
                       log.jsonl   events `start` (host, method), `fit` (stage, keys, steps, collisions; a line a second
                                   at most), `stopped`, `failed` (error)

A fit of seconds writes nothing: the folder appears once a fit has lasted a minute.
"""

import hashlib
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxhash.storage import checkpoint, event_log, locks
from jaxhash.storage.checkpoint import CheckpointError

FORMAT = 1
"""Raised whenever the same arrays come to mean something else."""
KIND = "jaxhash unfinished fit"
SECONDS_BETWEEN_SAVES = 60.0
"""Before the first one too."""
SECONDS_BETWEEN_LINES = 1.0
_STATE = re.compile(r"state-(\d+)")


class Interrupted(Exception):
    """The fit was asked to stop, and has."""

    def __init__(self, saved: bool) -> None:
        super().__init__(f"{'what was learned' if saved else 'nothing'} was saved")
        self.saved = saved
        """Whether the same fit would go on from what has been learned."""


@contextmanager
def opened(folder: Path, method: str) -> Iterator["Unfinished"]:
    """Where a fit saves what it has learned; work alone there. At the end of the fit the folder is gone, unless
    something was saved there and the fit has not come to its end.

    Args:
        folder: made once there is something to save; one that is there already is gone on with.
        method: of the fit, for its log.

    Raises:
        InUse: (a ValueError) if another process works there.
        OSError: if it cannot be read or written.
    """
    with ExitStack() as stack:
        unfinished = Unfinished(folder, method, stack)
        if folder.exists():
            unfinished._open()
        finished = False
        try:
            yield unfinished
            finished = True
        except Exception as error:
            if isinstance(error, Interrupted):
                unfinished._write("stopped")
            else:
                unfinished._write("failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            if unfinished.is_open and (finished or not unfinished.holds_something):
                shutil.rmtree(folder, ignore_errors=True)


class Unfinished:
    """The folder, while a fit works."""

    def __init__(self, folder: Path, method: str, stack: ExitStack) -> None:
        self.folder, self.is_open = folder, False
        self._method, self._stack = method, stack
        self._began = self._saved = time.monotonic()
        self._log: event_log.EventLog | None = None
        self._noted: dict[str, float] = {}

    @property
    def holds_something(self) -> bool:
        """Whether anything was saved."""
        return bool(self._states())

    def load(self, fit: dict[str, Any]) -> dict[str, np.ndarray] | None:
        """What was saved last; None if nothing was.

        Args:
            fit: a JSON-able description of the fit; another one's state is no use.

        Raises:
            CheckpointError: if it is damaged, or another fit's; nothing is changed.
        """
        states = self._states()
        if not states:
            return None
        description = checkpoint.describe(states[-1])
        mend = f"delete {self.folder} to begin anew, or give another --out"
        if description.get("kind") != KIND or description.get("unfinished_format") != FORMAT:
            raise CheckpointError(f"{states[-1]}: no state of a fit that this jaxhash can read; {mend}")
        try:
            like = {name: jax.ShapeDtypeStruct(s, np.dtype(t)) for name, (s, t) in description["arrays"].items()}
            begun = dict(description["fit"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{states[-1]}: the description is not complete ({error!r}); {mend}") from None
        if other := [name for name, value in fit.items() if begun.get(name) != value]:
            raise CheckpointError(
                f"{self.folder} holds what another fit has learned (another {other[0]}); give the same as there, {mend}"
            )
        return {name: np.asarray(array) for name, array in checkpoint.restore(states[-1], like).items()}

    def note(self, stage: str, keys: int, steps: int, collisions: int) -> None:
        """Log where the fit stands, once it has lasted a minute.

        Raises:
            InUse: (a ValueError) if another process has begun to work there meanwhile.
            OSError: if the log cannot be written.
        """
        now = time.monotonic()
        if now < self._began + SECONDS_BETWEEN_SAVES:
            return
        if now - self._noted.get(stage, -SECONDS_BETWEEN_LINES) >= SECONDS_BETWEEN_LINES:
            self._open()
            self._noted[stage] = now
            self._write("fit", stage=stage, keys=keys, steps=steps, collisions=collisions)

    def save(self, learned: Callable[[], Mapping[str, np.ndarray]], fit: dict[str, Any], *, last: bool = False) -> None:
        """Once a minute, keep this instead of what was saved before.

        Args:
            learned: asked only when it is saved.
            fit: as `load` takes it.
            last: do not wait for the minute to be over, if it is not the first.

        Raises:
            OSError: if it cannot be written; what was saved before is still there.
        """
        now = time.monotonic()
        if now < (self._began if last else self._saved) + SECONDS_BETWEEN_SAVES:
            return
        self._open()
        before = self._states()
        arrays = {name: array for name, array in learned().items() if array.size}  # Orbax takes no empty ones
        description = {
            "kind": KIND,
            "unfinished_format": FORMAT,
            "fit": fit,
            "arrays": {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()},
        }
        checkpoint.save(self.folder / f"state-{_number(before[-1]) + 1 if before else 1}", arrays, description)
        for path in before:
            shutil.rmtree(path)
        self._saved = time.monotonic()

    def _open(self) -> None:
        """Make the folder, and keep other processes out."""
        while not self.is_open:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another fit has just ended, and removed it
                self._stack.enter_context(locks.held(self.folder))
                self.is_open = True
                checkpoint.remove_drafts(self.folder)

    def _write(self, event: str, **more: Any) -> None:
        if not self.is_open:
            return
        if self._log is None:
            self._log = event_log.EventLog(self.folder / event_log.LOG)
            self._stack.callback(self._log.close)
            self._log.write("start", host=socket.gethostname(), method=self._method)
        self._log.write(event, **more)

    def _states(self) -> list[Path]:
        """The newest last: there are two where a process ended between saving one and deleting the other."""
        found = self.folder.iterdir() if self.folder.exists() else ()
        return sorted((path for path in found if _STATE.fullmatch(path.name)), key=_number)


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
    rows["saved"] = ", ".join(sorted(path.name for path in folder.glob("state-*"))) or "nothing yet"
    rows["last sign"] = f"{last['time']} ({event_log.ago(last['time'])})"
    return rows


def digest(array: np.ndarray) -> str:
    """What tells arrays apart: the SHA-256 of their bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def _number(state: Path) -> int:
    return int(state.name.rpartition("-")[2])
