"""Are a million neural codes looked through as fast as with NumPy, FAISS and scikit-learn, and within 4 GB?

Codes are drawn around a centre a class, an eighth of the bits flipped, a tenth of them copies of others, and written to
a file in a temporary folder (128 MB). Everything the library does with codes at that size is done once from the file,
and peak memory is read after each part; then the parts that have a peer are timed turn by turn with it.

    python -m bench.codes            # 1,000,000 codes of 1,024 bits: about 5 minutes on 2 cores
    python -m bench.codes --quick    # 200,000 codes and one round: under a minute

FAISS and NumPy get the codes in memory. scikit-learn gets a subset, since all would take it hours; its time is given
for as many pairs as ours looked at.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.conv_codes import peak_bytes
from jaxhash.codes import analytics, files
from jaxhash.codes import clusters as code_clusters
from jaxhash.codes import histogram as code_distances
from jaxhash.codes.files import CodeArray, CodeFile, Layer
from jaxhash.codes.neighbours import nearest, nearest_of_other_class

LIMIT_BYTES = 4e9
CLASSES = 100
COPIES = 0.1
"""Share of the codes that are copies of others."""
NEIGHBOURS = (1, 10, 100)
CLUSTERS = 10
SAMPLED_PAIRS = 1_000_000
SKLEARN_CODES, SKLEARN_QUERIES = 20_000, 200
ROWS_AT_A_TIME = 100_000


@dataclass(frozen=True)
class Config:
    """Analytics of many codes against NumPy, FAISS and scikit-learn."""

    codes: int = 1_000_000
    """Codes that are looked through."""
    bits: int = 1024
    """Of a code; FAISS takes multiples of 8."""
    queries: int = 4096
    """Codes whose neighbours are looked for."""
    histogram_codes: int = 20_000
    """Codes whose pairs are all compared; of all codes, 1,000,000 random pairs are."""
    quick: bool = False
    """A fifth of the codes, a quarter of the queries, one round instead of three."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    folder: Path | None = None
    """Where the temporary folder is made (default: the system's)."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    console = Console(stderr=True)
    n = config.codes // 5 if config.quick else config.codes
    m = config.queries // 4 if config.quick else config.queries
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        base, queries, labels, query_labels = write(Path(folder), n, m, config.bits)
        parts, clusters = parts_of(config, base, queries, labels, query_labels)
        once: dict[str, dict[str, float]] = {}
        answers: dict[str, Any] = {}
        for name, work in (parts | clusters).items():
            console.print(f"once: {name:40}", end="\r")
            start = time.perf_counter()
            answers[name] = work()
            once[name] = {"first_seconds": time.perf_counter() - start, "peak_gb": peak_bytes() / 1e9}
        peers = peers_of(base, queries, config.bits)
        seconds: dict[str, list[float]] = {}
        peer_answers: dict[str, Any] = {}
        rounds = 1 if config.quick else 3
        for number in range(rounds):
            for name, work in parts.items():
                console.print(f"round {number + 1} of {rounds}: {name:40}", end="\r")
                timed(seconds, f"jaxhash {name}", work)
                for peer, theirs in peers.get(name, {}).items():
                    console.print(f"round {number + 1} of {rounds}: {name}, {peer:30}", end="\r")
                    peer_answers[f"{peer} {name}"] = timed(seconds, f"{peer} {name}", theirs)
        result = figures(config, n, m, once, seconds, answers, clusters)
        result["agreement"] = agreement(base, queries, answers, peer_answers)
    show(result)
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")


def write(folder: Path, n: int, m: int, bits: int) -> tuple[CodeFile, CodeFile, np.ndarray, np.ndarray]:
    """The codes and the queries in files, and the classes of both."""
    random = np.random.default_rng(0)
    layer = Layer("all", bits)
    keep = np.full(layer.words, 0xFFFFFFFF, np.uint32)
    keep[-1] >>= np.uint32(layer.words * 32 - bits)
    centres = random.integers(0, 2**32, (CLASSES, layer.words), dtype=np.uint32)
    copies = round(COPIES * n)
    sources = random.integers(0, n - copies, copies)

    def draw(labels: np.ndarray) -> np.ndarray:
        noise = random.integers(0, 2**32, (3, len(labels), layer.words), dtype=np.uint32)
        return (centres[labels] ^ (noise[0] & noise[1] & noise[2])) & keep

    labels = random.integers(0, CLASSES, n).astype(np.int32)
    labels[n - copies :] = labels[sources]
    originals = np.empty((n - copies, layer.words), np.uint32)
    with files.writing(folder / "codes.npy", n, [layer]) as append:
        for start in range(0, n - copies, ROWS_AT_A_TIME):
            some = draw(labels[start : min(start + ROWS_AT_A_TIME, n - copies)])
            originals[start : start + len(some)] = some
            append(some)
        append(originals[sources])
    query_labels = random.integers(0, CLASSES, m).astype(np.int32)
    with files.writing(folder / "queries.npy", m, [layer]) as append:
        append(draw(query_labels))
    return (
        files.load(folder / "codes.npy"),
        files.load(folder / "queries.npy"),
        labels,
        query_labels,
    )


Work = dict[str, Callable[[], Any]]


def parts_of(
    config: Config, base: CodeFile, queries: CodeFile, labels: np.ndarray, query_labels: np.ndarray
) -> tuple[Work, Work]:
    """What is timed in every round, and the clusterings, which are done once."""
    some = CodeArray(base.rows(slice(0, config.histogram_codes)))
    key = jax.random.key(0)
    parts: Work = {"distinct codes, groups": lambda: analytics.groups(base)}
    for k in NEIGHBOURS:
        parts[f"{k}-NN"] = partial(nearest, base, queries, k=k)
    parts["nearest of another class"] = lambda: nearest_of_other_class(base, labels, queries, query_labels)
    parts[f"histogram, all pairs of {some.n:,}"] = lambda: code_distances.histogram(some)
    parts[f"histogram, {SAMPLED_PAIRS:,} pairs of all"] = lambda: code_distances.sampled_histogram(base, SAMPLED_PAIRS)
    return parts, {
        "K-Means, Euclidean": lambda: code_clusters.kmeans(key, base, CLUSTERS),
        "K-Means, k-majority": lambda: code_clusters.k_majority(key, base, CLUSTERS),
    }


def peers_of(base: CodeFile, queries: CodeFile, bits: int) -> dict[str, Work]:
    """The same questions put to NumPy, FAISS (all cores, the index built before) and scikit-learn (all cores)."""
    import faiss
    from sklearn.neighbors import NearestNeighbors

    words, asked = base.rows(slice(None)), queries.rows(slice(None))
    index = faiss.IndexBinaryFlat(words.shape[1] * 32)
    index.add(words.view(np.uint8))
    some, few = (unpacked(w, bits) for w in (words[:SKLEARN_CODES], asked[:SKLEARN_QUERIES]))
    model = NearestNeighbors(metric="hamming", algorithm="brute", n_jobs=-1).fit(some)
    peers: dict[str, Work] = {
        "distinct codes, groups": {
            "NumPy": lambda: np.unique(words, axis=0),
            "NumPy, groups too": lambda: np.unique(words, axis=0, return_inverse=True, return_counts=True),
        }
    }
    for k in NEIGHBOURS:
        peers[f"{k}-NN"] = {"FAISS": partial(index.search, asked.view(np.uint8), k)}
    peers["10-NN"]["scikit-learn"] = lambda: model.kneighbors(few, 10)
    return peers


def unpacked(words: np.ndarray, bits: int) -> np.ndarray:
    """One bool a bit."""
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :bits].astype(bool)


def timed(seconds: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    """Do it, and note how long it took."""
    start = time.perf_counter()
    answer = work()
    seconds.setdefault(name, []).append(time.perf_counter() - start)
    return answer


def figures(
    config: Config,
    n: int,
    m: int,
    once: dict[str, dict[str, float]],
    seconds: dict[str, list[float]],
    answers: dict[str, Any],
    clusters: Work,
) -> dict[str, Any]:
    """Everything that was measured."""
    middle = {name: float(np.median(some)) for name, some in seconds.items()}
    for name in clusters:
        middle[f"jaxhash {name}"] = once[name]["first_seconds"]
    # scikit-learn's seconds, for as many pairs as the others look at.
    scaled = middle["scikit-learn 10-NN"] * (n * m) / (min(n, SKLEARN_CODES) * min(m, SKLEARN_QUERIES))
    peak = max(part["peak_gb"] for part in once.values())
    return {
        "codes": n,
        "bits": config.bits,
        "queries": m,
        "knn_vs_faiss": {k: middle[f"FAISS {k}-NN"] / middle[f"jaxhash {k}-NN"] for k in NEIGHBOURS},
        "knn_vs_sklearn": scaled / middle["jaxhash 10-NN"],
        "distinct_vs_numpy": middle["NumPy distinct codes, groups"] / middle["jaxhash distinct codes, groups"],
        "giga_comparisons_per_second": {
            f"{who} {k}-NN": n * m / middle[f"{who} {k}-NN"] / 1e9 for who in ("jaxhash", "FAISS") for k in NEIGHBOURS
        },
        "sklearn_seconds_scaled": scaled,
        "sklearn_subset": [min(n, SKLEARN_CODES), min(m, SKLEARN_QUERIES)],
        "passes": {name: answers[name].passes for name in clusters},
        "peak_gb": peak,
        "within_limit": peak * 1e9 <= LIMIT_BYTES,
        "once": once,
        "median_seconds": middle,
        "seconds": seconds,
        "quick": config.quick,
        "machine": machine.describe("numpy", "faiss-cpu", "scikit-learn"),
    }


def agreement(base: CodeFile, queries: CodeFile, answers: dict[str, Any], peers: dict[str, Any]) -> list[str]:
    """What the peers' answers say of ours, in sentences."""
    own, (rows, inverse, sizes) = answers["distinct codes, groups"], peers["NumPy, groups too distinct codes, groups"]
    # The same partition: each of NumPy's groups has one of ours, no two the same.
    numbers = np.full(len(rows), -1, np.int64)
    numbers[inverse.ravel()] = own.group
    same = len(own.first) == len(rows) == len(np.unique(own.group)) and (numbers[inverse.ravel()] == own.group).all()
    same = bool(same and (own.sizes[numbers] == sizes).all())
    sentences = [
        f"{len(own.first):,} distinct codes, {len(rows):,} by NumPy; the groups are {'' if same else 'NOT '}the same"
    ]
    for k in NEIGHBOURS:
        mine, theirs = answers[f"{k}-NN"], peers[f"FAISS {k}-NN"]
        wrong, other = (int((a != b).sum()) for a, b in zip(mine, theirs, strict=True))
        sentences.append(
            f"{k}-NN: of {mine[0].size:,} distances {wrong} differ from FAISS', of the indices {other:,} (ties)"
        )
    subset = CodeArray(base.rows(slice(0, SKLEARN_CODES))), CodeArray(queries.rows(slice(0, SKLEARN_QUERIES)))
    theirs = np.rint(peers["scikit-learn 10-NN"][0] * base.num_bits)
    wrong = int((nearest(*subset, k=10)[0] != theirs).sum())
    sentences.append(f"10-NN: of {theirs.size:,} distances {wrong} differ from scikit-learn's on its subset")
    return sentences


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    middle = result["median_seconds"]
    table = Table(title=f"{result['codes']:,} codes of {result['bits']:,} bits, {result['queries']:,} queries; seconds")
    for column in ("", "jaxhash", "peer", "", "ratio", "peak memory so far, GB"):
        table.add_column(column, justify="right" if column else "left")
    for name, part in result["once"].items():
        ours = middle[f"jaxhash {name}"]
        rows = [
            (who, middle[f"{who} {name}"])
            for who in ("NumPy", "NumPy, groups too", "FAISS")
            if f"{who} {name}" in middle
        ]
        if name == "10-NN":
            rows.append(("scikit-learn, scaled", result["sklearn_seconds_scaled"]))
        shown = f"{name}, {result['passes'][name]} passes" if name in result["passes"] else name
        for i, (who, theirs) in enumerate(rows or [("", 0.0)]):
            start = (shown, f"{ours:.2f}") if i == 0 else ("", "")
            peer = (f"{theirs:,.2f}", who, f"{theirs / ours:.1f}x") if who else ("", "", "")
            table.add_row(*start, *peer, f"{part['peak_gb']:.2f}" if i == 0 else "")
    out = Console(width=110)
    out.print(table)
    subset = " x ".join(f"{size:,}" for size in result["sklearn_subset"])
    for sentence in result["agreement"]:
        out.print(f"- {sentence}")
    out.print(f"- scikit-learn was timed on {subset} pairs, and its time multiplied to as many pairs as ours")
    out.print(f"- peak memory of our parts: {result['peak_gb']:.2f} GB of {LIMIT_BYTES / 1e9:.0f} GB allowed")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
