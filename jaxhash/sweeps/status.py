"""Status of a run, from its folder alone: `jaxhash status`.

Nothing is changed there, and a process that works in it is not disturbed.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxhash.storage import event_log, locks, saves
from jaxhash.storage.locks import Holder
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps import log
from jaxhash.sweeps.tasks import Task


@dataclass(frozen=True)
class Status:
    """How a sweep stands."""

    dataset: str
    models: int
    """All models of the sweep."""
    measurings: int
    """As many numbers of models as the sweep ends with: models x snapshots."""
    measured: int
    """Those of them that are saved."""
    epochs: int
    """Epochs each model trains for at most."""
    epochs_done: float
    """Mean over the models, as far as saved or logged; a model that stopped early counts as done."""
    holder: Holder | None
    """The process that works on it now, if there is one."""
    ended: str | None
    """done, stopped, failed, or killed; None while it runs, or before it was begun."""
    error: str | None
    """What it failed for."""
    loss: float | None
    """Mean training loss of the models that trained last, nats."""
    model_steps_per_second: float | None
    """Of the last process that trained, since it began; the sum of all, if several did together."""
    seconds_left: float | None
    """While it runs, as far as it can be told."""
    last_sign: str | None
    """Time of the last line of the log, ISO 8601."""
    finished: bool
    """Whether the results are written."""


def status(out: Path) -> Status:
    """Read how the sweep in a folder stands.

    Raises:
        CheckpointError: if it is not the folder of a sweep, or its configuration is damaged.
    """
    description = runs.read_description(out)
    # The lock first: what ends while the rest is read is then said to run, and not to be killed.
    holder = locks.holder(out)
    logs = log.since_start(out)
    config, tasks = description["config"], runs.tasks_of(description)
    epochs, snapshots = config["train"]["epochs"], sorted(config["snapshots"]) or [None]
    models = sum(task.models for task in tasks)
    saved = {task: [epoch for epoch in snapshots if task.folder(out, epoch).is_dir()] for task in tasks}
    reached = {task: _reached(out, task, saved[task], epochs, logs) for task in tasks}
    trained = sum(task.models * epoch for task, epoch in reached.items())
    this, finished = logs[0], (out / runs.RESULTS).exists()
    # The last epoch that each process has logged.
    latest = [of_epochs[-1] for said in logs if (of_epochs := [e for e in said if e["event"] == "epoch"])]
    last: dict[str, Any] = max(latest, key=lambda e: str(e["time"]), default={})
    speed = sum(e.get("model_steps_per_second") or 0.0 for e in latest) or None
    left = None
    if holder is not None and speed:
        left = (models * epochs - trained) * this[0].get("steps_per_epoch", 0) / speed
    end = this[-1]["event"] if this and this[-1]["event"] in ("done", "stopped", "failed") else None
    return Status(
        dataset=str(config.get("dataset")),
        models=models,
        measurings=models * len(snapshots),
        measured=sum(task.models * len(found) for task, found in saved.items()),
        epochs=epochs,
        epochs_done=trained / max(models, 1),
        holder=holder,
        ended=None if holder is not None else "done" if finished else end or ("killed" if this else None),
        error=this[-1].get("error") if end == "failed" and not finished else None,
        loss=last.get("loss_mean"),
        model_steps_per_second=speed,
        seconds_left=left,
        last_sign=max((said[-1]["time"] for said in logs if said), default=None),
        finished=finished,
    )


def table(out: Path, found: Status, now: datetime | None = None) -> dict[str, str]:
    """The same for people: what, and how it is."""
    rows = {"run": f"{out} ({found.dataset})"}
    if found.holder is not None:
        rows["state"] = f"running: {found.holder}"
    elif found.ended is None:
        rows["state"] = "not begun"
    else:
        mend = "" if found.finished else "; the same command continues it"
        rows["state"] = found.ended + (f" ({found.error})" if found.error else "") + mend
    rows["models"] = f"{found.models:,}, {found.measured:,} of {found.measurings:,} measurings saved"
    rows["epochs"] = f"{found.epochs_done:,.1f} of {found.epochs:,} on average"
    if found.loss is not None:
        rows["loss"] = f"{found.loss:.4f} nats, the models trained last"
    if found.model_steps_per_second is not None:
        rows["speed"] = f"{found.model_steps_per_second:,.0f} model-steps/s"
    if found.seconds_left is not None:
        rows["left"] = f"about {found.seconds_left:,.0f} s, less where models stop early"
    if found.last_sign is not None:
        rows["last sign"] = f"{found.last_sign} ({event_log.ago(found.last_sign, now)})"
    return rows


def _reached(out: Path, task: Task, done: list[int | None], epochs: int, logs: list[list[dict[str, Any]]]) -> int:
    """Epochs a task has trained for: as far as saved, or logged by the processes that work now."""
    if done and done[-1] in (None, epochs):
        return epochs
    kept = saves.steps(out / runs.PARTIAL / task.name)
    logged = [e["epoch"] for said in logs for e in said if e.get("task") == task.name and "epoch" in e]
    return min(max([0, *kept, *logged, *(epoch for epoch in done if epoch is not None)]), epochs)
