"""The benchmark of accelerators: all parts at small sizes, what is saved, that neighbours of all pairs are exact."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench import rounding
from bench.accelerator import __main__ as accelerator
from bench.accelerator import against_cpu, all_pairs, torch_training
from bench.accelerator.__main__ import Config, main
from bench.accelerator.part import Part, figure
from bench.accelerator.parts import PARTS
from jaxhash.training.mlp import TrainConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_part_runs_at_small_sizes_on_two_devices(tmp_path):
    command = [sys.executable, "-m", "bench.accelerator", "--quick", "--no-peers", "--out", str(tmp_path)]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.iterdir()
    assert path.name == "accelerator-2-cpu-quick.json"
    found = json.loads(path.read_text())["parts"]
    assert list(found) == [part.name for part in PARTS]
    for name, part in found.items():
        assert "error" not in part, name
        assert (part["quick"], part["devices"]) == (True, 2)
        assert part["figures"], name
        assert all(np.isfinite(one["value"]) for one in part["figures"]), name
        assert f"{part['seconds']:.1f}" in done.stdout
    assert found["devices"]["agreement"]
    assert found["against-cpu"]["beyond"] == []
    assert found["all-pairs"]["by_bits"]["100"]["ways_left_out"] == {}


def part_of(name, run, seconds_expected=1.0):
    return Part(name, f"what is {name}?", run, seconds_expected)


def test_a_part_that_fails_is_noted_the_others_go_on_and_the_next_time_it_is_tried_again(tmp_path, capsys):
    ran = []

    def good(setting):
        ran.append("good")
        return {"figures": [figure("s", 2.0, 1.0, at_most=True)], "quick?": setting.quick}

    def breaks(setting):
        raise MemoryError("no room for it")

    def wrong(setting):
        accelerator.harness.checked(False, "1 = 2")

    config = Config(quick=True, out=tmp_path / "new")
    parts = [part_of("breaks", breaks), part_of("wrong", wrong), part_of("good", good)]
    assert main(config, parts) == 1
    path = accelerator.file_of(config)
    found = json.loads(path.read_text())["parts"]
    assert "MemoryError: no room for it" in found["breaks"]["error"]
    assert "in breaks" in found["breaks"]["error"]
    assert "This does not hold: 1 = 2" in found["wrong"]["error"]
    assert found["good"]["quick?"] is True
    assert found["good"]["figures"] == [{"what": "s", "value": 2.0, "goal": 1.0, "at_most": True, "met": False}]
    shown = capsys.readouterr().out
    assert [word in shown for word in ("no room for it", "at most 1", "failed", "no")] == [True] * 4
    # What failed is tried again, what was measured is not.
    assert main(config, [part_of("breaks", good), part_of("wrong", good), part_of("good", breaks)]) == 0
    assert ran == ["good"] * 3
    assert list(json.loads(path.read_text())["parts"]) == ["breaks", "wrong", "good"]


def test_each_part_is_saved_before_the_next_one_starts(tmp_path):
    config = Config(out=tmp_path)

    def good(setting):
        return {"figures": []}

    def ends(setting):
        assert list(json.loads(accelerator.file_of(config).read_text())["parts"]) == ["first"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main(config, [part_of("first", good), part_of("second", ends)])
    assert list(json.loads(accelerator.file_of(config).read_text())["parts"]) == ["first"]
    assert "quick" not in accelerator.file_of(config).name


def test_no_part_is_started_that_may_take_longer_than_the_time_left(tmp_path, capsys):
    ran = []

    def runs(name, seconds):
        return part_of(name, lambda setting: ran.append(name) or {"figures": []}, seconds)

    parts = [runs("long", 61.0), runs("short", 30.0)]
    assert main(Config(minutes=1.0, out=tmp_path), parts) == 0
    assert ran == ["short"]
    assert "long: left out" in capsys.readouterr().out
    assert main(Config(minutes=2.0, out=tmp_path), parts) == 0
    assert ran == ["short", "long"]
    assert list(json.loads(accelerator.file_of(Config(out=tmp_path)).read_text())["parts"]) == ["long", "short"]


def test_only_parts_that_are_named_run_and_unknown_names_are_refused(capsys):
    ran = []
    parts = [part_of(name, lambda setting, name=name: ran.append(name) or {"figures": []}) for name in "abc"]
    assert main(Config(parts=("c", "a")), parts) == 0
    assert ran == ["a", "c"]
    with pytest.raises(SystemExit, match="no part d; give some of a, b, c"):
        main(Config(parts=("a", "d")), parts)


@pytest.mark.parametrize("way", all_pairs.WAYS)
@pytest.mark.parametrize("bits", [7, 70])
def test_neighbours_of_all_pairs_are_those_of_numpy(way, bits):
    n, queries, tile, k = 300, 64, 128, 2
    # Codes of 7 bits: most distances are tied, and the smaller index counts. Few ones: the zeros that fill the last
    # tile are nearer than most codes, and must not be found.
    random = np.random.default_rng(0)
    unpacked = random.random((n, bits)) < 0.1
    words = np.asarray(all_pairs.Code.of(unpacked).words)
    right = (unpacked[:, None] ^ unpacked[None]).sum(-1)
    order = np.argsort(right, axis=1, kind="stable")[:, :k]
    of_way = all_pairs.WAYS[way]
    filled = all_pairs.fill(of_way, words, tile)
    assert len(filled.words) == 384
    search = jax.jit(all_pairs.make_search(of_way, n, k, tile, queries))
    for first in (0, 128):
        distances, indices = search(*filled, np.int32(first))
        some = slice(first, first + queries)
        np.testing.assert_array_equal(indices, order[some])
        np.testing.assert_array_equal(distances, np.take_along_axis(right, order, 1)[some])


def test_wrong_neighbours_end_the_part():
    words = np.random.default_rng(0).integers(0, 2**32, (40, 2), np.uint32)
    distances, indices = all_pairs.nearest(*[all_pairs.Code(jnp.asarray(words), 64)] * 2, k=all_pairs.NEIGHBOURS)
    assert all_pairs.agreed(words, {"ours": (distances, indices)}) == ["ours: the 10 nearest of 8 are NumPy's"]
    swapped = indices[:, ::-1]
    # Beyond those that NumPy looks at, the ways are compared with one another.
    late = np.where(np.arange(40)[:, None] < 8, indices, swapped)
    with pytest.raises(SystemExit, match="of 8 are NumPy's"):
        all_pairs.agreed(words, {"other": (distances, swapped)})
    with pytest.raises(SystemExit, match="of 40 are those of other"):
        all_pairs.agreed(words, {"ours": (distances, indices), "other": (distances, late)})


def test_a_way_that_does_not_work_here_is_left_out():
    def breaks():
        raise RuntimeError("RESOURCE_EXHAUSTED")

    fine, failed = all_pairs._working({"good": list, "large": breaks})
    assert (fine, failed) == ({"good": list}, {"large": "RuntimeError: RESOURCE_EXHAUSTED"})
    with pytest.raises(RuntimeError, match="no way works"):
        all_pairs._working({"large": breaks, all_pairs.LIBRARY: list})


def test_differences_beyond_their_bounds_are_figures_that_are_not_met(monkeypatch, tmp_path):
    here = [seen(epoch, 0.75) for epoch in (0, 1)]
    there = [seen(epoch, 0.5) for epoch in (0, 1)]
    monkeypatch.setattr(rounding, "trained", lambda *_: here)

    class Process:
        """Writes what a CPU would have seen."""

        def __init__(self, command, **options):
            assert options["env"]["JAX_PLATFORMS"] == "cpu"
            Path(command[3]).write_bytes(against_cpu.pickle.dumps(there))

        def wait(self, timeout=None):
            return 0

        def kill(self):
            pass

    monkeypatch.setattr(against_cpu.subprocess, "Popen", Process)
    found = against_cpu.run(accelerator.Setting(quick=True))
    met = {one["what"]: one["met"] for one in found["figures"]}
    assert met.pop("differences beyond their bound") is False
    assert {name for name, within in met.items() if not within} == set(rounding.BOUNDS["float32"]) - {
        "first step",
        "weights",
        "bits",
    }
    assert len(found["beyond"]) == 5


def seen(epoch, accuracy):
    names = ("test_accuracy", "train_redundancy", "knn_accuracy", "test_kmeans_accuracy", "logistic_accuracy")
    words = [np.zeros((1, 3, 1), np.uint32)]
    numbers = {name: np.full((1, 1), accuracy) for name in names}
    return rounding.Seen(epoch, [np.ones((1, 4))], words, (4,), numbers)


@pytest.mark.slow
def test_pytorch_side_by_side_learns_and_a_peer_that_does_not_work_is_told(monkeypatch):
    pytest.importorskip("torch")
    train, random = TrainConfig(batch_size=16), np.random.default_rng(0)
    y = random.integers(0, 10, 320).astype(np.int32)
    x = np.eye(10, dtype=np.float32)[y] + random.random((320, 10), np.float32) / 10

    def breaks(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch_training, "compiled", breaks)
    found, failed = torch_training.peers((4, 20), 2, train, x, y)
    assert failed == {torch_training.COMPILED: "RuntimeError: no compiler"}
    assert {name: peer.model_steps for name, peer in found.items()} == {
        torch_training.LOOP: 2 * 20,
        torch_training.FUNC: 2 * 2 * 20,
    }
    assert torch_training.side_by_side((20,), 2, train, x, y) < 1.2 < np.log(10)  # of guesses
