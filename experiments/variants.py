"""What the commands that run variants of a sweep share: each variant with the display of a single sweep."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console

from experiments.command import EXIT_INTERRUPTED, run_sweep
from jaxhash import variants
from jaxhash.sweep import SweepConfig


def run_variants(
    configs: Mapping[str, SweepConfig],
    out: Path,
    data_dir: Path | None,
    *,
    dimension: str = "variant",
    coordinate: Sequence[Any] | None = None,
) -> xr.Dataset:
    """`variants.run` for a person at a terminal; exits as `run_sweep` does."""
    console = Console(stderr=True)
    names = list(configs)

    def run_one(config: SweepConfig, folder: Path) -> xr.Dataset:
        console.print(f"[bold]{folder.name}[/] ({names.index(folder.name) + 1} of {len(names)})", highlight=False)
        return run_sweep(config, folder, data_dir)

    try:
        return variants.run(configs, out, dimension=dimension, coordinate=coordinate, run_sweep=run_one)
    except KeyboardInterrupt:
        console.print(f"Interrupted. What was finished is in {out}; the same command continues it.")
        sys.exit(EXIT_INTERRUPTED)
    except ValueError as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False)
        sys.exit(1)
