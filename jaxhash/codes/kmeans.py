"""K-Means of packed codes, in memory or in files, and the accuracy of clusters as classes.

    kmeans              squared Euclidean distance of the bits as numbers 0 and 1, as the study uses it
    cluster_accuracy    fraction of examples whose cluster has their label (optimal or greedy assignment)
    k_majority          Hamming distance; centres are codes, each bit that of the majority of its cluster (k-majority:
                        Grana et al., "A fast approach for integrating ORB descriptors in the bag of words model", 2013)

A pass over a file unpacks a cache-sized tile at a time. There, a cluster without codes keeps its centre.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Float64, Int, Int32, Key, UInt32

from jaxhash.codes.code import WORD, Code, pack, unpack
from jaxhash.codes.files import Codes, chunks, rows_at_a_time
from jaxhash.codes.hamming import cut, distances, turn
from jaxhash.codes.lloyd import HIGHEST, KMeansResult, draws, kmeans_words, seed

UNPACKED_BYTES = 2**30
"""Codes that take more as float32 bits are clustered by few passes over all of them, from a sample."""
SAMPLE = 16_384
"""Codes that seeding and restarts see."""
_ROWS_A_TILE = 1024
"""As float32 bits, 4 MB at 1,024 bits."""

Callback = Callable[[int, float], None]
"""Called after each pass over all codes, with its number and the cost before it."""


class KMajorityResult(NamedTuple):
    """Clusters by Hamming distance."""

    labels: Int32[np.ndarray, " n"]
    """Cluster of each code; of equally near centres the first."""
    centres: UInt32[np.ndarray, "k words"]
    """Bit-packed codes."""
    cost: int
    """Sum of Hamming distances to the nearest centre."""
    passes: int
    """Over all codes, the one that gave the labels included."""


_Nearest = Callable[[Array, Array, Array, int], tuple[Array, Array]]
"""Words, bits as numbers, centres and k -> the nearest centre and the distance to it."""


class _Pass(NamedTuple):
    """What a pass over all codes gives."""

    labels: Int32[np.ndarray, " n"]
    sums: Float64[np.ndarray, "k bits"]
    """Of the bits of each cluster's codes."""
    counts: Float64[np.ndarray, " k"]
    cost: float


def kmeans(
    key: Key[Array, ""],
    codes: Codes,
    k: int,
    *,
    restarts: int = 10,
    max_iterations: int = 300,
    tolerance: float = 1e-4,
    count: Int[Array, ""] | int | None = None,
    sample: int = SAMPLE,
    callback: Callback | None = None,
) -> KMeansResult:
    """K-Means of the bits as numbers 0 and 1: the best of several restarts, as scikit-learn's `KMeans`.

    Codes in memory that unpack to at most `UNPACKED_BYTES` are clustered in one program (`jaxhash.codes.lloyd`). Of
    others, and of files, the restarts see a random sample; the best is then refined by passes over all codes.
    It stops by scikit-learn's rule: when the centroids moved, in sum of squares, by at most `tolerance` times the mean
    variance of the bits that vary.

    Args:
        key: draws the seeds (and the sample).
        codes: n of them, at least k.
        k: clusters.
        restarts: random starts.
        max_iterations: of Lloyd, or passes over all codes.
        tolerance: see above.
        count: cluster the first so many codes only (all by default; of codes in memory only).
        sample: codes in the sample; at least k.
        callback: called after every pass over all codes.

    Returns:
        labels int32 [n], centroids float32 [k, bits of the words], inertia, iterations.

    Cost: 4 * n * bits * k FLOPs an iteration. Memory: of 4,096 codes, or a chunk, the bits as float32.

    Raises:
        ValueError: if k is not in 1 ... n (or the sample), or restarts or max_iterations is less than 1.

    >>> codes = Code.of(jnp.array([[False, False, False], [False, False, True], [True, True, True]]))
    >>> float(kmeans(jax.random.key(0), codes, 2).inertia)
    0.5
    """
    if isinstance(codes, Code) and (count is not None or codes.n * codes.num_bits * 4 <= UNPACKED_BYTES):
        return kmeans_words(
            key, codes.words, k, restarts=restarts, max_iterations=max_iterations, tolerance=tolerance, count=count
        )
    if count is not None:
        raise ValueError(f"count={count} needs codes in memory; give codes.read(), or the first {count} codes")
    some, key = _sample(key, codes, k, min(restarts, max_iterations), sample)
    centroids = np.asarray(kmeans_words(key, some.words, k, restarts=restarts).centroids)
    passes, moved = 0, np.inf
    while True:
        passes += 1
        found = _pass_over(codes, jnp.asarray(centroids), k, _by_means)
        if callback:
            callback(passes, found.cost)
        share = found.sums.sum(0) / codes.n
        variance = share * (1 - share)
        if passes == max_iterations or moved <= tolerance * variance.sum() / max((variance > 0).sum(), 1):
            # On the host: labels of very many codes would fill a device.
            return KMeansResult(found.labels, centroids, found.cost, passes)  # type: ignore[arg-type]
        means = (found.sums / np.maximum(found.counts, 1)[:, None]).astype(np.float32)
        means = np.where(found.counts[:, None] > 0, means, centroids)
        moved = float(np.square(means - centroids).sum())
        centroids = means


