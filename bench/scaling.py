"""Scaling: how do time and memory grow with models, their width, devices, processes, and keys?

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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from bench import harness
from jaxhash.hashing.keys.source import KeyFile
from jaxhash.hashing.perfect.fitting import FitConfig, Progress, fit
from jaxhash.plots import style
from jaxhash.runtime import processes as distributed
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.training.mlp import TrainConfig

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
METHODS = ("sharded", "seeds")


EPOCHS = 20
BATCH = 64


@dataclass(frozen=True)
class Config(harness.Options):
    """Measure how cost grows with models, width, devices, processes and keys; with --quick up to small sizes."""

    case: str | None = None
    """Measure this one, a JSON object, and print it with its result: what the processes of the benchmark do."""
    out: Path = Path("runs/scaling")
    """Folder for the figure."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    if config.case is not None:
        sys.stdout.write(json.dumps(one_case(json.loads(config.case))) + "\n")
        return
    results = []
    for case in cases(QUICK_SIZES if config.quick else SIZES):
        harness.say(", ".join(f"{name} {value}" for name, value in case.items()))
        results.append(measure(case))
    picture = config.out / "scaling.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    style.save(draw(results), picture)
    show(results, picture)
    harness.finish("scaling", config, {"results": results})


def cases(sizes: dict[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    """Everything that is measured, each in a process of its own (of `processes`, in several)."""
    found: list[dict[str, Any]] = [{"kind": kind, "size": size} for kind in ("models", "width") for size in sizes[kind]]
    for kind, each, share in (("devices", "device", 4), ("processes", "process", 8)):
        for models in (None, share):  # strong and weak scaling
            found += [{"kind": kind, "size": size, f"models_a_{each}": models} for size in sizes[kind]]
    return found + [{"kind": "keys", "size": size, "method": method} for method in METHODS for size in sizes["keys"]]


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
                [sys.executable, "-m", "bench.scaling", "--case", json.dumps(one)],
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


def show(results: list[dict[str, Any]], picture: Path) -> None:
    """The measurements as a table."""
    rows = []
    for r in results:
        done, unit = (r["model_steps"], "model-steps/s") if "model_steps" in r else (r["size"], "keys/s")
        bits = f"{r['bits_per_key']:.2f}" if "bits_per_key" in r else ""
        rate, peak = f"{done / r['seconds']:,.0f} {unit}", f"{r['peak_bytes'] / 2**30:.2f}"
        rows.append((name(r), f"{r['size']:,}", f"{r['seconds']:.2f}", rate, peak, bits))
    harness.show("Scaling", ("", "size", "seconds", "rate", "peak, GiB", "bits/key"), rows, f"figure: {picture}")


def train(
    widths: tuple[int, ...], repeats: int, mesh: str = "auto", group: distributed.Group | None = None, out: str = ""
) -> dict[str, float]:
    """A sweep on digits after a first one that compiled its programs."""
    times = []
    for seed in (0, 1):
        config = SweepConfig(widths=widths, repeats=repeats, seed=seed, train=TrainConfig(epochs=EPOCHS, patience=0))
        with tempfile.TemporaryDirectory() as folder:
            run = Path(out or folder) / f"run-{seed}"
            times.append(harness.timed(partial(sweep.run, config, run, mesh=mesh, group=group))[0])
    steps = len(widths) * repeats * EPOCHS * (len(sweep.prepare(config).x_train) // BATCH)
    return {"first_seconds": times[0], "seconds": times[1], "model_steps": steps}


def models(size: int) -> dict[str, float]:
    """`size` models of 20 units."""
    return train((20,), size)


def width(size: int) -> dict[str, float]:
    """Two models of `size` units."""
    return train((size,), 2)


def devices(size: int, models_a_device: int | None) -> dict[str, float]:
    """16 models of 20 units on `size` devices that XLA makes of the CPU, or so many models on each of them."""
    return train((20,), 16 if models_a_device is None else models_a_device * size, str(size))


def processes(size: int, models_a_process: int | None, process: int, coordinator: str, out: str) -> dict[str, float]:
    """16 models of 20 units by `size` processes, or so many models for each of them; one of the processes."""
    group = distributed.join(coordinator, size, process)
    found = train((20,), 16 if models_a_process is None else models_a_process * size, group=group, out=out)
    if group is not None:
        group.leave()
    return found


def keys(size: int, method: str) -> dict[str, float]:
    """A minimal perfect hash of `size` keys, streamed from a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys"
        with file.open("w") as stream:
            stream.writelines(f"user-{i * 2654435761 % 2**40:x}@example.org\n" for i in range(size))
        stages: list[Progress] = []
        seconds, hasher = harness.timed(
            lambda: fit(KeyFile(file), FitConfig(method=method), stages.append)  # type: ignore[arg-type]
        )
    return {
        "seconds": seconds,
        "read_seconds": max(p.seconds for p in stages if p.stage == "reading"),
        "check_seconds": stages[-1].seconds - min(p.seconds for p in stages if p.stage == "checking"),
        "bits_per_key": hasher.bits_per_key,
        "collisions": hasher.collisions,
    }


CASES: dict[str, Callable[..., dict[str, float]]] = {
    "models": models,
    "width": width,
    "devices": devices,
    "processes": processes,
    "keys": keys,
}


def one_case(case: dict[str, Any]) -> dict[str, Any]:
    """A case with its result and the most memory this process has held."""
    result = CASES[case["kind"]](**{name: value for name, value in case.items() if name != "kind"})
    return {**case, **result, "peak_bytes": harness.peak_bytes()}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
