"""What a fit has learned so far, kept in a folder until it is done, so that the same fit can go on after an end of any
kind.

    my.hash.unfinished/.lock      whose turn it is (`run_lock.py`)
                       state-3/   an Orbax checkpoint with its description; the one before is deleted once it is whole
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxhash.storage import checkpoint, locks
from jaxhash.storage.checkpoint import CheckpointError

FORMAT = 1
"""Raised whenever the same arrays come to mean something else."""
KIND = "jaxhash unfinished fit"
_STATE = re.compile(r"state-(\d+)")


class Unfinished:
    """The folder, while a fit works in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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

    def save(self, learned: Mapping[str, np.ndarray], fit: dict[str, Any]) -> None:
        """Keep this instead of what was saved before.

        Raises:
            OSError: if it cannot be written; what was saved before is still there.
        """
        before = self._states()
        learned = {name: array for name, array in learned.items() if array.size}  # Orbax takes no empty ones
        description = {
            "kind": KIND,
            "unfinished_format": FORMAT,
            "fit": fit,
            "arrays": {name: [list(array.shape), str(array.dtype)] for name, array in learned.items()},
        }
        number = int(_STATE.fullmatch(before[-1].name)[1]) + 1 if before else 1  # type: ignore[index]
        checkpoint.save(self.folder / f"state-{number}", dict(learned), description)
        for path in before:
            shutil.rmtree(path)

    @property
    def holds_something(self) -> bool:
        """Whether anything was saved."""
        return bool(self._states())

    def _states(self) -> list[Path]:
        """The newest last: there are two where a process ended between saving one and deleting the other."""
        found = [path for path in self.folder.iterdir() if _STATE.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(_STATE.fullmatch(path.name)[1]))  # type: ignore[index]


@contextmanager
def opened(folder: Path) -> Iterator[Unfinished]:
    """Work alone in a folder, new or not. Afterwards it is gone, unless the fit did not come to its end and has saved
    something there.

    Raises:
        InUse: (a ValueError) if another process works there.
        OSError: if it cannot be made.
    """
    finished = False
    with ExitStack() as stack:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another fit has just ended, and removed it
                stack.enter_context(locks.held(folder))
                break
        unfinished = Unfinished(folder)
        try:
            checkpoint.remove_drafts(folder)
            yield unfinished
            finished = True
        finally:
            if finished or not unfinished.holds_something:
                shutil.rmtree(folder, ignore_errors=True)


def digest(array: np.ndarray) -> str:
    """What tells arrays apart: the SHA-256 of their bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()
