import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from jaxhash.codes import Property
from jaxhash.data import load
from jaxhash.models.mlp import ModelConfig
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import folder, inputs, measuring, models, programs
from jaxhash.sweeps.grid import METRICS, SweepConfig
from jaxhash.sweeps.programs import FirstCalls
from jaxhash.sweeps.task import Interrupted
from jaxhash.terminal.sweeps import summary
from jaxhash.training.mlp import TrainConfig
from tests.sweeps import stand_in

ROOT = Path(__file__).parents[2]


def copy_of(trained, folder):
    shutil.copytree(trained.out, folder)
    return folder


def test_results_are_labelled_and_complete(trained):
    results = trained.results
    assert results.sizes == {"repeat": 2, "width": 3}
    assert results["width"].values.tolist() == [3, 20, 40]
    assert set(results.data_vars) == {*METRICS, "epochs", "diverged"}
    assert all(np.isfinite(results[name]).all() for name in results)
    assert (results["epochs"] == 8).all()
    assert not results["diverged"].any()
    assert not np.array_equal(results["test_loss"].sel(repeat=0), results["test_loss"].sel(repeat=1))


def test_both_files_hold_the_results_and_whose_they_are(trained):
    with xr.open_dataset(trained.out / "results.nc") as stored:
        xr.testing.assert_identical(stored.load(), trained.results)
        assert '"widths": [20, 3, 40]' in stored.attrs["config"]
        assert '"jax"' in stored.attrs["versions"]
        assert stored.attrs["seed"] == 0
    table = pd.read_csv(trained.out / "results.csv", converters=dict.fromkeys(METRICS, float)).set_index(
        ["repeat", "width"]
    )
    assert len(table) == 6
    for name in METRICS:
        assert table.loc[(1, 20), name] == trained.results[name].sel(repeat=1, width=20).item()
    assert sorted(p.name for p in trained.out.iterdir()) == [
        ".lock",
        "config.json",
        "log.jsonl",
        "results.csv",
        "results.nc",
        "tasks",
    ]


def test_a_finished_sweep_is_read_and_not_trained_again(trained, tmp_path):
    out = copy_of(trained, tmp_path / "x")
    seen = []
    xr.testing.assert_identical(sweep.run(trained.config, out, callback=seen.append), trained.results)
    assert len(seen) == len(folder.tasks_of(folder.read_description(out)))
    assert all(progress.models for progress in seen)


def test_a_stopped_sweep_goes_on_where_it_stood_and_ends_bit_for_bit_the_same(trained, tmp_path):
    stop, trained_epochs = threading.Event(), Counter()

    def note(progress):
        if progress.losses.size:
            trained_epochs[progress.task.name, progress.epoch] += 1
            if progress.epoch == 4:
                stop.set()

    with pytest.raises(Interrupted):
        sweep.run(trained.config, tmp_path / "x", callback=note, stop=stop)
    assert not (tmp_path / "x" / "results.nc").exists()
    assert 1 <= len(list((tmp_path / "x" / "partial").iterdir())) < sum(trained_epochs.values())
    xr.testing.assert_identical(sweep.run(trained.config, tmp_path / "x", callback=note), trained.results)
    names = [task.name for task in folder.tasks_of(folder.read_description(trained.out))]
    assert trained_epochs == Counter(itertools.product(names, range(1, 9)))  # none was trained twice
    for width in (3, 40):
        x = trained.data.x_test
        ours, theirs = models.load(tmp_path / "x", width=width, repeat=1), trained.model(width, 1)
        np.testing.assert_array_equal(ours.apply(x), theirs.apply(x))


def test_a_damaged_partial_save_costs_time_only(trained, tmp_path):
    stop = threading.Event()
    with pytest.raises(Interrupted):
        sweep.run(trained.config, tmp_path / "x", callback=lambda progress: stop.set(), stop=stop)
    for file in (tmp_path / "x" / "partial").rglob("meta.json"):
        file.write_text(file.read_text()[:-20])
    xr.testing.assert_identical(sweep.run(trained.config, tmp_path / "x"), trained.results)


def test_a_damaged_task_is_named_and_not_believed(trained, tmp_path):
    out = copy_of(trained, tmp_path / "x")
    meta = next((out / "tasks").iterdir()) / "meta.json"
    meta.write_text(meta.read_text().replace("test_accuracy", "test_accurady"))
    with pytest.raises(CheckpointError, match=r"damaged .* delete this folder and run the same command again"):
        sweep.run(trained.config, out)
    shutil.rmtree(meta.parent)
    xr.testing.assert_identical(sweep.run(trained.config, out), trained.results)


