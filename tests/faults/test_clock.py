"""A wall clock that is set back: durations, saves and results do not look at it."""

import dataclasses
from datetime import UTC, datetime

import pytest

from jaxhash.sweeps import log, status
from tests.faults.conftest import ended


@pytest.mark.slow
def test_a_sweep_whose_clock_is_set_back_again_and_again_is_the_same(whole, processes, tmp_path):
    out = tmp_path / "run"
    assert ended(processes.sweep(out, "clock"))[0] == 0
    whole.assert_ended_the_same(out)
    events = log.events(out)
    times, seconds = [e["time"] for e in events], [e["seconds"] for e in events]
    assert times == sorted(times, reverse=True)
    assert seconds == sorted(seconds)
    assert 0 <= seconds[-1] < 100
    assert all(e["model_steps_per_second"] > 0 for e in events if e["event"] == "epoch")


def test_a_status_from_before_the_last_sign(trained):
    found = dataclasses.replace(status.status(trained.out), last_sign="2026-01-02T03:04:05+00:00")
    rows = status.table(trained.out, found, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    assert rows["last sign"].endswith("(in the future, by this clock)")
    rows = status.table(trained.out, found, datetime(2026, 1, 2, 3, 5, tzinfo=UTC))
    assert rows["last sign"].endswith("(55 s ago)")
