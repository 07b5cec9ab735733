"""Peers of the hash benchmark, each checked: `hash`, `dict`, xxhash, phobic, bbhash, the study's policy.

A function here makes a peer and ends the benchmark where its answers are wrong (`harness.checked`). It returns None
where the package is missing.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench import harness
from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.runtime.devices import cores

HIDDEN = 300
TORCH_BATCH = 10_000
# The densest that phobic 0.4 built for the dictionary; with a load factor of 1 or 0.99 it gave up after a minute.
PHOBIC = {"load_factor": 0.95, "bucket_size": 6, "seed": 1}
GAMMA = 2.0
"""Bits a key of bbhash's first level, as its authors have it; with 1 it is smaller and slower."""
A_FEW = 100
"""Words whose answers are worked out a second way."""
XXH3_OF_NOTHING = 0x2D06800538D394C2
"""The digest of the empty key in the test vectors of XXH3, 64 bits, seed 0."""
NEAR = 1e-4
"""Two logits of the study's policy that are closer are equal but for rounding."""


class Peer(NamedTuple):
    """A hash function to compare with."""

    of_words: Callable[[list[str]], Any]
    agreement: str | None = None
    """What was checked of its answers."""
    of_tokens: Callable[[Tokens], np.ndarray] | None = None
    bits_per_key: float | None = None
    build_seconds: float | None = None


def python_loop(num_bins: int) -> Peer:
    """Python's `hash`, as one would write it."""
    return Peer(lambda words: [hash(word) % num_bins for word in words])


def numpy_map(num_bins: int, words: list[str]) -> Peer:
    """Python's `hash` with the work of ours: a list goes in, an array comes out."""

    def run(some: list[str]) -> np.ndarray:
        return _hashes(some) % num_bins

    same = run(words).tolist() == python_loop(num_bins).of_words(words)
    return Peer(run, harness.checked(same, f"Python's hash: list and map into NumPy agree on {len(words):,} words"))


def dict_lookup(table: dict[str, int], words: list[str]) -> Peer:
    """The number of each word from a dictionary that has all in their order."""

    def run(some: list[str]) -> list[int]:
        return [table[word] for word in some]

    keys = list(table)
    right = [keys[i] for i in run(words)] == words
    return Peer(run, harness.checked(right, f"dict look-up: the number of each of {len(words):,} words is its own"))


def xxhash_loop(num_bins: int, words: list[str]) -> Peer | None:
    """XXH3 of each word, through the package a Python user would take."""
    if (xxhash := harness.peer("xxhash")) is None:
        return None
    digest = xxhash.xxh3_64_intdigest

    def run(some: list[str]) -> list[int]:
        return [digest(word.encode()) % num_bins for word in some]

    def byte_by_byte(word: str) -> int:
        state = xxhash.xxh3_64()
        for byte in word.encode():
            state.update(bytes([byte]))
        return int.from_bytes(state.digest(), "big") % num_bins

    bins, few = run(words), words[:A_FEW]
    right = digest(b"") == XXH3_OF_NOTHING and bins == run(words) and bins[: len(few)] == list(map(byte_by_byte, few))
    sentence = f"xxhash: the published digest of no bytes, the same bins of {len(words):,} words twice"
    return Peer(run, harness.checked(right, f"{sentence}, and of {len(few)} fed byte by byte"))


