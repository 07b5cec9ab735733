"""What a benchmark ran on, and how fast that machine multiplies matrices."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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


def matmul_rate(size: int = 2048, repetitions: int = 5) -> float:
    """FLOP/s of a large square float32 matrix product through JAX at its default precision: the machine's ceiling."""
    product = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (size, size))
    seconds = []
    for _ in range(repetitions + 1):  # the first one compiles
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / float(np.median(seconds[1:]))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
