"""Is the neural hash as fast as Python's own?

Hashes the same 300,000 words of the study's dictionary with Python's `hash`, xxhash, a `dict`, a compiled perfect hash,
the study's policy in PyTorch, and our hashers of 1,000 words and of the whole dictionary, turn by turn in one run.
Prints nanoseconds a word and ratios, and draws throughput against batch size.

    python -m bench.hash_throughput            # about 3 minutes on 2 cores
    python -m bench.hash_throughput --quick    # under two minutes

Where the words come from makes a difference, so it is told apart:

    in order    new `str` objects made one after another, hash not known yet
    at random   the same, scattered over memory, as in a list long in use
    cached      in order, the same `str` objects again: CPython keeps the hash of a `str` once it was asked for
    tokens      NumPy arrays of characters and lengths (`keys.tokenize`); the bins come back as a NumPy array
    device      tokens on the default device; the bins stay there
"""

import gc
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench import hash_peers, hash_sizes, machine
from bench.words import at_random, dictionary, fresh, in_order
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.hasher import Hasher
from jaxhash.plots import style

FEW_BINS = 1_000
"""Bins of the study's table, and keys of the small hasher."""
IN_ORDER, AT_RANDOM, CACHED, TOKENS, DEVICE = "in order", "at random", "cached", "tokens", "device"
PYTHON = "Python's hash"
SMALL, WHOLE = f"jaxhash latent, {FEW_BINS:,} bins", "jaxhash latent, dictionary"
"""The hashers that the ratios of the JSON object are about; latents are the fastest to read."""
TRAINED = "jaxhash sharded, dictionary"
LATENCIES = (1, 10, 100, 1_000)


