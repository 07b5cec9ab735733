"""Exact nearest neighbours of codes by Hamming distance, and k-NN classification by them; in memory or from files.

Codes in memory go through one program (`nearest_words.py`). Files are streamed, so they may be larger than memory: a
tile of distances is made at a time (`jaxhash.codes.hamming`). Only blocks of rows whose smallest distance beats a
query's k-th nearest so far are looked into, and of these one distance after the other is taken in, nearest first, until
none is left that belongs to the k nearest: after the first tiles that is seldom any.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, UInt32

from jaxhash.codes.code import WORD, Code
from jaxhash.codes.files import Codes, check_alike, check_labels, chunks, rows_at_a_time
from jaxhash.codes.hamming import QUERIES_A_TILE, ROWS_A_TILE, cut, distances, turn
from jaxhash.codes.nearest_words import NEVER, check_k, in_one_program, knn_words, nearest_words
from jaxhash.runtime.devices import worker_count

BLOCK = 32
"""Training codes whose smallest distance is noted: few enough to look through again, many enough to have few blocks."""

Found = tuple[Int32[np.ndarray, "m k"], Int32[np.ndarray, "m k"]]
Callback = Callable[[int, int], None]
"""Called with the number of comparisons done and of all."""


def nearest(train: Codes, test: Codes, *, k: int, callback: Callback | None = None) -> Found:
    """Distances and indices of the k nearest training codes of each test code, nearest first.

    Of training codes at the same distance the one with the smaller index counts as nearer.

    Args:
        train: codes among which neighbours are looked for; at most 2^31 - 1.
        test: codes whose neighbours are wanted.
        k: neighbours of each.
        callback: called with the pairs looked at so far and all pairs.

    Cost: n * m * words times xor, popcount and sum. Memory: in one program, 128 distance rows of n int32; streamed,
    a chunk of `BYTES_AT_A_TIME` of either side, two or three times, and the training codes are read once for each
    chunk of test codes.

    Raises:
        ValueError: if k is not in 1 ... n, or the codes differ in their number of bits.

    >>> train, test = Code.of(jnp.array([[True, False], [True, True]])), Code.of(jnp.array([[True, True]]))
    >>> nearest(train, test, k=2)
    (array([[0, 1]], dtype=int32), array([[1, 0]], dtype=int32))
    """
    check_alike(train, test)
    check_k(k, train.n)
    if isinstance(train, Code) and isinstance(test, Code) and in_one_program(train.n, train.num_words):
        found = nearest_words(train.words, test.words, k=k)
        distances, indices = np.asarray(found[0]), np.asarray(found[1])
        if callback:
            callback(train.n * test.n, train.n * test.n)
        return distances, indices
    return _search(train, test, None, k, callback)


def nearest_of_other_class(
    train: Codes,
    train_labels: Int[np.ndarray, " n"] | Int[Array, " n"],
    test: Codes,
    test_labels: Int[np.ndarray, " m"] | Int[Array, " m"],
    *,
    k: int = 1,
    callback: Callback | None = None,
) -> Found:
    """As `nearest`, but only training codes whose label is not the test code's count.

    Raises:
        ValueError: if a test code has fewer than k training codes of other classes, there are not as many labels as
            codes, or the codes differ in their number of bits.

    >>> train, test = Code.of(jnp.array([[True, False], [True, True]])), Code.of(jnp.array([[True, True]]))
    >>> nearest_of_other_class(train, np.array([0, 1]), test, np.array([1]))
    (array([[1]], dtype=int32), array([[0]], dtype=int32))
    """
    check_alike(train, test)
    labels = np.asarray(train_labels, np.int32), np.asarray(test_labels, np.int32)
    check_labels(train, labels[0], "training")
    check_labels(test, labels[1], "test")
    present, sizes = np.unique(labels[0], return_counts=True)
    others = train.n - max((int(sizes[present == label].sum()) for label in np.unique(labels[1])), default=0)
    if not 1 <= k <= others:
        raise ValueError(f"k={k} neighbours of other classes: k must be in 1 ... {others}, as many as every class has")
    return _search(train, test, labels, k, callback)


def knn(
    train: Codes,
    train_labels: Int[np.ndarray, " n"] | Int[Array, " n"],
    test: Codes,
    *,
    k: int,
    num_classes: int,
    count: Int[Array, ""] | int | None = None,
) -> Int32[np.ndarray, " m"] | Int[Array, " m"]:
    """k-NN classification: the label that most of the k nearest training codes have; of equally frequent the smallest.

    Args:
        train: codes of the training examples.
        train_labels: 0 ... num_classes - 1.
        test: codes of the examples to classify.
        k: neighbours that vote.
        num_classes: number of classes.
        count: only the first so many training codes vote (all by default; of codes in memory only); where there are
            fewer than k, each does.

    Raises:
        ValueError: as `nearest` does, or if there are not as many labels as training codes.

    >>> train, test = Code.of(jnp.array([[True, False], [True, True]])), Code.of(jnp.array([[False, True]]))
    >>> knn(train, jnp.array([3, 1]), test, k=1, num_classes=4).tolist()
    [1]
    """
    check_alike(train, test)
    check_k(k, train.n)
    check_labels(train, train_labels, "training")
    if (
        isinstance(train, Code)
        and isinstance(test, Code)
        and (in_one_program(train.n, train.num_words) or count is not None)
    ):
        labels = jnp.asarray(train_labels, jnp.int32)
        return knn_words(train.words, labels, test.words, k=k, num_classes=num_classes, count=count)
    if count is not None:
        raise ValueError(f"count={count} needs codes in memory; give codes.read(), or the first {count} codes")
    votes = np.asarray(train_labels)[nearest(train, test, k=k)[1]][..., None] == np.arange(num_classes)
    return votes.sum(1).argmax(1).astype(np.int32)


def _search(
    train: Codes,
    test: Codes,
    labels: tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, " m"]] | None,
    k: int,
    callback: Callback | None,
) -> Found:
    far = train.num_words * WORD + 1
    if far * BLOCK > NEVER:
        raise ValueError(f"codes of {far - 1} bits are too long: at most {NEVER // BLOCK - 1} can be compared")
    # Distance and row in a tile share 31 bits.
    slices = partial(cut, rows=rows_at_a_time(train), block=BLOCK, most=min(ROWS_A_TILE, NEVER // far))
    nothing = np.full((k, QUERIES_A_TILE), far, np.int32), np.zeros((k, QUERIES_A_TILE), np.int32)
    answer = np.empty((2, test.n, k), np.int32)
    done = 0
    pool = ThreadPoolExecutor(worker_count())
    try:
        for first, queries in chunks(test):
            last = first + len(queries)
            tiles = turn(queries)
            own = [None] * len(tiles) if labels is None else _tiles_of(labels[1][first:last], len(tiles))
            best = [nothing] * len(tiles)
            for start, words in chunks(train):
                rows = jnp.asarray(slices(words))
                others = None
                if labels is not None:
                    others = _tiles_of(labels[0][start : start + len(words)], *rows.shape[:2])
                look = partial(_look, rows=rows, start=start, count=len(words), row_labels=others)
                nearer = []
                for found in pool.map(look, best, tiles, own):
                    nearer.append(found)
                    done += min(QUERIES_A_TILE, last - first - QUERIES_A_TILE * (len(nearer) - 1)) * len(words)
                    if callback:
                        callback(done, train.n * test.n)
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
        keys = distances(rows[tile], queries) * size + index
        keys = jnp.maximum(keys, jnp.where(there, 0, NEVER))
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
            left = jnp.where(inside > smallest, inside, NEVER).min(0)
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
