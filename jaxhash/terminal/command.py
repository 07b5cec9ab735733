"""Frame of every command: its options, its errors in one line, its Ctrl-C and SIGTERM.

A command installs its own signal handlers, for a shell lets what it starts in the background ignore Ctrl-C. It exits
with 1 after an error that a person can mend, 2 if the command line is wrong, 130 after Ctrl-C, 143 after SIGTERM, and
141 when the reader of its output went away.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.text import Text

from jaxhash.runtime import memory, signals
from jaxhash.storage.saves import Interrupted

NOTHING = "Nothing was written."
READER_GONE = 141
OUT_OF_MEMORY = "Give less at once, or try where more memory is free (`ulimit -v` may be set)"
"""What helps where nothing is known of what was being done."""

T = TypeVar("T")


def command(
    config: T | type[T],
    description: str | None,
    body: Callable[[T], int | None],
    arguments: list[str] | None,
    *,
    kept: str = NOTHING,
    prog: str | None = None,
) -> None:
    """Run a command for a person at a terminal.

    Args:
        config: the dataclass of its options, or an instance of it that holds the defaults.
        description: what its help says.
        body: what it does with them; gives an exit status if it is not 0. Inside, Ctrl-C ends the process at once; a
            part of it that saves when it is asked to stop is `interruptible`.
        arguments: the command line (by default the process's own).
        kept: said after "Interrupted.".
        prog: its name in the help (by default that of the process).
    """
    framed(lambda: body(parse(config, description, arguments, prog)), kept)


def framed(work: Callable[[], int | None], kept: str) -> None:
    """Run the whole of a command, its parsing included, in this frame; exits with its status if that is not 0."""
    console = Console(stderr=True)
    with errors_in_one_line(console), signals.interrupts() as request:
        try:
            status = work()
        except KeyboardInterrupt:
            console.print(f"Interrupted. {kept}".rstrip(), highlight=False, soft_wrap=True)
            sys.stdout.flush()
            # A compiled program in another thread cannot be stopped: the process ends without waiting for it.
            os._exit(request.status)
        except BrokenPipeError:
            # What is still buffered has no reader; without this, Python would complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = READER_GONE
    if status:
        sys.exit(status)


@contextmanager
def interruptible(
    out: Path | None,
    console: Console,
    kept: Callable[[], str] | None = None,
    step: str = "the epochs under way and saving",
) -> Iterator[threading.Event]:
    """What runs inside stops when it sees the event set, which Ctrl-C and SIGTERM do; a second one ends it at once.

    Args:
        out: folder in which it saves, from where the same command continues; None if `kept` says so instead.
        console: where that is said.
        kept: what to say after "Interrupted.".
        step: after what it stops.
    """

    def say() -> None:
        said = f"after {step}; Ctrl-C again quits at once."
        try:
            console.print(f"[bold]Stopping[/] {said}")
        except RuntimeError:  # the signal came while the same thread was writing, which Python's files refuse
            os.write(sys.stderr.fileno(), f"\nStopping {said}\n".encode())

    with errors_in_one_line(console, out), signals.requests(say) as request:
        try:
            yield request.stop
        except (Interrupted, KeyboardInterrupt):
            text = kept() if kept else f"What was finished is in {out}; the same command continues it."
            console.print(f"Interrupted. {text}", soft_wrap=True)
            sys.exit(request.status)


@contextmanager
def errors_in_one_line(console: Console, out: Path | None = None) -> Iterator[None]:
    """Ends the process with 1 and one line after an error that a person can mend.

    Args:
        console: where the line is said.
        out: folder in which what was finished is saved; named where the machine is to blame (disk, network).
    """
    try:
        with memory.explained(OUT_OF_MEMORY):
            yield
    except ValueError as error:
        text = str(error)
    except OSError as error:
        text = str(error)
        if out is not None:
            mend = "" if isinstance(error, ConnectionError) else "once this is mended (space, permissions), "
            text += f". What was finished is in {out}; {mend}the same command continues it."
    else:
        return
    _say_error(console, text)
    sys.exit(1)


def _say_error(console: Console, text: str) -> None:
    try:
        console.print(Text.assemble(("Error:", "bold red"), f" {text}"), highlight=False, soft_wrap=True)
    except MemoryError:  # nothing is left even for that
        os.write(sys.stderr.fileno(), f"Error: {text}\n".encode())


def parse(config: T | type[T], description: str | None, arguments: list[str] | None, prog: str | None = None) -> T:
    """The options that the command line gives.

    Raises:
        ValueError: if they contradict each other.
        SystemExit: if the command line is wrong, or asks for help.
    """
    known: dict[str, Any] = {} if isinstance(config, type) else {"default": config}
    kind = config if isinstance(config, type) else type(config)
    return tyro.cli(
        tyro.conf.OmitArgPrefixes[kind],  # type: ignore[misc, valid-type]
        description=description,
        args=arguments,
        prog=prog,
        **known,
    )


def option(arguments: list[str] | None, name: str, default: T) -> T:
    """The value of an option that the defaults of others depend on, read before them."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument(f"--{name}", dest="value", default=default, type=type(default))
    try:
        return first.parse_known_args(arguments)[0].value
    except argparse.ArgumentError:
        return default  # the command itself says what is wrong with it


def in_background(work: Callable[[], T]) -> T:
    """Run a long computation in another thread, so that the main one hears signals while it runs."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]
    return results[0]
