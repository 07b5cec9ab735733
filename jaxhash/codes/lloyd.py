"""Lloyd's iterations of K-Means on packed codes in memory, all restarts side by side in one program.

Bits count as the numbers 0 and 1, as in scikit-learn's `KMeans` on unpacked bits, which it follows: greedy k-means++
seeding (Arthur and Vassilvitskii 2007, with 2 + log k candidates a centre), Lloyd's iterations, the same stopping
rule. Only one thing is left out: after `RACE` iterations of all restarts, the one with the smallest inertia goes on
alone. By then the order of the restarts is settled to about 0.1 % of inertia, while most iterations are still to
come (MNIST codes of 30, 50 and 100 bits: inertia at 15 iterations within 0.4 % of its end for the leaders).
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from jaxhash.codes.code import WORD, unpack
from jaxhash.codes.hamming import hamming_words
from jaxhash.runtime.devices import SOON_COMPILED

HIGHEST = jax.lax.Precision.HIGHEST
"""Of every product: TF32, the default on some GPUs, would put codes into other clusters."""
RACE = 15
# Scores of 100 centroids for so many codes (1.6 MB) stay in a core's cache.
CODES_AT_A_TIME = 4096


class KMeansResult(NamedTuple):
    """The best of all restarts."""

    labels: Int[Array, " n"]
    """Cluster of each code, int32; of equally near centroids the first."""
    centroids: Float[Array, "k bits"]
    """Float32; as many bits as the words hold."""
    inertia: Float[Array, ""]
    """Sum of squared distances to the nearest centroid."""
    iterations: Int[Array, ""]
    """Lloyd iterations until the best restart stood still."""


def kmeans_words(
    key: Key[Array, ""],
    words: UInt32[Array, "n words"],
    k: int,
    *,
    restarts: int = 10,
    max_iterations: int = 300,
    tolerance: float = 1e-4,
    count: Int[Array, ""] | int | None = None,
) -> KMeansResult:
    """`kmeans` of packed words (the first `count` of them, by default all), in one program of its own.

    It stops when the centroids moved, in sum of squares, by at most `tolerance` times the mean variance of
    the bits that vary (scikit-learn's rule). A cluster that runs empty takes the code farthest from its centroid,
    the next empty one the second farthest, and so on. One program serves every count, which must be k or more; the
    labels beyond it mean nothing.

    Cost: 4 * n * bits * k FLOPs an iteration and restart, `RACE` iterations of all restarts and the rest of one.
    Memory: the bits as float32.

    Raises:
        ValueError: if k is not in 1 ... n, or restarts or max_iterations is less than 1.
    """
    n = words.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} clusters of {n} codes: k must be in 1 ... {n}")
    if restarts < 1 or max_iterations < 1:
        raise ValueError(f"restarts={restarts}, max_iterations={max_iterations}: both must be 1 or more")
    return _kmeans(key, words, jnp.float32(tolerance), count, k=k, restarts=restarts, max_iterations=max_iterations)


@partial(jax.jit, static_argnames=("k", "restarts"))
def seed(
    key: Key[Array, ""], words: UInt32[Array, "n words"], k: int, restarts: int, count: Int[Array, ""] | int
) -> Float[Array, "restarts k bits"]:
    """Greedy k-means++: of a few candidates drawn by squared distance, the one that lowers the sum most.

    Of bits, the squared Euclidean distance is the Hamming distance.

    Args:
        key: draws the candidates.
        words: packed codes.
        k: centres.
        restarts: so many times k centres are drawn.
        count: codes beyond the first so many count as at distance 0 of everything, and so are never drawn.
    """
    n = words.shape[0]
    inside = jnp.arange(n) < count
    candidates = 2 + int(math.log(k))  # as scikit-learn

    def distances(index: Array) -> Array:  # of the codes at [restarts, c] to all codes: [restarts, c, n]
        return hamming_words(words[index.ravel()], words).astype(jnp.float32).reshape(*index.shape, n) * inside

    first_key, key = jax.random.split(key)
    first = jax.random.randint(first_key, (restarts, 1), 0, count)

    def choose(nearest: Array, key: Array) -> tuple[Array, Array]:
        cumulated = jnp.cumsum(nearest, 1)
        mark = jax.random.uniform(key, (restarts, candidates)) * cumulated[:, -1:]
        drawn = jax.vmap(partial(jnp.searchsorted, side="right"))(cumulated, mark).clip(0, count - 1)
        lowered = jnp.minimum(nearest[:, None], distances(drawn))
        best = lowered.sum(-1).argmin(1)
        row = jnp.arange(restarts)
        return lowered[row, best], drawn[row, best]

    _, later = jax.lax.scan(choose, distances(first)[:, 0], jax.random.split(key, k - 1))
    chosen = jnp.concatenate([first, later.T.reshape(restarts, k - 1)], 1)
    return unpack(words[chosen], words.shape[1] * WORD).astype(jnp.float32)


class _Lloyd(NamedTuple):
    """Where all restarts stand after an iteration."""

    centroids: Float[Array, "restarts k bits"]
    done: Array
    iteration: Array


@partial(jax.jit, static_argnames=("k", "restarts", "max_iterations"), compiler_options=SOON_COMPILED)
def _kmeans(
    key: Array, words: Array, tolerance: Array, count: Array | None, *, k: int, restarts: int, max_iterations: int
) -> KMeansResult:
    n, num_words = words.shape
    bits = num_words * WORD
    there = jnp.asarray(n if count is None else count)
    inside = jnp.arange(n) < there
    if count is not None:
        words = jnp.where(inside[:, None], words, 0)
    size = min(n, CODES_AT_A_TIME)
    chunks = -(-n // size)
    padded = jnp.pad(words, ((0, chunks * size - n), (0, 0)))
    x = unpack(padded, bits).astype(jnp.float32).reshape(chunks, size, bits)
    real = (jnp.arange(chunks * size) < there).astype(jnp.float32).reshape(chunks, size)
    share = x.sum((0, 1)) / there
    variance = share * (1 - share)
    threshold = tolerance * variance.sum() / jnp.maximum((variance > 0).sum(), 1)

    def scores(centroids: Array, some: Array) -> Array:
        """x.c - |c|^2 / 2 for every centroid: the nearest has the largest. [restarts, k, size]"""
        flat = centroids.reshape(-1, bits)
        products = jax.lax.dot_general(flat, some, (((1,), (1,)), ((), ())), precision=HIGHEST)
        return (products - 0.5 * (flat * flat).sum(1)[:, None]).reshape(*centroids.shape[:2], -1)

    def gather(centroids: Array) -> tuple[Array, Array]:
        """Sums [restarts, k, bits] and counts [restarts, k] of each cluster's codes."""

        def add(total: tuple[Array, Array], chunk: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            some, is_real = chunk
            # Without the barrier XLA works the comparisons out again for each of the k rows below.
            label = jax.lax.optimization_barrier(scores(centroids, some).argmax(1))
            member = jnp.where(label[:, None] == jnp.arange(k)[:, None], is_real, 0.0)
            sums = jnp.matmul(member.reshape(-1, some.shape[0]), some, precision=HIGHEST).reshape(centroids.shape)
            return (total[0] + sums, total[1] + member.sum(-1)), None

        zero = jnp.zeros_like(centroids), jnp.zeros(centroids.shape[:2])
        if centroids.shape[0] == 1:  # the scores of one restart are few: no chunks to copy
            return add(zero, (x.reshape(-1, bits), real.ravel()))[0]
        return jax.lax.scan(add, zero, (x, real))[0]

    def look(centroids: Array) -> tuple[Array, Array]:
        """Nearest centroid and squared distance of every code, [restarts, n]."""

        def one(some: Array) -> tuple[Array, Array]:
            score = scores(centroids, some)
            return score.argmax(1).astype(jnp.int32), jnp.maximum(some.sum(1) - 2 * score.max(1), 0)

        labels, distances = jax.lax.map(one, x)
        return _rows(labels)[:, :n], _rows(distances)[:, :n] * inside

    def fill_empty(moved: Array, counts: Array, centroids: Array) -> Array:
        farthest = words[jax.lax.top_k(look(centroids)[1], k)[1]]
        number = jnp.clip(jnp.cumsum(counts == 0, 1) - 1, 0, k - 1)
        found = jnp.take_along_axis(unpack(farthest, bits).astype(jnp.float32), number[..., None], 1)
        return jnp.where((counts == 0)[..., None], found, moved)

    def iterate(state: _Lloyd) -> _Lloyd:
        sums, counts = gather(state.centroids)
        moved = sums / jnp.maximum(counts, 1)[..., None]
        empty = ((counts == 0) & ~state.done[:, None]).any()
        moved = jax.lax.cond(empty, fill_empty, lambda moved, *_: moved, moved, counts, state.centroids)
        moved = jnp.where(state.done[:, None, None], state.centroids, moved)
        shift = jnp.square(moved - state.centroids).sum((1, 2))
        return _Lloyd(moved, state.done | (shift <= threshold), state.iteration + 1)

    def lloyd(state: _Lloyd, until: int) -> tuple[_Lloyd, Array, Array]:
        end = jax.lax.while_loop(lambda s: (s.iteration < until) & ~s.done.all(), iterate, state)
        labels, distances = look(end.centroids)
        return end, labels, distances.sum(1)

    start = _Lloyd(seed(key, words, k, restarts, there), jnp.zeros(restarts, bool), jnp.zeros((), jnp.int32))
    race, _, inertia = lloyd(start, min(RACE, max_iterations))
    best = inertia.argmin()
    end, labels, inertia = lloyd(
        _Lloyd(race.centroids[best][None], race.done[best][None], race.iteration), max_iterations
    )
    return KMeansResult(labels[0], end.centroids[0], inertia[0], end.iteration)


def _rows(a: Array) -> Array:
    """[chunks, restarts, size] -> [restarts, chunks * size]."""
    return a.transpose(1, 0, 2).reshape(a.shape[1], -1)
