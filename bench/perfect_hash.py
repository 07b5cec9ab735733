"""Whole `jaxhash fit` commands: seconds, cores and memory from the start of a process to its end.

Minimal perfect hashes of 10,000 words, the size of the study's Figure 6, and of the whole dictionary, which the study
gave up; with the study's network of 1,000 and of 10,000 words. Importing, compiling, reading, learning, checking and
saving are all in the time. Every function is loaded again and asked for every word.

    python -m bench.perfect_hash            # about 5 minutes on 2 cores
    python -m bench.perfect_hash --quick    # without the dictionary and the larger network, once: half a minute
"""

import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tyro

from bench import harness
from bench.data import dictionary
from jaxhash import load_hasher

STUDY_WORDS = 10_000
NETWORK_WORDS = 1_000
"""Of the study's network, whose cost grows with the square of the words: of `STUDY_WORDS` it is trained once."""


@dataclass(frozen=True)
class Config(harness.Options):
    """Time whole `jaxhash fit` commands."""

    rounds: int = 3
    """Runs of each command, turn by turn; `--quick` makes one."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    words, source = dictionary()
    few, some = (random.Random(0).sample(words, count) for count in (NETWORK_WORDS, STUDY_WORDS))
    sets = [few, some] if config.quick else [few, some, words]
    methods = {len(few): ["network"], len(some): ["sharded", "seeds"], len(words): ["sharded", "seeds"]}
    if not config.quick:
        methods[len(some)].append("network")
    results: list[dict[str, Any]] = [
        {"method": method, "words": len(some), "seconds": [], "cores_used": [], "peak_bytes": []}
        for some in sets
        for method in methods[len(some)]
    ]
    rounds = 1 if config.quick else config.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for some in sets:
            (folder / f"{len(some)}.txt").write_text("".join(f"{word}\n" for word in some))
        for number in range(rounds):
            for i, result in enumerate(results):
                if number and (result["method"], result["words"]) == ("network", STUDY_WORDS):
                    continue
                harness.say(f"round {number + 1} of {rounds}: {result['words']:,} words, {result['method']}")
                words_file, out = folder / f"{result['words']}.txt", folder / f"{i}-{number}"
                options = [str(words_file), "--method", result["method"], "--out", str(out)]
                for measured, value in measure([sys.executable, "-m", "jaxhash.cli", "fit", *options]).items():
                    result[measured].append(value)
        # Only now, for Linux counts what a process held when it started another into the peak of the other.
        for i, result in enumerate(results):
            (some,) = (some for some in sets if len(some) == result["words"])
            result |= check(folder / f"{i}-{len(result['seconds']) - 1}", some)
    harness.show(
        f"jaxhash fit, minimal perfect hashes of words ({source})",
        ("", "words", "seconds", "cores", "peak, GiB", "bits/key"),
        [
            (
                result["method"],
                f"{result['words']:,}",
                f"{median(result['seconds']):.1f}",
                f"{median(result['cores_used']):.1f}",
                f"{max(result['peak_bytes']) / 2**30:.2f}",
                f"{result['bits_per_key']:,.1f}",
            )
            for result in results
        ],
    )
    harness.finish("perfect_hash", config, {"results": results, "data": source}, "flax", "optax")


def measure(command: list[str]) -> dict[str, float]:
    """Seconds, cores used and most memory of one command.

    Raises:
        RuntimeError: if it fails.
    """
    with tempfile.TemporaryFile("w+") as said:
        start = harness.clock()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = harness.clock() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.read().strip()[-200:]}")
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return {"seconds": seconds, "cores_used": (usage.ru_utime + usage.ru_stime) / seconds, "peak_bytes": peak}


def check(out: Path, words: list[str]) -> dict[str, Any]:
    """Size of a saved function and what was checked of it: every word has a bin of its own, and no bin is left."""
    hasher = load_hasher(out)
    bins = np.sort(np.asarray(hasher(words)))
    sentence = f"each of {len(words):,} words has one of as many bins to itself"
    agreement = harness.checked(np.array_equal(bins, np.arange(len(words))), sentence)
    return {"bits_per_key": hasher.bits_per_key, "agreement": agreement}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
