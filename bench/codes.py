"""A million codes: are neighbours, distinct codes, K-Means as fast as with NumPy, FAISS, scikit-learn, and within 4 GB?

Codes are drawn around a centre a class, an eighth of the bits flipped, a tenth of them copies of others, and written to
a file in a temporary folder (128 MB). Everything the library does with codes at that size is done once from the file,
and peak memory is read after each part; then the parts that have a peer are timed turn by turn with it.

    python -m bench.codes            # 1,000,000 codes of 1,024 bits: about 5 minutes on 2 cores
    python -m bench.codes --quick    # 200,000 codes and one round: under a minute

FAISS and NumPy get the codes in memory. scikit-learn gets a subset, since all would take it hours; its time is given
for as many pairs as ours looked at.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from bench.data import write_codes
from jaxhash import codes
from jaxhash.codes import Code, CodeFile, nearest, nearest_of_other_class

LIMIT_BYTES = 4e9
CLASSES = 100
COPIES = 0.1
"""Share of the codes that are copies of others."""
NEIGHBOURS = (1, 10, 100)
CLUSTERS = 10
SKLEARN_CODES, SKLEARN_QUERIES = 20_000, 200

GROUPS, UNIQUE = "distinct codes, groups", "NumPy, groups too distinct codes, groups"
Works = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Config(harness.Options):
    """Analytics of many codes against NumPy, FAISS and scikit-learn."""

    codes: int = 1_000_000
    """Codes that are looked through; a fifth with --quick."""
    bits: int = 1024
    """Of a code; FAISS takes multiples of 8."""
    queries: int = 4096
    """Codes whose neighbours are looked for; a quarter with --quick."""
    """Codes whose pairs are all compared; of all codes, 1,000,000 random pairs are."""
    folder: Path | None = None
    """Where the temporary folder is made (default: the system's)."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    n = config.codes // 5 if config.quick else config.codes
    m = config.queries // 4 if config.quick else config.queries
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        copies = round(COPIES * n)
        base, labels = write_codes(Path(folder, "codes.npy"), n, config.bits, classes=CLASSES, copies=copies)
        queries, classes = write_codes(Path(folder, "queries.npy"), m, config.bits, classes=CLASSES, seed=1)
        parts, clusters = parts_of(config, base, queries, labels, classes)
        once: dict[str, dict[str, float]] = {}
        answers: dict[str, Any] = {}
        for name, work in (parts | clusters).items():
            harness.say(f"once: {name}")
            took, answers[name] = harness.timed(work)
            once[name] = {"first_seconds": took, "peak_gb": harness.peak_bytes() / 1e9}
        works: Works = {}
        peers = peers_of(base, queries, config.bits)
        for name, work in parts.items():
            works |= {f"jaxhash {name}": work} | {f"{who} {name}": run for who, run in peers.get(name, {}).items()}
        seconds, latest = harness.interleaved(works, 1 if config.quick else 3)
        result = figures(config, n, m, once, seconds, {name: passes_of(answers[name]) for name in clusters})
        result["agreement"] = agreement(base, queries, answers, latest)
    show(result)
    harness.finish("codes", config, result, "faiss-cpu", "scikit-learn")


def parts_of(
    config: Config, base: CodeFile, queries: CodeFile, labels: np.ndarray, classes: np.ndarray
) -> tuple[Works, Works]:
    """What is timed in every round, and the clusterings, which are done once."""
    key = jax.random.key(0)
    return {
        GROUPS: lambda: codes.groups(base),
        **{f"{k}-NN": partial(nearest, base, queries, k=k) for k in NEIGHBOURS},
        "nearest of another class": lambda: nearest_of_other_class(base, labels, queries, classes),
    }, {
        "K-Means, Euclidean": lambda: codes.kmeans(key, base, CLUSTERS),
        "K-Means, k-majority": lambda: codes.k_majority(key, base, CLUSTERS),
    }


def peers_of(base: CodeFile, queries: CodeFile, bits: int) -> dict[str, Works]:
    """The same questions put to NumPy, FAISS (all cores, the index built before) and scikit-learn (all cores)."""
    from sklearn.neighbors import NearestNeighbors

    words, asked = base.rows(slice(None)), queries.rows(slice(None))
    peers: dict[str, Works] = {f"{k}-NN": {} for k in NEIGHBOURS}
    peers[GROUPS] = {
        "NumPy": lambda: np.unique(words, axis=0),
        "NumPy, groups too": lambda: np.unique(words, axis=0, return_inverse=True, return_counts=True),
    }
    if (faiss := harness.peer("faiss")) is not None:
        index = faiss.IndexBinaryFlat(words.shape[1] * 32)
        index.add(words.view(np.uint8))
        for k in NEIGHBOURS:
            peers[f"{k}-NN"]["FAISS"] = partial(index.search, asked.view(np.uint8), k)
    some, few = (unpacked(w, bits) for w in (words[:SKLEARN_CODES], asked[:SKLEARN_QUERIES]))
    model = NearestNeighbors(metric="hamming", algorithm="brute", n_jobs=-1).fit(some)
    peers["10-NN"]["scikit-learn"] = lambda: model.kneighbors(few, 10)
    return peers


def first_of(codes: CodeFile, count: int) -> Code:
    """The first codes of a file, in memory."""
    return Code(jnp.asarray(codes.rows(slice(0, count))), codes.num_bits)


def passes_of(found: codes.KMeansResult | codes.KMajorityResult) -> int:
    """Over all codes."""
    return int(found.passes if isinstance(found, codes.KMajorityResult) else found.iterations)


def unpacked(words: np.ndarray, bits: int) -> np.ndarray:
    """One bool a bit."""
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :bits].astype(bool)


