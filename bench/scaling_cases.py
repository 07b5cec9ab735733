"""One measurement of `bench.scaling`, in a process of its own: its time, and the most memory it took.

python -m bench.scaling_cases '{"kind": "models", "size": 16}'
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxhash.hashing.keys.source import KeyFile
from jaxhash.hashing.perfect.fitting import FitConfig, Progress, fit
from jaxhash.runtime import processes as distributed
from jaxhash.sweeps import run as sweep
from jaxhash.sweeps.run import SweepConfig
from jaxhash.training.mlp import TrainConfig

EPOCHS = 20
BATCH = 64


def train(
    widths: tuple[int, ...], repeats: int, mesh: str = "auto", group: distributed.Group | None = None, out: str = ""
) -> dict[str, float]:
    """A sweep on digits after a first one that compiled its programs."""
    times = []
    for seed in (0, 1):
        config = SweepConfig(widths=widths, repeats=repeats, seed=seed, train=TrainConfig(epochs=EPOCHS, patience=0))
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            sweep.run(config, Path(out or folder) / f"run-{seed}", mesh=mesh, group=group)
            times.append(time.perf_counter() - began)
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
        began = time.perf_counter()
        hasher = fit(KeyFile(file), FitConfig(method=method), stages.append)  # type: ignore[arg-type]
        done = time.perf_counter()
    return {
        "seconds": done - began,
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


def main(case: dict[str, Any]) -> None:
    """Measure a case and print it with its result."""
    if case["kind"] != "keys":
        sweep.one_thread_a_lane()
    result = CASES[case["kind"]](**{name: value for name, value in case.items() if name != "kind"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({**case, **result, "peak_bytes": peak}) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
