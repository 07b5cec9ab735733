"""The hash benchmark: its words, the ratios it makes of seconds, and that its hashers are asked what it says."""

import json

import numpy as np
import pytest

from bench import data, harness, hash_sizes, hash_throughput
from bench.hash_throughput import (
    AT_RANDOM,
    CACHED,
    DEVICE,
    IN_ORDER,
    INTO_NUMPY,
    PYTHON,
    SMALL,
    STUDY,
    TOKENS,
    TRAINED,
    WHOLE,
)
from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit


def test_ratios_are_those_of_median_seconds():
    forms = (IN_ORDER, AT_RANDOM, CACHED, TOKENS, DEVICE)
    # 100 words: these are nanoseconds a word / 1e7.
    took = {
        PYTHON: (4, 6, 1),
        INTO_NUMPY: (3, 5, 0.5),
        SMALL: (2, 2, 2, 1, 0.5),
        WHOLE: (1, 4, 1, 2, 0.25),
        TRAINED: (9,) * 5,
        STUDY: (300,),
    }
    seconds = {
        (name, form): [100.0 * t, t, 0.0] for name, times in took.items() for form, t in zip(forms, times, strict=False)
    }
    words = dict.fromkeys(took, 100) | {STUDY: 10}
    found = hash_throughput.figures(seconds, words, {hash_sizes.PYTHON: {1: [3.0, 1.0, 2.0], 3: [1.0]}})
    # The worse of the two hashers; tokens against Python's faster order.
    assert found["end_to_end_vs_python_hash"] == pytest.approx(min(4 / 2, 6 / 2, 4 / 1, 6 / 4))
    assert found["tokenised_vs_python_hash"] == pytest.approx(min(4 / 1, 4 / 2))
    assert found["device_vs_python_hash"] == pytest.approx(min(4 / 0.5, 4 / 0.25))
    assert found["end_to_end_vs_cached_python_hash"] == pytest.approx(min(1 / 2, 1 / 1))
    # The same against the map into NumPy.
    assert found["end_to_end_vs_numpy_map"] == pytest.approx(min(3 / 2, 5 / 2, 3 / 1, 5 / 4))
    assert found["tokenised_vs_numpy_map"] == pytest.approx(min(3 / 1, 3 / 2))
    assert found["device_vs_numpy_map"] == pytest.approx(min(3 / 0.5, 3 / 0.25))
    assert found["end_to_end_vs_cached_numpy_map"] == pytest.approx(min(0.5 / 2, 0.5 / 1))
    assert found["ratios_to_numpy_map"][PYTHON] == pytest.approx(
        dict(zip(forms[:3], (3 / 4, 5 / 6, 0.5 / 1), strict=True))
    )
    assert found["ns_per_word"][SMALL] == pytest.approx(dict(zip(forms, (2e7, 2e7, 2e7, 1e7, 5e6), strict=True)))
    assert found["ns_per_word"][STUDY] == pytest.approx({IN_ORDER: 3e10})
    assert found["ratios_to_python_hash"][PYTHON] == dict.fromkeys(forms[:3], 1.0)
    assert found["ratios_to_python_hash"][STUDY] == pytest.approx({IN_ORDER: 4 / 3000})
    assert found["seconds"][PYTHON][CACHED] == [100.0, 1, 0.0]
    assert found["latency_seconds"] == {hash_sizes.PYTHON: {1: 2.0}}  # 3 keys are for the figure alone


@pytest.mark.slow
def test_the_whole_benchmark_without_the_peers(tmp_path, monkeypatch, capsys):
    hasher = fit(data.dictionary()[0][:200], FitConfig(method="seeds"))
    monkeypatch.setattr(hash_throughput, "fit", lambda *_: hasher)
    monkeypatch.setattr(hash_sizes, "KEYS_A_ROUND", 20)
    monkeypatch.setattr(harness, "rate", lambda ceiling: ceiling[1])
    monkeypatch.setattr(harness, "copies", lambda: (None, 1.0))
    monkeypatch.setattr(hash_throughput, "_first_call", lambda hasher, words: 0.0)  # clears what others compiled
    config = hash_throughput.Config(
        quick=True, json=True, words=150, dictionary=200, largest_batch=10, peers=False, out=tmp_path
    )
    hash_throughput.main(config)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["words"], found["dictionary"], found["skipped"]) == (150, 200, [])
    assert (
        set(found["seconds"][WHOLE]) == set(found["seconds"][TRAINED]) == {IN_ORDER, AT_RANDOM, CACHED, TOKENS, DEVICE}
    )
    assert all(len(some) == 3 for forms in found["seconds"].values() for some in forms.values())
    assert all(list(of_size) == ["1", "10"] for of_size in found["seconds_by_batch_size"].values())
    assert len(found["agreement"]) == 5  # three hashers, the map into NumPy, the dictionary
    cores = found["cores_used"]
    assert {name: set(forms) for name, forms in cores.items()} == {n: set(f) for n, f in found["seconds"].items()}
    assert all(0 < used < 1.5 * harness.cores() for forms in cores.values() for used in forms.values())
    assert set(found["build_seconds"]) == set(found["bits_per_key"]) == {SMALL, WHOLE, TRAINED}
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


RIGHT = [2, 0, 1, 5]
"""Bins of three keys and of a word that is none of them."""


@pytest.mark.parametrize(
    ("of_words", "of_tokens", "pure", "ends"),
    [
        (RIGHT, RIGHT, RIGHT, False),
        (RIGHT, [2, 1, 0, 5], RIGHT, True),
        (RIGHT, RIGHT, [2, 0, 1, 4], True),
        ([0, 0, 1, 5], [0, 0, 1, 5], [0, 0, 1, 5], True),
    ],
)
def test_bins_that_differ_or_collide_end_the_benchmark(of_words, of_tokens, pure, ends):
    class Fixed:
        num_keys = 3

        def __call__(self, keys):
            return np.array(of_words if isinstance(keys, list) else of_tokens)

        def apply(self, keys):
            return np.array(pure)

    words = ["a", "b", "c", "d"]
    tokens = tokenize(words, 4)
    if ends:
        with pytest.raises(SystemExit, match="This does not hold: some: words, tokens"):
            hash_throughput.agreement({"some": Fixed()}, words, tokens, tokens)
    else:
        (said,) = hash_throughput.agreement({"some": Fixed()}, words, tokens, tokens)
        assert said.endswith("no two of 3 of its keys share one")


def test_words_are_new_objects_in_either_order_of_memory():
    words = data.derived(12_000)
    in_order, at_random = data.renewed(words)
    first, again, scattered = in_order(), in_order(), at_random()
    assert len(set(words)) == 12_000
    assert first == again == scattered == words
    # CPython keeps one object for each word of one character.
    old = {id(word) for word in first if len(word) > 1}
    assert not old & {id(word) for word in again + scattered}
    places = np.array([id(word) for word in scattered])
    assert (places[1:] > places[:-1]).mean() < 0.6  # chance is one half