def figures(
    config: Config,
    n: int,
    m: int,
    once: dict[str, dict[str, float]],
    seconds: dict[str, list[float]],
    passes: dict[str, int],
) -> dict[str, Any]:
    """Everything that was measured, and the ratios."""
    middle = harness.medians(seconds) | {f"jaxhash {name}": once[name]["first_seconds"] for name in passes}
    # scikit-learn's seconds, for as many pairs as the others look at.
    scaled = middle["scikit-learn 10-NN"] * (n * m) / (min(n, SKLEARN_CODES) * min(m, SKLEARN_QUERIES))
    peak = max(part["peak_gb"] for part in once.values())
    searches = [f"{who} {k}-NN" for who in ("jaxhash", "FAISS") for k in NEIGHBOURS]
    return {
        "codes": n,
        "bits": config.bits,
        "queries": m,
        "knn_vs_faiss": {
            k: middle[f"FAISS {k}-NN"] / middle[f"jaxhash {k}-NN"] for k in NEIGHBOURS if f"FAISS {k}-NN" in middle
        },
        "knn_vs_sklearn": scaled / middle["jaxhash 10-NN"],
        "distinct_vs_numpy": middle[f"NumPy {GROUPS}"] / middle[f"jaxhash {GROUPS}"],
        "giga_comparisons_per_second": {name: n * m / middle[name] / 1e9 for name in searches if name in middle},
        "sklearn_seconds_scaled": scaled,
        "sklearn_subset": [min(n, SKLEARN_CODES), min(m, SKLEARN_QUERIES)],
        "passes": passes,
        "peak_gb": peak,
        "within_limit": peak * 1e9 <= LIMIT_BYTES,
        "once": once,
        "median_seconds": middle,
        "spread": harness.spreads(seconds),
        "seconds": seconds,
    }


def agreement(base: CodeFile, queries: CodeFile, answers: dict[str, Any], peers: dict[str, Any]) -> list[str]:
    """What the peers' answers say of ours, in sentences."""
    own, (rows, inverse, sizes) = answers[GROUPS], peers[UNIQUE]
    # The same partition: each of NumPy's groups has one of ours, no two the same.
    numbers = np.full(len(rows), -1, np.int64)
    numbers[inverse.ravel()] = own.group
    same = len(own.first) == len(rows) == len(np.unique(own.group)) and (numbers[inverse.ravel()] == own.group).all()
    same = bool(same and (own.sizes[numbers] == sizes).all())
    sentences = [
        f"{len(own.first):,} distinct codes, {len(rows):,} by NumPy; the groups are {'' if same else 'NOT '}the same"
    ]
    for k in NEIGHBOURS:
        if f"FAISS {k}-NN" in peers:
            mine, theirs = answers[f"{k}-NN"], peers[f"FAISS {k}-NN"]
            wrong, other = (int((a != b).sum()) for a, b in zip(mine, theirs, strict=True))
            sentences.append(
                f"{k}-NN: of {mine[0].size:,} distances {wrong} differ from FAISS', of the indices {other:,} (ties)"
            )
    subset = first_of(base, SKLEARN_CODES), first_of(queries, SKLEARN_QUERIES)
    theirs = np.rint(peers["scikit-learn 10-NN"][0] * base.num_bits)
    wrong = int((nearest(*subset, k=10)[0] != theirs).sum())
    sentences.append(f"10-NN: of {theirs.size:,} distances {wrong} differ from scikit-learn's on its subset")
    return sentences


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    middle, rows = result["median_seconds"], []
    for name, part in result["once"].items():
        ours, passes = middle[f"jaxhash {name}"], result["passes"].get(name)
        peers = [(who, middle.get(f"{who} {name}")) for who in ("NumPy", "NumPy, groups too", "FAISS")]
        if name == "10-NN":
            peers.append(("scikit-learn, scaled", result["sklearn_seconds_scaled"]))
        shown = [(f"{theirs:,.2f}", who, f"{theirs / ours:.1f}x") for who, theirs in peers if theirs is not None]
        first = (f"{name}, {passes} passes" if passes else name, f"{ours:.2f}")
        for i, peer in enumerate(shown or [("", "", "")]):
            rows.append((*(("", "") if i else first), *peer, "" if i else f"{part['peak_gb']:.2f}"))
    subset = " x ".join(f"{size:,}" for size in result["sklearn_subset"])
    harness.show(
        f"{result['codes']:,} codes of {result['bits']:,} bits, {result['queries']:,} queries; seconds",
        ("", "jaxhash", "peer", "", "ratio", "peak memory so far, GB"),
        rows,
        *result["agreement"],
        f"scikit-learn was timed on {subset} pairs, and its time multiplied to as many pairs as ours",
        f"peak memory of our parts: {result['peak_gb']:.2f} GB of {LIMIT_BYTES / 1e9:.0f} GB allowed",
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
