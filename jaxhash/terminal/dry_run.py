"""Dry run of a sweep, told at a terminal: a row a program, the time here, and what an accelerator takes at once."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from jaxhash.sweeps.dry_run import DryRun, dry_run
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.tasks import block_of, cut
from jaxhash.terminal.progress import duration, progress

ACCELERATOR_BYTES = 141 * 10**9
"""Of an NVIDIA H200."""
BYTES_A_PARAMETER = 16
"""Parameter, gradient and both of Adam's moments, in float32."""


def show_dry_run(config: SweepConfig, data_dir: Path | None, mesh: str) -> None:
    """Run every program of a sweep once, and print what they are; nothing is written."""
    with progress("compiling and running programs, %", 100) as told:
        found = dry_run(config, data_dir=data_dir, mesh=mesh, callback=lambda done, total: told(100 * done // total))
    Console().print(table(found, config.data_name))
    Console().print(
        f"{found.models:,} models. About {duration(found.seconds)} here, {found.workers} tasks side by side, if no "
        "model stops early; compiling is not included.",
        on_accelerator(config, found),
        sep="\n",
        highlight=False,
    )


def table(found: DryRun, data: str) -> Table:
    """A row for each program."""
    rows = Table(title=f"Programs of the sweep on {data}", caption="GFLOP: of a call's matrix products")
    for column in ("program", "widths", "models\nat once", "calls", "GFLOP", "MB", "seconds\na call", "in all"):
        rows.add_column(column, justify="left" if column == "program" else "right")
    for one in found.programs:
        widths = f"{min(one.widths)}" if len(one.widths) == 1 else f"{min(one.widths)} to {max(one.widths)}"
        rows.add_row(
            one.what,
            widths,
            f"{one.models:,}",
            f"{one.calls:,}",
            "" if one.flops is None else f"{one.flops / 1e9:,.1f}",
            "" if one.bytes is None else f"{one.bytes / 1e6:,.0f}",
            f"{one.seconds:.3f}",
            duration(one.calls * one.seconds),
        )
    return rows


def on_accelerator(config: SweepConfig, found: DryRun) -> str:
    """How the same sweep is cut for an accelerator with much memory."""
    tasks = cut(config, found.features, found.classes, ACCELERATOR_BYTES)
    largest = max(tasks, key=lambda task: task.models)
    block = block_of(config, largest, found.features, found.classes)
    parameters = sum(units * (found.features + found.classes) for units in block.units)
    bytes_at_once, models = BYTES_A_PARAMETER * parameters * len(largest.members), largest.models
    return (
        f"An accelerator of {ACCELERATOR_BYTES // 10**9} GB would train them in {len(tasks):,} "
        f"task{'s' if len(tasks) > 1 else ''} of up to {models:,} models, whose first and last layers take "
        f"{bytes_at_once / 1e9:.2g} GB with gradients and Adam's moments."
    )
