"""Frame of every command: its options, its errors in one line, its Ctrl-C and SIGTERM.

A command installs its own signal handlers, for a shell lets what it starts in the background ignore Ctrl-C. It exits
with 1 after an error that a person can mend, 2 if the command line is wrong, 130 after Ctrl-C and 143 after SIGTERM.
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

from jaxhash.runtime import signals
from jaxhash.sweeps.task import Interrupted

NOTHING = "Nothing was written."

T = TypeVar("T")


def command(
    config: T | type[T],
    description: str | None,
    body: Callable[[T], None],
    arguments: list[str] | None,
    *,
    kept: str = NOTHING,
    prog: str | None = None,
) -> None:
    """Run a command for a person at a terminal.

    Args:
        config: the dataclass of its options, or an instance of it that holds the defaults.
        description: what its help says.
        body: what it does with them. Inside, Ctrl-C ends the process at once; a part of it that saves when it is asked
            to stop is `interruptible`.
        arguments: the command line (by default the process's own).
        kept: said after "Interrupted.".
        prog: its name in the help (by default that of the process).
    """
    console = Console(stderr=True)
    with errors_in_one_line(console), signals.interrupts() as request:
        try:
            body(parse(config, description, arguments, prog))
        except KeyboardInterrupt:
            console.print(f"Interrupted. {kept}", highlight=False, soft_wrap=True)
            sys.stdout.flush()
            # A compiled program in another thread cannot be stopped: the process ends without waiting for it.
            os._exit(request.status)


@contextmanager
def interruptible(out: Path, console: Console) -> Iterator[threading.Event]:
    """What runs inside stops when it sees the event set, which Ctrl-C and SIGTERM do; a second one ends it at once.

    Args:
        out: folder in which it saves, from where the same command continues.
        console: where that is said.
    """

    def say() -> None:
        console.print("[bold]Stopping[/] after the epochs under way and saving; Ctrl-C again quits at once.")

    with errors_in_one_line(console, out), signals.requests(say) as request:
        try:
            yield request.stop
        except (Interrupted, KeyboardInterrupt):
            console.print(f"Interrupted. What was finished is in {out}; the same command continues it.", soft_wrap=True)
            sys.exit(request.status)


@contextmanager
def errors_in_one_line(console: Console, out: Path | None = None) -> Iterator[None]:
    """Ends the process with 1 and one line after an error that a person can mend.

    Args:
        console: where the line is said.
        out: folder in which what was finished is saved; named where the machine is to blame (disk, network).
    """
    try:
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
    console.print(f"[bold red]Error:[/] {text}", highlight=False, soft_wrap=True)
    sys.exit(1)


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
