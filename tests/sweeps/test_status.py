import importlib.util
import json
import os
import shutil
import struct
import sys
from datetime import UTC, datetime

import pytest

from jaxhash import cli
from jaxhash.storage import locks
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps import log as run_log
from jaxhash.sweeps import status
from tests.commands import status_of


@pytest.fixture
def half(trained, tmp_path):
    """The small sweep (2 repeats of 3 widths, 8 epochs), one repeat done and one in its third epoch."""
    out = tmp_path / "run"
    shutil.copytree(trained.out, out)
    (out / runs.RESULTS).unlink()
    first, second = runs.tasks_of(runs.read_description(out))
    shutil.rmtree(second.folder(out, None))
    (out / runs.PARTIAL / second.name / "step-2").mkdir(parents=True)
    lines = [
        {"event": "start", "seconds": 0.0, "steps_per_epoch": 40},
        {"event": "epoch", "seconds": 4.0, "task": first.name, "epoch": 8, "model_steps_per_second": 60.0}
        | {"model_steps": 480, "active": 3},
        {"event": "epoch", "seconds": 9.0, "task": second.name, "epoch": 3, "model_steps_per_second": 50.0}
        | {"model_steps": 900, "active": 3, "loss_mean": 1.25},
    ]
    text = "".join(json.dumps(line | {"time": "2026-01-02T03:04:05+00:00", "pid": 1}) + "\n" for line in lines)
    (out / run_log.LOG).write_text(text + '{"event": "epo')
    return out


def rows(out, capsys):
    assert cli.run(cli.StatusOf(out)) == cli.OK
    return dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())


def test_a_finished_run(trained, capsys):
    found = status.status(trained.out)
    assert (found.ended, found.finished, found.holder, found.error) == ("done", True, None, None)
    assert (found.models, found.measured, found.measurings, found.epochs_done) == (6, 6, 6, 8)
    assert rows(trained.out, capsys)["state"] == "done"


def test_a_killed_run(half, capsys):
    found = status.status(half)
    assert (found.ended, found.finished, found.holder) == ("killed", False, None)
    assert (found.models, found.measured, found.measurings) == (6, 3, 6)
    assert found.epochs_done == (3 * 8 + 3 * 3) / 6
    assert found.seconds_left is None
    told = rows(half, capsys)
    assert told["state"] == "killed; the same command continues it"
    assert told["models"] == "6, 3 of 6 measurings saved"
    assert told["epochs"] == "5.5 of 8 on average"
    assert told["loss"].startswith("1.2500 nats")
    assert told["speed"] == "50 model-steps/s"


def test_a_run_in_progress_and_what_is_left_of_it(half, capsys):
    before = {path: path.read_bytes() for path in half.rglob("*") if path.is_file() and path.name != locks.LOCK}
    with locks.held(half):
        found = status.status(half)
        told = rows(half, capsys)
    assert found.holder.pid == os.getpid()
    assert found.ended is None
    # 3 models lack 5 epochs of 40 steps, at 50 model-steps a second.
    assert found.seconds_left == 3 * 5 * 40 / 50
    assert told["state"].startswith(f"running: process {os.getpid()} on ")
    assert told["left"].startswith("about 12 s")
    assert {p: p.read_bytes() for p in half.rglob("*") if p.is_file() and p.name != locks.LOCK} == before


