"""The benchmark of whole commands: what it takes from a process, and that each function is asked again."""

import json
import sys

import numpy as np
import pytest

from bench import perfect_hash


class Backwards:
    """A perfect hash of whatever keys it is asked for."""

    bits_per_key = 3.0

    def __call__(self, keys):
        return np.arange(len(keys))[::-1]


def test_a_command_has_its_own_seconds_cores_and_memory():
    code = "import time; x = bytearray(3 * 10**8); time.sleep(0.5); t = time.process_time\nwhile t() < 0.5: pass"
    found = perfect_hash.measure([sys.executable, "-c", code])
    assert found["seconds"] > 1
    assert 0.5 <= found["seconds"] * found["cores_used"] < 1.5
    assert found["peak_bytes"] > 3 * 10**8


def test_a_command_that_fails_is_told():
    with pytest.raises(RuntimeError, match="ended with 3: no room"):
        perfect_hash.measure([sys.executable, "-c", "import sys; print('no room', file=sys.stderr); sys.exit(3)"])


def test_each_command_is_measured_and_its_function_asked(monkeypatch, capsys):
    asked = []

    def measure(command):
        asked.append(command[4:])
        return {"seconds": 2.0, "cores_used": 1.5, "peak_bytes": 2**30}

    words = [f"w{i}" for i in range(12_000)]
    monkeypatch.setattr(perfect_hash, "dictionary", lambda: (words, "some words"))
    monkeypatch.setattr(perfect_hash, "measure", measure)
    monkeypatch.setattr(perfect_hash, "load_hasher", lambda out: Backwards())
    perfect_hash.main(perfect_hash.Config(json=True, rounds=2))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["method"], row["words"], row["seconds"]) for row in found["results"]] == [
        ("network", 1_000, [2.0, 2.0]),
        ("sharded", 10_000, [2.0, 2.0]),
        ("seeds", 10_000, [2.0, 2.0]),
        ("network", 10_000, [2.0]),
        ("sharded", 12_000, [2.0, 2.0]),
        ("seeds", 12_000, [2.0, 2.0]),
    ]
    assert len(asked) == 11


@pytest.mark.parametrize("bins", [[0, 0, 2], [1, 2, 3], [0, 1]])
def test_a_function_that_is_not_perfect_ends_the_benchmark(monkeypatch, tmp_path, bins):
    monkeypatch.setattr(perfect_hash, "load_hasher", lambda out: lambda keys: np.array(bins))
    with pytest.raises(SystemExit, match="Wrong answers"):
        perfect_hash.check(tmp_path, ["a", "b", "c"])
