"""Encoding properties, one table: redundancy ratio, K-Means, k-NN and logistic regression accuracy of codes.

A property is a function of a `CodedData` and one line in `PROPERTIES`; what a sweep measures, saves, prints and draws
follows from the table. Many models are measured
in one program by `batched.py`. Definitions: He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv
2101.05490), section 3, and the authors' code for what the text leaves open.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from jaxhash.codes.code import WORD, Code, unpack
from jaxhash.codes.distinct import distinct, first_repeated, num_distinct, varying, without_constant
from jaxhash.codes.files import Codes, check_alike, check_labels, chunks
from jaxhash.codes.kmeans import cluster_hits, kmeans
from jaxhash.codes.logistic import logistic
from jaxhash.codes.neighbours import knn

NEIGHBOURS = 9
RESTARTS = 10
SAMPLED_BITS = 4096
"""K-Means and logistic regression see all bits that vary, or a random sample of so many."""

FEW_CODES = 4096
WORDS_TOGETHER = 4
"""The words of at most `FEW_CODES` training codes are filled up with zeros to a multiple of so many: compiling takes
far longer than measuring them, and codes of up to 128 bits then share all programs."""

_TRAIN_SEEDS, _TEST_SEEDS, _BITS = range(3)
"""What the key of a measurement is folded with: the seedings of K-Means on either side, and which bits are sampled."""

Assignment = Literal["optimal", "greedy"]


@dataclass(frozen=True, eq=False)
class CodedData:
    """Codes of training and test examples and their labels: what a property is a function of."""

    train: Codes
    train_labels: Int[Array, " train"]
    test: Codes
    test_labels: Int[Array, " test"]
    num_classes: int
    key: Key[Array, ""]
    """Decides the K-Means seedings, and which bits are sampled."""
    assignment: Assignment = "optimal"
    """How clusters get their labels: the best one-to-one, or the authors' greedy one."""
    count: Int[Array, ""] | int | None = None
    """The training examples are the first so many of those given; all of them if None. One program serves every count,
    so that a sweep over sample sizes compiles it once."""
    sampled_bits: int = SAMPLED_BITS
    capacity: int | None = None
    """Training examples that the largest class has at most; counted if None."""
    random: Codes | None = None
    """Codes of random inputs, if there are."""

    @property
    def num_train(self) -> Int[Array, ""] | int:
        """Training examples."""
        return self.train.n if self.count is None else self.count

    @cached_property
    def counted(self) -> Codes:
        """The training codes; those beyond `count` repeat the first."""
        if self.count is None or not isinstance(self.train, Code):
            return self.train
        return self.train.replace(words=first_repeated(self.train.words, self.count))

    @cached_property
    def varying(self) -> tuple[Code, Code]:
        """Training and test codes without the bits that are constant over both together, as the authors drop them: the
        same words with those bits 0, which no distance can see; of longer codes `sampled_bits` of the others.
        """
        train, test = self.counted, self.test
        if isinstance(train, Code) and isinstance(test, Code) and train.num_bits <= self.sampled_bits:
            words = without_constant(train.words, test.words)
            return train.replace(words=words[0]), test.replace(words=words[1])
        mask = varying(train, test)
        seed = int(jax.random.bits(jax.random.fold_in(self.key, _BITS)))
        some = [sample_bits(codes, np.asarray(mask), self.sampled_bits, seed) for codes in (train, test)]
        return some[0], some[1]


class Share(NamedTuple):
    """A share of examples, as whole numbers: divided on the host, where float64 is at hand."""

    hits: Int[Array, ""] | int
    of: Int[Array, ""] | int
    """0: there is no such share."""


class Property(NamedTuple):
    """A number that is measured of the codes of every model."""

    description: str
    function: Callable[[CodedData], Share | float | Float[Array, ""]]


def _redundancy(codes: Codes, n: Int[Array, ""] | int) -> Share:
    return Share(n - (num_distinct(codes.words) if isinstance(codes, Code) else distinct(codes)), n)


