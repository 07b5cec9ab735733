import gzip
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr

from experiments import model_capacity
from jaxhash import cli
from jaxhash.hashing.keys import lines
from jaxhash.hashing.perfect.hasher import load_hasher
from jaxhash.storage import checkpoint
from jaxhash.storage.locks import holder
from jaxhash.sweeps import folder
from tests.commands import status_of

WORDS = [f"word{i}" for i in range(100)]


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxhash.cli", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def jaxhash(*arguments, stdin=b""):
    process = start(*arguments)
    out, err = process.communicate(stdin, timeout=120)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


@pytest.fixture(scope="module")
def saved(words):
    out = words.parent / "saved"
    assert cli.run(cli.Fit(str(words), out)) == cli.OK
    return out


def hash_lines(saved, capfdbinary, path):
    assert cli.run(cli.Hash(saved, str(path))) == cli.OK
    return [int(line) for line in capfdbinary.readouterr().out.splitlines()]


def test_fit_hash_info_by_pipes(tmp_path):
    out = tmp_path / "new" / "my.hash"
    status, printed, said = jaxhash("fit", "-", "--out", out, stdin="\n".join(WORDS).encode())
    assert (status, printed) == (0, "")
    assert "100 keys in 100 bins, 0 collisions" in said
    status, printed, said = jaxhash("hash", out, stdin=b"\n".join(w.encode() for w in WORDS[::-1]))
    assert (status, said) == (0, "")
    bins = [int(line) for line in printed.splitlines()]
    assert sorted(bins) == list(range(100))
    assert bins == np.asarray(load_hasher(out)(WORDS[::-1])).tolist()


def test_info_prints_size_load_and_floor(saved, capfd):
    assert cli.run(cli.Info(saved)) == cli.OK
    printed = capfd.readouterr().out
    assert "keys            100\n" in printed
    assert "load factor     1 (keys / bins)" in printed
    assert f"bits per key    {load_hasher(saved).bits_per_key:.2f}" in printed
    assert "least possible  1.44 bits per key" in printed


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_of_every_kind_are_hashed_one_for_one(saved, tmp_path, capfdbinary, monkeypatch, pack):
    keys = [b"word1", b"", b"word1", b"a\0", b"\xff", b"\x1f\x8b\x08 looks like gzip", b"x\ry", b"last"]
    text = b"word1\n\nword1\r\na\0\n\xff\n\x1f\x8b\x08 looks like gzip\nx\ry\nlast"
    path = tmp_path / "keys"
    path.write_bytes(pack(text))
    expected = np.asarray(load_hasher(saved)(keys)).tolist()
    assert hash_lines(saved, capfdbinary, path) == expected
    monkeypatch.setattr(lines, "BLOCK_BYTES", 3)
    assert hash_lines(saved, capfdbinary, path) == expected


