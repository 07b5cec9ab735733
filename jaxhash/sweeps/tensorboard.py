"""TensorBoard scalars of a sweep's log: `jaxhash status runs/x --tensorboard DIR`.

Needs `pip install "jaxhash[tensorboard]"` (tensorboardX); nothing else does.
"""

import itertools
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxhash.sweeps import log

BY_EPOCH = {
    "loss_mean": "loss/mean",
    "loss_min": "loss/min",
    "loss_max": "loss/max",
    "active": "models_training",
    "train_redundancy": "train_redundancy",
    "test_accuracy": "test_accuracy",
}
"""What a line of the log says of a task after an epoch, and its name there."""
SPEED = "model_steps_per_second"


class TensorBoardError(ValueError):
    """Scalars cannot be written."""


def write_scalars(out: Path, folder: Path) -> int:
    """Write what the log of a run says so far.

    Args:
        out: folder of the run.
        folder: new folder for the event files: one below it for each task, with epochs for steps; the speed, by
            model-steps, in itself, and that of process 1, if several worked on the run, in `process-1`.

    Returns:
        How many scalars were written.

    Raises:
        TensorBoardError: if tensorboardX is not installed, or the folder exists.
        OSError: if it cannot be written.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise TensorBoardError(
            'TensorBoard files are written by tensorboardX; pip install "jaxhash[tensorboard]"'
        ) from None
    if folder.exists():
        raise TensorBoardError(f"{folder} exists; give a new folder, or delete it first")
    written = 0

    def write(below: Path, scalars: Iterable[tuple[str, float | int, int, dict[str, Any]]]) -> None:
        nonlocal written
        with SummaryWriter(str(below)) as writer:
            for tag, value, step, event in scalars:
                writer.add_scalar(tag, value, step, datetime.fromisoformat(event["time"]).timestamp())
                written += 1

    logs = log.logs(out)
    for process, events in logs.items():
        speeds = [(SPEED, e[SPEED], e["model_steps"], e) for e in events if {SPEED, "model_steps"} <= e.keys()]
        write(folder / f"process-{process}" if process else folder, speeds)
    everything = list(itertools.chain(*logs.values()))
    for task in dict.fromkeys(event["task"] for event in everything if "task" in event):
        of_task = [event for event in everything if event.get("task") == task and "epoch" in event]
        told = {(tag, e["epoch"]): (tag, e[n], e["epoch"], e) for e in of_task for n, tag in BY_EPOCH.items() if n in e}
        write(folder / task, [scalar for scalar in told.values() if scalar[1] is not None])
    return written