def test_a_run_of_several_processes(half):
    """The second has brought the unfinished task further; a third helped an earlier run, and counts no more."""
    second = runs.tasks_of(runs.read_description(half))[1].name
    then = {"time": "2026-01-02T03:04:06+00:00", "pid": 2, "task": second, "event": "epoch"}
    text = (half / run_log.LOG).read_text().replace('"steps_per_epoch"', '"processes": 2, "steps_per_epoch"')
    (half / run_log.LOG).write_text(text)
    start = json.dumps(then | {"event": "start", "seconds": 0.0}) + "\n"
    for process, epoch, speed in ((1, 5, 30.0), (2, 7, 1000.0)):
        line = then | {"seconds": 9.0, "epoch": epoch, "model_steps_per_second": speed, "loss_mean": 0.5}
        (half / f"log-{process}.jsonl").write_text(start + json.dumps(line) + "\n")
    with locks.held(half):
        found = status.status(half)
    assert found.epochs_done == (3 * 8 + 3 * 5) / 6
    assert found.model_steps_per_second == 50 + 30
    assert found.loss == 0.5
    assert found.last_sign == then["time"]
    assert found.seconds_left == 3 * 3 * 40 / 80


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ({"event": "stopped"}, "stopped; the same command continues it"),
        ({"event": "failed", "error": "OSError: full"}, "failed (OSError: full); the same command continues it"),
    ],
)
def test_a_run_that_stopped(half, capsys, event, state):
    with (half / run_log.LOG).open("a") as log:
        log.write("\n" + json.dumps({"time": "2026-01-02T03:04:05+00:00", "pid": 1, "seconds": 10.0} | event) + "\n")
    assert rows(half, capsys)["state"] == state


def test_a_run_not_begun(trained, tmp_path, capsys):
    (tmp_path / runs.CONFIG).write_text((trained.out / runs.CONFIG).read_text())
    told = rows(tmp_path, capsys)
    assert told["state"] == "not begun"
    assert told["epochs"] == "0.0 of 8 on average"
    assert not (tmp_path / locks.LOCK).exists()


def test_folders_that_are_no_runs_get_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    other = {"config": {"network": "vgg"}, "features": 1, "classes": 2, "tasks": []}
    (tmp_path / "other" / runs.CONFIG).write_text(json.dumps(other))
    messages = dict.fromkeys(("missing", "empty"), "is not the folder of a sweep")
    for name, message in (messages | {"other": "does not describe a sweep"}).items():
        monkeypatch.setattr(sys, "argv", ["jaxhash", "status", str(tmp_path / name)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 1
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    "field",
    [
        {"epoch": "3"},
        {"epoch": None},
        {"loss_mean": "low"},
        {"loss_mean": [1]},
        {"model_steps_per_second": "50"},
        {"model_steps_per_second": 10**400},
        {"model_steps": 10**30},
        {"task": {}},
        {"task": "../../elsewhere"},
    ],
)
def test_lines_with_something_else_in_a_field_are_left_out(half, tmp_path, capsys, field):
    """Found by the fuzzer."""
    before = status.status(half)
    last = json.loads((half / run_log.LOG).read_text().splitlines()[-2])
    with (half / run_log.LOG).open("a") as log:
        log.write("\n" + json.dumps(last | {"epoch": 7, "loss_mean": 9.0} | field) + "\n")
    assert status.status(half) == before
    assert rows(half, capsys)["loss"].startswith("1.2500 nats")
    if importlib.util.find_spec("tensorboardX"):
        assert cli.run(cli.StatusOf(half, tmp_path / "a" / "b" / "board")) == cli.OK
        assert not (tmp_path / "a" / "elsewhere").exists()


def scalars(folder):
    """What TensorBoard's event files hold: records of length, checksum, data, checksum (the TFRecord format)."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = folder.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value, event.wall_time) for value in event.summary.value]
        data = data[16 + length :]
    return found


def test_scalars_for_tensorboard(half, tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    assert cli.run(cli.StatusOf(half, tmp_path / "board")) == cli.OK
    assert "5 scalars in" in capsys.readouterr().out
    first, second = (task.name for task in runs.tasks_of(runs.read_description(half)))
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert scalars(tmp_path / "board") == [
        ("model_steps_per_second", n, v, then) for n, v in ((480, 60.0), (900, 50.0))
    ]
    assert scalars(tmp_path / "board" / second) == [("loss/mean", 3, 1.25, then), ("models_training", 3, 3.0, then)]
    assert scalars(tmp_path / "board" / first) == [("models_training", 8, 3.0, then)]
    assert status_of(cli.StatusOf(half, tmp_path / "board")) == 1
    assert "board exists; give a new folder" in capsys.readouterr().err


def test_scalars_without_the_package_that_writes_them(half, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert status_of(cli.StatusOf(half, tmp_path / "board")) == 1
    assert capsys.readouterr().err.endswith('pip install "jaxhash[tensorboard]"\n')
    assert not (tmp_path / "board").exists()