def cluster_accuracy(
    clusters: Int[Array, " n"],
    labels: Int[Array, " n"],
    num_classes: int,
    *,
    assignment: Literal["optimal", "greedy"] = "optimal",
    count: Int[Array, ""] | int | None = None,
) -> Float[Array, ""]:
    """Fraction of examples whose cluster was given their label; as many clusters as classes.

    Args:
        clusters: cluster of each example, int32, 0 ... num_classes - 1.
        labels: class of each example, int32.
        num_classes: number of clusters, and of classes.
        assignment: `optimal` gives each cluster a label of its own so that the accuracy is largest (Hungarian
            method); `greedy` gives each cluster its most frequent label, as the study's authors do: two clusters
            may share one, so it can come out higher.
        count: only the first so many examples count; all by default.
    """
    hits = cluster_hits(clusters, labels, num_classes, assignment=assignment, count=count)
    return hits / (clusters.shape[0] if count is None else count)


def cluster_hits(
    clusters: Int[Array, " n"],
    labels: Int[Array, " n"],
    num_classes: int,
    *,
    assignment: Literal["optimal", "greedy"],
    count: Int[Array, ""] | int | None,
) -> Int[Array, ""]:
    """How many examples have the label that their cluster was given: `cluster_accuracy` as a whole number, int32."""
    counted = clusters.shape[0] if count is None else count
    return _hits(_table(clusters, labels, counted, num_classes), assignment)


def k_majority(
    key: Key[Array, ""],
    codes: Codes,
    k: int,
    *,
    restarts: int = 10,
    max_passes: int = 100,
    sample: int = SAMPLE,
    callback: Callback | None = None,
) -> KMajorityResult:
    """The best of several k-majorities of a sample, refined over all codes until the cost stops falling.

    A bit that half of a cluster has is 0 in its centre.

    Args:
        key: draws the sample and the seeds (greedy k-means++: of bits, squared Euclidean and Hamming distance are one).
        codes: at least k.
        k: clusters.
        restarts: on the sample.
        max_passes: over all codes, and over the sample for each restart.
        sample: codes in the sample; at least k.
        callback: called after every pass over all codes.

    Cost: n * words * k times xor, popcount and sum, and 2 * n * bits * k FLOPs a pass. Memory: a chunk, twice.

    Raises:
        ValueError: if k is not in 1 ... min(n, sample), or restarts or max_passes is less than 1.
    """
    some, key = _sample(key, codes, k, min(restarts, max_passes), sample)
    seeds = pack(seed(draws(key, k, restarts, some.n), some.words[None], some.n) > 0)
    raced = [_majorities(some, np.asarray(centres), max_passes, None) for centres in seeds]
    return _majorities(codes, min(raced, key=lambda result: result.cost).centres, max_passes, callback)


@partial(jax.jit, static_argnames="num_classes")
def _table(
    clusters: Int[Array, " n"], labels: Int[Array, " n"], count: Int[Array, ""] | int, num_classes: int
) -> Int32[Array, "clusters classes"]:
    """How many of the first `count` examples are in each cluster and of each class."""
    counts = (jnp.arange(clusters.shape[0]) < count).astype(jnp.int32)
    return jnp.zeros((num_classes, num_classes), jnp.int32).at[clusters, labels].add(counts)


@partial(jax.jit, static_argnames="assignment")
def _hits(pairs: Int32[Array, "clusters classes"], assignment: str) -> Int[Array, ""]:
    """`cluster_hits` of a table: the program that assigns is one for every number of examples."""
    if assignment == "greedy":
        return pairs.max(1).sum()
    return pairs[optax.assignment.hungarian_algorithm(-pairs.astype(jnp.float32))].sum()


