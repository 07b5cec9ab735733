"""Peers of the hash benchmark: `hash`, `dict`, xxhash, phobic, the study's policy; None where a package is missing."""

from collections.abc import Callable, Sequence

import numpy as np

from bench import harness
from jaxhash.hashing.keys.tokens import Tokens

HIDDEN = 300
TORCH_BATCH = 10_000
# The densest that phobic 0.4 built for the dictionary; with a load factor of 1 or 0.99 it gave up after a minute.
PHOBIC = {"load_factor": 0.95, "bucket_size": 6, "seed": 1}


def xxhash_loop(num_bins: int) -> Callable[[Sequence[str]], list[int]] | None:
    """XXH3 of each word, through the package a Python user would take."""
    if (xxhash := harness.peer("xxhash")) is None:
        return None
    digest = xxhash.xxh3_64_intdigest
    return lambda words: [digest(word.encode()) % num_bins for word in words]


def study_policy(words: Sequence[str], num_bins: int) -> Callable[[Sequence[str]], np.ndarray] | None:
    """The study's policy in plain PyTorch: one-hot characters, two layers of 300, argmax over the bins.

    Source: "Neural Hash Functions" (A. Museth), as in Figure 6; the weights are as drawn, which costs the same.
    """
    if (torch := harness.peer("torch")) is None:
        return None
    longest = max(map(len, words))
    place = {character: i for i, character in enumerate(sorted(set("".join(words))), 1)}
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(longest * (len(place) + 1), HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, num_bins),
    )

    def run(some: Sequence[str]) -> np.ndarray:
        bins = []
        with torch.inference_mode():
            for start in range(0, len(some), TORCH_BATCH):
                rows = [
                    [place[c] for c in word] + [0] * (longest - len(word)) for word in some[start : start + TORCH_BATCH]
                ]
                one_hot = torch.nn.functional.one_hot(torch.tensor(rows), len(place) + 1)
                bins.append(net(one_hot.flatten(1).float()).argmax(1))
        return torch.cat(bins).numpy()

    return run


def phobic(
    words: Sequence[str], tokens: Tokens
) -> tuple[Callable[[Sequence[str]], list[int]], Callable[[Tokens], np.ndarray], float] | None:
    """PHOBIC (Hermann et al., ESA 2024) in C: the slots of words, those of rows of as many characters; bits a key."""
    if (package := harness.peer("phobic")) is None:
        return None
    of_words = package.build(words, **PHOBIC)
    of_rows = package.build([row.tobytes() for row in np.asarray(tokens.characters)], **PHOBIC)
    return of_words.lookup, lambda some: of_rows.lookup_fixed(some.characters), of_words.bits_per_key
