"""Fits that are stopped, and go on: from a list and from a file, with every method."""

import errno
import json
import shutil
import threading
from contextlib import suppress

import jax
import numpy as np
import pytest

from jaxhash.hashing.keys.source import KeyFile
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect import resume, workers
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.network import NetworkMethodConfig
from jaxhash.hashing.perfect.resume import opened
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.storage import checkpoint, locks
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.storage.saves import Interrupted, steps

KEYS = load_keys("english", count=3000)
CONFIGS = {
    "sharded": FitConfig(),
    "seeds": FitConfig(method="seeds", seeds=SeedsConfig(6, 3)),
    "network": FitConfig(method="network", network=NetworkMethodConfig(hidden=128)),
}


@pytest.fixture(autouse=True)
def no_minute_passes(monkeypatch):
    """It is looked at often, and saved whenever it can be."""
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(resume, "SECONDS_BETWEEN_SAVES", 0.0)


def stopped_after(reports):
    """A report that asks to stop after so many of the learning, and its event."""
    stop, left = threading.Event(), iter(range(reports))

    def report(progress):
        if progress.stage == "fitting" and next(left, None) is None:
            stop.set()

    return report, stop


@pytest.mark.parametrize("method", ["sharded", "seeds", "network"])
def test_a_fit_that_was_stopped_again_and_again_finds_the_same(tmp_path, method):
    config, folder = CONFIGS[method], tmp_path / "unfinished"
    keys = KEYS[:400] if method == "network" else KEYS
    whole = fit(keys, config)
    first_told, reports, runs = [], 1, 0
    while True:
        report, stop = stopped_after(reports)

        def noting(progress, report=report, told=[]):  # noqa: B006 (a new list for every function)
            if progress.stage == "fitting" and not told:
                told.append(progress)
                first_told.append((progress.steps, progress.collisions))
            report(progress)

        with suppress(Interrupted), opened(folder, method) as kept:
            found = fit(keys, config, noting, unfinished=kept, stop=stop)
            break
        assert len(list(folder.glob("step-*"))) == 1
        reports, runs = 2 * reports, runs + 1
    assert runs >= (1 if method == "network" else 2)
    assert first_told[-1] != first_told[0]  # the last one did not begin anew
    assert not folder.exists()
    jax.tree.map(np.testing.assert_array_equal, found.policy, whole.policy)
    assert found.examples == whole.examples
    np.testing.assert_array_equal(np.sort(found(keys)), np.arange(len(keys)))


def test_a_fit_that_is_stopped_while_it_checks_learns_nothing_again(tmp_path):
    stop, stages = threading.Event(), []

    def report(progress):
        stages.append(progress)
        if progress.stage == "checking":
            stop.set()

    with pytest.raises(Interrupted), opened(tmp_path / "x", "any") as kept:
        fit(KEYS, CONFIGS["seeds"], report, unfinished=kept, stop=stop)
    assert steps(tmp_path / "x")
    stages.clear()
    stop.clear()
    with opened(tmp_path / "x", "any") as kept:
        found = fit(KEYS, CONFIGS["seeds"], stages.append, unfinished=kept, stop=stop)
    assert [p.collisions for p in stages if p.stage == "fitting"] == [0]
    np.testing.assert_array_equal(np.sort(found(KEYS)), np.arange(len(KEYS)))


def test_a_disk_that_is_full_at_the_second_save(tmp_path, monkeypatch):
    honest, saves = checkpoint.save, []

    def save(*arguments):
        saves.append(arguments)
        if len(saves) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(*arguments)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(OSError, match="No space"), opened(tmp_path / "x", "any") as kept:
        fit(KEYS, CONFIGS["sharded"], unfinished=kept)
    assert [path.name for path in (tmp_path / "x").glob("step-*")] == ["step-1"]
    with opened(tmp_path / "x", "any") as kept:
        np.testing.assert_array_equal(np.sort(fit(KEYS, unfinished=kept)(KEYS)), np.arange(len(KEYS)))


def test_a_fit_stops_without_a_folder_too():
    report, stop = stopped_after(1)
    with pytest.raises(Interrupted):
        fit(KEYS, CONFIGS["sharded"], report, stop=stop)


def test_what_another_fit_has_learned_is_neither_taken_nor_lost(tmp_path):
    folder = tmp_path / "unfinished"
    report, stop = stopped_after(3)
    with pytest.raises(Interrupted), opened(folder, "any") as kept:
        fit(KEYS, CONFIGS["sharded"], report, unfinished=kept, stop=stop)
    (saved,) = folder.glob("step-*")
    for keys, config, what in (
        (KEYS[1:], FitConfig(len(KEYS)), "key set"),
        (KEYS, FitConfig(4000), "number of bins"),
        (KEYS, CONFIGS["seeds"], "method"),
        (KEYS, FitConfig(seed=1), "seed"),
    ):
        with (
            pytest.raises(CheckpointError, match=rf"holds what another fit has learned \(another {what}\)"),
            opened(folder, "any") as kept,
        ):
            fit(keys, config, unfinished=kept)
    with locks.held(folder), pytest.raises(locks.InUse), opened(folder, "any"):
        pass
    assert list(folder.glob("step-*")) == [saved]
    with opened(folder, "any") as kept:
        np.testing.assert_array_equal(np.sort(fit(KEYS, unfinished=kept)(KEYS)), np.arange(len(KEYS)))
    assert not folder.exists()


