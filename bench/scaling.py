"""How do time and memory grow with models, their width, devices, processes, and keys?

Devices are those that XLA makes of the CPU, and processes share its cores: more of them than cores gain nothing, and
must lose little. Every measurement is a process of its own, so that its peak of memory is its own too. Keys are
streamed from disk. Log-log plots show the slope.

    python -m bench.scaling            # 12 minutes on 2 cores, 10^7 keys among it
    python -m bench.scaling --quick    # about 5
"""

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from rich.console import Console
from rich.table import Table

from bench import machine
from jaxhash.plots import style

SIZES = {
    "models": (1, 4, 16, 64, 256),
    "width": (16, 64, 256, 1024),
    "devices": (1, 2, 4, 8),
    "processes": (1, 2, 4),
    "keys": (10**3, 10**4, 10**5, 10**6, 10**7),
}
QUICK_SIZES = {
    "models": (1, 4, 16),
    "width": (16, 64),
    "devices": (1, 2, 4),
    "processes": (1, 2),
    "keys": (10**3, 10**4, 10**5),
}
METHODS = ("sharded", "latent")


@dataclass(frozen=True)
class Config:
    """Measure how cost grows with models, width and keys."""

    quick: bool = False
    """Small sizes only."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    out: Path = Path("runs/scaling")
    """Folder for the figure."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    console = Console(stderr=True)
    sizes = QUICK_SIZES if config.quick else SIZES
    cases: list[dict[str, Any]] = [{"kind": kind, "size": size} for kind in ("models", "width") for size in sizes[kind]]
    for models_a_device in (None, 4):  # strong and weak scaling
        cases += [{"kind": "devices", "size": d, "models_a_device": models_a_device} for d in sizes["devices"]]
    for models_a_process in (None, 8):
        cases += [{"kind": "processes", "size": p, "models_a_process": models_a_process} for p in sizes["processes"]]
    cases += [{"kind": "keys", "size": size, "method": method} for method in METHODS for size in sizes["keys"]]
    results = []
    for case in cases:
        console.print(f"{', '.join(f'{name} {value}' for name, value in case.items()):70}", end="\r", highlight=False)
        results.append(measure(case))
    picture = config.out / "scaling.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    style.save(draw(results), picture)
    show(results, Console(width=100))
    sys.stdout.write(f"Figure: {picture}\n")
    if config.json:
        found = {"results": results, "quick": config.quick, "machine": machine.describe("numpy")}
        sys.stdout.write(json.dumps(found) + "\n")


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """The result of one case; of several processes the time of the last to end, and the memory of the largest.

    Raises:
        RuntimeError: if a process fails.
    """
    environment = dict(os.environ)
    if case["kind"] == "devices":
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={case['size']}"
    with tempfile.TemporaryDirectory() as folder:
        told = [case]
        if case["kind"] == "processes":
            together = {"coordinator": f"localhost:{free_port()}", "out": folder}
            told = [{**case, **together, "process": i} for i in range(case["size"])]
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.scaling_cases", json.dumps(one)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for one in told
        ]
        results = []
        try:
            for process in running:
                printed, said = process.communicate()
                if process.returncode:
                    raise RuntimeError(f"{case} ended with {process.returncode}: {said.strip().splitlines()[-1:]}")
                results.append(json.loads(printed.splitlines()[-1]))
        finally:
            for process in running:
                process.kill()
    slowest = max(results, key=lambda result: result["seconds"])
    return {**slowest, **case, "peak_bytes": max(result["peak_bytes"] for result in results)}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def draw(results: list[dict[str, Any]]) -> Figure:
    """Seconds and peak memory against size, a column a kind."""
    figure = Figure(figsize=(17, 6), layout="constrained")
    grid = figure.subplots(2, 5, sharex="col")
    labels = {
        "models": "models of 20 units",
        "width": "units a model",
        "devices": "devices made of the CPU",
        "processes": "processes",
        "keys": "keys",
    }
    for column, (kind, label) in enumerate(labels.items()):
        names = list(dict.fromkeys(name(r) for r in results if r["kind"] == kind))
        for i, line in enumerate(names):
            some = [r for r in results if name(r) == line]
            at = [r["size"] for r in some]
            colour, marker = style.LINES[i]
            grid[0, column].loglog(at, [r["seconds"] for r in some], color=colour, marker=marker, label=line)
            grid[1, column].loglog(at, [r["peak_bytes"] / 2**30 for r in some], color=colour, marker=marker)
        grid[1, column].set_xlabel(label)
        if len(names) > 1:
            grid[0, column].legend(frameon=False, fontsize=8)
    grid[0, 0].set_ylabel("seconds, programs compiled")
    grid[0, 4].set_ylabel("seconds of a fit, compiling included")
    grid[1, 0].set_ylabel("peak of memory, GiB")
    for column, kind in enumerate(labels):
        sizes = sorted({r["size"] for r in results if r["kind"] == kind})
        grid[1, column].set_xticks(sizes, labels=[f"{s:,}" if s < 10**4 else f"$10^{len(str(s)) - 1}$" for s in sizes])
    for axes in grid.flat:
        axes.grid(alpha=0.25, which="both")
        axes.xaxis.set_minor_locator(NullLocator())
        low, high = axes.get_ylim()
        # A decade at least, so that what hardly changes looks so.
        widen = max(math.sqrt(10 * low / high), 1)
        axes.set_ylim(low / widen, high * widen)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle("Training on digits (20 epochs) and minimal perfect hashes")
    return figure


def name(result: dict[str, Any]) -> str:
    """What a line of the figure is called."""
    if result["kind"] == "keys":
        return f"keys, {result['method']}"
    for kind, each in (("devices", "device"), ("processes", "process")):
        if result["kind"] == kind:
            share = result[f"models_a_{each}"]
            return f"{kind}, 16 models in all" if share is None else f"{kind}, {share} models each"
    return result["kind"]


def show(results: list[dict[str, Any]], console: Console) -> None:
    """The measurements as a table."""
    table = Table()
    for column in ("", "size", "seconds", "rate", "peak, GiB", "bits/key"):
        table.add_column(column, justify="right" if column else "left")
    for r in results:
        rate = r["model_steps"] / r["seconds"] if "model_steps" in r else r["size"] / r["seconds"]
        unit = "model-steps/s" if "model_steps" in r else "keys/s"
        bits = f"{r['bits_per_key']:.2f}" if "bits_per_key" in r else ""
        table.add_row(
            name(r),
            f"{r['size']:,}",
            f"{r['seconds']:.2f}",
            f"{rate:,.0f} {unit}",
            f"{r['peak_bytes'] / 2**30:.2f}",
            bits,
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
