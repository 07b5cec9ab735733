"""Hash throughput: is the neural hash as fast as Python's own?

Hashes the same 300,000 words of the study's dictionary with Python's `hash`, xxhash, a `dict`, compiled perfect hashes,
the study's policy in PyTorch, and our hashers of 1,000 words and of the whole dictionary, turn by turn in one run.
Checks the answers of each first. Prints nanoseconds a word, ratios and the cores used, and draws throughput against
batch size. Python's side is both a list comprehension and `np.fromiter(map(hash, words))`, which does our work: a list
goes in, an array comes out.

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
from bench.hash_peers import Peer
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
DICT, XXHASH, PHOBIC, BBHASH = "dict look-up", "xxhash", "phobic (in C)", "bbhash (in C++)"
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
    """Measure xxhash, phobic, bbhash and PyTorch too."""
    out: Path = Path("runs/hash_throughput")
    """Folder for the figure."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    all_words, source = dictionary()
    all_words = all_words[: config.dictionary]
    words = random.Random(0).sample(all_words, min(config.words, len(all_words)))
    harness.say(f"fitting {FEW_BINS:,} and {len(all_words):,} keys ...")
    seeds = FitConfig(method="seeds")
    built = {
        SMALL: harness.timed(lambda: fit(words[:FEW_BINS], seeds)),
        WHOLE: harness.timed(lambda: fit(all_words, seeds)),
        TRAINED: harness.timed(lambda: fit(all_words)),
    }
    hashers: dict[str, Hasher] = {name: hasher for name, (_, hasher) in built.items()}
    # As wide as fingerprints read, 4 characters at a time; any width will do, and takes longer on the device.
    width = -(-max(len(word.encode()) for word in all_words) // 4) * 4
    tokens = tokenize(words, width)
    on_device = Tokens(*map(jnp.asarray, tokens))
    agreed = agreement(hashers, words, tokens, on_device)
    compile_seconds = {name: _first_call(hasher, words) for name, hasher in hashers.items()}
    harness.say("preparing the peers ...")
    table = {word: i for i, word in enumerate(all_words)}
    found = _peers(table, words, tokens) if config.peers else {}
    peers = _python(table, words) | {name: peer for name, peer in found.items() if peer is not None}
    runs = _runs(hashers, peers)
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
    harness.say("counting the cores ...")
    cores: dict[str, dict[str, float]] = {}
    for (name, form), work in works.items():
        cores.setdefault(name, {})[form] = harness.cores_used(work)
    sizes = sorted(hash_sizes.SIZES if config.quick else hash_sizes.SIZES + hash_sizes.MORE_SIZES)
    sizes = [size for size in sizes if size <= config.largest_batch]
    by_size = hash_sizes.measure(hashers[WHOLE], words, table, sizes, 3 if config.quick else 7)
    title = f"{len(all_words):,} words ({source}), {jax.devices()[0].device_kind}"
    config.out.mkdir(parents=True, exist_ok=True)
    style.save(hash_sizes.figure(by_size, title), config.out / "throughput.png")
    harness.say("measuring the machine's ceilings ...")
    result = figures(seconds, {name: few if name == STUDY else len(words) for name, _ in seconds}, by_size) | {
        "cores_used": cores,
        "compile_seconds": compile_seconds,
        "bits_per_key": {name: hasher.bits_per_key for name, hasher in hashers.items()}
        | {name: peer.bits_per_key for name, peer in peers.items() if peer.bits_per_key},
        "build_seconds": {name: took for name, (took, _) in built.items()}
        | {name: peer.build_seconds for name, peer in peers.items() if peer.build_seconds},
        "agreement": agreed + [peer.agreement for peer in peers.values() if peer.agreement],
        "skipped": [name for name, peer in found.items() if peer is None],
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
    harness.finish("hash_throughput", config, result, "torch", "xxhash", "phobic", "bbhash")


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
    to_map, to_loop = ratios(ns, INTO_NUMPY), ratios(ns, PYTHON)
    nested: dict[str, dict[str, list[float]]] = {}
    for (name, form), some in seconds.items():
        nested.setdefault(name, {})[form] = some
    return {
        **_worst(to_map, "numpy_map"),
        **_worst(to_loop, "python_hash"),
        "ns_per_word": ns,
        "ratios_to_numpy_map": to_map,
        "ratios_to_python_hash": to_loop,
        "spread": {f"{name}, {form}": spread for (name, form), spread in harness.spreads(seconds).items()},
        "latency_seconds": {
            name: {size: float(np.median(of_size[size])) for size in LATENCIES if size in of_size}
            for name, of_size in by_size.items()
        },
        "seconds": nested,
        "words_a_run": words,
        "seconds_by_batch_size": by_size,
    }


def ratios(ns: dict[str, dict[str, float]], to: str) -> dict[str, dict[str, float]]:
    """How many times as fast as one hash function each is; tokens beside words in the order that is faster for it."""
    reference = ns[to] | dict.fromkeys((TOKENS, DEVICE), min(ns[to][IN_ORDER], ns[to][AT_RANDOM]))
    return {
        name: {form: reference[form] / took for form, took in forms.items() if form in reference}
        for name, forms in ns.items()
    }


def _worst(to: dict[str, dict[str, float]], name: str) -> dict[str, float]:
    """The ratios of the JSON object: of the slower of two hashers, and of the slower order of new words."""
    ours = {form: min(to[SMALL][form], to[WHOLE][form]) for form in to[SMALL]}
    return {
        f"end_to_end_vs_{name}": min(ours[IN_ORDER], ours[AT_RANDOM]),
        f"tokenised_vs_{name}": ours[TOKENS],
        f"device_vs_{name}": ours[DEVICE],
        f"end_to_end_vs_cached_{name}": ours[CACHED],
    }


def _python(table: dict[str, int], words: list[str]) -> dict[str, Peer]:
    return {
        PYTHON: hash_peers.python_loop(FEW_BINS),
        INTO_NUMPY: hash_peers.numpy_map(FEW_BINS, words),
        DICT: hash_peers.dict_lookup(table, words),
    }


def _peers(table: dict[str, int], words: list[str], tokens: Tokens) -> dict[str, Peer | None]:
    keys = list(table)
    return {
        XXHASH: hash_peers.xxhash_loop(FEW_BINS, words),
        PHOBIC: hash_peers.phobic(keys, tokenize(keys, tokens.characters.shape[1]), tokens),
        BBHASH: hash_peers.bbhash(keys),
        STUDY: hash_peers.study_policy(FEW_BINS, keys),
    }


def _runs(hashers: dict[str, Hasher], peers: dict[str, Peer]) -> dict[tuple[str, str], Run]:
    """What is measured, by name and form of the words."""
    runs: dict[tuple[str, str], Run] = {}
    for name, peer in peers.items():
        forms = (IN_ORDER,) if name == STUDY else (IN_ORDER, AT_RANDOM, CACHED)
        runs |= {(name, form): peer.of_words for form in forms}
        if peer.of_tokens is not None:
            runs[name, TOKENS] = peer.of_tokens
    for name, hasher in hashers.items():
        runs |= {(name, form): partial(_on_host, hasher) for form in (IN_ORDER, AT_RANDOM, CACHED, TOKENS)}
        runs[name, DEVICE] = partial(_on_device, hasher)
    return runs


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


def agreement(hashers: dict[str, Hasher], words: list[str], tokens: Tokens, on_device: Tokens) -> list[str]:
    """What was checked of our bins, in sentences."""
    sentences = []
    for name, hasher in hashers.items():
        bins = np.asarray(hasher(words))
        others = [hasher(tokens), hasher(on_device), jax.jit(hasher.apply)(on_device)]
        known = bins[: hasher.num_keys]
        right = all(np.array_equal(bins, np.asarray(other)) for other in others) and len(known) == len(np.unique(known))
        sentence = f"{name}: words, tokens, tokens on the device and the pure function give the same bins, "
        sentences.append(harness.checked(right, f"{sentence}and no two of {len(known):,} of its keys share one"))
    return sentences


def _shown(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"


def _print(result: dict[str, Any], config: Config) -> None:
    rows, to_map, to_loop = [], result["ratios_to_numpy_map"], result["ratios_to_python_hash"]
    for name, forms in result["ns_per_word"].items():
        for form, ns in forms.items():
            spread, cores = result["spread"][f"{name}, {form}"], result["cores_used"][name][form]
            both = (_shown(to[name][form]) for to in (to_map, to_loop))
            rows.append((name, form, f"{1e3 / ns:,.2f}", f"{ns:,.1f}", f"{spread:.0%}", f"{cores:.1f}", *both))
    harness.show(
        f"{result['words']:,} words of {result['dictionary']:,} ({result['data']})",
        (
            "",
            "words",
            "million/s",
            "ns a word",
            "spread",
            "cores",
            "against its map into NumPy",
            "against Python's hash",
        ),
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
        *(f"{name} is left out, for its package is not installed" for name in result["skipped"]),
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