def _train_kmeans(data: CodedData) -> Share:
    seeds = jax.random.fold_in(data.key, _TRAIN_SEEDS)
    return _hits_of_clusters(data, seeds, data.varying[0], data.train_labels, data.count)


def _test_kmeans(data: CodedData) -> Share:
    seeds = jax.random.fold_in(data.key, _TEST_SEEDS)
    return _hits_of_clusters(data, seeds, data.varying[1], data.test_labels, None)


def _hits_of_clusters(
    data: CodedData, seeds: Key[Array, ""], codes: Code, labels: Array, count: Int[Array, ""] | int | None
) -> Share:
    if codes.n < data.num_classes:
        return Share(0, 0)  # fewer codes than clusters
    found = kmeans(seeds, codes, data.num_classes, restarts=RESTARTS, count=count)
    clusters = jnp.asarray(found.labels)
    hits = cluster_hits(clusters, labels, data.num_classes, assignment=data.assignment, count=count)
    return Share(hits, codes.n if count is None else jnp.where(jnp.asarray(count) < data.num_classes, 0, count))


def _knn(data: CodedData) -> Share:
    k = min(NEIGHBOURS, data.train.n)
    found = knn(data.train, data.train_labels, data.test, k=k, num_classes=data.num_classes, count=data.count)
    return Share((found == data.test_labels).sum(), data.test.n)


def _logistic(data: CodedData) -> Share:
    train, test = data.varying
    found = logistic(
        train, data.train_labels, test, num_classes=data.num_classes, count=data.count, capacity=data.capacity
    )
    return Share((found == data.test_labels).sum(), data.test.n)


def _of_random(data: CodedData) -> Share:
    return Share(0, 0) if data.random is None else _redundancy(data.random, data.random.n)


PROPERTIES: dict[str, Property] = {
    "train_redundancy": Property(
        "redundancy ratio of the training codes", lambda data: _redundancy(data.counted, data.num_train)
    ),
    "test_redundancy": Property("redundancy ratio of the test codes", lambda data: _redundancy(data.test, data.test.n)),
    "train_kmeans_accuracy": Property("K-Means accuracy on the training codes", _train_kmeans),
    "test_kmeans_accuracy": Property("K-Means accuracy on the test codes", _test_kmeans),
    "knn_accuracy": Property("9-NN accuracy on the test codes", _knn),
    "logistic_accuracy": Property("logistic regression accuracy on the test codes", _logistic),
}
"""What is measured of the codes of every model, each in [0, 1]. A line of your own makes one more."""

RANDOM = {"random_redundancy": Property("redundancy ratio of the codes of random inputs", _of_random)}
"""What is measured where there are such codes."""