@pytest.mark.parametrize("older", [True, False])
def test_a_damaged_save_is_passed_over_and_said(tmp_path, older):
    """The one before serves, or the start."""
    folder, said, told, stop = tmp_path / "unfinished", [], [], threading.Event()

    def stop_when_all_is_learned(progress):
        if progress.stage == "checking":
            stop.set()

    with pytest.raises(Interrupted), opened(folder, "any") as kept:
        fit(KEYS, CONFIGS["sharded"], stop_when_all_is_learned, unfinished=kept, stop=stop)
    (saved,) = folder.glob("step-*")
    newer = saved.with_name(f"step-{int(saved.name.removeprefix('step-')) + 1}")
    shutil.copytree(saved, newer) if older else saved.rename(newer)
    meta = newer / "meta.json"
    meta.write_bytes(meta.read_bytes().replace(b"key set", b"kEy set"))
    with opened(folder, "any", said.append) as kept:
        found = fit(KEYS, CONFIGS["sharded"], told.append, unfinished=kept)
    assert len(said) == 1
    assert str(newer) in said[0]
    assert "damaged" in said[0]
    first = next(progress for progress in told if progress.stage == "fitting")
    assert (first.collisions == 0) == older
    np.testing.assert_array_equal(np.sort(found(KEYS)), np.arange(len(KEYS)))
    assert not folder.exists()


def test_a_state_that_does_not_fit_is_not_taken(tmp_path):
    for method, config in CONFIGS.items():
        report, stop = stopped_after(1)
        with pytest.raises(Interrupted), opened(tmp_path / method, method) as kept:
            fit(KEYS[:400], config, report, unfinished=kept, stop=stop)
        (state,) = (tmp_path / method).glob("step-*")
        description = checkpoint.describe(state)
        arrays = json.loads((state / "meta.json").read_text())["arrays"].values()
        parts = [text.rsplit(" ", 1) for text in arrays]
        like = [jax.ShapeDtypeStruct(json.loads(shape), dtype) for shape, dtype in parts]
        learned = [np.asarray(array) for array in checkpoint.restore(state, like)]
        fit_of, fresh = description["of"], {f"{i:02}": np.zeros_like(array) for i, array in enumerate(learned)}
        said = []
        with opened(tmp_path / method, method, said.append) as kept:
            np.testing.assert_equal(list(kept.load(fit_of, fresh).values()), learned)
            assert not said
            for i, array in enumerate(learned):
                shutil.rmtree(state)
                longer = [*learned[:i], np.concatenate([array, array[:1]]), *learned[i + 1 :]]
                checkpoint.save(state, longer, description)
                assert kept.load(fit_of, fresh) is fresh
                assert f"other arrays than expected ([{i}]" in said.pop()


def test_a_fit_that_ends_within_a_minute_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "SECONDS_BETWEEN_SAVES", 60.0)
    report, stop = stopped_after(1)
    with pytest.raises(Interrupted), opened(tmp_path / "x", "sharded") as kept:
        fit(KEYS, CONFIGS["sharded"], report, unfinished=kept, stop=stop)
    assert list(tmp_path.iterdir()) == []
    with opened(tmp_path / "x", "sharded") as kept:
        fit(
            KEYS,
            CONFIGS["sharded"],
            lambda _: list(tmp_path.iterdir()) == [] or pytest.fail("written"),
            unfinished=kept,
        )
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_file_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxhash.hashing.keys.lines.BLOCK_BYTES", 1000)
    path = tmp_path / "words"
    path.write_bytes(b"\n".join(KEYS))
    found, listed = fit(KeyFile(path)), fit(KEYS)
    jax.tree.map(np.testing.assert_array_equal, found.policy, listed.policy)
    assert found.examples == listed.examples
    path.write_bytes(b"\n".join([*KEYS, KEYS[7], KEYS[7]]))
    with pytest.raises(ValueError, match=r"words: 2 of 3,002 keys repeat .* \(lines 8 and 3001\)"):
        fit(KeyFile(path))
    once = fit(KeyFile(path), drop_duplicates=True)
    jax.tree.map(np.testing.assert_array_equal, once.policy, listed.policy)
    assert (once.num_keys, once.collisions) == (3000, 0)


@pytest.mark.parametrize("others", [slice(51), slice(49), slice(1, 51)])
def test_a_file_that_changes_meanwhile_is_told(tmp_path, others):
    path = tmp_path / "words"
    path.write_bytes(b"\n".join(KEYS[:50]))

    def write(progress):
        if progress.stage == "fitting":
            path.write_bytes(b"\n".join(KEYS[others]))

    with pytest.raises(OSError, match="words: changed while it was read"):
        fit(KeyFile(path), FitConfig(10), write)