def phobic(keys: list[str], rows: Tokens, asked: Tokens) -> Peer | None:
    """PHOBIC (Hermann et al., ESA 2024) in C: one function of words, one of rows of characters.

    Args:
        keys: all that the functions are built from.
        rows: the same keys as rows.
        asked: the rows that the second function is asked for; must be some of `rows`.
    """
    if (package := harness.peer("phobic")) is None:
        return None
    as_bytes = [row.tobytes() for row in np.asarray(rows.characters)]
    seconds, of_words = harness.timed(lambda: package.build(keys, **PHOBIC))
    of_rows = package.build(as_bytes, **PHOBIC)
    known = {row.tobytes() for row in np.asarray(asked.characters)} <= set(as_bytes)
    right = (
        known
        and _distinct(of_words.lookup(keys), of_words.range_size, len(keys))
        and _distinct(of_rows.lookup_fixed(rows.characters), of_rows.range_size, len(keys))
    )
    sentence = f"phobic: a slot of its own in range for each of {len(keys):,} words, and for each of their rows"
    return Peer(
        of_words.lookup,
        harness.checked(right, f"{sentence}; all {len(asked.characters):,} rows asked for are among these"),
        lambda some: of_rows.lookup_fixed(some.characters),
        of_words.bits_per_key,
        seconds,
    )


def bbhash(keys: list[str]) -> Peer | None:
    """BBHash (Limasset et al., SEA 2017) in C++: a minimal perfect hash of integers, here Python's hashes of the words.

    Python salts its hash anew in each process, and the function is of this one only. Any other hash takes longer.
    """
    if (package := harness.peer("bbhash")) is None:
        return None

    def build() -> Any:
        return package.PyMPHF(_hashes(keys).view(np.uint64).tolist(), len(keys), cores(), GAMMA)

    seconds, function = harness.timed(build)

    def run(some: list[str]) -> np.ndarray:
        return function.lookup_many(_hashes(some).view(np.uint64))

    sentence = f"bbhash: each of {len(keys):,} words has a slot of its own, and there are no more slots"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "function")
        function.save(path)
        bits = 8 * os.path.getsize(path) / len(keys)
    right = _distinct(run(keys), len(keys), len(keys))
    return Peer(run, harness.checked(right, sentence), None, bits, seconds)


def study_policy(num_bins: int, keys: list[str]) -> Peer | None:
    """The study's policy in plain PyTorch: one-hot characters, two layers of 300, argmax over the bins.

    Source: "Neural Hash Functions" (A. Museth), as in Figure 6; the weights are as drawn, which costs the same.
    """
    if (torch := harness.peer("torch")) is None:
        return None
    longest = max(map(len, keys))
    place = {character: i for i, character in enumerate(sorted(set("".join(keys))), 1)}
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(longest * (len(place) + 1), HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, num_bins),
    )

    def run(some: list[str]) -> np.ndarray:
        bins = []
        with torch.inference_mode():
            for start in range(0, len(some), TORCH_BATCH):
                rows = [
                    [place[c] for c in word] + [0] * (longest - len(word)) for word in some[start : start + TORCH_BATCH]
                ]
                one_hot = torch.nn.functional.one_hot(torch.tensor(rows), len(place) + 1)
                bins.append(net(one_hot.flatten(1).float()).argmax(1))
        return torch.cat(bins).numpy()

    few = keys[:A_FEW]
    w1, b1, w2, b2, w3, b3 = (weight.detach().numpy().astype(np.float64) for weight in net.parameters())
    inputs = [[i * (len(place) + 1) + (place[w[i]] if i < len(w) else 0) for i in range(longest)] for w in few]
    hidden = np.maximum(w1.T[inputs].sum(1) + b1, 0)
    logits = np.maximum(hidden @ w2.T + b2, 0) @ w3.T + b3
    largest = bool((logits[np.arange(len(few)), run(few)] >= logits.max(1) - NEAR).all())
    sentence = f"study's policy: the bins of {len(few)} words have the largest logits of a NumPy forward pass"
    return Peer(run, harness.checked(largest, sentence))


def _hashes(words: list[str]) -> np.ndarray:
    return np.fromiter(map(hash, words), np.int64, len(words))


def _distinct(slots: Sequence[int] | np.ndarray, stop: int, count: int) -> bool:
    """Whether there are so many slots, all different, from 0 up to `stop`."""
    slots = np.asarray(slots)
    return len(slots) == len(np.unique(slots)) == count and slots.min() >= 0 and slots.max() < stop
