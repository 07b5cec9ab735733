"""Exact nearest neighbours of codes in files or in memory; the files are streamed, so they may be larger than memory.

A tile of distances is made at a time (`code_tiles`). Only blocks of rows whose smallest distance beats a query's k-th
nearest so far are looked into, and of these one distance after the other is taken in, nearest first, until none is
left that belongs to the k nearest: after the first tiles that is seldom any.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, UInt32

from jaxhash.codes import hamming
from jaxhash.codes.code import WORD
from jaxhash.codes.files import CodeRows
from jaxhash.codes.hamming import QUERIES_A_TILE
from jaxhash.runtime.workers import lanes

BLOCK = 32
"""Rows whose smallest distance is noted: few enough to look through again, many enough to have few blocks."""
_NEVER = 2**31 - 1

Found = tuple[Int32[np.ndarray, "m k"], Int32[np.ndarray, "m k"]]
Report = Callable[[int, int], None]
"""Called with the number of comparisons done and of all."""


def nearest(train: CodeRows, test: CodeRows, *, k: int, report: Report | None = None) -> Found:
    """Distances and indices of the k nearest training codes of each test code, nearest first.

    Of training codes at the same distance the one with the smaller index counts as nearer.

    Args:
        train: codes among which neighbours are looked for; at most 2^31 - 1.
        test: codes whose neighbours are wanted.
        k: neighbours of each.
        report: told of progress.

    Cost: n * m * words times xor, popcount and sum, and the training codes are read once for each `rows_at_a_time`
    test codes. Memory: the answer (8 m k bytes), a chunk of `BYTES_AT_A_TIME` of either side, two or three times.

    Raises:
        ValueError: if k is not in 1 ... n, or the codes differ in their number of words.
    """
    if not 1 <= k <= train.n:
        raise ValueError(f"k={k} neighbours of {train.n} training codes: k must be in 1 ... {train.n}")
    return _search(train, test, None, k, report)


def nearest_of_other_class(
    train: CodeRows,
    train_labels: Int[np.ndarray, " n"],
    test: CodeRows,
    test_labels: Int[np.ndarray, " m"],
    *,
    k: int = 1,
    report: Report | None = None,
) -> Found:
    """As `nearest`, but only training codes whose label is not the test code's count.

    Raises:
        ValueError: if a test code has fewer than k training codes of other classes, there are not as many labels as
            codes, or the codes differ in their number of words.
    """
    labels = np.asarray(train_labels, np.int32), np.asarray(test_labels, np.int32)
    for name, codes, given in (("training", train, labels[0]), ("test", test, labels[1])):
        if len(given) != codes.n:
            raise ValueError(f"{len(given)} labels for {codes.n} {name} codes; give one each")
    present, sizes = np.unique(labels[0], return_counts=True)
    others = train.n - max((int(sizes[present == label].sum()) for label in np.unique(labels[1])), default=0)
    if not 1 <= k <= others:
        raise ValueError(f"k={k} neighbours of other classes: k must be in 1 ... {others}, as many as every class has")
    return _search(train, test, labels, k, report)


def _search(
    train: CodeRows,
    test: CodeRows,
    labels: tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " m"]] | None,
    k: int,
    report: Report | None,
) -> Found:
    if train.num_words != test.num_words:
        raise ValueError(f"codes of {train.num_words} and of {test.num_words} words have no Hamming distance")
    far = train.num_words * WORD + 1
    if far * BLOCK > _NEVER:
        raise ValueError(f"codes of {far - 1} bits are too long: at most {_NEVER // BLOCK - 1} can be compared")
    # Distance and row in a tile share 31 bits.
    cut = partial(hamming.cut, rows=train.rows_at_a_time, block=BLOCK, most=min(hamming.ROWS_A_TILE, _NEVER // far))
    nothing = np.full((k, QUERIES_A_TILE), far, np.int32), np.zeros((k, QUERIES_A_TILE), np.int32)
    answer = np.empty((2, test.n, k), np.int32)
    done = 0
    pool = ThreadPoolExecutor(lanes())
    try:
        for first, queries in test.chunks():
            last = first + len(queries)
            tiles = hamming.turn(queries)
            own = [None] * len(tiles) if labels is None else _tiles_of(labels[1][first:last], len(tiles))
            best = [nothing] * len(tiles)
            for start, words in train.chunks():
                rows = jnp.asarray(cut(words))
                others = None
                if labels is not None:
                    others = _tiles_of(labels[0][start : start + len(words)], *rows.shape[:2])
                look = partial(_look, rows=rows, start=start, count=len(words), row_labels=others)
                nearer = []
                for found in pool.map(look, best, tiles, own):
                    nearer.append(found)
                    done += min(QUERIES_A_TILE, last - first - QUERIES_A_TILE * (len(nearer) - 1)) * len(words)
                    if report:
                        report(done, train.n * test.n)
                best = nearer
            for i in range(2):
                answer[i, first:last] = np.concatenate([found[i] for found in best], axis=1).T[: last - first]
    finally:
        pool.shutdown(cancel_futures=True)
    return answer[0], answer[1]


def _look(
    best: tuple[np.ndarray, np.ndarray],
    queries: UInt32[np.ndarray, "words m"],
    query_labels: Int32[np.ndarray, " m"] | None,
    *,
    rows: UInt32[Array, "tiles size words"],
    start: int,
    count: int,
    row_labels: Int32[np.ndarray, "tiles size"] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`_nearer`, done when it returns."""
    found = _nearer(best, queries, rows, start, count, row_labels, query_labels)
    return np.asarray(found[0]), np.asarray(found[1])


