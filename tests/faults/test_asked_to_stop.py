"""SIGINT and SIGTERM to a sweep: it finishes its step, saves, says how to go on, and goes on there."""

import signal

import pytest
from conftest import ended, last_event, wait_until

from jaxhash import run_log, runs


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep(whole, processes, tmp_path, number, exit_status):
    out = tmp_path / "run"
    process = processes.sweep(out)
    wait_until(process, lambda: any(e["event"] == "epoch" for e in run_log.events(out)))
    process.send_signal(number)
    stopped, said = ended(process)
    assert stopped == exit_status, said
    assert said[-2:] == [
        "Stopping after the epochs under way and saving; Ctrl-C again quits at once.",
        f"Interrupted. What was finished is in {out}; the same command continues it.",
    ]
    assert last_event(out)["event"] == "stopped"
    whole.assert_nothing_wrong(out)
    saved = {path.parent.name: int(path.name.split("-")[1]) for path in (out / runs.PARTIAL).glob("*/epoch-*")}
    assert saved
    assert ended(processes.sweep(out))[0] == 0
    whole.assert_ended_the_same(out)
    events = run_log.events(out)
    again = events[max(i for i, e in enumerate(events) if e["event"] == "start") :]
    for task, epoch in saved.items():
        # No epoch that was saved is trained again.
        assert min(e["epoch"] for e in again if e.get("task") == task) > epoch