@dataclass(frozen=True)
class Config:
    """Measure the throughput of neural hash functions against Python's hash."""

    quick: bool = False
    """Fewer rounds, batch sizes and words for PyTorch: under two minutes on 2 cores, and less exact."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    words: int = 300_000
    """Words hashed in a round, drawn from the dictionary."""
    dictionary: int | None = None
    """Words of the dictionary that the perfect hash is of (default: all)."""
    largest_batch: int = 1_000_000
    """Batch sizes 1, 10, ... up to this are measured for the figure."""
    peers: bool = True
    """Measure xxhash, phobic and PyTorch too."""
    out: Path = Path("runs/hash_throughput")
    """Folder for the figure."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    form: str
    run: Callable[[Any], Any]
    share: float = 1.0
    """Part of the words that a run takes."""

    def taken(self, words: int) -> int:
        """How many of so many words that is."""
        return max(round(self.share * words), 1)


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"{text:70}", end="\r", highlight=False)

    all_words, source = dictionary()
    all_words = all_words[: config.dictionary]
    words = random.Random(0).sample(all_words, min(config.words, len(all_words)))
    say(f"fitting {FEW_BINS:,} and {len(all_words):,} keys ...")
    latent = FitConfig(method="latent")
    hashers = {SMALL: fit(words[:FEW_BINS], latent), WHOLE: fit(all_words, latent), TRAINED: fit(all_words)}
    # As wide as fingerprints read, 4 characters at a time; any width will do, and takes longer on the device.
    text, tokens = fresh(words), tokenize(words, -(-max(len(word.encode()) for word in words) // 4) * 4)
    hashed_before = in_order(text)
    on_device = Tokens(*map(jnp.asarray, tokens))
    inputs: dict[str, Callable[[], Any]] = {
        IN_ORDER: lambda: in_order(text),
        AT_RANDOM: lambda: at_random(text),
        CACHED: lambda: hashed_before,
        TOKENS: lambda: tokens,
        DEVICE: lambda: on_device,
    }
    table = {word: i for i, word in enumerate(all_words)}
    compile_seconds = {name: _first_call(hasher, words) for name, hasher in hashers.items()}
    say("preparing the peers ...")
    rows, notes, phobic_bits = _rows(hashers, table, words, all_words, config)
    seconds = _measure(rows, inputs, 3 if config.quick else 11, say)
    ns: dict[str, dict[str, float]] = {}
    for row in rows:
        middle = float(np.median(seconds[row.name][row.form]))
        ns.setdefault(row.name, {})[row.form] = 1e9 * middle / row.taken(len(words))
    ratios = {name: {form: _baseline(ns, form) / took for form, took in forms.items()} for name, forms in ns.items()}
    sizes = sorted(hash_sizes.SIZES if config.quick else hash_sizes.SIZES + hash_sizes.MORE_SIZES)
    sizes = [size for size in sizes if size <= config.largest_batch]
    by_size = hash_sizes.measure(hashers[WHOLE], words, table, sizes, 3 if config.quick else 7, say)
    figure = hash_sizes.figure(by_size, f"{len(all_words):,} words ({source}), {machine.describe()['device']}")
    config.out.mkdir(parents=True, exist_ok=True)
    style.save(figure, config.out / "throughput.png")
    say("measuring the machine's ceilings ...")

    def ours(form: str) -> float:
        """The worse of the two hashers."""
        return min(ratios[name][form] for name in (SMALL, WHOLE))

    result: dict[str, Any] = {
        "end_to_end_vs_python_hash": min(ours(IN_ORDER), ours(AT_RANDOM)),
        "tokenised_vs_python_hash": ours(TOKENS),
        "device_vs_python_hash": ours(DEVICE),
        "end_to_end_vs_cached_python_hash": ours(CACHED),
        "ns_per_word": ns,
        "ratios_to_python_hash": ratios,
        "latency_seconds": {
            name: {size: float(np.median(of_size[size])) for size in LATENCIES if size in of_size}
            for name, of_size in by_size.items()
        },
        "compile_seconds": compile_seconds,
        "bits_per_key": {name: h.bits_per_key for name, h in hashers.items()} | phobic_bits,
        "agreement": _agreement(hashers, words, tokens, on_device),
        "skipped": notes,
        "seconds": seconds,
        "words_a_run": {row.name: row.taken(len(words)) for row in rows},
        "seconds_by_batch_size": by_size,
        "ceilings": {"copy_bytes_per_second": machine.copy_rate(), "integer_ops_per_second": machine.integer_rate()},
        "data": source,
        "dictionary": len(all_words),
        "words": len(words),
        "characters_a_token": tokens.characters.shape[1],
        "quick": config.quick,
        "machine": machine.describe("numpy", "torch", "xxhash", "phobic"),
    }
    _print(result, rows, config)
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")


def _rows(
    hashers: dict[str, Hasher], table: dict[str, int], words: list[str], all_words: list[str], config: Config
) -> tuple[list[Row], list[str], dict[str, float]]:
    """What is measured, notes on what is not, and the size of the compiled perfect hash."""
    rows = [
        Row(PYTHON, form, lambda some: [hash(w) % FEW_BINS for w in some]) for form in (IN_ORDER, AT_RANDOM, CACHED)
    ]
    into_array = f"{PYTHON}, map into NumPy"
    rows += [
        Row(into_array, form, lambda some: np.fromiter(map(hash, some), np.int64, len(some)) % FEW_BINS)
        for form in (IN_ORDER, AT_RANDOM)
    ]
    rows += [Row("dict look-up", form, lambda some: [table[w] for w in some]) for form in (IN_ORDER, AT_RANDOM, CACHED)]
    notes, bits = [], {}
    if config.peers:
        if (xxhash := hash_peers.xxhash_loop(FEW_BINS)) is not None:
            rows += [Row("xxhash", form, xxhash) for form in (IN_ORDER, AT_RANDOM)]
        width = max(len(word.encode()) for word in words)
        of_all = [word for word in all_words if len(word.encode()) <= width]
        if (phobic := hash_peers.phobic(all_words, tokenize(of_all, width))) is not None:
            rows += [Row("phobic (in C)", form, phobic.of_words) for form in (IN_ORDER, AT_RANDOM)]
            rows.append(Row("phobic (in C)", TOKENS, phobic.of_tokens))
            bits["phobic (in C)"] = phobic.bits_per_key
        share = 1 / 30 if config.quick else 1 / 10
        if (study := hash_peers.study_policy(all_words, FEW_BINS)) is not None:
            rows.append(Row("study's policy, PyTorch", IN_ORDER, study, share))
        missing = {"xxhash": xxhash, "phobic": phobic, "torch": study}
        notes = [f"{name} is not installed and was left out" for name, peer in missing.items() if peer is None]
    for name, hasher in hashers.items():
        rows += [Row(name, form, partial(_on_host, hasher)) for form in (IN_ORDER, AT_RANDOM, CACHED, TOKENS)]
        rows.append(Row(name, DEVICE, partial(_on_device, hasher)))
    return rows, notes, bits


def _on_host(hasher: Hasher, keys: list[str] | Tokens) -> np.ndarray:
    return np.asarray(hasher(keys))


def _on_device(hasher: Hasher, keys: Tokens) -> jax.Array:
    return jax.block_until_ready(hasher(keys))


def _first_call(hasher: Hasher, words: list[str]) -> float:
    """Seconds that the first call of a process takes beyond the next: tracing, compiling, loading."""
    jax.clear_caches()
    took = []
    for _ in range(3):
        start = time.perf_counter()
        np.asarray(hasher(words))
        took.append(time.perf_counter() - start)
    return took[0] - min(took[1:])


def _measure(
    rows: list[Row], inputs: dict[str, Callable[[], Any]], rounds: int, say: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """Seconds of every run; in each round every row has its turn, and new words where it wants them."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(-1, rounds):
        for row in rows:
            say(f"round {number + 1} of {rounds}: {row.name}, {row.form}")
            given = inputs[row.form]()
            if row.share < 1:
                given = given[: row.taken(len(given))]
            # As timeit does: a collection belongs to no row.
            gc.disable()
            start = time.perf_counter()
            answer = row.run(given)
            took = time.perf_counter() - start
            gc.enable()
            del answer, given
            if number >= 0:  # the round before the first warms up
                seconds.setdefault(row.name, {}).setdefault(row.form, []).append(took)
    return seconds


def _baseline(ns: dict[str, dict[str, float]], form: str) -> float:
    """Python's hash of words of this form; for tokens, of new words in whichever order is faster."""
    python = ns[PYTHON]
    return python[form] if form in python else min(python[IN_ORDER], python[AT_RANDOM])


def _agreement(hashers: dict[str, Hasher], words: list[str], tokens: Tokens, on_device: Tokens) -> list[str]:
    """Whether the bins are right, in sentences."""
    sentences = []
    for name, hasher in hashers.items():
        bins = np.asarray(hasher(words))
        same = all(np.array_equal(bins, np.asarray(hasher(form))) for form in (tokens, on_device))
        pure = np.array_equal(bins, np.asarray(jax.jit(hasher.apply)(on_device)))
        known = bins[: hasher.num_keys]
        sentences.append(
            f"{name}: words, tokens and tokens on the device give {'the same bins' if same else 'DIFFERENT bins'}, "
            f"{'the same' if pure else 'OTHERS'} as the pure function; "
            f"{len(known) - len(np.unique(known)):,} collisions among {len(known):,} of its keys"
        )
    return sentences


def _print(result: dict[str, Any], rows: list[Row], config: Config) -> None:
    title = f"{result['words']:,} words of {result['dictionary']:,} ({result['data']})"
    table = Table(title=title)
    for column in ("", "words", "million/s", "ns a word", "against Python's hash"):
        table.add_column(column, justify="left" if column in ("", "words") else "right")
    previous = ""
    for row in rows:
        if row.name != previous:
            table.add_section()
        ns, ratio = result["ns_per_word"][row.name][row.form], result["ratios_to_python_hash"][row.name][row.form]
        shown = "" if row.name == PYTHON else f"{ratio:.2f}x" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"
        table.add_row(row.name if row.name != previous else "", row.form, f"{1e3 / ns:,.2f}", f"{ns:,.1f}", shown)
        previous = row.name
    batches = Table(title="Microseconds a call")
    batches.add_column("keys in a call", justify="right")
    latency = result["latency_seconds"]
    for name in latency:
        batches.add_column(name, justify="right")
    for size in latency[hash_sizes.PYTHON]:
        batches.add_row(f"{size:,}", *(f"{1e6 * of_size[size]:,.1f}" for of_size in latency.values()))
    out = Console(width=110)
    out.print(table)
    out.print(batches)
    for sentence in (*result["agreement"], *result["skipped"]):
        out.print(f"- {sentence}")
    for name, took in result["compile_seconds"].items():
        out.print(f"- {name}: the first call takes {took:.2f} s more; not in these times")
    ceilings = result["ceilings"]
    out.print(
        f"- ceilings: {ceilings['copy_bytes_per_second'] / 1e9:,.1f} GB/s copied (read + written), "
        f"{ceilings['integer_ops_per_second'] / 1e9:,.0f} G integer operations/s"
    )
    out.print(f"- throughput against batch size: {config.out / 'throughput.png'}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
