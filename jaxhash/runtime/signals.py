"""SIGINT (Ctrl-C) and SIGTERM (a scheduler's or a system's request) ask a long run to finish its step and save."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Request:
    """Whether a signal has asked to stop, and what to exit with then."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.number = int(signal.SIGINT)

    @property
    def status(self) -> int:
        """Exit status of a process that a signal ended: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.number


@contextmanager
def requests(say: Callable[[], None]) -> Iterator[Request]:
    """Inside, the first SIGINT or SIGTERM sets `Request.stop` and calls `say`; the next raises KeyboardInterrupt.

    The handlers are installed anew: a command that a shell started in the background ignores SIGINT otherwise. Outside
    the main thread, where Python lets nobody handle signals, `stop` is never set.
    """
    request = Request()

    def ask(number: int, _: FrameType | None) -> None:
        request.number = number
        if request.stop.is_set():
            raise KeyboardInterrupt
        request.stop.set()
        say()

    with _handled_by(ask):
        yield request


@contextmanager
def interrupts() -> Iterator[Request]:
    """Inside, every SIGINT or SIGTERM raises KeyboardInterrupt in the main thread, and sets `Request.stop`.

    For what has nothing to save. Handlers as of `requests`.
    """
    request = Request()

    def interrupt(number: int, _: FrameType | None) -> None:
        request.number = number
        request.stop.set()
        raise KeyboardInterrupt

    with _handled_by(interrupt):
        yield request


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
