"""Hash throughput: is the neural hash as fast as Python's own?

Hashes the same 300,000 words of the study's dictionary with Python's `hash`, xxhash, a `dict`, a compiled perfect hash,
the study's policy in PyTorch, and our hashers of 1,000 words and of the whole dictionary, turn by turn in one run.
Prints nanoseconds a word and ratios, and draws throughput against batch size.

    python -m bench.hash_throughput            # about 3 minutes on 2 cores
    python -m bench.hash_throughput --quick    # under two minutes

Where the words come from makes a difference, so each is measured apart:

    in order    new `str` objects made one after another, hash not known yet
    at random   the same, scattered over memory, as in a list long in use
    cached      in order, the same `str` objects again: CPython keeps the hash of a `str` once it was asked for
    tokens      NumPy arrays of characters and lengths (`keys.tokenize`); the bins come back as a NumPy array
    device      tokens on the default device; the bins stay there
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness, hash_peers, hash_sizes
from bench.data import dictionary, renewed
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.hasher import Hasher
from jaxhash.plots import style

FEW_BINS = 1_000
"""Bins of the study's table, and keys of the small hasher."""
IN_ORDER, AT_RANDOM, CACHED, TOKENS, DEVICE = "in order", "at random", "cached", "tokens", "device"
PYTHON, INTO_NUMPY = "Python's hash", "Python's hash, map into NumPy"
SMALL, WHOLE = f"jaxhash seeds, {FEW_BINS:,} bins", "jaxhash seeds, dictionary"
"""The hashers that the ratios of the JSON object are about; seeds are the fastest to read."""
TRAINED = "jaxhash sharded, dictionary"
STUDY = "study's policy, PyTorch"
LATENCIES = (1, 10, 100, 1_000)


Run = Callable[[Any], Any]
Timings = dict[tuple[str, str], list[float]]
"""By name and form of the words."""


