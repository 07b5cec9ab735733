"""An experiment on hash functions at a terminal: rows in a CSV file, errors in one line, 130 after Ctrl-C."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from experiments.command import EXIT_INTERRUPTED
from jaxhash import checkpoint


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
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_bytes(path, text.getvalue().encode())