def test_numbers_do_not_depend_on_what_trains_beside(trained, tmp_path):
    """Width 20 alone, cut into other tasks: the same up to float32 rounding."""
    alone = sweep.run(dataclasses.replace(trained.config, widths=(20,), repeats=1), tmp_path / "x")
    together = trained.results.sel(repeat=[0], width=[20])
    np.testing.assert_allclose(alone["train_loss"], together["train_loss"], rtol=0.02)
    np.testing.assert_allclose(alone["test_accuracy"], together["test_accuracy"], atol=0.01)


def test_a_diverging_model_is_reported_and_the_others_are_measured(tmp_path, monkeypatch):
    """Width 5 starts from NaN; width 8 beside it ends as if alone, and the run ends in order."""
    config = SweepConfig(widths=(5, 8), repeats=1, train=TrainConfig(epochs=2))
    clean = sweep.run(config, tmp_path / "clean")
    whole = programs.init_state

    def broken(block, key):
        state = whole(block, key)
        bias = state.params.output_bias.at[block.widths.index(5)].set(jnp.nan)
        return state._replace(params=state.params._replace(output_bias=bias))

    monkeypatch.setattr(programs, "init_state", broken)
    # None that were compiled before.
    monkeypatch.setattr(programs, "programs_of", programs.Programs)
    monkeypatch.setattr(programs, "_of_any_recipe", programs._of_any_recipe.__wrapped__)
    results = sweep.run(config, tmp_path / "broken")
    assert results["diverged"].values.tolist() == [[1, 0]]
    assert all(np.isnan(results[name].sel(width=5)).all() for name in METRICS)
    xr.testing.assert_equal(results.sel(width=8), clean.sel(width=8))


def test_examples_are_the_first_and_label_noise_is_drawn_anew_in_each_repeat():
    config, digits = SweepConfig(examples=1000, label_noise=0.5, seed=4), load("digits")
    data = sweep.prepare(config)
    np.testing.assert_array_equal(data.x_train, digits.x_train[:1000])
    one, other = (inputs.labels(config, data, repeat) for repeat in (0, 1))
    for labels in (one, other):  # half of them drawn from 10 classes: 45 % differ
        assert 0.4 < (labels != digits.y_train[:1000]).mean() < 0.5
    assert (one != other).mean() > 0.5
    np.testing.assert_array_equal(one, inputs.labels(config, data, 0))
    clean = inputs.labels(dataclasses.replace(config, label_noise=0.0), data, 1)
    np.testing.assert_array_equal(clean, digits.y_train[:1000])


@pytest.mark.slow
def test_a_repeat_trains_and_is_measured_on_its_own_labels(tmp_path, monkeypatch):
    """The accuracy of its model on the labels of each repeat: better than chance on its own noise only."""
    monkeypatch.setattr(measuring, "PROPERTIES", stand_in.PROPERTIES)
    train = TrainConfig(epochs=60, batch_size=32, learning_rate=3e-3, patience=0)
    config = SweepConfig(widths=(40,), repeats=2, examples=100, label_noise=1.0, train=train)
    results, data = sweep.run(config, tmp_path), sweep.prepare(config)
    for repeat in (0, 1):
        predicted = np.asarray(models.load(tmp_path, width=40, repeat=repeat).apply(data.x_train)).argmax(1)
        own, other = ((predicted == inputs.labels(config, data, r)).mean() for r in (repeat, 1 - repeat))
        assert results["train_accuracy"].sel(repeat=repeat, width=40) == pytest.approx(own)
        assert own > 0.5 > 0.3 > other


def test_a_sweep_takes_a_dataset_in_memory(trained, tmp_path):
    """The digits by another name: the same results, and the name and digest of the data in config.json."""
    digits = dataclasses.replace(load("digits"), name="mine")
    config = dataclasses.replace(trained.config, dataset=digits, widths=(3,), repeats=1)
    found = sweep.run(config, tmp_path)
    assert json.loads(found.attrs["config"])["dataset"] == "mine"
    assert found.attrs["data"] == trained.results.attrs["data"]
    np.testing.assert_allclose(found["train_loss"], trained.results["train_loss"].sel(repeat=[0], width=[3]), rtol=1e-5)
    other = dataclasses.replace(config, dataset=dataclasses.replace(digits, y_train=digits.y_train[::-1].copy()))
    with pytest.raises(ValueError, match=r"data: .* there, .* here"):
        sweep.run(other, tmp_path)


