"""Do the codes of one VGG, 60,000 images of 300,000 bits, stay within 4 GB of memory while they are measured?

Codes of that size are drawn around a centre a class, written to a file (2.25 GB in a temporary folder), and everything
`jaxhash.codes.analytics` measures is measured, in one process whose peak memory is read after each part. The answers
are known: the share of planted copies, and each query's nearest code, of which it is a copy with some bits flipped.

    python -m bench.conv_codes [--quick] [--json]

k-NN is timed for --queries test codes; its time grows with their number.
"""

import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench import machine
from jaxhash.codes import analytics, files
from jaxhash.codes.files import CodeFile, Layer
from jaxhash.codes.kmeans import kmeans
from jaxhash.codes.logistic import logistic_accuracy

LIMIT_BYTES = 4e9
CLASSES = 10
COPIES = 0.01
"""Share of the codes that are copies of others."""
FLIPPED = 1000
"""Bits in which a query differs from the code it was copied from, at most."""
ROWS_AT_A_TIME = 1000


@dataclass(frozen=True)
class Config:
    """Peak memory and time of the analytics of long codes."""

    codes: int = 60_000
    """Training codes."""
    bits: int = 300_000
    """Of a code."""
    queries: int = 256
    """Test codes, for k-NN."""
    quick: bool = False
    """A tenth of the codes and a quarter of the queries."""
    json: bool = False
    """Everything measured as one JSON object on the last line."""
    folder: Path | None = None
    """Where the temporary folder is made (default: the system's)."""


def main(config: Config) -> None:
    """The benchmark."""
    console = Console(stderr=True)
    n = config.codes // 10 if config.quick else config.codes
    queries = config.queries // 4 if config.quick else config.queries
    parts: dict[str, dict[str, float]] = {}

    def part(name: str, work: Callable[[], Any]) -> Any:
        console.print(name)
        start = time.perf_counter()
        result = work()
        parts[name] = {"seconds": time.perf_counter() - start, "peak_gb": peak_bytes() / 1e9}
        return result

    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        path = Path(folder)
        train, test, labels, sources, flips = part("write the codes", lambda: write(path, n, queries, config.bits))
        ratio = part("distinct codes", lambda: analytics.redundancy_ratio(train))
        distances, indices = part("9-NN", lambda: analytics.nearest(train, test, k=9))
        mask = part("bits that vary", lambda: analytics.varying_bits(train, test))
        bits = analytics.SAMPLED_BITS
        some, others = part(
            "sample bits", lambda: [analytics.sample_bits(c, mask, bits, 0).words for c in (train, test)]
        )
        y, y_test = jnp.asarray(labels), jnp.asarray(labels[sources])
        clusters = part("K-Means", lambda: jax.block_until_ready(kmeans(jax.random.key(0), some, CLASSES)))
        logistic = part(
            "logistic regression",
            lambda: float(logistic_accuracy(some, y, others, y_test, num_classes=CLASSES)),
        )
    planted = round(COPIES * n) / n
    nearest_is_right = (distances[:, 0] == flips) & (labels[indices[:, 0]] == labels[sources])
    figures = {
        "codes": n,
        "bits": config.bits,
        "queries": queries,
        "file_gb": n * -(-config.bits // 32) * 4 / 1e9,
        "parts": parts,
        "peak_gb": peak_bytes() / 1e9,
        "limit_gb": LIMIT_BYTES / 1e9,
        "within_limit": peak_bytes() <= LIMIT_BYTES,
        "redundancy": ratio,
        "redundancy_planted": planted,
        "nearest_right": float(nearest_is_right.mean()),
        "knn_gigawords_per_second": n * queries * -(-config.bits // 32) / parts["9-NN"]["seconds"] / 1e9,
        "kmeans_iterations": int(clusters.iterations),
        "logistic_accuracy": logistic,
        "machine": machine.describe(),
    }
    show(figures)
    if config.json:
        print(json.dumps(figures))


def write(
    folder: Path, n: int, queries: int, bits: int
) -> tuple[CodeFile, CodeFile, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test codes, the classes, and for each test code its source and in how many bits it differs."""
    random = np.random.default_rng(0)
    layers = (Layer("all", bits),)
    words = layers[0].words
    keep = np.full(words, 0xFFFFFFFF, np.uint32)
    keep[-1] = 0xFFFFFFFF >> (words * 32 - bits)
    centres = random.integers(0, 2**32, (CLASSES, words), dtype=np.uint32)
    labels = random.integers(0, CLASSES, n).astype(np.int32)
    copies = round(COPIES * n)
    # The last codes are copies of the first.
    labels[n - copies :] = labels[:copies]

    def rows(start: int, stop: int) -> np.ndarray:
        """A quarter of the bits differ from the centre's; drawn anew, and the same, for a row of the same number."""
        made = np.empty((stop - start, words), np.uint32)
        for i, row in enumerate(range(start, stop)):
            source = row - (n - copies) if row >= n - copies else row
            own = np.random.default_rng((1, source))
            noise = own.integers(0, 2**32, (2, words), dtype=np.uint32)
            made[i] = (centres[labels[row]] ^ (noise[0] & noise[1])) & keep
        return made

    with files.writing(folder / "train.npy", n, layers) as append:
        for start in range(0, n, ROWS_AT_A_TIME):
            append(rows(start, min(start + ROWS_AT_A_TIME, n)))
    sources = random.choice(n, queries, replace=False)
    flips = np.zeros(queries, np.int64)
    with files.writing(folder / "test.npy", queries, layers) as append:
        for query, source in enumerate(sources):
            row = rows(source, source + 1)
            flipped = np.unique(random.integers(0, bits, FLIPPED))
            np.bitwise_xor.at(row[0], flipped // 32, (1 << (flipped % 32)).astype(np.uint32))
            flips[query] = len(flipped)
            append(row)
    return files.load(folder / "train.npy"), files.load(folder / "test.npy"), labels, sources, flips


def peak_bytes() -> int:
    """Most memory that the process held so far (resident, mapped files included); Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def show(figures: dict[str, Any]) -> None:
    """The figures as a table."""
    table = Table(
        title=f"{figures['codes']:,} codes of {figures['bits']:,} bits, {figures['file_gb']:.2f} GB in a file",
        caption=f"peak {figures['peak_gb']:.2f} GB of {figures['limit_gb']:.0f} GB allowed; redundancy "
        f"{figures['redundancy']:.4f} ({figures['redundancy_planted']:.4f} planted); nearest code right for "
        f"{figures['nearest_right']:.0%} of {figures['queries']} queries; "
        f"{figures['knn_gigawords_per_second']:.2f} G words/s in k-NN",
    )
    for column in ("part", "seconds", "peak memory so far, GB"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, part in figures["parts"].items():
        table.add_row(name, f"{part['seconds']:.1f}", f"{part['peak_gb']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
