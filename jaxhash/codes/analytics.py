"""Encoding properties of codes in files, in bounded memory: distinct codes, k-NN, K-Means, logistic regression.

Distinct codes and k nearest neighbours are exact and use every bit. K-Means and logistic regression work on unpacked
numbers, 32 times the size; they are given a random sample of the bits that vary (`sample_bits`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, Key, UInt32, UInt64

from jaxhash.codes.code import WORD, Code, fingerprint, unpack
from jaxhash.codes.files import CodeRows
from jaxhash.codes.kmeans import cluster_accuracy, kmeans
from jaxhash.codes.logistic import logistic_accuracy
from jaxhash.codes.neighbours import nearest
from jaxhash.codes.properties import NEIGHBOURS, RESTARTS, Assignment, Properties

SAMPLED_BITS = 1024
"""Bits that K-Means and logistic regression see: 4 KB an example as float32."""


_WORDS_AT_A_TIME = 32
"""That go into a fingerprint in one piece of compiled code."""


def fingerprints(codes: CodeRows) -> UInt64[np.ndarray, " n"]:
    """64 bits of each code that equal codes share, and different ones with probability about words / 30 * 2^-64.

    Cost: one pass over the file. Memory: `BYTES_AT_A_TIME` of it, a few times.
    """
    rows = codes.rows_at_a_time
    found = [np.asarray(_fingerprints(jnp.asarray(_padded(words, rows))))[: len(words)] for _, words in codes.chunks()]
    return np.concatenate([np.zeros((0, 2), np.uint32), *found]).view(np.uint64)[:, 0]


class Groups(NamedTuple):
    """Codes that are the same belong to one group; groups are numbered by their first codes, in order."""

    group: Int32[np.ndarray, " n"]
    """The group of each code. `np.flatnonzero(group == g)` are the codes of group g."""
    first: Int32[np.ndarray, " groups"]
    """The first code of each group."""
    sizes: Int32[np.ndarray, " groups"]
    """How many codes are the same."""


def groups(codes: CodeRows) -> Groups:
    """Which codes are the same, exactly: codes of equal fingerprint are compared in full.

    Cost: one pass over the file, a sort of the fingerprints, and all codes but the first of a group are read again.
    Memory: as `fingerprints`, and some 60 bytes a code.
    """
    prints = fingerprints(codes)
    representative = np.arange(codes.n)
    pending = representative
    while pending.size:
        # The first code of each fingerprint stands for those that are equal to it; the others come again.
        _, first, group = np.unique(prints[pending], return_index=True, return_inverse=True)
        rest = np.ones(len(pending), bool)
        rest[first] = False
        others, representatives = pending[rest], pending[first][group[rest]]
        same = _equal(codes, others, representatives)
        representative[others[same]] = representatives[same]
        pending = others[~same]
    is_first = representative == np.arange(codes.n)
    number = np.cumsum(is_first, dtype=np.int32) - 1
    index = number[representative]
    return Groups(index, np.flatnonzero(is_first).astype(np.int32), np.bincount(index).astype(np.int32))


def num_distinct(codes: CodeRows) -> int:
    """Number of different codes, exactly; costs what `groups` does."""
    return len(groups(codes).first)


def redundancy_ratio(codes: CodeRows) -> float:
    """(n - number of distinct codes) / n; 0 when every example has a code of its own."""
    return (codes.n - num_distinct(codes)) / codes.n


def varying_bits(*files: CodeRows) -> UInt32[np.ndarray, " words"]:
    """A mask of the bits that are not the same in all codes of all the files together. One pass over each."""
    first = files[0].rows(slice(0, 1))
    mask = np.zeros(files[0].num_words, np.uint32)
    for file in files:
        for _, words in file.chunks():
            mask |= np.bitwise_or.reduce(words ^ first, axis=0)
    return mask


def sample_bits(codes: CodeRows, mask: UInt32[np.ndarray, " words"], count: int, seed: int) -> Code:
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


def knn_predict(
    train: CodeRows, train_labels: Int[np.ndarray, " n"], test: CodeRows, *, k: int, num_classes: int
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
    train: CodeRows,
    train_labels: Int[np.ndarray, " train"],
    test: CodeRows,
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
    num_words = words.shape[1]
    size = min(num_words, _WORDS_AT_A_TIME)
    whole = num_words // size

    def add(prints: Array, block: Array) -> Array:
        return fingerprint(jnp.concatenate([prints, block], axis=1), 0)

    def some(i: Array, prints: Array) -> Array:
        return add(prints, jax.lax.dynamic_slice_in_dim(words, i * size, size, axis=1))

    prints = jax.lax.fori_loop(0, whole, some, jnp.zeros((words.shape[0], 2), jnp.uint32))
    return add(prints, words[:, whole * size :]) if num_words % size else prints


def _equal(codes: CodeRows, a: Int[np.ndarray, " pairs"], b: Int[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
    """Whether the codes of each pair of rows are the same."""
    size = codes.rows_at_a_time
    parts = [
        (codes.rows(a[start : start + size]) == codes.rows(b[start : start + size])).all(1)
        for start in range(0, len(a), size)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def _padded(words: UInt32[np.ndarray, "some words"], rows: int) -> UInt32[np.ndarray, "rows words"]:
    """Rows of zeros added, so that one program serves all chunks."""
    return words if len(words) == rows else np.pad(words, [(0, rows - len(words)), (0, 0)])
