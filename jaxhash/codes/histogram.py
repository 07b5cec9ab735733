"""Histogram of Hamming distances, of all pairs of codes or of a random sample of pairs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int64, UInt32

from jaxhash.codes.code import WORD
from jaxhash.codes.files import Codes, chunks, rows_at_a_time
from jaxhash.codes.hamming import QUERIES_A_TILE, ROWS_A_TILE, cut, turn
from jaxhash.codes.hamming import distances as tile_distances
from jaxhash.runtime.devices import worker_count

_PAIRS_AT_A_TIME = 2**16

Callback = Callable[[int, int], None]
"""Called with the number of pairs done and of all, up to some that are looked at twice."""


def histogram(codes: Codes, *, callback: Callback | None = None) -> Int64[np.ndarray, " distances"]:
    """How many of the n (n - 1) / 2 pairs are 0, 1, ... bits apart, exactly.

    Cost: n^2 / 2 * words times xor, popcount and sum, and n^2 / 2 additions to a table. Memory: two chunks, twice.
    """
    table = np.zeros(codes.num_words * WORD + 1, np.int64)
    done = 0
    tiled = partial(cut, rows=rows_at_a_time(codes), most=ROWS_A_TILE)
    pool = ThreadPoolExecutor(worker_count())
    try:
        for first, queries in chunks(codes):
            tiles = turn(queries)
            offsets = [first + i * QUERIES_A_TILE for i in range(len(tiles))]
            for start, words in chunks(codes):
                if start + len(words) <= first:  # every pair once: with the codes before it
                    continue
                count = partial(_counted, rows=jnp.asarray(tiled(words)), start=start, end=start + len(words))
                sizes = [min(QUERIES_A_TILE, first + len(queries) - offset) for offset in offsets]
                for size, found in zip(sizes, pool.map(count, tiles, offsets, sizes), strict=True):
                    table += found[: len(table)]
                    done += size * len(words)
                    if callback:
                        callback(min(done, codes.n**2), codes.n**2)
    finally:
        pool.shutdown(cancel_futures=True)
    return table


def sampled_histogram(codes: Codes, pairs: int, seed: int = 0) -> Int64[np.ndarray, " distances"]:
    """How many of `pairs` random pairs of different rows are 0, 1, ... bits apart; drawn with replacement.

    A share p of the table is known to within about sqrt(p (1 - p) / pairs).

    Raises:
        ValueError: if there are fewer than 2 codes, or pairs is less than 1.
    """
    if codes.n < 2 or pairs < 1:
        raise ValueError(f"{pairs} pairs of {codes.n} codes: give 1 pair or more, of 2 codes or more")
    random = np.random.default_rng(seed)
    table = np.zeros(codes.num_words * WORD + 1, np.int64)
    size = min(_PAIRS_AT_A_TIME, max(rows_at_a_time(codes), 1))
    for start in range(0, pairs, size):
        some = min(size, pairs - start)
        one, step = random.integers(0, codes.n, some), random.integers(1, codes.n, some)
        apart = np.bitwise_count(codes.rows(one) ^ codes.rows((one + step) % codes.n)).sum(1, dtype=np.int64)
        table += np.bincount(apart, minlength=len(table))
    return table


def _counted(
    queries: UInt32[np.ndarray, "words m"], first: int, size: int, *, rows: Array, start: int, end: int
) -> Int64[np.ndarray, " distances"]:
    """`_count` of the rows behind each query, on the host."""
    return np.asarray(_count(queries, rows, first - start, size, end - start), np.int64)


@jax.jit
def _count(
    queries: UInt32[Array, "words m"],
    rows: UInt32[Array, "tiles size words"],
    first: Int[Array, ""] | int,
    count: Int[Array, ""] | int,
    end: Int[Array, ""] | int,
) -> Int[Array, " distances"]:
    """Distances of the first `count` queries, which are rows `first` ..., to the rows after theirs, up to `end`."""
    size, bits = rows.shape[1], queries.shape[0] * WORD
    index, query = jnp.arange(size)[:, None], jnp.arange(queries.shape[1])

    def distances(tile: Array) -> Array:
        row = tile * size + index
        pair = (row > first + query) & (row < end) & (query < count)
        # What is no pair is counted where no distance is, and cut off.
        return jnp.where(pair, tile_distances(rows[tile], queries), bits + 1)

    def count_them(table: Array, distance: Array) -> Array:
        return table.at[distance.ravel()].add(1, mode="promise_in_bounds")

    def step(tile: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        # Counted a step after they are made: else XLA works out each distance inside the loop that counts, one by one.
        table, distance = state
        return count_them(table, distance), distances(tile)

    begin = jnp.maximum(first, 0) // size
    state = jnp.zeros(bits + 2, jnp.int32), distances(begin)
    return count_them(*jax.lax.fori_loop(begin + 1, (end + size - 1) // size, step, state))[:-1]
