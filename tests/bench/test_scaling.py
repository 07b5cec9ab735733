"""The scaling benchmark: what it measures, and how it puts several processes together."""

import json

import pytest

from bench import scaling


def test_every_size_of_every_kind_is_a_case():
    cases = scaling.cases(scaling.QUICK_SIZES)
    counts = {kind: sum(case["kind"] == kind for case in cases) for kind in scaling.SIZES}
    # Devices and processes: so many models in all, and so many each. Keys: by two methods.
    twice = ("devices", "processes", "keys")
    assert counts == {kind: len(sizes) * (2 if kind in twice else 1) for kind, sizes in scaling.QUICK_SIZES.items()}
    lines = {scaling.name(case) for case in cases}
    assert {"models", "width", "devices, 16 models in all", "devices, 4 models each", "keys, sharded"} <= lines
    assert len(lines) == 2 + 2 + 2 + len(scaling.METHODS)


def test_several_processes_take_as_long_as_the_last_and_as_much_memory_as_the_largest(monkeypatch):
    class Process:
        """Ends with what its process was told, a second and a byte more for each."""

        returncode = 0

        def __init__(self, command, **_):
            self.case = json.loads(command[-1])

        def communicate(self):
            i = self.case["process"]
            assert self.case["coordinator"].startswith("localhost:")
            if self.returncode:
                return "", "boom"
            return f"noise\n{json.dumps({'seconds': 5.0 + i, 'peak_bytes': 100 - i})}\n", ""

        def kill(self):
            killed.append(self.case["process"])

    killed = []
    monkeypatch.setattr(scaling.subprocess, "Popen", Process)
    case = {"kind": "processes", "size": 3, "models_a_process": None}
    assert scaling.measure(case) == {**case, "seconds": 7.0, "peak_bytes": 100}
    assert killed == [0, 1, 2]
    Process.returncode = 1
    with pytest.raises(RuntimeError, match="ended with 1"):
        scaling.measure(case)
    assert killed == [0, 1, 2] * 2
