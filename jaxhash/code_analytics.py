"""Encoding properties of codes in files, in bounded memory: distinct codes, k-NN, K-Means, logistic regression.

Distinct codes and k nearest neighbours are exact and use every bit. K-Means and logistic regression work on unpacked
numbers, 32 times the size; they are given a random sample of the bits that vary (`sample_bits`).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, Key, UInt32, UInt64

from jaxhash.code_files import CodeFile
from jaxhash.codes import WORD, Code, fingerprint, unpack
from jaxhash.kmeans import cluster_accuracy, kmeans
from jaxhash.logistic import logistic_accuracy
from jaxhash.properties import NEIGHBOURS, RESTARTS, Assignment, Properties

SAMPLED_BITS = 1024
"""Bits that K-Means and logistic regression see: 4 KB an example as float32."""

# 64 x 512 distances of 4 bytes stay in a core's cache while 16 words at a time are added: 2 to 4 G words/s on 2 cores
# of an EPYC (Zen 4), against 0.2 to 1.6 G for `codes.hamming`, which is made for codes of few words.
_QUERIES_A_TILE, _CODES_A_TILE, _WORDS_AT_A_TIME = 64, 512, 16
_FAR = 2**31 - 1


def fingerprints(codes: CodeFile) -> UInt64[np.ndarray, " n"]:
    """64 bits of each code that equal codes share, and different ones with probability about words / 30 * 2^-64.

    Cost: one pass over the file. Memory: `BYTES_AT_A_TIME` of it, a few times.
    """
    rows = codes.rows_at_a_time
    found = [np.asarray(_fingerprints(jnp.asarray(_padded(words, rows))))[: len(words)] for _, words in codes.chunks()]
    return np.ascontiguousarray(np.concatenate(found)).view(np.uint64)[:, 0]


def num_distinct(codes: CodeFile) -> int:
    """Number of different codes, exactly: codes of equal fingerprint are compared in full.

    Cost: two passes over the file at most, unless fingerprints coincide. Memory: as `fingerprints`, and 8 bytes a code.
    """
    prints = fingerprints(codes)
    distinct, pending = 0, np.arange(codes.n)
    while pending.size:
        # Of each fingerprint the first code counts; those that are equal to it are done with, the others come again.
        _, first, group = np.unique(prints[pending], return_index=True, return_inverse=True)
        distinct += len(first)
        rest = np.ones(len(pending), bool)
        rest[first] = False
        others, representatives = pending[rest], pending[first][group][rest]
        pending = others[~_equal(codes, others, representatives)]
    return distinct


def redundancy_ratio(codes: CodeFile) -> float:
    """(n - number of distinct codes) / n; 0 when every example has a code of its own."""
    return (codes.n - num_distinct(codes)) / codes.n


def varying_bits(*files: CodeFile) -> UInt32[np.ndarray, " words"]:
    """A mask of the bits that are not the same in all codes of all the files together. One pass over each."""
    first = files[0].rows(slice(0, 1))
    mask = np.zeros(files[0].num_words, np.uint32)
    for file in files:
        for _, words in file.chunks():
            mask |= np.bitwise_or.reduce(words ^ first, axis=0)
    return mask


def sample_bits(codes: CodeFile, mask: UInt32[np.ndarray, " words"], count: int, seed: int) -> Code:
    """`count` of the bits in a mask, drawn without replacement, as codes in memory; all of them if they are fewer.

    The same mask, count and seed choose the same bits of another file. The words are as many as `count` bits take,
    whatever was found, so that one compiled program serves all layers.

    Raises:
        ValueError: if count is less than 1.
    """
    if count < 1:
        raise ValueError(f"count={count} bits are less than 1; give 1 or more")
    varying = np.flatnonzero(np.asarray(unpack(jnp.asarray(mask), codes.num_words * WORD)))
    chosen = np.sort(np.random.default_rng(seed).choice(varying, min(count, len(varying)), replace=False))
    num_words = -(-count // WORD)
    word, shift = chosen // WORD, (chosen % WORD).astype(np.uint32)
    sampled = np.zeros((codes.n, num_words), np.uint32)
    for start, words in codes.chunks():
        bits = ((words[:, word] >> shift) & 1).astype(np.uint8)
        packed = np.packbits(bits, axis=1, bitorder="little")
        sampled.view(np.uint8)[start : start + len(words), : packed.shape[1]] = packed
    return Code(jnp.asarray(sampled), len(chosen))


def nearest(train: CodeFile, test: CodeFile, *, k: int) -> tuple[Int32[np.ndarray, "m k"], Int32[np.ndarray, "m k"]]:
    """Distances and indices of the k nearest training codes of each test code, nearest first.

    Of training codes at the same distance the one with the smaller index counts as nearer.

    Cost: n * m * words xor-and-popcounts, and the training file is read once for each `rows_at_a_time` test codes.
    Memory: two chunks of `BYTES_AT_A_TIME`, as they are and turned on their side, and the distances between them.

    Raises:
        ValueError: if k is not in 1 ... n, or the files' codes differ in their words.
    """
    if not 1 <= k <= train.n:
        raise ValueError(f"k={k} neighbours of {train.n} training codes: k must be in 1 ... {train.n}")
    if train.num_words != test.num_words:
        raise ValueError(f"codes of {train.num_words} and of {test.num_words} words have no Hamming distance")
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for _, queries in test.chunks():
        turned = _tiles(jnp.asarray(_padded(queries, test.rows_at_a_time)), _QUERIES_A_TILE)
        rows = turned.shape[0] * _QUERIES_A_TILE
        best = jnp.full((rows, k), _FAR, jnp.int32), jnp.zeros((rows, k), jnp.int32)
        for start, words in train.chunks():
            padded = _padded(words, train.rows_at_a_time)
            best = _nearer(best, turned, jnp.asarray(padded), start, len(words))
        found.append((np.asarray(best[0])[: len(queries)], np.asarray(best[1])[: len(queries)]))
    distances, indices = zip(*found, strict=True)
    return np.concatenate(distances), np.concatenate(indices)


def knn_predict(
    train: CodeFile, train_labels: Int[np.ndarray, " n"], test: CodeFile, *, k: int, num_classes: int
) -> Int32[np.ndarray, " m"]:
    """The label that most of the k nearest training codes have; of equally frequent labels the smallest.

    Raises:
        ValueError: as `nearest` does.
    """
    labels = np.asarray(train_labels)[nearest(train, test, k=k)[1]]
    votes = (labels[..., None] == np.arange(num_classes)).sum(1)
    return votes.argmax(1).astype(np.int32)


def measure(
    key: Key[Array, ""],
    train: CodeFile,
    train_labels: Int[np.ndarray, " train"],
    test: CodeFile,
    test_labels: Int[np.ndarray, " test"],
    *,
    num_classes: int,
    sampled_bits: int = SAMPLED_BITS,
    assignment: Assignment = "optimal",
) -> Properties:
    """`properties.measure` for codes in files: redundancy and k-NN of all bits, the others of a sample.

    Args:
        key: decides the K-Means seedings and which bits are sampled.
        train: codes of the training examples, which k-NN and logistic regression are fitted on.
        test: codes of the test examples.
        num_classes: number of classes, and of clusters.
        sampled_bits: how many of the bits that vary K-Means and logistic regression see.
        assignment: how clusters get their labels.
    """
    train_key, test_key, bits_key = jax.random.split(key, 3)
    seed = int(jax.random.bits(bits_key))
    mask = varying_bits(train, test)
    some_train, some_test = (sample_bits(codes, mask, sampled_bits, seed).words for codes in (train, test))
    train_y, test_y = jnp.asarray(train_labels, jnp.int32), jnp.asarray(test_labels, jnp.int32)

    def clusters(key: Array, words: Array, labels: Array) -> float:
        found = kmeans(key, words, num_classes, restarts=RESTARTS)
        return float(cluster_accuracy(found.labels, labels, num_classes, assignment=assignment))

    neighbours = knn_predict(train, train_labels, test, k=min(NEIGHBOURS, train.n), num_classes=num_classes)
    return Properties(
        train_redundancy=redundancy_ratio(train),
        test_redundancy=redundancy_ratio(test),
        train_kmeans_accuracy=clusters(train_key, some_train, train_y),
        test_kmeans_accuracy=clusters(test_key, some_test, test_y),
        knn_accuracy=float((neighbours == np.asarray(test_labels)).mean()),
        logistic_accuracy=float(logistic_accuracy(some_train, train_y, some_test, test_y, num_classes=num_classes)),
    )


@jax.jit
def _fingerprints(words: UInt32[Array, "rows words"]) -> UInt32[Array, "rows 2"]:
    """The fingerprint of some words is hashed in before the next ones, so that few operations serve any length."""
    size = min(words.shape[1], 30)
    padded = jnp.pad(words, ((0, 0), (0, -words.shape[1] % size)))
    blocks = padded.reshape(words.shape[0], -1, size).transpose(1, 0, 2)

    def add(prints: Array, block: Array) -> tuple[Array, None]:
        return fingerprint(jnp.concatenate([prints, block], axis=1), 0), None

    return jax.lax.scan(add, jnp.zeros((words.shape[0], 2), jnp.uint32), blocks)[0]


def _equal(codes: CodeFile, a: Int[np.ndarray, " pairs"], b: Int[np.ndarray, " pairs"]) -> np.ndarray:
    """Whether the codes of each pair of rows are the same."""
    size = codes.rows_at_a_time
    parts = [
        (codes.rows(a[start : start + size]) == codes.rows(b[start : start + size])).all(1)
        for start in range(0, len(a), size)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def _padded(words: UInt32[np.ndarray, "some words"], rows: int) -> UInt32[np.ndarray, "rows words"]:
    """Rows of zeros added, so that one program serves all chunks."""
    return np.pad(words, [(0, rows - len(words)), (0, 0)])


@partial(jax.jit, static_argnames="rows")
def _tiles(words: UInt32[Array, "n words"], rows: int) -> UInt32[Array, "tiles steps step rows"]:
    """Codes in tiles of some rows, word by word, a step's words together."""
    missing = -words.shape[0] % rows, -words.shape[1] % _WORDS_AT_A_TIME
    padded = jnp.pad(words, ((0, missing[0]), (0, missing[1])))
    return padded.reshape(-1, rows, padded.shape[1] // _WORDS_AT_A_TIME, _WORDS_AT_A_TIME).transpose(0, 2, 3, 1)


@jax.jit
def _nearer(
    best: tuple[Int[Array, "m k"], Int[Array, "m k"]],
    queries: UInt32[Array, "tiles steps step rows"],
    words: UInt32[Array, "n words"],
    start: Int[Array, ""] | int,
    count: Int[Array, ""] | int,
) -> tuple[Int[Array, "m k"], Int[Array, "m k"]]:
    """The nearest of those found so far and of the first `count` of these codes, whose indices begin at `start`."""
    k = best[0].shape[1]
    codes = _tiles(words, _CODES_A_TILE)
    index = jnp.arange(codes.shape[0] * _CODES_A_TILE, dtype=jnp.int32)

    def tile(tiles: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        some, distances, indices = tiles
        found = jax.lax.map(lambda others: _hamming(some, others), codes)
        found = found.transpose(1, 0, 2).reshape(some.shape[-1], -1)
        # top_k takes the first of equal distances: those found before have the smaller indices, and stand first.
        distances = jnp.concatenate([distances, jnp.where(index < count, found, _FAR)], axis=1)
        indices = jnp.concatenate([indices, jnp.broadcast_to(start + index, found.shape)], axis=1)
        nearness, column = jax.lax.top_k(-distances, k)
        return -nearness, jnp.take_along_axis(indices, column, 1)

    def cut(values: Array) -> Array:
        return values.reshape(-1, _QUERIES_A_TILE, k)

    distances, indices = jax.lax.map(tile, (queries, cut(best[0]), cut(best[1])))
    return distances.reshape(-1, k), indices.reshape(-1, k)


def _hamming(a: UInt32[Array, "steps step n"], b: UInt32[Array, "steps step m"]) -> Int[Array, "n m"]:
    """`codes.hamming` of long codes that lie word by word: distances are added up over blocks of words."""

    def add(distance: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        x, y = block
        ones = [jax.lax.population_count(x[word][:, None] ^ y[word][None]) for word in range(_WORDS_AT_A_TIME)]
        return distance + sum(ones[1:], ones[0]).astype(jnp.int32), None

    return jax.lax.scan(add, jnp.zeros((a.shape[-1], b.shape[-1]), jnp.int32), (a, b))[0]
