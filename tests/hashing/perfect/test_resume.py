"""How a fit in progress stands, from its folder alone."""

from contextlib import suppress

import pytest

from jaxhash.hashing.perfect import resume
from jaxhash.storage import event_log, locks
from jaxhash.storage.saves import Interrupted


@pytest.fixture
def folder(tmp_path):
    """A fit that was stopped after its second note; it has saved once."""
    with suppress(Interrupted), event_log.writing(tmp_path / event_log.LOG, Interrupted, method="seeds") as log:
        log.write("fit", stage="reading", keys=1000, steps=0, collisions=0)
        log.write("fit", stage="fitting", keys=2000, steps=30, collisions=4)
        raise Interrupted
    (tmp_path / "step-3").mkdir()
    return tmp_path


def test_a_fit_that_was_stopped(folder):
    rows = resume.table(folder)
    assert rows["fit"] == f"{folder} (seeds)"
    assert rows["state"] == "stopped; the same command continues it"
    assert rows["stage"] == "fitting, 2,000 keys"
    assert rows["collisions"] == "4 left, step 30"
    assert rows["saved"] == "step-3"
    assert rows["last sign"].endswith("s ago)")


def test_one_that_works_now(folder):
    with locks.held(folder):
        assert resume.table(folder)["state"].startswith("running: process ")


def test_one_that_was_killed_before_it_noted_anything(tmp_path):
    (tmp_path / event_log.LOG).write_text(
        '{"event": "start", "time": "2026-01-02T03:04:05+00:00", "seconds": 0, "method": "seeds"}\n'
    )
    rows = resume.table(tmp_path)
    assert rows["state"] == "killed; the same command continues it"
    assert rows["saved"] == "nothing yet"
    assert rows.keys().isdisjoint({"stage", "collisions"})


def test_one_that_failed_says_for_what(folder):
    with (
        pytest.raises(OSError, match="no space"),
        event_log.writing(folder / event_log.LOG, Interrupted, method="seeds"),
    ):
        raise OSError("no space")
    assert resume.table(folder)["state"] == "failed (OSError: no space); the same command continues it"


def test_a_folder_of_no_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no fit has begun there"):
        resume.table(tmp_path)
