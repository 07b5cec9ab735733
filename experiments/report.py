"""What an experiment on hash functions leaves: rows in a CSV file, a figure beside it; errors in one line."""

import csv
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from experiments.command import EXIT_INTERRUPTED
from jaxhash import plots


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exits with 130 after Ctrl-C, and with 1 after an error that a person at the terminal can mend."""
    console = Console(stderr=True)
    try:
        yield
    except KeyboardInterrupt:
        console.print("Interrupted; nothing was written.")
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError) as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows under the names of the first one's, whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure, whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        plots.save(figure, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
