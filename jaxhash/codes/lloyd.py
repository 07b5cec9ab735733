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
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from jaxhash.codes.code import WORD, unpack
from jaxhash.codes.hamming import hamming_words
from jaxhash.runtime.devices import soon_compiled

HIGHEST = jax.lax.Precision.HIGHEST
"""Of every product: TF32, the default on some GPUs, would put codes into other clusters."""
RACE = 15
# Scores of 100 centroids for so many codes (1.6 MB) stay in a core's cache.
CODES_AT_A_TIME = 4096
FEW_CODES = 512
"""Up to `CODES_AT_A_TIME` codes are looked at so many at a time."""
TILES_AT_A_TIME = 16
"""There are a multiple of so many tiles, most of them empty at times: one program serves many numbers of codes."""


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
    """`kmeans` of packed words (the first `count` of them, by default all), in programs of its own or within one.

    It stops when the centroids moved, in sum of squares, by at most `tolerance` times the mean variance of
    the bits that vary (scikit-learn's rule). A cluster that runs empty takes the code farthest from its centroid,
    the next empty one the second farthest, and so on. One program serves every count, which must be k or more; the
    labels beyond it mean nothing. The same programs serve all up to 4,096 codes, and others all up to 65,536.

    Cost: 4 * n * bits * k FLOPs an iteration and restart, `RACE` iterations of all restarts and the rest of one.
    Memory: the bits of 4,096 codes as float32, and `restarts` scores a code.

    Raises:
        ValueError: if k is not in 1 ... n, or restarts or max_iterations is less than 1.
    """
    n = words.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} clusters of {n} codes: k must be in 1 ... {n}")
    if restarts < 1 or max_iterations < 1:
        raise ValueError(f"restarts={restarts}, max_iterations={max_iterations}: both must be 1 or more")
    there = n if count is None else count
    tiles = tiles_of(words, CODES_AT_A_TIME if n > CODES_AT_A_TIME else FEW_CODES)
    centroids = seed(draws(key, k, restarts, there), tiles, there)
    found = _lloyd(centroids, tiles, there, jnp.float32(tolerance), k=k, max_iterations=max_iterations)
    return found._replace(labels=found.labels[:n])


class Draws(NamedTuple):
    """The random numbers of a seeding."""

    first: Int[Array, "restarts 1"]
    """The code that is the first centre."""
    marks: Float[Array, "later restarts candidates"]
    """Where in the sum of all squared distances the candidates for each later centre lie, 0 ... 1."""


@partial(jax.jit, static_argnames=("k", "restarts"))
def draws(key: Key[Array, ""], k: int, restarts: int, count: Int[Array, ""] | int) -> Draws:
    """The random numbers that seed k centres among `count` codes: one small program for codes of every shape."""
    candidates = 2 + int(math.log(k))  # as scikit-learn
    first_key, key = jax.random.split(key)
    first = jax.random.randint(first_key, (restarts, 1), 0, count)
    mark = partial(jax.random.uniform, shape=(restarts, candidates))
    return Draws(first, jax.vmap(mark)(jax.random.split(key, k - 1)))


@jax.jit
def seed(
    drawn: Draws, tiles: UInt32[Array, "tiles size words"], count: Int[Array, ""] | int
) -> Float[Array, "restarts k bits"]:
    """Greedy k-means++: of a few candidates drawn by squared distance, the one that lowers the sum most.

    Of bits, the squared Euclidean distance is the Hamming distance.

    Args:
        drawn: of `draws`, for k centres and so many restarts.
        tiles: packed codes.
        count: codes beyond the first so many count as at distance 0 of everything, and so are never drawn.
    """
    words = tiles.reshape(-1, tiles.shape[-1])
    n, restarts = words.shape[0], drawn.first.shape[0]
    inside = jnp.arange(n) < count

    def distances(index: Array) -> Array:  # of the codes at [restarts, c] to all codes: [restarts, c, n]
        return hamming_words(words[index.ravel()], words).astype(jnp.float32).reshape(*index.shape, n) * inside

    def choose(nearest: Array, marks: Array) -> tuple[Array, Array]:
        cumulated = jnp.cumsum(nearest, 1)
        mark = marks * cumulated[:, -1:]
        drawn = jax.vmap(partial(jnp.searchsorted, side="right"))(cumulated, mark).clip(0, count - 1)
        lowered = jnp.minimum(nearest[:, None], distances(drawn))
        best = lowered.sum(-1).argmin(1)
        row = jnp.arange(restarts)
        return lowered[row, best], drawn[row, best]

    _, later = jax.lax.scan(choose, distances(drawn.first)[:, 0], drawn.marks)
    chosen = jnp.concatenate([drawn.first, later.T], 1)
    return unpack(words[chosen], words.shape[1] * WORD).astype(jnp.float32)


class _State(NamedTuple):
    """Where all restarts stand after an iteration."""

    centroids: Float[Array, "restarts k bits"]
    done: Bool[Array, " restarts"]
    iteration: Int[Array, ""]


@partial(jax.jit, static_argnames="size")
def tiles_of(words: UInt32[Array, "n words"], size: int) -> UInt32[Array, "tiles size words"]:
    """Codes in tiles of `size`; zeros stand for what is missing."""
    n, num_words = words.shape
    missing = -n % (size * TILES_AT_A_TIME)
    return jnp.pad(words, ((0, missing), (0, 0))).reshape(-1, size, num_words)


