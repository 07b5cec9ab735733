import json
import os
import threading

import pytest

from jaxhash import cli
from jaxhash.hashing.keys.tokens import load_keys
from jaxhash.hashing.perfect import fit_log, workers
from jaxhash.hashing.perfect.fitting import FitConfig, Interrupted, fit
from jaxhash.hashing.perfect.resume import opened
from jaxhash.storage import event_log


def shown(capsys, path):
    assert cli.run(cli.StatusOf(path)) == cli.OK
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace("last sign", "last").splitlines())


def test_a_fit_says_how_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(event_log, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_LOOKS", 0.0)
    folder, stop, rows, reports = tmp_path / "my.hash.unfinished", threading.Event(), [], []

    def report(progress):
        reports.append(progress)
        if progress.stage == "fitting" and len(reports) > 6:
            rows.append(shown(capsys, tmp_path / "my.hash"))
            stop.set()

    keys = load_keys("english", count=2000)
    with pytest.raises(Interrupted), opened(folder) as kept, fit_log.opened(folder, "sharded", report) as both:
        fit(keys, FitConfig(), both, kept=kept, stop=stop)
    (running,), stopped = rows, shown(capsys, folder)
    assert running["fit"] == stopped["fit"] == f"{folder} (sharded)"
    assert running["state"].startswith(f"running: process {os.getpid()} on ")
    assert running["stage"] == stopped["stage"] == "fitting, 2,000 keys"
    assert running["collisions"] == f"{reports[-1].collisions:,} left, step {reports[-1].steps:,}"
    assert (running["saved"], stopped["saved"]) == ("nothing yet", "state-1")
    assert stopped["state"] == "stopped; the same command continues it"
    assert stopped["last"].endswith(" s ago)")
    events = event_log.read(folder / event_log.LOG)
    assert [e["collisions"] for e in events if e["event"] == "fit"] == [p.collisions for p in reports]
    with (folder / event_log.LOG).open("a") as file:
        file.write(json.dumps({"event": "fit", "time": events[-1]["time"], "seconds": 1, "keys": "x"}) + "\n")
    assert shown(capsys, folder)["state"] == "killed; the same command continues it"


def test_an_error_is_logged(tmp_path, capsys):
    with (
        opened(tmp_path / "x") as kept,
        pytest.raises(OSError, match="full"),
        fit_log.opened(kept.folder, "single", print),
    ):
        raise OSError("full")
    (tmp_path / "y").mkdir()
    with pytest.raises(OSError, match="full"), fit_log.opened(tmp_path / "y", "single", print):
        raise OSError("full")
    assert fit_log.table(tmp_path / "y")["state"] == "failed (OSError: full); the same command continues it"
    (tmp_path / "y" / event_log.LOG).write_text("{}")
    with pytest.raises(ValueError, match="no fit has begun there"):
        fit_log.table(tmp_path / "y")
