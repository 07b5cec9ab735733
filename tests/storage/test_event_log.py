"""The event log of a run: whole lines, whatever happens to the process that writes them."""

import json
import os
import threading

import pytest

from jaxhash.storage import event_log
from jaxhash.storage.event_log import EventLog, writing


class Stopped(Exception):
    pass


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def names(path):
    return [event["event"] for event in event_log.read(path)]


def test_start_lines_and_end(path):
    now = [100.0]
    with writing(path, Stopped, clock=lambda: now[0], models=3) as log:
        now[0] += 2.5
        log.write("epoch", loss=event_log.finite(float("nan")))
    start, epoch, done = event_log.read(path)
    assert (start["event"], start["models"], start["pid"], start["seconds"]) == ("start", 3, os.getpid(), 0)
    assert (epoch["event"], epoch["loss"], epoch["seconds"]) == ("epoch", None, 2.5)
    assert done["event"] == "done"


def test_how_it_ended_is_the_last_line(path):
    for error, expected in (
        (Stopped(), "stopped"),
        (KeyboardInterrupt(), "failed"),
        (OSError(28, "No space left\non device"), "failed"),
    ):
        with pytest.raises(type(error)), writing(path, Stopped):
            raise error
        assert names(path)[-2:] == ["start", expected]
    assert event_log.read(path)[-1]["error"] == "OSError: [Errno 28] No space left"


def test_a_line_a_second_of_each_kind(path):
    now = [0.0]
    log = EventLog(path, lambda: now[0])
    due = []
    for now[0] in (0.0, 0.5, 0.999, 1.0, 1.5, 2.25):
        due.append((log.due("a"), log.due(str(now[0]))))
    log.close()
    assert due == [(True, True), (False, True), (False, True), (True, True), (False, True), (True, True)]


def test_torn_lines_are_skipped_and_what_follows_is_whole(path):
    with writing(path, Stopped):
        pass
    whole = path.read_bytes()
    end_of_first = whole.index(b"\n")
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        # The brace that closes a line makes it whole, with its line end or without.
        before = ["start"] * (cut >= end_of_first) + ["done"] * (cut >= len(whole) - 1)
        assert names(path) == before
        if cut % 10 == 0:
            with writing(path, Stopped):
                pass
            assert names(path) == [*before, "start", "done"]
    path.write_bytes(b'\xff\xfe\n[]\n{"event": "x"}\n"text"\n{"event": "x", "time": 1, "seconds": 2}\n' + whole)
    assert names(path) == ["start", "done"]
    path.unlink()
    assert event_log.read(path) == []


def test_lines_of_many_threads_do_not_mix(path):
    with writing(path, Stopped) as log:
        threads = [
            threading.Thread(target=lambda i=i: [log.write("x", of=i, text="y" * 500) for _ in range(100)])
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["of"] for line in lines if line["event"] == "x") == sorted([*range(4)] * 100)


def test_a_line_that_does_not_fit_is_an_error(path, monkeypatch):
    write = os.write
    with writing(path, Stopped) as log:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="No space left"):
            log.write("epoch")
        monkeypatch.undo()
    assert names(path) == ["start", "done"]


def test_how_long_ago():
    now = event_log.datetime.fromisoformat("2026-01-02T03:04:05+00:00")
    assert event_log.ago("2026-01-02T03:03:00+00:00", now) == "65 s ago"
    assert event_log.ago("2026-01-02T03:04:06+00:00", now) == "in the future, by this clock"
    assert event_log.ago("yesterday", now) == "at a time that cannot be read"
    assert event_log.ago("2026-01-02T03:04:06+00:00").endswith((" s ago", "by this clock"))
