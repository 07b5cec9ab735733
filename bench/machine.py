"""What a benchmark ran on, and how fast that machine multiplies matrices."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.sweep import lanes


def describe(*packages: str) -> dict[str, Any]:
    """Processor, cores, device and the versions of what was compared, for the record beside the figures."""
    found = {}
    for name in ("jax", "jaxlib", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "versions": found,
    }


def matmul_rate(size: int = 2048, repetitions: int = 3) -> float:
    """FLOP/s of large square float32 matrix products through JAX at its default precision: the machine's ceiling.

    One product a lane at the same time, as a sweep's programs run, so that all cores are at work.
    """
    product = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (size, size))

    def work(_: int) -> None:
        jax.block_until_ready(product(a, a))

    work(0)  # compiles
    seconds = []
    with ThreadPoolExecutor(lanes()) as pool:
        for _ in range(repetitions):
            start = time.perf_counter()
            list(pool.map(work, range(lanes())))
            seconds.append(time.perf_counter() - start)
    return lanes() * 2 * size**3 / float(np.median(seconds))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
