"""What a benchmark ran on, and how fast that machine multiplies matrices, copies memory and mixes integers."""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.sweeps.run import lanes


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

    seconds = _together(lambda _: jax.block_until_ready(product(a, a)), repetitions)
    return lanes() * 2 * size**3 / seconds


def copy_rate(megabytes: int = 256, repetitions: int = 5) -> float:
    """Bytes/s read plus written by NumPy copies of arrays that no cache holds, one a core at the same time."""
    sources = [np.ones(megabytes * 2**20 // lanes(), np.uint8) for _ in range(lanes())]
    copies = [np.zeros_like(source) for source in sources]
    seconds = _together(lambda lane: np.copyto(copies[lane], sources[lane]), repetitions)
    return 2 * sum(source.nbytes for source in sources) / seconds


def integer_rate(repetitions: int = 5) -> float:
    """32-bit shifts, exclusive ors and products a second in a jitted loop over numbers that stay in cache."""
    numbers, rounds, unrolled, operations = 2**14, 500, 8, 6

    @jax.jit
    def loop(x: jax.Array) -> jax.Array:
        def some(_: int, x: jax.Array) -> jax.Array:
            for _ in range(unrolled):
                x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
                x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
            return x

        return jax.lax.fori_loop(0, rounds, some, x)

    x = jnp.arange(numbers, dtype=jnp.uint32)
    seconds = _together(lambda _: jax.block_until_ready(loop(x)), repetitions)
    return lanes() * numbers * rounds * unrolled * operations / seconds


def _together(work: Callable[[int], Any], repetitions: int) -> float:
    """Median seconds of a piece of work that every core does at the same time, once it was done to warm up."""
    seconds = []
    with ThreadPoolExecutor(lanes()) as pool:
        list(pool.map(work, range(lanes())))
        for _ in range(repetitions):
            start = time.perf_counter()
            list(pool.map(work, range(lanes())))
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
