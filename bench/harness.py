"""Timing in interleaved rounds, peak memory, the machine, tables and JSON: what the benchmarks share."""

import gc
import importlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxhash.runtime.devices import cores, worker_count

RESULTS = Path(__file__).parent / "results"
Name = TypeVar("Name", str, tuple[str, str])
PEERS = "pip install 'jaxhash[bench]'"

clock = time.perf_counter
_progress, _output = Console(stderr=True), Console(width=110)


@dataclass(frozen=True)
class Options:
    """What every benchmark takes."""

    quick: bool = False
    """Smaller sizes and fewer rounds: sooner, and less exact."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    record: str | None = None
    """Write the object to `<benchmark>-<record>.json` in bench/results too; a machine's name, as cpu-epyc-2-cores."""


@dataclass(frozen=True)
class Work:
    """Something to be timed."""

    run: Callable[..., Any]
    given: Callable[[], Any] | None = None
    """Makes what `run` takes, anew for each measurement and outside of its time."""
    times: int = 1
    """Measurements in a round."""


Timed = Work | Callable[[], Any]


def interleaved(
    works: Mapping[Name, Timed], rounds: int, *, warm_up: bool = False, keep: bool = True
) -> tuple[dict[Name, list[float]], dict[Name, Any]]:
    """Time several works in rounds: in each, every work has its turn, so that all see the same machine.

    Args:
        works: by name.
        rounds: measurements of each.
        warm_up: begin with a round that does not count.
        keep: return answers; without it each is freed after its time was taken.

    Returns:
        The seconds of each work, and its last answer. No garbage is collected meanwhile.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in works}
    answers: dict[Name, Any] = {}
    for number in range(-1 if warm_up else 0, rounds):
        for name, work in works.items():
            say(f"round {number + 1} of {rounds}: {name if isinstance(name, str) else ', '.join(map(str, name))}")
            for _ in range(work.times if isinstance(work, Work) else 1):
                took, answer = timed(work)
                if keep:
                    answers[name] = answer
                if number >= 0:
                    seconds[name].append(took)
    return seconds, answers


def timed(work: Timed) -> tuple[float, Any]:
    """Seconds of one run, and its answer."""
    run = work.run if isinstance(work, Work) else work
    given = (work.given(),) if isinstance(work, Work) and work.given else ()
    gc.disable()
    try:
        start = clock()
        answer = run(*given)
        return clock() - start, answer
    finally:
        gc.enable()


def on_one_core() -> None:
    """Keep this process to one core, where the system can; has to come before JAX has computed anything."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def cores_used(work: Timed, runs: int = 3) -> float:
    """Processor seconds of all threads of this process for each second that some runs of a work take."""
    inner, given = (work.run, work.given) if isinstance(work, Work) else (work, None)
    busy = []

    def run(*given: Any) -> None:
        before = time.process_time()
        inner(*given)
        busy.append(time.process_time() - before)

    took = sum(timed(Work(run, given))[0] for _ in range(runs))
    return sum(busy) / took


def checked(right: bool, sentence: str) -> str:
    """What was checked of answers; where it is not so the benchmark ends, for times of wrong answers say nothing."""
    if not right:
        sys.exit(f"\nWrong answers. This does not hold: {sentence}")
    return sentence


def medians(seconds: Mapping[Name, Sequence[float]]) -> dict[Name, float]:
    """The median of each work's seconds."""
    return {name: float(np.median(some)) for name, some in seconds.items()}


def spreads(seconds: Mapping[Name, Sequence[float]]) -> dict[Name, float]:
    """How far apart the slowest and the fastest measurement of each work are, of their median."""
    return {name: float((max(some) - min(some)) / np.median(some)) for name, some in seconds.items()}


def stages(function: Callable[..., Any], *arguments: Any) -> tuple[dict[str, float], Callable[[], Any]]:
    """Seconds of copying the arguments to the device, tracing, compiling and the first run, apart; and what runs it."""
    times = [clock()]
    arguments = jax.block_until_ready(jax.device_put(arguments))
    times.append(clock())
    lowered = jax.jit(function).lower(*arguments)
    times.append(clock())
    compiled = lowered.compile()
    times.append(clock())
    jax.block_until_ready(compiled(*arguments))
    took = np.diff([*times, clock()])
    names = ("transfer", "trace", "compile", "first_run")
    return dict(zip(names, took.tolist(), strict=True)), lambda: jax.block_until_ready(compiled(*arguments))


def peak_bytes() -> int:
    """Most memory that this process has held so far: resident, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peer(module: str) -> ModuleType | None:
    """A package to compare with; where it is missing, None and a note on standard error."""
    try:
        return importlib.import_module(module)
    except ImportError:
        _progress.print(f"{module} is not installed and is left out: {PEERS}")
        return None


def describe(*packages: str) -> dict[str, Any]:
    """Processor, cores, device and the versions of what was compared."""
    found = {}
    for name in ("jax", "jaxlib", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {
        "processor": _processor(),
        "cores": cores(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "versions": found,
    }


Ceiling = tuple[Callable[[], Any], float]
"""Something that every core does at the same time, and how many operations or bytes that are in all."""


def matrix_products(size: int = 2048) -> Ceiling:
    """FLOPs of square float32 products through JAX at its default precision, one a core, as a sweep's programs run."""
    product = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (size, size))
    return _on_all_cores(lambda _: jax.block_until_ready(product(a, a))), worker_count() * 2.0 * size**3


def copies(megabytes: int = 256) -> Ceiling:
    """Bytes read plus written by NumPy copies of arrays that no cache holds, one a core."""
    sources = [np.ones(megabytes * 2**20 // worker_count(), np.uint8) for _ in range(worker_count())]
    targets = [np.zeros_like(source) for source in sources]
    run = _on_all_cores(lambda core: np.copyto(targets[core], sources[core]))
    return run, 2.0 * sum(source.nbytes for source in sources)


def integer_operations() -> Ceiling:
    """32-bit shifts, exclusive ors and products in a jitted loop over numbers that stay in cache."""
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
    run = _on_all_cores(lambda _: jax.block_until_ready(loop(x)))
    return run, float(worker_count() * numbers * rounds * unrolled * operations)


def rate(ceiling: Ceiling, repetitions: int = 5) -> float:
    """Operations or bytes a second, the median."""
    run, amount = ceiling
    seconds, _ = interleaved({"ceiling": run}, repetitions, warm_up=True)
    return amount / medians(seconds)["ceiling"]


def say(text: str) -> None:
    """Show what is under way on standard error, over what was shown before."""
    _progress.print(f"{text[:79]:79}", end="\r", highlight=False)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *notes: str) -> None:
    """Print a table, numbers to the right, and sentences below it."""
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    _output.print(table)
    for note in notes:
        _output.print(f"- {note}", highlight=False)


def finish(name: str, options: Options, result: dict[str, Any], *packages: str) -> None:
    """Print the result as the last line and keep it, as the options ask.

    Args:
        name: of the benchmark.
        options: its own.
        result: goes to JSON, and `quick`, the machine and the versions with it.
        packages: whose versions are noted, besides JAX.
    """
    result = result | {"quick": options.quick, "machine": describe("numpy", *packages)}
    if options.record is not None:
        (RESULTS / f"{name}-{options.record}.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")


def _on_all_cores(work: Callable[[int], Any]) -> Callable[[], Any]:
    pool = ThreadPoolExecutor(worker_count())
    return lambda: list(pool.map(work, range(worker_count())))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