def test_lines_are_answered_as_they_arrive_and_a_reader_may_go_away(saved):
    process = start("hash", saved, "-")
    for word in WORDS[:3]:
        process.stdin.write(word.encode() + b"\n")
        process.stdin.flush()
        assert 0 <= int(process.stdout.readline()) < 100
    process.stdout.close()
    process.stdin.write(b"more\n" * 10)
    process.stdin.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def stopped_while_fitting(out, number, *program):
    """Status and last line of a fit that would never end, once a signal has come."""
    process = subprocess.Popen(
        [sys.executable, *program, "fit", "english", "--out", str(out), "--sharded.inputs", "4",
         "--sharded.attempts", "255", "--sharded.steps", "100000"],
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert b"keys collide" in process.stderr.readline()
        time.sleep(0.2)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said.decode().splitlines()[-1]


SAVES_AT_ONCE = """
from jaxhash import cli
from jaxhash.hashing.perfect import resume
resume.SECONDS_BETWEEN_SAVES = 0.0
cli.main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_first_minute_of_a_fit_leaves_nothing(tmp_path, number, status):
    returned, said = stopped_while_fitting(tmp_path / "x", number, "-m", "jaxhash.cli")
    assert (returned, said) == (status, "Interrupted. Nothing was saved; the same command begins anew.")
    assert not list(tmp_path.iterdir())


def test_a_signal_later_keeps_what_was_learned(tmp_path, capfd):
    returned, said = stopped_while_fitting(tmp_path / "x", signal.SIGINT, "-c", SAVES_AT_ONCE)
    kept = tmp_path / "x.unfinished"
    assert said == f"Interrupted. What was learned is saved in {kept}; the same command goes on from there."
    assert returned == 130
    assert list(tmp_path.iterdir()) == [kept]
    (state,) = kept.glob("step-*")
    assert sorted(path.name for path in kept.iterdir()) == [".lock", "log.jsonl", state.name]
    assert checkpoint.describe(state)["of"]["method"] == "sharded"
    # What is there is another fit's: neither taken nor lost.
    assert status_of(cli.Fit("english", tmp_path / "x")) == 1
    assert "holds what another fit has learned (another setting of the method)" in capfd.readouterr().err
    assert state.exists()


def test_a_function_that_is_not_perfect_is_saved_and_said_so(words, tmp_path):
    out = tmp_path / "x"
    status, _, said = jaxhash(
        "fit", words, "--out", out, "--sharded.inputs", 2, "--sharded.attempts", 1, "--sharded.steps", 20
    )
    assert status == cli.NOT_PERFECT
    found = load_hasher(out)
    assert found.collisions == 100 - len(np.unique(np.asarray(found(WORDS)))) > 0
    assert f"{found.collisions} of 100 keys still collide" in said
    assert f"best function found saved in {out}" in said


def test_bad_input_is_one_line(words, saved, tmp_path, capfd):
    (tmp_path / "twice").write_text("a\nb\na\n")
    (tmp_path / "half.gz").write_bytes(gzip.compress(b"abc" * 1000)[:-9])
    (tmp_path / "empty").mkdir()
    for command, message in (
        (cli.Fit(str(tmp_path / "twice"), tmp_path / "x"), "1 of 3 keys repeat"),
        (cli.Fit("no-such-file", tmp_path / "x"), "no such file"),
        (cli.Fit(str(words), saved), "exists; give another folder as --out"),
        (cli.Fit(str(words), tmp_path / "x", bins=0), "num_bins=0"),
        (cli.Hash(tmp_path / "empty", str(words)), "no checkpoint here"),
        (cli.Hash(saved, str(tmp_path / "half.gz")), "Error: "),
        (cli.Info(words), "Error: "),
    ):
        assert status_of(command) == 1
        said = capfd.readouterr().err
        assert message in said
        assert said.count("\n") == 1, said
    assert not (tmp_path / "x").exists()
    assert cli.run(cli.Fit(str(tmp_path / "twice"), tmp_path / "x", drop_duplicates=True)) == cli.OK
    assert load_hasher(tmp_path / "x").num_keys == 2


def test_wrong_command_lines_and_help(capsys, monkeypatch):
    for arguments, status in (([], 2), (["fit"], 2), (["fit", "a", "--out", "b", "--sharded.outputs", "9"], 2)):
        monkeypatch.setattr(sys, "argv", ["jaxhash", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == status
    monkeypatch.setattr(sys, "argv", ["jaxhash", "fit", "--help"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--bins", "--out", "--method", "--seed", "--drop-duplicates", "--sharded.inputs"):
        assert option in printed


def test_sweep_is_the_capacity_experiment(tmp_path, monkeypatch):
    small = ["--widths", "4", "9", "--repeats", "2", "--epochs", "3"]
    monkeypatch.setattr(sys, "argv", ["jaxhash", "sweep", *small, "--out", str(tmp_path / "installed")])
    cli.main()
    model_capacity.main([*small, "--out", str(tmp_path / "checkout")])
    assert (tmp_path / "installed/model_capacity.png").stat().st_size > 10_000
    one, other = (xr.load_dataset(tmp_path / name / "results.nc") for name in ("installed", "checkout"))
    xr.testing.assert_equal(one, other)


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"]])
def test_help_names_the_sweep_and_its_options(capfd, monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["jaxhash", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    printed = capfd.readouterr().out
    assert "sweep" in printed
    assert ("--widths" in printed) == (arguments[0] == "sweep")


def test_hashing_in_the_background_hears_ctrl_c(saved):
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "jaxhash.cli", "hash", str(saved), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    hangs = threading.Timer(120, process.kill)
    hangs.start()
    try:
        process.stdin.write(b"word\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Interrupted." in process.stderr.read()
    finally:
        hangs.cancel()
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


@pytest.mark.slow
def test_a_sweep_in_the_background_hears_ctrl_c(tmp_path):
    """A shell lets what it starts with `&` ignore SIGINT."""
    out = tmp_path / "run"
    sweep = [sys.executable, "-m", "jaxhash.cli", "sweep", "--widths", "40", "--repeats", "2", "--epochs", "1000000"]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *sweep, "--out", str(out)]
    process = subprocess.Popen(ignoring, stderr=subprocess.PIPE, text=True)
    hangs = threading.Timer(120, process.kill)
    hangs.start()
    try:
        while "To do:" not in (line := process.stderr.readline()):
            assert line, "the command ended before it began"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        hangs.cancel()
        process.kill()
    assert process.returncode == 130, said
    assert f"Interrupted. What was finished is in {out}" in said
    assert holder(out) is None
    rows = folder.tasks_of(folder.read_description(out))
    assert {repeat for task in rows for repeat in task.repeats} == {0, 1}
