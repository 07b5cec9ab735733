"""Files of a finished sweep cut or with bits flipped, at random places: what is loaded is right, or an error."""

import dataclasses
import random
import shutil
import threading

import numpy as np
import pytest

import jaxhash
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import log, status
from jaxhash.sweeps.results import collect
from tests.faults.conftest import SEEDS

PLACES = 10


def damage(path, draw):
    """Cut a file off somewhere, or flip a bit of it."""
    data = bytearray(path.read_bytes())
    if draw.random() < 0.5:
        data = data[: draw.randrange(len(data))]
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_task(trained, tmp_path, seed):
    draw = random.Random(seed)
    whole = trained.out / "tasks"
    files = sorted(f for f in whole.rglob("*") if f.is_file() and f.stat().st_size)
    x = trained.data.x_test[:50]
    expected = {(w, r): np.asarray(trained.model(w, r).apply(x)) for w in trained.config.widths for r in (0, 1)}
    for place in range(PLACES):
        out = tmp_path / str(place)
        shutil.copytree(trained.out, out)
        file = draw.choice(files).relative_to(trained.out)
        damage(out / file, draw)
        refused = []
        for (width, repeat), logits in expected.items():
            try:
                np.testing.assert_array_equal(jaxhash.load(out, width=width, repeat=repeat).apply(x), logits)
            except CheckpointError as error:
                refused.append(str(error))
        # Three widths of one repeat stand in a task.
        assert [file.parts[1] in message for message in refused] == [True] * 3, file
        with pytest.raises(CheckpointError, match="delete this folder and run the same command again"):
            collect(out)
        shutil.rmtree(out)


def test_a_whole_task_in_the_place_of_another(trained, tmp_path):
    """Nothing of it is damaged, and its arrays have the shapes of those expected."""
    one, other = sorted(path.name for path in (trained.out / "tasks").iterdir())
    shutil.copytree(trained.out, tmp_path / "x")
    shutil.rmtree(tmp_path / "x" / "tasks" / one)
    shutil.copytree(trained.out / "tasks" / other, tmp_path / "x" / "tasks" / one)
    with pytest.raises(CheckpointError, match=f"{one}: holds models of something else \\(another task\\)"):
        jaxhash.load(tmp_path / "x", width=3, repeat=0)
    for read in (collect, lambda out: sweep.run(trained.config, out)):
        with pytest.raises(CheckpointError, match=r"another task.*delete this folder and run the same command again"):
            read(tmp_path / "x")
    jaxhash.load(tmp_path / "x", width=3, repeat=1)


def test_a_damaged_save_of_an_unfinished_task_is_replaced(trained, tmp_path):
    """Else every later run trains the task from the start again."""
    config, first_epochs = dataclasses.replace(trained.config, repeats=1), []

    def run_to(last):
        epochs, stop = [], threading.Event()

        def report(progress):
            epochs.append(progress.epoch)
            if progress.epoch == last:
                stop.set()

        with pytest.raises(sweep.Interrupted):
            sweep.run(config, tmp_path, callback=report, stop=stop)
        first_epochs.append(epochs[0])

    run_to(3)
    (saved,) = tmp_path.glob("partial/*/step-3")
    (saved / "meta.json").write_text("{}")
    run_to(3)
    run_to(4)
    assert first_epochs == [1, 1, 4]


def test_the_tasks_of_another_run(trained, tmp_path):
    shutil.copytree(trained.out, tmp_path / "x")
    config = (tmp_path / "x" / "config.json").read_text()
    assert config.count('"seed": 0') == 1
    (tmp_path / "x" / "config.json").write_text(config.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(CheckpointError, match=r"holds models of something else \(another run\)"):
        jaxhash.load(tmp_path / "x", width=3, repeat=0)
    with pytest.raises(CheckpointError, match="another run"):
        collect(tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_what_describes_a_run(trained, tmp_path, seed):
    """Its configuration has no checksum, for people read and mend it: a changed one is another run, and refused."""
    draw = random.Random(1000 + seed)
    for place in range(PLACES):
        out = tmp_path / str(place)
        shutil.copytree(trained.out, out)
        damage(out / "config.json", draw)
        changed = (out / "config.json").read_bytes()
        try:
            results = sweep.run(trained.config, out)
        except ValueError:
            assert (out / "config.json").read_bytes() == changed
        else:
            for name in results.data_vars:
                np.testing.assert_array_equal(results[name], trained.results[name])
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_log(trained, tmp_path, seed):
    """Whatever stands there, a status is given, and it does not touch what is saved."""
    draw = random.Random(2000 + seed)
    for place in range(PLACES):
        out = tmp_path / str(place)
        shutil.copytree(trained.out, out)
        damage(out / log.LOG, draw)
        found = status.status(out)
        assert (found.measured, found.models, found.ended) == (6, 6, "done")
        assert status.table(out, found)["models"] == "6, 6 of 6 measurings saved"
        shutil.rmtree(out)
