"""Data of the benchmarks: MNIST, CIFAR-10, the words of the hash study, and codes with planted copies."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jaxhash import codes
from jaxhash.codes import CodeFile, Layer
from jaxhash.data import DataError, Dataset, load
from jaxhash.hashing.keys.words import load_keys

STUDY_WORDS = 466_551
"""Words of the study's dictionary; as many are derived where it cannot be had."""
NEAR = 256
"""Bytes: room for a few words."""
MOST_GAPS = 4
"""Times that words are made to fill gaps in memory. Words of very different lengths never lie one after another."""


def mnist(data_dir: str | None) -> tuple[Dataset, str]:
    """MNIST and its name; without the files and without a network, random pixels and labels of the same shapes."""
    return _or_random("mnist", "MNIST", data_dir, 784, (48_000, 12_000, 10_000))


def cifar10(data_dir: str | None) -> tuple[Dataset, str]:
    """The same of CIFAR-10."""
    return _or_random("cifar10", "CIFAR-10", data_dir, 3072, (40_000, 10_000, 10_000))


def random_pixels(features: int, sizes: tuple[int, int, int]) -> tuple[Dataset, str]:
    """Random pixels and labels of 10 classes, so many for training, validation and test."""
    rng = np.random.default_rng(0)
    x = [rng.random((n, features), np.float32) for n in sizes]
    y = [rng.integers(0, 10, len(part)).astype(np.int32) for part in x]
    return Dataset("random pixels", x[0], y[0], x[1], y[1], x[2], y[2], 10), "random pixels"


def _or_random(
    name: str, called: str, data_dir: str | None, features: int, sizes: tuple[int, int, int]
) -> tuple[Dataset, str]:
    try:
        return load(name, data_dir), called
    except DataError:
        return random_pixels(features, sizes)


def dictionary() -> tuple[list[str], str]:
    """The study's words and what to call them; without the file and without a network, derived ones."""
    try:
        return [word.decode() for word in load_keys("dwyl")], "dwyl dictionary"
    except DataError:
        return derived(STUDY_WORDS), "pairs of the embedded words"


def derived(count: int) -> list[str]:
    """So many different words: the embedded ones, then two of them at a time with a hyphen between."""
    base = [word.decode() for word in load_keys("english")]
    words, step = list(base), 1
    while len(words) < count:
        words += [f"{base[i]}-{base[(i + step) % len(base)]}" for i in range(len(base))]
        step += 1
    return words[:count]


def renewed(words: Sequence[str], seed: int = 0) -> tuple[Callable[[], list[str]], Callable[[], list[str]]]:
    """Two functions that make the words as new `str` objects, whose hash nobody has asked for yet.

    The first makes them one after another, so that neighbours in the list are neighbours in memory. Those of the second
    lie in memory in an order of their own, as in a list long in use. No word may hold a line end.

    Where memory has gaps of words that were freed, new ones are put there, and reading them takes longer, one time
    and not the next. So words are made until they lie one after another, a few times at most: those before
    fill the gaps.
    """
    order = random.Random(seed).sample(range(len(words)), len(words))
    ranks = np.argsort(order).tolist()
    sequential, scattered = "\n".join(words), "\n".join([words[i] for i in order])

    def in_memory_order(text: str) -> list[str]:
        before = [text.split("\n")]
        while not _neighbours(before[-1]) and len(before) <= MOST_GAPS:
            before.append(text.split("\n"))
        return before[-1]

    def at_random() -> list[str]:
        made = in_memory_order(scattered)
        return [made[rank] for rank in ranks]

    return partial(in_memory_order, sequential), at_random


def _neighbours(words: list[str]) -> bool:
    """Whether nine words in ten lie right behind the one before them in memory."""
    apart = np.diff(np.fromiter(map(id, words), np.int64, len(words)))
    return bool(((apart > 0) & (apart < NEAR)).sum() >= 0.9 * len(apart))


def write_codes(
    path: Path, n: int, bits: int, *, classes: int, copies: int = 0, halvings: int = 3, seed: int = 0
) -> tuple[CodeFile, np.ndarray]:
    """Codes around a random centre a class, in a file, and the class of each.

    Args:
        path: of the file, ends in .npy.
        n: codes.
        bits: of a code.
        classes: their centres are the same whatever the seed.
        copies: the last so many codes are copies of the first.
        halvings: one bit in 2 ** halvings differs from the centre's.
        seed: of classes and noise.
    """
    num_words = -(-bits // 32)
    keep = np.full(num_words, 0xFFFFFFFF, np.uint32)
    keep[-1] >>= np.uint32(num_words * 32 - bits)
    centres = np.random.default_rng(0).integers(0, 2**32, (classes, num_words), dtype=np.uint32)
    labels = np.random.default_rng((seed, 0)).integers(0, classes, n).astype(np.int32)
    labels[n - copies :] = labels[:copies]
    rows = max(2**24 // (4 * num_words), 1)

    def draw(start: int, stop: int) -> np.ndarray:
        """Rows that are the same whenever they are drawn from the same start."""
        shape = (stop - start, halvings, num_words)
        noise = np.random.default_rng((seed, 1, start)).integers(0, 2**32, shape, dtype=np.uint32)
        return (centres[labels[start:stop]] ^ np.bitwise_and.reduce(noise, axis=1)) & keep

    with codes.writing(path, n, bits, [Layer("all", 0, bits, (bits,))]) as append:
        for end in (n - copies, copies):
            for start in range(0, end, rows):
                append(draw(start, min(start + rows, end)))
    return codes.load(path), labels