@dataclass(frozen=True)
class Config(harness.Options):
    """Measure the throughput of neural hash functions against Python's hash."""

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


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    all_words, source = dictionary()
    all_words = all_words[: config.dictionary]
    words = random.Random(0).sample(all_words, min(config.words, len(all_words)))
    harness.say(f"fitting {FEW_BINS:,} and {len(all_words):,} keys ...")
    seeds = FitConfig(method="seeds")
    hashers = {SMALL: fit(words[:FEW_BINS], seeds), WHOLE: fit(all_words, seeds), TRAINED: fit(all_words)}
    # As wide as fingerprints read, 4 characters at a time; any width will do, and takes longer on the device.
    tokens = tokenize(words, -(-max(len(word.encode()) for word in words) // 4) * 4)
    on_device = Tokens(*map(jnp.asarray, tokens))
    table = {word: i for i, word in enumerate(all_words)}
    compile_seconds = {name: _first_call(hasher, words) for name, hasher in hashers.items()}
    harness.say("preparing the peers ...")
    runs, phobic_bits, missing = _runs(hashers, table, words, all_words, config)
    in_order, at_random = renewed(words)
    hashed_before, few = in_order(), _few(words, config.quick)
    given: dict[str, Callable[[], Any]] = {
        IN_ORDER: in_order,
        AT_RANDOM: at_random,
        CACHED: lambda: hashed_before,
        TOKENS: lambda: tokens,
        DEVICE: lambda: on_device,
    }
    works = {(name, form): harness.Work(run, given[form]) for (name, form), run in runs.items()}
    if (STUDY, IN_ORDER) in works:
        works[STUDY, IN_ORDER] = harness.Work(runs[STUDY, IN_ORDER], lambda: in_order()[:few])
    seconds, _ = harness.interleaved(works, 3 if config.quick else 11, warm_up=True, keep=False)
    sizes = sorted(hash_sizes.SIZES if config.quick else hash_sizes.SIZES + hash_sizes.MORE_SIZES)
    sizes = [size for size in sizes if size <= config.largest_batch]
    by_size = hash_sizes.measure(hashers[WHOLE], words, table, sizes, 3 if config.quick else 7)
    title = f"{len(all_words):,} words ({source}), {jax.devices()[0].device_kind}"
    config.out.mkdir(parents=True, exist_ok=True)
    style.save(hash_sizes.figure(by_size, title), config.out / "throughput.png")
    harness.say("measuring the machine's ceilings ...")
    result = figures(seconds, {name: few if name == STUDY else len(words) for name, _ in seconds}, by_size) | {
        "compile_seconds": compile_seconds,
        "bits_per_key": {name: hasher.bits_per_key for name, hasher in hashers.items()} | phobic_bits,
        "agreement": _agreement(hashers, words, tokens, on_device),
        "skipped": missing,
        "ceilings": {
            "copy_bytes_per_second": harness.rate(harness.copies()),
            "integer_ops_per_second": harness.rate(harness.integer_operations()),
        },
        "data": source,
        "dictionary": len(all_words),
        "words": len(words),
        "characters_a_token": tokens.characters.shape[1],
    }
    _print(result, config)
    harness.finish("hash_throughput", config, result, "torch", "xxhash", "phobic")


def figures(seconds: Timings, words: dict[str, int], by_size: dict[str, dict[int, list[float]]]) -> dict[str, Any]:
    """Nanoseconds a word and how many times as fast as Python's hash that is.

    Args:
        seconds: of every run.
        words: hashed in a run, by name.
        by_size: seconds a call, by way and keys in a call.
    """
    ns: dict[str, dict[str, float]] = {}
    for (name, form), took in harness.medians(seconds).items():
        ns.setdefault(name, {})[form] = 1e9 * took / words[name]
    python = ns[PYTHON]
    # Tokens against words in whichever order is faster for Python.
    python |= dict.fromkeys((TOKENS, DEVICE), min(python[IN_ORDER], python[AT_RANDOM]))
    ratios = {name: {form: python[form] / took for form, took in forms.items()} for name, forms in ns.items()}
    for form in (TOKENS, DEVICE):
        del python[form], ratios[PYTHON][form]
    # The worse of the two hashers.
    ours = {form: min(ratios[name][form] for name in (SMALL, WHOLE)) for form in ratios[SMALL]}
    nested: dict[str, dict[str, list[float]]] = {}
    for (name, form), some in seconds.items():
        nested.setdefault(name, {})[form] = some
    return {
        "end_to_end_vs_python_hash": min(ours[IN_ORDER], ours[AT_RANDOM]),
        "tokenised_vs_python_hash": ours[TOKENS],
        "device_vs_python_hash": ours[DEVICE],
        "end_to_end_vs_cached_python_hash": ours[CACHED],
        "ns_per_word": ns,
        "ratios_to_python_hash": ratios,
        "spread": {f"{name}, {form}": spread for (name, form), spread in harness.spreads(seconds).items()},
        "latency_seconds": {
            name: {size: float(np.median(of_size[size])) for size in LATENCIES if size in of_size}
            for name, of_size in by_size.items()
        },
        "seconds": nested,
        "words_a_run": words,
        "seconds_by_batch_size": by_size,
    }


def _runs(
    hashers: dict[str, Hasher], table: dict[str, int], words: list[str], all_words: list[str], config: Config
) -> tuple[dict[tuple[str, str], Run], dict[str, float], list[str]]:
    """What is measured by name and form, the size of the compiled perfect hash, and which peers are missing."""
    either, each = (IN_ORDER, AT_RANDOM), (IN_ORDER, AT_RANDOM, CACHED)
    table_of: list[tuple[str, tuple[str, ...], Run]] = [
        (PYTHON, each, lambda some: [hash(w) % FEW_BINS for w in some]),
        (INTO_NUMPY, either, lambda some: np.fromiter(map(hash, some), np.int64, len(some)) % FEW_BINS),
        ("dict look-up", each, lambda some: [table[w] for w in some]),
    ]
    bits, missing = {}, []
    if config.peers:
        width = max(len(word.encode()) for word in words)
        of_all = [word for word in all_words if len(word.encode()) <= width]
        xxhash, study = hash_peers.xxhash_loop(FEW_BINS), hash_peers.study_policy(all_words, FEW_BINS)
        phobic = hash_peers.phobic(all_words, tokenize(of_all, width))
        if xxhash is not None:
            table_of.append(("xxhash", either, xxhash))
        if phobic is not None:
            of_words, of_tokens, bits["phobic (in C)"] = phobic
            table_of += [("phobic (in C)", either, of_words), ("phobic (in C)", (TOKENS,), of_tokens)]
        if study is not None:
            table_of.append((STUDY, (IN_ORDER,), study))
        peers = {"xxhash": xxhash, "phobic": phobic, "torch": study}
        missing = [f"{name} is not installed and was left out" for name, peer in peers.items() if peer is None]
    for name, hasher in hashers.items():
        table_of.append((name, (*each, TOKENS), partial(_on_host, hasher)))
        table_of.append((name, (DEVICE,), partial(_on_device, hasher)))
    return {(name, form): run for name, forms, run in table_of for form in forms}, bits, missing


def _on_host(hasher: Hasher, keys: list[str] | Tokens) -> np.ndarray:
    return np.asarray(hasher(keys))


def _on_device(hasher: Hasher, keys: Tokens) -> jax.Array:
    return jax.block_until_ready(hasher(keys))


def _few(words: list[str], quick: bool) -> int:
    """How many words the study's policy gets: it takes some hundred times as long as the others."""
    return max(len(words) // (30 if quick else 10), 1)


def _first_call(hasher: Hasher, words: list[str]) -> float:
    """Seconds that the first call of a process takes beyond the next: tracing, compiling, loading."""
    jax.clear_caches()
    first, *others = (harness.timed(lambda: np.asarray(hasher(words)))[0] for _ in range(3))
    return first - min(others)


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


def _print(result: dict[str, Any], config: Config) -> None:
    rows, ratios = [], result["ratios_to_python_hash"]
    for name, forms in result["ns_per_word"].items():
        for form, ns in forms.items():
            ratio, spread = ratios[name][form], result["spread"][f"{name}, {form}"]
            shown = "" if name == PYTHON else f"{ratio:.2f}x" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"
            rows.append((name, form, f"{1e3 / ns:,.2f}", f"{ns:,.1f}", f"{spread:.0%}", shown))
    harness.show(
        f"{result['words']:,} words of {result['dictionary']:,} ({result['data']})",
        ("", "words", "million/s", "ns a word", "spread", "against Python's hash"),
        rows,
    )
    latency, ceilings = result["latency_seconds"], result["ceilings"]
    harness.show(
        "Microseconds a call",
        ("keys in a call", *latency),
        [
            (f"{size:,}", *(f"{1e6 * of_size[size]:,.1f}" for of_size in latency.values()))
            for size in latency[hash_sizes.PYTHON]
        ],
        *result["agreement"],
        *result["skipped"],
        *(
            f"{name}: the first call takes {took:.2f} s more; not in these times"
            for name, took in result["compile_seconds"].items()
        ),
        f"ceilings: {ceilings['copy_bytes_per_second'] / 1e9:,.1f} GB/s copied (read + written), "
        f"{ceilings['integer_ops_per_second'] / 1e9:,.0f} G integer operations/s",
        f"throughput against batch size: {config.out / 'throughput.png'}",
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