def test_a_sweep_takes_arrays_and_refuses_what_is_no_dataset():
    x, y = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2
    config = SweepConfig(dataset=(x, y, x[:4], y[:4]))
    assert sweep.prepare(config).x_train.shape == (8, 16)
    assert config.data_name == "arrays"
    for wrong in ((x, y), {"x_train": x}, 3):
        object.__setattr__(config, "dataset", wrong)  # the constructor's types are checked in tests only
        with pytest.raises(ValueError, match=r"dataset=.* is no dataset; give a name, .* four arrays"):
            config.__post_init__()


def test_the_time_left_is_told_and_goes_down(tmp_path):
    told = []
    config = SweepConfig(widths=(3,), repeats=2, train=TrainConfig(epochs=8, batch_size=32))
    sweep.run(config, tmp_path, announce=lambda cost: None, callback=lambda p: told.append(p.seconds_left))
    assert told[-1] == 0
    assert all(left >= 0 for left in told)
    told.clear()
    sweep.run(config, tmp_path / "again", callback=lambda p: told.append(p.seconds_left))
    assert set(told) == {None}  # nobody asked what it costs


def test_threads_that_need_the_same_program_wait_for_one_of_them_to_compile_it():
    """Many threads, the same three programs, first calls: each program is traced once, and none of them hangs."""
    first = FirstCalls()
    words = jnp.asarray(np.random.default_rng(0).integers(0, 50, (700, 2)), jnp.uint32)
    chex.clear_trace_counter()

    @partial(jax.jit, static_argnums=1)
    @chex.assert_max_traces(n=3)
    def program(words, number):
        return (jnp.sort(words, axis=0) + number).sum()

    gate = threading.Barrier(8)

    def one(i):
        gate.wait(timeout=60)
        with first.of(i % 3):
            return int(program(words, i % 3))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(8), timeout=120))
    assert found == [int((np.asarray(words) + i % 3).sum()) for i in range(8)]


def test_a_first_call_that_fails_does_not_keep_the_others_out():
    first = FirstCalls()
    with pytest.raises(ValueError, match="broken"), first.of("a"):
        raise ValueError("broken")
    with first.of("a"), ThreadPoolExecutor(1) as pool:

        def other():
            with first.of("b"):  # another program is not waited for
                return True

        assert pool.submit(other).result(timeout=10)


def test_what_compiles_anew_is_a_first_call_of_its_own(tmp_path, monkeypatch):
    """Another assignment, and a property of the user's own, are other programs; no call keeps the programs alive."""
    first = FirstCalls()
    for module in (programs, measuring):
        monkeypatch.setattr(module, "first_calls", first)
    monkeypatch.setattr(measuring, "PROPERTIES", stand_in.PROPERTIES)
    config = SweepConfig(widths=(3,), repeats=1, random_inputs=True, train=TrainConfig(epochs=1, batch_size=32))
    sweep.run(config, tmp_path / "optimal")
    of_one = len(first._called)
    sweep.run(config, tmp_path / "again")
    assert len(first._called) == of_one
    sweep.run(dataclasses.replace(config, assignment="greedy"), tmp_path / "greedy")
    assert len(first._called) == of_one + 1
    found = sweep.run(config, tmp_path / "own", properties={"own": Property("a half", lambda data: 0.5)})
    assert len(first._called) == of_one + 2
    assert not any(isinstance(part, programs.Programs) for call in first._called for part in call)
    assert "own" in {column.header for column in summary(found, "a title").columns}


def test_another_configuration_is_refused_before_anything_is_written(trained, tmp_path):
    out = copy_of(trained, tmp_path / "x")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"widths: \[20, 3, 40\] there, \[20, 3, 41\] here"):
        sweep.run(dataclasses.replace(trained.config, widths=(20, 3, 41)), out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (3, 0)}, "width=0"),
        ({"widths": (3, -2)}, "width=-2"),
        ({"widths": (3, 5, 3)}, "width 3 is given more than once"),
        ({"widths": (3, 4), "model": ModelConfig(depth=4)}, "width=3"),
        ({"repeats": 0}, "repeats=0 is less than 1"),
        ({"seed": -1}, "seed=-1 is outside"),
        ({"label_noise": 1.5}, "label_noise=1.5 is outside"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**wrong)


