"""Exact nearest neighbours of packed codes in memory by Hamming distance, and k-NN by them, in one program.

`lax.top_k` and `argsort` over n candidates are slow on a CPU. So the search has two steps, both exact: the minimum of
each block of 64 training codes, then the k blocks with the smallest minima. The k nearest codes all lie in these
blocks, since each of them is the minimum of its block or stands behind one in it.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from jaxhash.codes.code import WORD

ROWS_A_BLOCK = 64
"""Training codes whose smallest distance is noted."""
QUERIES_AT_A_TIME = 128
ROWS_TOGETHER = 16
"""Rows of all blocks that are compared in one step. With so many, XLA's CPU backend makes vector code of codes of up to
8 words; with 8 or 64 it takes 3 to 7 times as long (AVX-512, 48,000 codes)."""
WORDS_IN_ONE_PROGRAM = 8
"""On a CPU, longer codes in memory are streamed too: tiles are then twice as fast (1,024 bits, 2 cores)."""
NEVER = 2**31 - 1
"""Above all keys (distance, index)."""


@partial(jax.jit, static_argnames="k")
def nearest_words(
    train_words: UInt32[Array, "n words"],
    test_words: UInt32[Array, "m words"],
    *,
    k: int,
    count: Int[Array, ""] | int | None = None,
) -> tuple[Int[Array, "m k"], Int[Array, "m k"]]:
    """`nearest` of packed words, for use within programs.

    Args:
        train_words: packed codes.
        test_words: packed codes.
        k: neighbours of each test code.
        count: only the first so many training codes are there to be found (all by default); one program serves every
            count. Where it is less than k, only the first `count` columns mean anything.

    Raises:
        ValueError: if (distance, index) pairs do not fit 31 bits.
    """
    n, words = train_words.shape
    m = test_words.shape[0]
    check_k(k, n)
    if _keys(n, words) >= NEVER:
        raise ValueError(
            f"{n} training codes of {words * WORD} bits are too many: (bits + 1) * codes must stay below 2^31; "
            f"give at most {(NEVER - 1) // (words * WORD + 1)} codes at a time"
        )
    there = n if count is None else count
    blocks = -(-n // ROWS_A_BLOCK)
    # Code i stands in row i // blocks and block i % blocks: minima are then taken over rows, blocks side by side.
    rows = jnp.pad(train_words, ((0, ROWS_A_BLOCK * blocks - n), (0, 0))).reshape(ROWS_A_BLOCK, blocks, words)
    block = jnp.arange(blocks, dtype=jnp.int32)
    row = jnp.arange(ROWS_A_BLOCK, dtype=jnp.int32)[:, None]
    # Distance first, then row: of the codes of a block, all of these differ, and their order is that of nearness.
    rank = jnp.where(row * blocks + block < there, row, NEVER // 2)
    columns = jax.lax.optimization_barrier(rows.transpose(2, 0, 1))

    def key(distance: Array, index: Array) -> Array:
        # Distance first, then index: all keys differ, and their order is the order of nearness.
        return jnp.where(index < there, distance * n + index, NEVER)

    def nearest_of_blocks(queries: UInt32[Array, "queries words"]) -> Int[Array, "queries blocks"]:
        """The key of the nearest code of each block."""
        turned = jax.lax.optimization_barrier(queries.T)[:, :, None]

        def look(step: Array, best: Array) -> Array:
            def some(of: Array, axis: int) -> Array:
                return jax.lax.dynamic_slice_in_dim(of, step * ROWS_TOGETHER, ROWS_TOGETHER, axis)

            own, own_rank = jax.lax.optimization_barrier((some(columns, 1), some(rank, 0)))
            far = None if words <= WORDS_IN_ONE_PROGRAM else _distances(queries, some(rows, 0))
            for j in range(ROWS_TOGETHER):
                distance = sum(_ones(turned[i] ^ own[i, j]) for i in range(words)) if far is None else far[:, j]
                best = jnp.minimum(best, distance * ROWS_A_BLOCK + own_rank[j])
            return best

        never = jnp.full((len(queries), blocks), NEVER, jnp.int32)
        best = jax.lax.fori_loop(0, ROWS_A_BLOCK // ROWS_TOGETHER, look, never)
        return key(best // ROWS_A_BLOCK, best % ROWS_A_BLOCK * blocks + block)

    def search(queries: UInt32[Array, "queries words"]) -> Int[Array, "queries k"]:
        near_blocks = _smallest(nearest_of_blocks(queries), min(k, blocks)) % n % blocks
        inside = rows.transpose(1, 0, 2)[near_blocks]
        distance = _ones(inside ^ queries[:, None, None]).sum(-1)
        keys = key(distance, near_blocks[..., None] + blocks * jnp.arange(ROWS_A_BLOCK))
        return _smallest(keys.reshape(queries.shape[0], -1), k)

    tiles = -(-m // QUERIES_AT_A_TIME)
    queries = jnp.pad(test_words, ((0, tiles * QUERIES_AT_A_TIME - m), (0, 0)))
    keys = jax.lax.map(search, queries.reshape(tiles, QUERIES_AT_A_TIME, words)).reshape(-1, k)[:m]
    return keys // n, keys % n


@partial(jax.jit, static_argnames=("k", "num_classes"))
def knn_words(
    train_words: UInt32[Array, "n words"],
    train_labels: Int[Array, " n"],
    test_words: UInt32[Array, "m words"],
    *,
    k: int,
    num_classes: int,
    count: Int[Array, ""] | int | None = None,
) -> Int[Array, " m"]:
    """`knn` of packed words, for use within programs; int32."""
    _, neighbours = nearest_words(train_words, test_words, k=k, count=count)
    votes = jax.nn.one_hot(train_labels[neighbours], num_classes, dtype=jnp.int32)
    if count is not None:
        votes = votes * (jnp.arange(k) < count)[:, None]
    votes = votes.sum(1)
    return votes.argmax(1).astype(jnp.int32)


def check_k(k: int, n: int) -> None:
    """Refuse more neighbours than there are codes.

    Raises:
        ValueError: if k is not in 1 ... n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"k={k} neighbours of {n} training codes: k must be in 1 ... {n}")


