"""How the cost of a hash depends on how many keys are hashed at a time: 1 ... 1,000,000."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from bench.words import fresh, in_order
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.perfect.hasher import Hasher
from jaxhash.plots import style as plots

SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
MORE_SIZES = (3, 30, 300, 3_000, 30_000, 300_000)
KEYS_A_ROUND = 20_000
"""Keys hashed in one measurement of small batches, as a loop over batches; at most `BATCHES_A_ROUND` of them."""
BATCHES_A_ROUND = 200

PYTHON, DICTIONARY = "Python's hash", "dict look-up"
END_TO_END, TOKENISED, DEVICE = "list[str] in, array out", "from tokens in memory", "tokens on the device"


@dataclass(frozen=True)
class _Way:
    """One line of the figure."""

    run: Callable[[Any], Any]
    batch: Callable[[list[str]], Any]
    """What `run` takes, from a batch of words; not timed."""


def measure(
    hasher: Hasher,
    words: Sequence[str],
    table: dict[str, int],
    sizes: Sequence[int],
    rounds: int,
    report: Callable[[str], None],
) -> dict[str, dict[int, list[float]]]:
    """Seconds a call by way and batch size, each the mean over the calls of a round; new `str` objects every round.

    Args:
        hasher: ours, of the whole dictionary.
        words: taken again from the start where a batch wants more.
        table: a dictionary with all words.
        sizes: keys a call.
        rounds: measurements of each, the ways in turn.
        report: is told what comes next.
    """
    num_bins = hasher.num_bins
    width = -(-max(len(word.encode()) for word in words) // 4) * 4

    def tokens(some: list[str]) -> Tokens:
        return tokenize(some, width)

    def on_device(some: list[str]) -> Tokens:
        return Tokens(*map(jnp.asarray, tokens(some)))

    ways = {
        PYTHON: _Way(lambda some: [hash(word) % num_bins for word in some], list),
        DICTIONARY: _Way(lambda some: [table[word] for word in some], list),
        END_TO_END: _Way(lambda some: np.asarray(hasher(some)), list),
        TOKENISED: _Way(lambda some: np.asarray(hasher(some)), tokens),
        DEVICE: _Way(lambda some: jax.block_until_ready(hasher(some)), on_device),
    }
    seconds: dict[str, dict[int, list[float]]] = {name: {size: [] for size in sizes} for name in ways}
    for size in sizes:
        report(f"{size:,} keys at a time")
        count = min(max(KEYS_A_ROUND // size, 1), BATCHES_A_ROUND)
        source = fresh(list(islice(cycle(words), size * count)))
        for way in ways.values():
            way.run(way.batch(in_order(source)[:size]))  # compiles
        for _ in range(rounds):
            for name, way in ways.items():
                made = in_order(source)
                batches = [way.batch(made[i * size : (i + 1) * size]) for i in range(count)]
                jax.block_until_ready(batches)
                gc.disable()
                start = time.perf_counter()
                for batch in batches:
                    way.run(batch)
                seconds[name][size].append((time.perf_counter() - start) / count)
                gc.enable()
    return seconds


def figure(seconds: dict[str, dict[int, list[float]]], title: str) -> Figure:
    """Throughput against batch size, both on logarithmic axes."""
    styles = {
        END_TO_END: (plots.BLUE, "o", "-"),
        TOKENISED: (plots.GREEN, "^", "-"),
        DEVICE: (plots.PURPLE, "s", "-"),
        PYTHON: (plots.ORANGE, "v", "--"),
        DICTIONARY: (plots.GREY, "D", ":"),
    }
    chart = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = chart.subplots()
    for name, (colour, marker, style) in styles.items():
        sizes = sorted(seconds[name])
        rate = [size / float(np.median(seconds[name][size])) for size in sizes]
        label = name if name in (PYTHON, DICTIONARY) else f"jaxhash: {name}"
        axes.loglog(sizes, rate, style, color=colour, marker=marker, markersize=4, label=label)
    axes.set(xlabel="keys in a call", ylabel="keys per second", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return chart
