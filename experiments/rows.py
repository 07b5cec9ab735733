"""The rows of an experiment in a CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxhash.storage import checkpoint


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows under the names of the first one's, whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_bytes(path, text.getvalue().encode())