def _keys(n: int, words: int) -> int:
    """How many (distance, index) pairs there are."""
    return (words * WORD + 1) * n


def in_one_program(n: int, num_words: int) -> bool:
    """Whether neighbours among n codes of so many words are best found by one program."""
    short = num_words <= WORDS_IN_ONE_PROGRAM or jax.default_backend() != "cpu"
    return short and _keys(n, num_words) < NEVER


def _ones(words: UInt32[Array, "..."]) -> Int[Array, "..."]:
    return jax.lax.population_count(words).astype(jnp.int32)


def _distances(
    queries: UInt32[Array, "queries words"], rows: UInt32[Array, "size blocks words"]
) -> Int[Array, "queries size blocks"]:
    """Every query against every row; of long codes a few words at a time, so that one small loop serves any length."""

    def add(queries: Array, rows: Array) -> Array:
        zero = jnp.zeros((queries.shape[0], *rows.shape[:2]), jnp.int32)
        return sum((_ones(queries[:, None, None, i] ^ rows[:, :, i][None]) for i in range(queries.shape[1])), zero)

    words = queries.shape[1]
    whole = words // WORD * WORD
    if words <= WORD:
        return add(queries, rows)

    def some(i: Array, total: Array) -> Array:
        piece = partial(jax.lax.dynamic_slice_in_dim, start_index=i * WORD, slice_size=WORD, axis=-1)
        return total + add(piece(queries), piece(rows))

    found = jax.lax.fori_loop(0, words // WORD, some, jnp.zeros((queries.shape[0], *rows.shape[:2]), jnp.int32))
    return found + add(queries[:, whole:], rows[..., whole:])


def _smallest(keys: Int[Array, "rows columns"], k: int) -> Int[Array, "rows k"]:
    """The k smallest keys of each row, ascending; all keys differ. k passes, which beat a sort for small k."""

    def take(keys: Array, _: None) -> tuple[Array, Array]:
        smallest = keys.min(1)
        return jnp.where(keys == smallest[:, None], NEVER, keys), smallest

    return jax.lax.scan(take, keys, None, length=k)[1].T
