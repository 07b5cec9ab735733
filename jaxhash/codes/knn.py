"""Exact k nearest neighbours of packed codes by Hamming distance, without a sort over all of them.

`lax.top_k` and `argsort` over n candidates are slow on CPU, so the search goes in two steps, both exact: the minimum
of each block of 64 training codes, then the k blocks with the smallest minima. The k nearest codes all lie in these
blocks, since each of them is the minimum of its block or stands behind one in it.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from jaxhash.codes.code import WORD

BLOCK = 64
QUERIES_AT_A_TIME = 128
_NEVER = 2**31 - 1


@partial(jax.jit, static_argnames="k")
def nearest(
    train_words: UInt32[Array, "n words"],
    test_words: UInt32[Array, "m words"],
    *,
    k: int,
    count: Int[Array, ""] | int | None = None,
) -> tuple[Int[Array, "m k"], Int[Array, "m k"]]:
    """Distances and indices of the k nearest training codes of each test code, nearest first, int32.

    Of training codes at the same distance the one with the smaller index counts as nearer.

    Args:
        train_words: packed codes.
        test_words: packed codes.
        k: neighbours of each test code.
        count: only the first so many training codes are there to be found (all by default); one program serves every
            count. Where it is less than k, only the first `count` columns mean anything.

    Cost: n * m * words xor-and-popcounts; memory: 128 distance rows of n int32 at a time.

    Raises:
        ValueError: if k is not in 1 ... n, or (distance, index) pairs do not fit 31 bits.
    """
    n, words = train_words.shape
    m = test_words.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} neighbours of {n} training codes: k must be in 1 ... {n}")
    if (words * WORD + 1) * n >= _NEVER:
        raise ValueError(
            f"{n} training codes of {words * WORD} bits are too many: (bits + 1) * codes must stay below 2^31; "
            f"give at most {(_NEVER - 1) // (words * WORD + 1)} codes at a time"
        )
    blocks = -(-n // BLOCK)
    # Code i stands in row i // blocks and block i % blocks: minima are then taken over rows, blocks side by side.
    rows = jnp.pad(train_words, ((0, BLOCK * blocks - n), (0, 0))).reshape(BLOCK, blocks, words)
    index = jnp.arange(BLOCK * blocks, dtype=jnp.int32).reshape(BLOCK, blocks)

    def key(distance: Array, index: Array) -> Array:
        # Distance first, then index: all keys differ, and their order is the order of nearness.
        return jnp.where(index < (n if count is None else count), distance * n + index, _NEVER)

    def search(queries: UInt32[Array, "queries words"]) -> Int[Array, "queries k"]:
        distance = sum(_ones(queries[:, None, None, word] ^ rows[:, :, word][None]) for word in range(words))
        near_blocks = _columns_of_smallest(key(jnp.asarray(distance), index).min(1), min(k, blocks))
        inside = rows.transpose(1, 0, 2)[near_blocks]
        distance = _ones(inside ^ queries[:, None, None]).sum(-1)
        keys = key(distance, near_blocks[..., None] + blocks * jnp.arange(BLOCK))
        return _smallest(keys.reshape(queries.shape[0], -1), k)

    tiles = -(-m // QUERIES_AT_A_TIME)
    queries = jnp.pad(test_words, ((0, tiles * QUERIES_AT_A_TIME - m), (0, 0)))
    keys = jax.lax.map(search, queries.reshape(tiles, QUERIES_AT_A_TIME, words)).reshape(-1, k)[:m]
    return keys // n, keys % n


@partial(jax.jit, static_argnames=("k", "num_classes"))
def knn_predict(
    train_words: UInt32[Array, "n words"],
    train_labels: Int[Array, " n"],
    test_words: UInt32[Array, "m words"],
    *,
    k: int,
    num_classes: int,
    count: Int[Array, ""] | int | None = None,
) -> Int[Array, " m"]:
    """The label that most of the k nearest training codes have; of equally frequent labels the smallest, int32.

    Args:
        train_words: packed codes.
        train_labels: 0 ... num_classes - 1.
        test_words: packed codes.
        k: neighbours that vote.
        num_classes: number of classes.
        count: only the first so many training codes vote (all by default); where there are fewer than k, each does.

    Raises:
        ValueError: as `nearest` does.
    """
    _, neighbours = nearest(train_words, test_words, k=k, count=count)
    votes = jax.nn.one_hot(train_labels[neighbours], num_classes, dtype=jnp.int32)
    if count is not None:
        votes = votes * (jnp.arange(k) < count)[:, None]
    votes = votes.sum(1)
    return votes.argmax(1).astype(jnp.int32)


def _ones(words: UInt32[Array, "..."]) -> Int[Array, "..."]:
    return jax.lax.population_count(words).astype(jnp.int32)


def _smallest(keys: Int[Array, "rows columns"], k: int) -> Int[Array, "rows k"]:
    """The k smallest keys of each row, ascending; all keys differ. k passes, which beat a sort for small k."""

    def take(keys: Array, _: None) -> tuple[Array, Array]:
        smallest = keys.min(1)
        return jnp.where(keys == smallest[:, None], _NEVER, keys), smallest

    return jax.lax.scan(take, keys, None, length=k)[1].T


def _columns_of_smallest(keys: Int[Array, "rows columns"], k: int) -> Int[Array, "rows k"]:
    """The columns of the k smallest keys of each row."""

    def take(keys: Array, _: None) -> tuple[Array, Array]:
        column = keys.argmin(1)
        return keys.at[jnp.arange(keys.shape[0]), column].set(_NEVER), column

    return jax.lax.scan(take, keys, None, length=k)[1].T
