"""What a fit does while it runs, as JSON lines beside what is kept of it: `my.hash.unfinished/log.jsonl`.

Lines are those of `storage/event_log.py`; events are

    start      host, method
    fit        stage (reading, fitting, checking), keys, steps, collisions (see `perfect.Progress`); a line a second
    done, stopped, failed (with error)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxhash.hashing.perfect.fitting import Interrupted, Progress
from jaxhash.storage import event_log, locks


@contextmanager
def opened(folder: Path, method: str, report: Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Log what is reported inside, and how it ends.

    Args:
        folder: of what is kept of the fit (`unfinished.opened`).
        method: of the fit.
        report: told all that is logged, afterwards.

    Raises:
        OSError: if the log cannot be written.
    """
    with event_log.writing(folder / event_log.LOG, Interrupted, method=method) as log:

        def both(progress: Progress) -> None:
            if log.due(progress.stage):
                log.write(
                    "fit",
                    stage=progress.stage,
                    keys=progress.num_keys,
                    steps=progress.steps,
                    collisions=progress.collisions,
                )
            report(progress)

        yield both


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