def _majorities(
    codes: Codes, centres: UInt32[np.ndarray, "k words"], max_passes: int, callback: Callback | None
) -> KMajorityResult:
    best: KMajorityResult | None = None
    for passes in range(1, max_passes + 1):
        turned = turn(centres, -(-len(centres) // 16) * 16)[0]  # whole vectors
        found = _pass_over(codes, jnp.asarray(turned), len(centres), _by_bits)
        if callback:
            callback(passes, found.cost)
        if best is not None and found.cost >= best.cost:
            return best._replace(passes=passes)
        best = KMajorityResult(found.labels, centres, int(found.cost), passes)
        majority = np.asarray(pack(jnp.asarray(2 * found.sums > found.counts[:, None])))
        centres = np.where(found.counts[:, None] > 0, majority, centres)
    assert best is not None
    return best


def _sample(key: Key[Array, ""], codes: Codes, k: int, fewest: int, sample: int) -> tuple[Code, Key[Array, ""]]:
    """Random codes, in their order, and a key for what comes next."""
    if not 1 <= k <= min(codes.n, sample):
        raise ValueError(f"k={k} clusters of {codes.n} codes, sample={sample}: k must be in 1 ... the smaller of these")
    if fewest < 1:
        raise ValueError(f"restarts and max_passes must be 1 or more; the smaller is {fewest}")
    draw, key = jax.random.split(key)
    random = np.random.default_rng(int(jax.random.bits(draw)))
    chosen = np.sort(random.choice(codes.n, min(sample, codes.n), replace=False))
    return Code(jnp.asarray(codes.rows(chosen)), codes.num_bits), key


def _pass_over(codes: Codes, centres: Array, k: int, nearest: _Nearest) -> _Pass:
    """The nearest centre of every code, and what the codes of each centre add up to."""
    bits = codes.num_words * WORD
    labels = np.empty(codes.n, np.int32)
    sums, counts, cost = np.zeros((k, bits)), np.zeros(k), 0.0
    for start, words in chunks(codes):
        tiles = jnp.asarray(cut(words, rows_at_a_time(codes), most=_ROWS_A_TILE))
        found = _add_up(tiles, len(words), centres, k=k, bits=bits, nearest=nearest)
        labels[start : start + len(words)] = np.asarray(found[0]).ravel()[: len(words)]
        sums += np.asarray(found[1])
        counts += np.asarray(found[2])
        cost += float(np.asarray(found[3], np.float64).sum())
    return _Pass(labels, sums, counts, cost)


def _by_means(_: Array, x: Array, centroids: Array, k: int) -> tuple[Array, Array]:
    scores = jnp.matmul(x, centroids.T, precision=HIGHEST) - 0.5 * jnp.square(centroids).sum(
        1
    )  # the largest where the distance is the smallest
    return scores.argmax(1), jnp.maximum(x.sum(1) - 2 * scores.max(1), 0)


def _by_bits(rows: Array, _: Array, turned: Array, k: int) -> tuple[Array, Array]:
    found = distances(rows, turned)[:, :k]
    return found.argmin(1), found.min(1)


@partial(jax.jit, static_argnames=("k", "bits", "nearest"))
def _add_up(
    tiles: UInt32[Array, "tiles size words"],
    count: Int[Array, ""] | int,
    centres: Array,
    *,
    k: int,
    bits: int,
    nearest: _Nearest,
) -> tuple[Int32[Array, "tiles size"], Float32[Array, "k bits"], Float32[Array, " k"], Array]:
    """Of the first `count` codes: labels, sums of bits and counts of each cluster, and the cost of each tile."""
    number, size, _ = tiles.shape

    def add(tile: Array, total: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        labels, sums, counts, cost = total
        there = tile * size + jnp.arange(size) < count
        x = unpack(tiles[tile], bits).astype(jnp.float32)
        label, distance = nearest(tiles[tile], x, centres, k)
        member = jnp.where((label[:, None] == jnp.arange(k)) & there[:, None], 1.0, 0.0)
        return (
            labels.at[tile].set(label.astype(jnp.int32)),
            sums + jnp.matmul(member.T, x, precision=HIGHEST),
            counts + member.sum(0),
            cost.at[tile].set((distance * there).sum().astype(cost.dtype)),
        )

    # Sums of zeros and ones: exact in float32 up to 2^24 codes a chunk.
    nothing = (
        jnp.zeros((number, size), jnp.int32),
        jnp.zeros((k, bits)),
        jnp.zeros(k),
        jnp.zeros(number),
    )
    return jax.lax.fori_loop(0, (count + size - 1) // size, add, nothing)
