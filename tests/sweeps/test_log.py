"""What of a sweep is logged, with a clock of the test's own."""

import itertools
import json
import os
import threading

import numpy as np
import pytest

from jaxhash.sweeps import folder, log
from jaxhash.sweeps.engine import Interrupted, Progress

NOTHING = np.zeros(0)


def tasks_of(trained):
    return folder.tasks_of(folder.read_description(trained.out))


def logged(trained, out, report=lambda progress: None, seconds_a_look=2.0):
    """The clock goes on by some seconds with every look at it."""
    clock = (look * seconds_a_look for look in itertools.count())
    return log.opened(out, trained.config, tasks_of(trained), len(trained.data.x_train), report, clock=clock.__next__)


def trained_for(task, epoch, losses, active=None):
    losses = np.asarray(losses)
    return Progress(task, epoch, losses, np.ones(losses.shape, bool) if active is None else np.asarray(active), [])


def test_a_sweep_logs_its_start_every_task_and_its_end(trained):
    events = log.events(trained.out)
    mine = [e for e in events if e["pid"] == events[0]["pid"]]
    assert mine[0]["event"] == "start"
    assert mine[0]["models"] == 6
    assert mine[0]["steps_per_epoch"] == len(trained.data.x_train) // 32
    measured = [e for e in events if e["event"] == "measured"]
    assert {(e["task"], e["epoch"]) for e in measured} == {(task.name, 8) for task in tasks_of(trained)}
    assert len(measured) == len(tasks_of(trained))  # once, however often the run was opened again
    for e in measured:
        repeat = int(e["task"].split("-")[1])
        mean = trained.results["test_accuracy"].sel(repeat=repeat).mean().item()
        assert e["test_accuracy"] == pytest.approx(mean, abs=1e-6)
    assert events[-1]["event"] == "done"


def test_losses_and_speed_are_those_of_the_models_that_train(trained, tmp_path):
    task, seen = tasks_of(trained)[0], []
    with logged(trained, tmp_path, seen.append) as report:
        report(trained_for(task, 1, [[1.0, 2.0, 6.0]]))
        report(trained_for(task, 2, [[1.0, 9.0, 3.0]], [[True, False, True]]))
        report(trained_for(task, 3, [[float("nan"), 9.0, 3.0]], [[True, False, False]]))
    start, *epochs, done = log.events(tmp_path)
    assert len(seen) == 3
    assert [[e[f"loss_{kind}"] for kind in ("mean", "min", "max")] for e in epochs] == [
        [3, 1, 6],
        [2, 1, 3],
        [None] * 3,
    ]
    assert [e["active"] for e in epochs] == [3, 2, 1]
    assert [e["model_steps"] for e in epochs] == [n * start["steps_per_epoch"] for n in (3, 5, 6)]
    # The clock is looked at when a line is due (4 s after the look before that), for the speed, and for the line.
    seconds = [e["model_steps"] / e["model_steps_per_second"] for e in epochs]
    assert seconds == pytest.approx([seconds[0] + 6 * i for i in range(3)], rel=1e-2)
    assert [e["seconds"] - s for e, s in zip(epochs, seconds, strict=True)] == pytest.approx([2, 2, 2], abs=0.1)
    assert done["event"] == "done"


def test_a_task_takes_a_line_a_second_at_most(trained, tmp_path):
    first, second = tasks_of(trained)[:2]
    with logged(trained, tmp_path, seconds_a_look=0.1) as report:
        for epoch in range(1, 50):
            report(trained_for(first, epoch, [[1.0, 1.0, 1.0]]))
        report(trained_for(second, 1, [[1.0, 1.0, 1.0]]))
    lines = [(e["task"], e["epoch"]) for e in log.events(tmp_path) if e["event"] == "epoch"]
    assert lines[0] == (first.name, 1)
    assert (second.name, 1) in lines
    # 49 epochs, each of them a look of 0.1 s: a line about every 8th, as lines look at the clock too.
    assert 4 <= sum(name == first.name for name, _ in lines) <= 8


def test_how_it_ended_is_the_last_line(trained, tmp_path):
    for error, expected in ((Interrupted(), "stopped"), (OSError(28, "No space left\non device"), "failed")):
        with pytest.raises(type(error)), logged(trained, tmp_path):
            raise error
        assert log.events(tmp_path)[-1]["event"] == expected
    assert log.events(tmp_path)[-1]["error"] == "OSError: [Errno 28] No space left"


def test_torn_lines_are_skipped_and_what_follows_is_whole(trained, tmp_path):
    with logged(trained, tmp_path):
        pass
    whole = (tmp_path / "log.jsonl").read_bytes()
    for cut in range(1, len(whole)):
        (tmp_path / "log.jsonl").write_bytes(whole[:cut])
        before = log.events(tmp_path)
        assert len(before) in (0, 1, 2)
        if cut % 10 == 0:
            with logged(trained, tmp_path):
                pass
            after = log.events(tmp_path)
            assert [e["event"] for e in after] == [e["event"] for e in before] + ["start", "done"]
    (tmp_path / "log.jsonl").write_bytes(b'\xff\xfe\n[]\n{"event": "x"}\n"text"\n' + whole)
    assert [e["event"] for e in log.events(tmp_path)] == ["start", "done"]
    (tmp_path / "log.jsonl").unlink()
    assert log.events(tmp_path) == []


def test_lines_of_many_threads_do_not_mix(trained, tmp_path):
    task = tasks_of(trained)[0]
    with logged(trained, tmp_path) as report:
        epochs = [trained_for(task, epoch, [[1.0, 2.0, 3.0]]) for epoch in range(200)]
        threads = [threading.Thread(target=lambda: [report(epoch) for epoch in epochs]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 802
    assert json.loads(lines[-2])["model_steps"] == 800 * 3 * (len(trained.data.x_train) // 32)


def test_a_line_that_does_not_fit_is_an_error(trained, tmp_path, monkeypatch):
    write = os.write
    with logged(trained, tmp_path) as report:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="No space left"):
            report(trained_for(tasks_of(trained)[0], 1, [[1.0, 2.0, 3.0]]))
        monkeypatch.undo()
    assert [e["event"] for e in log.events(tmp_path)] == ["start", "done"]
