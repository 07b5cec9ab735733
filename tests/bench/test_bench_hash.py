"""The hash benchmark's arithmetic: what it prints follows from the seconds it measured."""

import json
import subprocess
import sys

import numpy as np
import pytest

HASHERS = ("jaxhash latent, 1,000 bins", "jaxhash latent, dictionary")


@pytest.mark.slow
def test_the_hash_benchmark_prints_ratios_of_its_seconds_without_the_peers(tmp_path):
    size = ["--words", "1500", "--dictionary", "2000", "--largest-batch", "100", "--no-peers", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.hash_throughput", "--quick", "--json", *size], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["words"], figures["dictionary"], figures["skipped"]) == (1500, 2000, [])

    def seconds(name, form):
        return float(np.median(figures["seconds"][name][form]))

    python = {form: seconds("Python's hash", form) for form in ("in order", "at random", "cached")}
    faster = min(python["in order"], python["at random"])
    expected = {
        "end_to_end_vs_python_hash": min(
            python[form] / seconds(name, form) for name in HASHERS for form in ("in order", "at random")
        ),
        "tokenised_vs_python_hash": min(faster / seconds(name, "tokens") for name in HASHERS),
        "device_vs_python_hash": min(faster / seconds(name, "device") for name in HASHERS),
        "end_to_end_vs_cached_python_hash": min(python["cached"] / seconds(name, "cached") for name in HASHERS),
    }
    for name, ratio in expected.items():
        assert figures[name] == pytest.approx(ratio), name
    for name in HASHERS:
        assert figures["ns_per_word"][name]["in order"] == pytest.approx(seconds(name, "in order") / 1500 * 1e9)
    ways = figures["seconds_by_batch_size"]
    assert all(list(of_size) == ["1", "10", "100"] for of_size in ways.values())
    for name, of_size in figures["latency_seconds"].items():
        assert of_size == {size: pytest.approx(float(np.median(ways[name][size]))) for size in ("1", "10", "100")}
    assert len(figures["agreement"]) == 3
    for sentence in figures["agreement"]:
        assert "the same bins, the same as the pure function; 0 collisions" in sentence
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


# In a process of its own: where an old one has left gaps, Python puts new objects.
IN_MEMORY = """
import json
import numpy as np
from bench.words import at_random, derived, fresh, in_order

words = derived(12_000)
source = fresh(words)
first, again, scattered = in_order(source), in_order(source), at_random(source)
# CPython keeps one object for each word of one character.
old = {id(word) for word in first if len(word) > 1}
shared = len(old & {id(word) for word in again + scattered})
places = [np.array([id(word) for word in made]) for made in (first, scattered)]
ascending = [(p[1:] > p[:-1]).mean() for p in places]
print(json.dumps([len(set(words)), first == again == scattered == words, shared, *ascending]))
"""


def test_words_are_new_objects_in_either_order_of_memory():
    done = subprocess.run([sys.executable, "-c", IN_MEMORY], capture_output=True, text=True, check=True)
    different, same, shared, in_order, at_random = json.loads(done.stdout)
    assert (different, same, shared) == (12_000, True, 0)
    # Chance is one half.
    assert in_order > 0.9
    assert at_random < 0.6