def test_nonsense_that_only_the_data_shows_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="batch_size=64 is more than the 30 training examples"):
        sweep.run(SweepConfig(examples=30), tmp_path / "x")
    with pytest.raises(ValueError, match="dijits"):
        sweep.run(SweepConfig(dataset="dijits"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_every_model_is_in_one_task():
    config = SweepConfig(widths=(900, 3, 500, 800, 1000, 60), repeats=3)
    cut = sweep.cut(config, 784, 10, None)
    models = [(r, w) for task in cut for r in task.repeats for w in task.widths]
    assert sorted(models) == [(r, w) for r in range(3) for w in sorted(config.widths)]
    assert len({task.name for task in cut}) == len(cut) > 3


SMALL = """
import sys
from pathlib import Path
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import measuring
from jaxhash.sweeps import task as tasks
from jaxhash.training.mlp import TrainConfig
from tests.sweeps.stand_in import PROPERTIES
if (limit := int(sys.argv[3])):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
measuring.PROPERTIES = PROPERTIES
tasks.SECONDS_BETWEEN_SAVES = 0.0
sweep.worker_count = lambda: 1
epochs = int(sys.argv[2])
train, snapshots = TrainConfig(epochs=epochs), (0, epochs // 2, epochs)
config = sweep.SweepConfig(widths=(4, 12), repeats=2, sample_sizes=(60, 1150), snapshots=snapshots, train=train)
sweep.run(config, Path(sys.argv[1]))
"""


def start(out, *, epochs=12, limit=0, **more):
    # What runs for milliseconds is not worth optimising; and on a disk that takes no more, nothing is cached.
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_ENABLE_COMPILATION_CACHE": str(not limit)}
    command = [sys.executable, "-c", SMALL, out, str(epochs), str(limit)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **more)


@pytest.mark.slow
def test_a_sweep_killed_again_and_again_ends_bit_for_bit_as_one_left_alone(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    out = tmp_path / "killed"
    moments = [
        lambda: any((out / "partial").glob("*/step-[4-9]")),  # a task half trained
        lambda: any((out / "partial").glob("*/.step-*")),  # within a save
        lambda: any((out / "tasks").glob(".repeats-*")),  # while a finished task is written
    ]
    for moment in moments:
        process = start(out)
        while process.poll() is None and not moment():
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "results.nc").exists()
    assert start(out).wait() == 0
    names = sorted(p.relative_to(out) for p in out.rglob("*"))
    assert [p for p in names if "partial" in str(p) or p.name.count(".") > 1] == []
    for name in ("results.nc", "results.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for width in (4, 12):
        x = load("digits").x_test
        ours, theirs = (models.load(run, width=width, repeat=1) for run in (out, tmp_path / "whole"))
        np.testing.assert_array_equal(ours.apply(x), theirs.apply(x))


@pytest.mark.slow
def test_a_disk_that_takes_no_more_gives_one_error_and_the_run_goes_on_afterwards(tmp_path):
    """A limit on the size of files stands for the full disk; it fails every write of arrays."""
    out = tmp_path / "x"
    process = start(out, epochs=3, limit=4000, stderr=subprocess.PIPE, text=True)
    _, error = process.communicate()
    assert process.returncode == 1, error
    # Not always the last line: threads of Orbax may still complain when the error is out.
    assert "OSError: arrays cannot be written: File too large" in error, error
    assert not (out / "results.nc").exists()
    assert not any((out / "tasks").glob("repeats-*"))
    assert start(out, epochs=3).wait() == 0
    assert (out / "results.nc").exists()
    assert os.path.exists(out / "results.csv")


def test_a_property_of_the_users_own_appears_in_the_results(tmp_path):
    share = Property("share of ones among the bits of the test codes", lambda data: data.test.unpack().mean())
    config = SweepConfig(widths=(3,), repeats=1, train=TrainConfig(epochs=1, batch_size=32))
    found = sweep.run(config, tmp_path, properties={"ones": share})
    model = models.load(tmp_path, width=3, repeat=0)
    ones = model.codes(sweep.prepare(config).x_test).unpack().mean()
    np.testing.assert_allclose(found["ones"].item(), ones, rtol=1e-5)
    assert found["ones"].attrs["long_name"] == share.description
    assert "ones" in pd.read_csv(tmp_path / "results.csv").columns
    assert {*METRICS, "ones"} <= set(xr.load_dataset(tmp_path / "results.nc"))