def measure(
    train: Codes,
    train_labels: Int[Array, " train"] | Int[np.ndarray, " train"],
    test: Codes,
    test_labels: Int[Array, " test"] | Int[np.ndarray, " test"],
    *,
    key: Key[Array, ""] | None = None,
    num_classes: int | None = None,
    assignment: Assignment = "optimal",
    count: int | None = None,
    sampled_bits: int = SAMPLED_BITS,
    random: Codes | None = None,
    properties: Mapping[str, Property] = PROPERTIES,
) -> dict[str, float]:
    """All encoding properties of the codes of one model.

    K-Means runs on the training codes and on the test codes separately; k-NN and logistic regression are fitted on the
    training codes and scored on the test codes.

    Args:
        train: codes of the training examples, a `Code` or a `CodeFile`.
        train_labels: 0 ... num_classes - 1, one for each code.
        test: codes of the test examples.
        test_labels: their labels.
        key: decides the K-Means seedings, and which bits are sampled; `jax.random.key(0)` by default.
        num_classes: number of classes, and of clusters; by default the largest label and one.
        assignment: how clusters get their labels: the best one-to-one, or the authors' greedy one.
        count: the training examples are the first so many of those given (all by default; of codes in memory only). Of
            fewer than 9 training examples each votes in 9-NN; a class without any is never predicted.
        sampled_bits: of longer codes, K-Means and logistic regression see so many of the bits that vary.
        random: codes of random inputs, for properties that look at them.
        properties: what to measure: `PROPERTIES`, some of it, or properties of your own.

    Returns:
        The number of each property, by its name. The K-Means accuracy of fewer codes than classes is NaN.

    Raises:
        ValueError: if the codes have no bits, differ in their number, or labels are not one for each code.

    >>> bits = jnp.array([[True, False], [True, True], [False, False], [False, True]])
    >>> code, labels = Code.of(bits), jnp.array([1, 1, 0, 0])
    >>> found = measure(code, labels, code, labels)
    >>> found["train_redundancy"], found["logistic_accuracy"]
    (0.0, 1.0)
    """
    check_alike(train, test)
    if not train.num_bits:
        raise ValueError("the codes have no bits; `Code.skipped` says what gave none, and why")
    check_labels(train, train_labels, "training")
    check_labels(test, test_labels, "test")
    if num_classes is None:
        num_classes = int(max(np.max(train_labels), np.max(test_labels))) + 1
    # A file is left as it lies, and codes that are compared with it have its words.
    in_memory = isinstance(train, Code) and isinstance(test, Code)
    words = words_measured(train.n, train.num_words) if in_memory else train.num_words
    data = CodedData(
        _filled(train, words),
        jnp.asarray(train_labels, jnp.int32),
        _filled(test, words),
        jnp.asarray(test_labels, jnp.int32),
        num_classes,
        jax.random.key(0) if key is None else key,
        assignment,
        count,
        sampled_bits,
        random=random,
    )
    found: dict[str, Any] = {name: one.function(data) for name, one in properties.items()}
    there = jax.device_get(found)
    return {name: float(value(there[name])) for name in properties}


def value(found: Any) -> Any:
    """What a property gave as a float64 number, or an array of them; NaN for a share of nothing."""
    if not isinstance(found, Share):
        return np.asarray(found, np.float64)
    hits, of = np.asarray(found.hits, np.float64), np.asarray(found.of, np.float64)
    return np.where(of > 0, hits / np.maximum(of, 1), np.nan)


def words_measured(n: int, num_words: int) -> int:
    """Words of the codes that `measure` works on, given n training codes in memory of `num_words`.

    >>> words_measured(1000, 1), words_measured(48_000, 1)
    (4, 1)
    """
    return num_words if n > FEW_CODES else -(-num_words // WORDS_TOGETHER) * WORDS_TOGETHER


def sample_bits(codes: Codes, mask: UInt32[np.ndarray, " words"], count: int, seed: int) -> Code:
    """`count` of the bits in a mask, drawn without replacement, as codes in memory; all of them if they are fewer.

    The same mask, count and seed choose the same bits of another file. The words are as many as `count` bits take,
    whatever was found, so that one compiled program serves all layers.

    Raises:
        ValueError: if count is less than 1.
    """
    if count < 1:
        raise ValueError(f"count={count} bits are less than 1; give 1 or more")
    there = np.flatnonzero(np.asarray(unpack(jnp.asarray(mask), codes.num_words * WORD)))
    chosen = np.sort(np.random.default_rng(seed).choice(there, min(count, len(there)), replace=False))
    word, shift = chosen // WORD, (chosen % WORD).astype(np.uint32)
    sampled = np.zeros((codes.n, -(-count // WORD)), np.uint32)
    for start, words in chunks(codes):
        bits = ((words[:, word] >> shift) & 1).astype(np.uint8)
        packed = np.packbits(bits, axis=1, bitorder="little")
        sampled.view(np.uint8)[start : start + len(words), : packed.shape[1]] = packed
    return Code(jnp.asarray(sampled), len(chosen))


def _filled(codes: Codes, num_words: int) -> Codes:
    """Codes in memory with words of zeros after theirs; on the host, where that needs no program."""
    if not isinstance(codes, Code) or codes.num_words == num_words:
        return codes
    words = np.pad(codes.rows(slice(None)), ((0, 0), (0, num_words - codes.num_words)))
    # To where they were: a program is compiled again for arrays that were put nowhere.
    there = codes.words.sharding if isinstance(codes.words, jax.Array) and codes.words.committed else None
    return codes.replace(words=jax.device_put(words, there))
