"""Fits of perfect hashes: the whole dictionary from memory, and 10,000,000 keys from a file."""

from functools import partial
from typing import Any

from bench import harness, scaling
from bench.accelerator import inputs
from bench.accelerator.part import Setting, figure
from jaxhash.hashing.perfect.fitting import FitConfig, fit

METHODS = scaling.METHODS


def run(setting: Setting) -> dict[str, Any]:
    """Seconds of each fit; of the dictionary the first one, which compiles, and the next."""
    words, source = inputs.words(setting.quick)
    of_dictionary = {}
    for method in METHODS:
        harness.say(f"{len(words):,} words, {method}")
        work = partial(fit, words, FitConfig(method=method))  # type: ignore[arg-type]
        of_dictionary[method] = [harness.timed(work)[0] for _ in range(2)]
    count = 3_000 if setting.quick else 10**7
    of_keys = {}
    for method in METHODS:
        harness.say(f"{count:,} keys from a file, {method}")
        of_keys[method] = scaling.keys(count, method)
    collisions = sum(found["collisions"] for found in of_keys.values())
    harness.checked(collisions == 0, "no two keys share a bin")
    return {
        "figures": [
            *(figure(f"s, {len(words):,} words, {method}, compiled", of_dictionary[method][1]) for method in METHODS),
            *(figure(f"s, {count:,} keys, {method}", of_keys[method]["seconds"]) for method in METHODS),
        ],
        "data": source,
        "dictionary_seconds": of_dictionary,
        "keys": of_keys,
    }
