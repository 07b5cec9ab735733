"""The hash benchmark: its words, the ratios it makes of seconds, and that its hashers are asked what it says."""

import json

import numpy as np
import pytest

from bench import data, harness, hash_sizes, hash_throughput
from bench.hash_throughput import AT_RANDOM, CACHED, DEVICE, IN_ORDER, PYTHON, SMALL, STUDY, TOKENS, TRAINED, WHOLE
from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit


def test_ratios_are_those_of_median_seconds():
    forms = (IN_ORDER, AT_RANDOM, CACHED, TOKENS, DEVICE)
    # 100 words: these are nanoseconds a word / 1e7.
    took = {PYTHON: (4, 6, 1), SMALL: (2, 2, 2, 1, 0.5), WHOLE: (1, 4, 1, 2, 0.25), TRAINED: (9,) * 5, STUDY: (300,)}
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
    assert len(found["agreement"]) == 3
    for sentence in found["agreement"]:
        assert "the same bins, the same as the pure function; 0 collisions" in sentence
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


def test_wrong_bins_are_told():
    class Wrong:
        """Gives other bins to tokens than to words, and all its keys but two one bin."""

        num_keys = 3

        def __call__(self, keys):
            return np.array([0, 0, 1, 5] if isinstance(keys, list) else [0, 0, 2, 5])

        def apply(self, keys):
            return np.array([0, 0, 1, 5])

    tokens = tokenize(["a", "b", "c", "d"], 4)
    (said,) = hash_throughput._agreement({"wrong": Wrong()}, ["a", "b", "c", "d"], tokens, tokens)
    assert said.startswith("wrong: words, tokens and tokens on the device give DIFFERENT bins")
    assert said.endswith("1 collisions among 3 of its keys")


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