@jax.custom_batching.custom_vmap
def _anywhere(mask: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Whether anything is true: of many models at once, in any of them, so that `cond` on it still leaves work out."""
    return mask.any()


@_anywhere.def_vmap
def _anywhere_in_all(_: int, __: list[bool], mask: Bool[Array, "..."]) -> tuple[Bool[Array, ""], bool]:
    return mask.any(), False


@soon_compiled("k", "max_iterations")
def _lloyd(
    seeds: Float[Array, "restarts k bits"],
    tiles: UInt32[Array, "tiles size words"],
    count: Int[Array, ""] | int,
    tolerance: Float[Array, ""],
    *,
    k: int,
    max_iterations: int,
) -> KMeansResult:
    """`kmeans_words` from seeds on, of the first `count` codes. Tiles beyond them cost nothing."""
    number, size, num_words = tiles.shape
    bits = num_words * WORD
    used = (count + size - 1) // size

    def real(tile: Array) -> Array:
        return tile * size + jnp.arange(size) < count

    def numbers(tile: Array) -> Array:
        return (unpack(tiles[tile], bits) & real(tile)[:, None]).astype(jnp.float32)

    ones = jax.lax.fori_loop(0, used, lambda tile, total: total + numbers(tile).sum(0), jnp.zeros(bits))
    share = ones / count
    variance = share * (1 - share)
    threshold = tolerance * variance.sum() / jnp.maximum((variance > 0).sum(), 1)

    def scores(centroids: Array, some: Array) -> Array:
        """x.c - |c|^2 / 2 for every centroid: the nearest has the largest. [restarts, k, size]"""
        flat = centroids.reshape(-1, bits)
        products = jax.lax.dot_general(flat, some, (((1,), (1,)), ((), ())), precision=HIGHEST)
        return (products - 0.5 * (flat * flat).sum(1)[:, None]).reshape(*centroids.shape[:2], -1)

    def gather(centroids: Array) -> tuple[Array, Array]:
        """Sums [restarts, k, bits] and counts [restarts, k] of each cluster's codes."""

        def add(tile: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
            # Without the barriers XLA unpacks and compares again for each product and each of the k rows below.
            some = jax.lax.optimization_barrier(numbers(tile))
            label = jax.lax.optimization_barrier(scores(centroids, some).argmax(1))
            member = jnp.where((label[:, None] == jnp.arange(k)[:, None]) & real(tile), 1.0, 0.0)
            sums = jnp.matmul(member.reshape(-1, size), some, precision=HIGHEST).reshape(centroids.shape)
            return total[0] + sums, total[1] + member.sum(-1)

        return jax.lax.fori_loop(0, used, add, (jnp.zeros_like(centroids), jnp.zeros(centroids.shape[:2])))

    def look(centroids: Array) -> tuple[Array, Array]:
        """Nearest centroid and squared distance of every code, [restarts, tiles, size]."""

        def one(tile: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
            some = jax.lax.optimization_barrier(numbers(tile))
            score = jax.lax.optimization_barrier(scores(centroids, some))
            distance = jnp.maximum(some.sum(1) - 2 * score.max(1), 0) * real(tile)
            label = score.argmax(1).astype(jnp.int32)
            return found[0].at[:, tile].set(label), found[1].at[:, tile].set(distance)

        nothing = jnp.zeros((len(centroids), number, size))
        return jax.lax.fori_loop(0, used, one, (nothing.astype(jnp.int32), nothing))

    def fill_empty(moved: Array, counts: Array, centroids: Array) -> Array:
        distances = look(centroids)[1].reshape(len(centroids), -1)
        farthest = tiles.reshape(-1, num_words)[jax.lax.top_k(distances, k)[1]]
        number = jnp.clip(jnp.cumsum(counts == 0, 1) - 1, 0, k - 1)
        found = jnp.take_along_axis(unpack(farthest, bits).astype(jnp.float32), number[..., None], 1)
        return jnp.where((counts == 0)[..., None], found, moved)

    def iterate(state: _State) -> _State:
        sums, counts = gather(state.centroids)
        moved = sums / jnp.maximum(counts, 1)[..., None]
        empty = _anywhere((counts == 0) & ~state.done[:, None])
        moved = jax.lax.cond(empty, fill_empty, lambda moved, *_: moved, moved, counts, state.centroids)
        moved = jnp.where(state.done[:, None, None], state.centroids, moved)
        shift = jnp.square(moved - state.centroids).sum((1, 2))
        return _State(moved, state.done | (shift <= threshold), state.iteration + 1)

    def run(state: _State, until: int) -> tuple[_State, Array, Array]:
        end = jax.lax.while_loop(lambda s: (s.iteration < until) & ~s.done.all(), iterate, state)
        labels, distances = look(end.centroids)
        return end, labels, distances.sum((1, 2))

    start = _State(seeds, jnp.zeros(len(seeds), bool), jnp.zeros((), jnp.int32))
    race, _, inertia = run(start, min(RACE, max_iterations))
    best = inertia.argmin()
    end, labels, inertia = run(
        _State(race.centroids[best][None], race.done[best][None], race.iteration), max_iterations
    )
    return KMeansResult(labels.ravel(), end.centroids[0], inertia[0], end.iteration)
