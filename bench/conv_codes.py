"""Memory of measuring the codes of one VGG, 60,000 images of 300,000 bits: within 4 GB?

Codes of that size are drawn around a centre a class, written to a file (2.25 GB in a temporary folder), and everything
that is measured of codes in files is measured, in one process whose peak memory is read after each part. The answers
are known: the share of planted copies, and each query's nearest code, of which it is a copy with some bits flipped.

    python -m bench.conv_codes [--quick] [--json]

k-NN is timed for --queries test codes; its time grows with their number.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from bench.data import write_codes
from jaxhash import codes
from jaxhash.codes import CodeFile
from jaxhash.codes.properties import SAMPLED_BITS

LIMIT_BYTES = 4e9
CLASSES = 10
COPIES = 0.01
"""Share of the codes that are copies of others."""
FLIPPED = 1000
"""Bits in which a query differs from the code it was copied from, at most."""


@dataclass(frozen=True)
class Config(harness.Options):
    """Peak memory and time of the analytics of long codes."""

    codes: int = 60_000
    """Training codes; a tenth with --quick."""
    bits: int = 300_000
    """Of a code."""
    queries: int = 256
    """Test codes, for k-NN; a quarter with --quick."""
    folder: Path | None = None
    """Where the temporary folder is made (default: the system's)."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    n = config.codes // 10 if config.quick else config.codes
    queries = config.queries // 4 if config.quick else config.queries
    parts: dict[str, dict[str, float]] = {}

    def part(name: str, work: Callable[[], Any]) -> Any:
        harness.say(name)
        took, answer = harness.timed(work)
        parts[name] = {"seconds": took, "peak_gb": harness.peak_bytes() / 1e9}
        return answer

    copies = round(COPIES * n)
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        path = Path(folder)
        train, labels = part(
            "write the codes",
            lambda: write_codes(path / "train.npy", n, config.bits, classes=CLASSES, copies=copies, halvings=2),
        )
        test, sources, flips = write_queries(path / "test.npy", train, queries)
        ratio = part("distinct codes", lambda: codes.redundancy(train))
        distances, indices = part("9-NN", lambda: codes.nearest(train, test, k=9))
        mask = part("bits that vary", lambda: np.asarray(codes.varying(train, test)))
        some, others = part("sample bits", lambda: [codes.sample_bits(c, mask, SAMPLED_BITS, 0) for c in (train, test)])
        y, y_test = jnp.asarray(labels), jnp.asarray(labels[sources])
        clusters = part("K-Means", lambda: jax.block_until_ready(codes.kmeans(jax.random.key(0), some, CLASSES)))
        logistic = part(
            "logistic regression",
            lambda: float((codes.logistic(some, y, others, num_classes=CLASSES) == y_test).mean()),
        )
    nearest_is_right = (distances[:, 0] == flips) & (labels[indices[:, 0]] == labels[sources])
    peak = harness.peak_bytes()
    result = {
        "codes": n,
        "bits": config.bits,
        "queries": queries,
        "file_gb": n * -(-config.bits // 32) * 4 / 1e9,
        "parts": parts,
        "peak_gb": peak / 1e9,
        "limit_gb": LIMIT_BYTES / 1e9,
        "within_limit": peak <= LIMIT_BYTES,
        "redundancy": ratio,
        "redundancy_planted": copies / n,
        "nearest_right": float(nearest_is_right.mean()),
        "knn_gigawords_per_second": n * queries * -(-config.bits // 32) / parts["9-NN"]["seconds"] / 1e9,
        "kmeans_iterations": int(clusters.iterations),
        "logistic_accuracy": logistic,
    }
    harness.show(
        f"{n:,} codes of {config.bits:,} bits, {result['file_gb']:.2f} GB in a file",
        ("part", "seconds", "peak memory so far, GB"),
        [(name, f"{took['seconds']:.1f}", f"{took['peak_gb']:.2f}") for name, took in parts.items()],
        f"peak {peak / 1e9:.2f} GB of {LIMIT_BYTES / 1e9:.0f} GB allowed",
        f"redundancy {ratio:.4f} ({copies / n:.4f} planted)",
        f"nearest code right for {result['nearest_right']:.0%} of {queries} queries; "
        f"{result['knn_gigawords_per_second']:.2f} G words/s in k-NN",
    )
    harness.finish("conv_codes", config, result)


def write_queries(path: Path, train: CodeFile, count: int) -> tuple[CodeFile, np.ndarray, np.ndarray]:
    """Copies of random codes with some bits flipped; of each its source, and how many bits that are."""
    random = np.random.default_rng(1)
    sources = random.choice(train.n, count, replace=False)
    rows = np.array(train.rows(sources))
    flips = np.zeros(count, np.int64)
    for row, query in enumerate(rows):
        flipped = np.unique(random.integers(0, train.num_bits, FLIPPED))
        np.bitwise_xor.at(query, flipped // 32, (1 << (flipped % 32)).astype(np.uint32))
        flips[row] = len(flipped)
    with codes.writing(path, count, train.num_bits, train.layers) as append:
        append(rows)
    return codes.load(path), sources, flips


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
