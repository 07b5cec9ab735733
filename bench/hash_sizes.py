"""Cost of a hash by the number of keys in a call, 1 ... 1,000,000: part of the hash benchmark."""

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from bench import harness
from bench.data import renewed
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.perfect.hasher import Hasher
from jaxhash.plots import style

SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
MORE_SIZES = (3, 30, 300, 3_000, 30_000, 300_000)
KEYS_A_ROUND = 20_000
"""Keys hashed in one measurement of small batches, as a loop over batches; at most `BATCHES_A_ROUND` of them."""
BATCHES_A_ROUND = 200

PYTHON, DICTIONARY = "Python's hash", "dict look-up"
END_TO_END, TOKENISED, DEVICE = "list[str] in, array out", "from tokens in memory", "tokens on the device"


def measure(
    hasher: Hasher, words: Sequence[str], table: dict[str, int], sizes: Sequence[int], rounds: int
) -> dict[str, dict[int, list[float]]]:
    """Seconds a call by way and batch size, each the mean over the calls of a round; new `str` objects every round.

    Args:
        hasher: ours, of the whole dictionary.
        words: taken again from the start where a batch wants more.
        table: a dictionary with all words.
        sizes: keys a call.
        rounds: measurements of each, the ways in turn.
    """
    width = -(-max(len(word.encode()) for word in words) // 4) * 4

    def tokens(some: list[str]) -> Tokens:
        return tokenize(some, width)

    # What is timed, and what makes its argument of a batch of words.
    ways: dict[str, tuple[Callable[[Any], Any], Callable[[list[str]], Any]]] = {
        PYTHON: (lambda some: [hash(word) % hasher.num_bins for word in some], list),
        DICTIONARY: (lambda some: [table[word] for word in some], list),
        END_TO_END: (lambda some: np.asarray(hasher(some)), list),
        TOKENISED: (lambda some: np.asarray(hasher(some)), tokens),
        DEVICE: (
            lambda some: jax.block_until_ready(hasher(some)),
            lambda some: jax.block_until_ready(Tokens(*map(jnp.asarray, tokens(some)))),
        ),
    }
    seconds: dict[str, dict[int, list[float]]] = {name: {} for name in ways}
    for size in sizes:
        count = min(max(KEYS_A_ROUND // size, 1), BATCHES_A_ROUND)
        made, _ = renewed(list(islice(cycle(words), size * count)))
        works = {
            (name, f"{size:,} keys at a time"): harness.Work(_loop(run), _batches(made, batch, size))
            for name, (run, batch) in ways.items()
        }
        for run, batch in ways.values():
            run(batch(made()[:size]))  # compiles
        for (name, _), some in harness.interleaved(works, rounds, keep=False)[0].items():
            seconds[name][size] = [took / count for took in some]
    return seconds


def _loop(run: Callable[[Any], Any]) -> Callable[[list[Any]], None]:
    def over(batches: list[Any]) -> None:
        for batch in batches:
            run(batch)

    return over


def _batches(made: Callable[[], list[str]], batch: Callable[[list[str]], Any], size: int) -> Callable[[], list[Any]]:
    def new() -> list[Any]:
        words = made()
        return [batch(words[start : start + size]) for start in range(0, len(words), size)]

    return new


def figure(seconds: dict[str, dict[int, list[float]]], title: str) -> Figure:
    """Throughput against batch size, both on logarithmic axes."""
    styles = {
        END_TO_END: (style.BLUE, "o", "-"),
        TOKENISED: (style.GREEN, "^", "-"),
        DEVICE: (style.PURPLE, "s", "-"),
        PYTHON: (style.ORANGE, "v", "--"),
        DICTIONARY: (style.GREY, "D", ":"),
    }
    chart = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = chart.subplots()
    for name, (colour, marker, line) in styles.items():
        sizes = sorted(seconds[name])
        rate = [size / float(np.median(seconds[name][size])) for size in sizes]
        label = name if name in (PYTHON, DICTIONARY) else f"jaxhash: {name}"
        axes.loglog(sizes, rate, line, color=colour, marker=marker, markersize=4, label=label)
    axes.set(xlabel="keys in a call", ylabel="keys per second", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return chart
