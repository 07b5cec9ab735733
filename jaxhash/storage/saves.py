"""Step saves of a training: the state it resumes from after it was interrupted, the newest one only.

    folder/step-12/   arrays and the identity of the training, a checkpoint (`checkpoint.py`)

A step is what the training counts: optimiser steps, or epochs. Orbax's own `Checkpointer` with a policy that preserves
the newest would neither find damage nor sync folders, and needs the identity beside it all the same.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError

_NAME = re.compile(r"step-(\d+)")


class Interrupted(Exception):
    """A training was asked to stop, and has; the same call continues it from what was saved."""


class StepSaves:
    """The saves of one training in a folder of their own, which need not exist.

    Args:
        folder: where they are.
        identity: what is trained, as JSON: its configuration, data, key; another training's saves are refused.
        say: told of each damaged save that is passed over.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], say: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self._identity = identity
        self._say = say
        self._whole: int | None = None

    def latest(self, like: Any, at_most: int | None = None) -> tuple[int, Any] | None:
        """The newest save that is whole; a damaged one costs time only, for an older one serves, or the start.

        Args:
            like: pytree of shapes and dtypes of what was saved.
            at_most: newer ones are passed over.

        Returns:
            Its step and arrays, shaped like `like`; None if there is none.

        Raises:
            CheckpointError: if it is of another training.
        """
        leaves, tree = jax.tree.flatten(like)
        for step in sorted(steps(self.folder), reverse=True):
            if at_most is not None and step > at_most:
                continue
            path = self._path(step)
            try:
                said = checkpoint.describe(path)
                self._check(path, said)
                if said["step"] != step:
                    raise CheckpointError(f"{path}: a save of step {said['step']}")
                arrays = checkpoint.restore(path, leaves)
            except OtherTraining:
                raise
            except CheckpointError as error:
                self._say(f"A save is passed over, it is damaged: {error}.")
                continue
            self._whole = step
            return step, jax.tree.unflatten(tree, arrays)
        return None

    def save(self, step: int, arrays: Any) -> None:
        """Save whole or not at all; what was saved before goes once this is on the disk.

        A save of this step that `latest` or `save` knows to be whole stays; a damaged one is replaced.

        Raises:
            OSError: if it cannot be written; what was saved before is still there.
        """
        if step == self._whole:
            return
        path = self._path(step)
        if path.exists():
            shutil.rmtree(path)
        # Leaves only: some of an optimiser's containers are empty, and Orbax keeps no empty ones.
        checkpoint.save(path, jax.tree.leaves(arrays), {"of": self._identity, "step": step})
        self._whole = step
        for older in steps(self.folder):
            if older != step:
                shutil.rmtree(self._path(older), ignore_errors=True)

    def clear(self) -> None:
        """Delete them all, once the training has ended and its result is saved."""
        self._whole = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    def _check(self, path: Path, said: dict[str, Any]) -> None:
        of = said.get("of")
        if of == self._identity:
            return
        found = of if isinstance(of, dict) else {}
        raise OtherTraining(path, [name for name, value in self._identity.items() if found.get(name) != value])


class OtherTraining(CheckpointError):
    """Saves of another training are in the folder."""

    def __init__(self, path: Path, differing: list[str]) -> None:
        super().__init__(
            f"{path}: holds another training (another {', '.join(differing)}); nothing was changed. Give another "
            "folder, or delete this one"
        )
        self.differing = differing
        """Names in the identity whose values are others there."""


def steps(folder: Path) -> list[int]:
    """Steps of which there are saves in a folder, whole or damaged, in no order."""
    if not folder.is_dir():
        return []
    return [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
