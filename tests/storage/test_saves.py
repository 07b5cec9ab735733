"""Step saves: the newest whole one of the same training is resumed from; a damaged one is replaced."""

import shutil
from typing import NamedTuple

import numpy as np
import pytest

from jaxhash.storage import checkpoint, saves
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.storage.saves import StepSaves


class State(NamedTuple):
    weights: np.ndarray
    nothing: tuple[()]


OF = {"model": "a", "data": 1}


def state(step):
    return State(np.full(3, step, np.float32), ())


def training(tmp_path, **changes):
    return StepSaves(tmp_path / "saves", OF | changes)


def resumed_from(tmp_path, at_most=None):
    """Step and value of what a new process resumes from."""
    found = training(tmp_path).latest(state(0), at_most)
    if found is None:
        return None
    assert isinstance(found[1], State)
    return found[0], float(found[1].weights.mean())


def copy(tmp_path, step, to):
    shutil.copytree(tmp_path / "saves" / f"step-{step}", tmp_path / "saves" / f"step-{to}")


def damage(tmp_path, step):
    path = tmp_path / "saves" / f"step-{step}" / "meta.json"
    path.write_text(path.read_text()[:-9])


def test_the_newest_stays(tmp_path):
    assert resumed_from(tmp_path) is None
    kept = training(tmp_path)
    for step in (2, 10, 9):  # by number, not by name; a training that went back saves what it has
        kept.save(step, state(step))
        assert [path.name for path in (tmp_path / "saves").iterdir()] == [f"step-{step}"]
        assert saves.steps(tmp_path / "saves") == [step]
        assert resumed_from(tmp_path) == (step, step)
    kept.clear()
    assert not (tmp_path / "saves").exists()


def test_what_is_whole_is_not_written_again(tmp_path):
    training(tmp_path).save(5, state(5))
    kept = training(tmp_path)
    kept.latest(state(0))
    kept.save(5, state(6))
    assert resumed_from(tmp_path) == (5, 5)


@pytest.mark.parametrize("older", [True, False])
def test_a_damaged_save_is_passed_over_and_replaced(tmp_path, older):
    training(tmp_path).save(3, state(3))
    if older:
        copy(tmp_path, 3, 5)
        damage(tmp_path, 5)
    else:
        (tmp_path / "saves" / "step-3").rename(tmp_path / "saves" / "step-5")  # it says of itself that it is of step 3
    kept = training(tmp_path)
    found = kept.latest(state(0))
    assert (None if found is None else found[0]) == (3 if older else None)
    kept.save(5, state(5))
    assert resumed_from(tmp_path) == (5, 5)
    assert saves.steps(tmp_path / "saves") == [5]


def test_newer_ones_than_asked_for_are_passed_over(tmp_path):
    training(tmp_path).save(4, state(4))
    assert resumed_from(tmp_path, at_most=3) is None
    assert resumed_from(tmp_path, at_most=4) == (4, 4)


def test_the_save_of_another_training_is_refused(tmp_path):
    training(tmp_path).save(4, state(4))
    with pytest.raises(CheckpointError, match=r"step-4: holds another training \(another data\).*another folder"):
        training(tmp_path, data=2).latest(state(0))
    assert resumed_from(tmp_path) == (4, 4)


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    kept = training(tmp_path)
    kept.save(4, state(4))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space"):
        kept.save(5, state(5))
    assert resumed_from(tmp_path) == (4, 4)
