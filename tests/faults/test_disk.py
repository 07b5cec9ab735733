"""A disk that is full, and a folder that cannot be written to: one line, nothing half done, and on it goes."""

import subprocess

import pytest

from jaxhash import cli
from jaxhash.sweeps import folder
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.tasks import TASKS
from jaxhash.terminal.sweeps import run_sweep
from tests.commands import status_of
from tests.faults.conftest import ended


@pytest.mark.slow
def test_a_sweep_on_a_full_disk(whole, processes, small_disk):
    used = sum(-(-f.stat().st_size // 4096) * 4096 for f in whole.out.rglob("*") if f.is_file())
    disk = small_disk(int(0.6 * used))
    stopped, said = ended(processes.sweep(disk / "run"))
    assert stopped == 1, said
    assert "No space left on device" in said[-1]
    assert said[-1].startswith("Error: ")
    assert "the same command continues it" in said[-1]
    assert not any("Traceback" in line for line in said)
    assert not (disk / "run" / folder.RESULTS).exists()
    whole.assert_nothing_wrong(disk / "run")
    saved = list((disk / "run" / TASKS).glob("[!.]*"))
    assert saved
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    status, said = ended(processes.sweep(disk / "run"))
    assert status == 0, said
    whole.assert_ended_the_same(disk / "run")


def test_a_sweep_into_a_folder_that_cannot_be_written_to(read_only, capsys):
    with pytest.raises(SystemExit) as caught:
        run_sweep(SweepConfig(), read_only / "run", None)
    assert caught.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "Error: [Errno" in said
    assert "read-only/run" in said.replace("- ", "-").replace("/ ", "/")
    assert list(read_only.iterdir()) == []


@pytest.mark.slow
def test_a_fit_on_a_full_disk(processes, small_disk, tmp_path):
    (tmp_path / "words").write_text("a\nb\nc\n")
    disk = small_disk(8_192)
    stopped, said = ended(processes.fit(tmp_path / "words", "--out", disk / "my.hash"))
    assert stopped == 1, said
    assert said[-1].startswith("Error: ")
    assert "No space left on device" in said[-1]
    assert not any("Traceback" in line for line in said)
    assert list(disk.iterdir()) == []


def test_a_fit_into_a_folder_that_cannot_be_written_to_is_refused_before_it_learns(read_only, tmp_path, capsys):
    (tmp_path / "words").write_text("a\nb\nc\n")
    assert status_of(cli.Fit(str(tmp_path / "words"), read_only / "new" / "my.hash")) == 1
    assert capsys.readouterr().err == f"Error: {read_only} cannot be written to; give another folder as --out\n"
    assert list(read_only.iterdir()) == []
