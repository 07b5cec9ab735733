"""One self-contained HTML page of runs: pictures, tables, configurations, versions, and the commands that made them.

It needs nothing but itself, in a browser on a desk or a phone, light or dark, or on paper. Folders that are not of
runs are named and left out.

    python -m experiments.report runs/*
    python -m experiments.report runs/model_capacity-mnist runs/hash_python --out study.html --title "Our study"
"""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from jaxhash.storage import checkpoint
from jaxhash.terminal.command import command
from jaxhash.terminal.report import Run, page, read_run


@dataclass(frozen=True)
class Config:
    """A page about what experiments wrote."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, of any experiment."""
    out: Path = Path("report.html")
    """The page. What stands there is replaced."""
    title: str = "jaxhash: networks as hash functions"
    """Its heading."""


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


def body(config: Config) -> None:
    """Read the runs, write the page."""
    found: list[Run] = []
    for folder in config.runs:
        try:
            found.append(read_run(folder))
        except (ValueError, OSError) as error:
            Console(stderr=True).print(f"[bold yellow]Left out:[/] {error}", highlight=False)
    if not found:
        raise ValueError("no run to report; give folders that experiments wrote, such as runs/*")
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(config.out, page(found, config.title))
    except OSError as error:
        raise OSError(f"{error}; give another --out") from error
    size = config.out.stat().st_size / 1e6
    Console().print(f"Report of {len(found)} runs: {config.out} ({size:.1f} MB)", highlight=False)


if __name__ == "__main__":
    main()
