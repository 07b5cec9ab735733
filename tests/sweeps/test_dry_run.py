"""Dry runs: what is listed against the sweep itself, memory against the arrays, and nothing written."""

from dataclasses import replace

import numpy as np
import pytest

from jaxhash.sweeps import SweepConfig, TrainConfig
from jaxhash.sweeps.dry_run import dry_run
from jaxhash.sweeps.tasks import cut
from jaxhash.terminal import capacity

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(300, 12)).astype(np.float32), RNG.integers(0, 3, 300).astype(np.int32)
CONFIG = SweepConfig(
    dataset=(X[:200], Y[:200], X[200:], Y[200:]),
    widths=(4, 40),
    repeats=3,
    snapshots=(0, 5),
    train=TrainConfig(epochs=5, batch_size=20),
)


@pytest.fixture(scope="module")
def found():
    return dry_run(CONFIG)


def test_every_model_is_trained_evaluated_and_measured_as_often_as_the_sweep_does_it(found):
    models = {}
    for one in found.programs:
        models[one.what] = models.get(one.what, 0) + one.models * one.calls
    assert models == {"train, one epoch": 6 * 5, "evaluate": 6 * 2, "measure codes": 6 * 2}
    assert (found.models, found.features, found.classes) == (6, 12, 3)


def test_flops_are_those_of_the_matrix_products(found):
    epoch, evaluation = (
        next(one for one in found.programs if one.what == name) for name in ("train, one epoch", "evaluate")
    )
    assert epoch.widths == (4, 40)
    # Of one repeat: 8 steps of 20 examples, as a fifth of the 200 is held out; forward and kernel gradient in the first
    # layer, one more in the second.
    assert epoch.flops == 2 * 160 * (2 * 44 * 12 + 3 * 44 * 3)
    assert evaluation.flops == 2 * 260 * (44 * 12 + 44 * 3)


def test_memory_is_that_of_the_arrays_and_more(found):
    epoch = next(one for one in found.programs if one.what == "train, one epoch")
    parameters = 44 * 12 + 2 * 40 * 3  # the second layers are padded to the widest
    assert 4 * X[:160].size + 3 * 4 * parameters < epoch.bytes < 2_000_000


def test_times_add_up(found):
    together = sum(one.calls * one.seconds for one in found.programs)
    assert together / found.workers <= found.seconds * 1.001
    assert found.seconds <= together


def test_codes_of_every_sample_size_are_measured():
    data = RNG.normal(size=(6000, 5)).astype(np.float32), RNG.integers(0, 3, 6000).astype(np.int32)
    config = replace(
        CONFIG,
        dataset=(*data, data[0][:50], data[1][:50]),
        widths=(4,),
        repeats=2,
        snapshots=(),
        sample_sizes=(10, 4800),
        train=TrainConfig(epochs=1, batch_size=100),
    )
    told = []
    found = dry_run(config, callback=lambda done, total: told.append((done, total)))
    assert [one.calls for one in found.programs if one.what == "measure codes"] == [2, 2]
    assert told[-1][0] == told[-1][1]


def test_an_accelerator_takes_all_models_at_once():
    (task,) = cut(CONFIG, 12, 3, 141 * 10**9)
    assert (len(task.members), task.widths) == (3, (4, 40))


def test_the_command_tells_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capacity.main(["--dry-run", "--widths", "4", "--repeats", "1", "--epochs", "2", "--examples", "200"])
    said = " ".join(capsys.readouterr().out.split())
    assert "1 models. About " in said or "1 model. About " in said
    assert "An accelerator of 141 GB would train them in 1 task of up to 1 models" in said
    assert list(tmp_path.iterdir()) == []