def _tiles_of(
    labels: Int32[np.ndarray, " some"], tiles: int, size: int = QUERIES_A_TILE
) -> Int32[np.ndarray, "tiles size"]:
    """The labels of codes in tiles."""
    return np.pad(labels, (0, tiles * size - len(labels))).reshape(tiles, size)


@jax.jit
def _nearer(
    best: tuple[Int32[Array, "k m"], Int32[Array, "k m"]],
    queries: UInt32[Array, "words m"],
    rows: UInt32[Array, "tiles size words"],
    start: Int[Array, ""] | int,
    count: Int[Array, ""] | int,
    row_labels: Int32[Array, "tiles size"] | None,
    query_labels: Int32[Array, " m"] | None,
) -> tuple[Int32[Array, "k m"], Int32[Array, "k m"]]:
    """The nearest of those found so far and of the first `count` of these rows, whose indices begin at `start`."""
    size, m = rows.shape[1], queries.shape[1]
    index = jnp.arange(size, dtype=jnp.int32)[:, None]

    def keys_of(tile: Array | int) -> Int32[Array, "blocks block m"]:
        """Distance first, then row: all keys of a query differ, and their order is the order of nearness."""
        there = tile * size + index < count
        if row_labels is not None and query_labels is not None:
            there = there & (row_labels[tile][:, None] != query_labels)
        keys = hamming.distances(rows[tile], queries) * size + index
        keys = jnp.maximum(keys, jnp.where(there, 0, _NEVER))
        return keys.reshape(-1, BLOCK, m)

    def take(best: tuple[Array, Array], keys: Array, tile: Array | int) -> tuple[Array, Array]:
        """Take in what belongs to the nearest of a tile, the smallest key of each query at a time."""

        def belongs(state: tuple[tuple[Array, Array], Array, Array]) -> Array:
            best, _, smallest = state
            return (smallest // size < best[0][-1]).any()

        def insert(state: tuple[tuple[Array, Array], Array, Array]) -> tuple[tuple[Array, Array], Array, Array]:
            (distances, indices), minima, smallest = state
            distance, row = smallest // size, smallest % size
            # Behind those at the same distance: they came from earlier rows.
            place = (distances <= distance).sum(0)
            block = row // BLOCK
            inside = jnp.take_along_axis(keys, block[None, None], axis=0)[0]
            left = jnp.where(inside > smallest, inside, _NEVER).min(0)
            minima = jnp.where(jnp.arange(minima.shape[0])[:, None] == block, left, minima)
            best = _put_in(distances, distance, place), _put_in(indices, start + tile * size + row, place)
            return best, minima, minima.min(0)

        minima = keys.min(1)
        return jax.lax.while_loop(belongs, insert, (best, minima, minima.min(0)))[0]

    def step(tile: Array, state: tuple[tuple[Array, Array], Array]) -> tuple[tuple[Array, Array], Array]:
        # The keys are made a step before they are looked at: as the loop's state they lie in memory, and XLA cannot
        # make them twice, once for the minima and once for what is taken.
        best, keys = state
        return take(best, keys, tile - 1), keys_of(tile)

    tiles = (count + size - 1) // size
    best, keys = jax.lax.fori_loop(1, tiles, step, (best, keys_of(0)))
    return take(best, keys, tiles - 1)


def _put_in(values: Int32[Array, "k m"], new: Int32[Array, " m"], place: Int[Array, " m"]) -> Int32[Array, "k m"]:
    """Each column with a new value put in at its place; the last value falls out."""
    row = jnp.arange(values.shape[0])[:, None]
    moved = jnp.concatenate([values[:1], values[:-1]])
    return jnp.where(row < place, values, jnp.where(row == place, new, moved))
