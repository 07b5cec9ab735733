"""Progress bar of a command, or lines where there is no terminal to draw one in."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BEFORE_A_LINE = 2.0
"""What takes longer tells how far it is."""
SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(label: str, total: int, stop: threading.Event | None = None) -> Iterator[Callable[..., None]]:
    """Progress of something that is counted: gives `told(done, note="")`, to be called as often as one likes.

    Args:
        label: what is done.
        total: how much of it there is.
        stop: `told` raises KeyboardInterrupt once it is set.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task(label, total=total, note="")
    lines = Lines()
    if not console.is_terminal:
        console.print(label, highlight=False)

    def told(done: int, note: str = "") -> None:
        bar.update(task, completed=done, note=note)
        if not console.is_terminal and (done == total or lines.due()):
            console.print(f"{label}: {done:,} of {total:,} {note}".rstrip(), highlight=False)
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt

    with bar:
        yield told


class Lines:
    """When the next line of progress is due."""

    def __init__(self) -> None:
        self._next = time.monotonic() + SECONDS_BEFORE_A_LINE

    def due(self) -> bool:
        """Whether it is; then the one after it is due some seconds later."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES
        return True


def share_bar(console: Console, *, transient: bool = False) -> Progress:
    """A bar with the share done, the time it took, and the field `left`; nothing where there is no terminal.

    `transient`: it goes away at the end.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("elapsed{task.fields[left]}"),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def time_left(seconds: float | None) -> str:
    """What stands after a bar; nothing where it is not known."""
    return "" if seconds is None else f", about {duration(seconds)} left"
