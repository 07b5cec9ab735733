"""SIGINT and SIGTERM to a sweep: it finishes its step, saves, says how to go on, and goes on there."""

import signal

import pytest

from jaxhash.sweeps import folder
from tests.faults.conftest import ended, last_event, since_start, wait_until


@pytest.mark.slow
def test_a_sweep(whole, processes, tmp_path):
    out = tmp_path / "run"
    for number, exit_status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = processes.sweep(out)
        wait_until(process, lambda process=process: "epoch" in {e["event"] for e in since_start(process, out)})
        process.send_signal(number)
        stopped, said = ended(process)
        assert stopped == exit_status, said
        assert said[-2:] == [
            "Stopping after the epochs under way and saving; Ctrl-C again quits at once.",
            f"Interrupted. What was finished is in {out}; the same command continues it.",
        ]
        assert last_event(out)["event"] == "stopped"
        whole.assert_nothing_wrong(out)
    saved = {path.parent.name: int(path.name.split("-")[1]) for path in (out / folder.PARTIAL).glob("*/step-*")}
    assert saved
    process = processes.sweep(out)
    assert ended(process)[0] == 0
    whole.assert_ended_the_same(out)
    for task, epoch in saved.items():
        # The first epoch of a task is always logged: it is the one after that which was saved.
        trained = [e["epoch"] for e in since_start(process, out) if e["event"] == "epoch" and e["task"] == task]
        assert trained[:1] in ([epoch + 1], [])
