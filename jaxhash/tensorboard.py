"""The log of a sweep as TensorBoard scalars, for those who watch runs there: `jaxhash status runs/x --tensorboard DIR`.

Needs `pip install "jaxhash[tensorboard]"` (tensorboardX); nothing else does.
"""

from datetime import datetime
from pathlib import Path

from jaxhash import run_log

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
        folder: new folder for the event files: one below it for each task, with epochs for steps, and the speed of
            all of them, by model-steps, in itself.

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
    events = run_log.events(out)
    for task in [None, *dict.fromkeys(event["task"] for event in events if "task" in event)]:
        with SummaryWriter(str(folder if task is None else folder / task)) as writer:
            for event in events:
                when = datetime.fromisoformat(event["time"]).timestamp()
                if task is None and {SPEED, "model_steps"} <= event.keys():
                    writer.add_scalar(SPEED, event[SPEED], event["model_steps"], when)
                    written += 1
                elif task is not None and event.get("task") == task and "epoch" in event:
                    for name, tag in BY_EPOCH.items():
                        if event.get(name) is not None:
                            writer.add_scalar(tag, event[name], event["epoch"], when)
                            written += 1
    return written
