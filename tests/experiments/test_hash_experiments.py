"""The commands of the hash experiments, as a person at a terminal uses them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from experiments import hash_reinforce
from jaxhash.terminal import hashing
from jaxhash.terminal.hashing import Common


@pytest.mark.slow
def test_a_figure_leaves_its_numbers_its_picture_and_a_table(tmp_path, capsys):
    hash_reinforce.main(
        ["--words", "20", "--bins", "30", "--iterations", "4", "--seeds", "2", "--out", str(tmp_path / "run")]
    )
    with xr.open_dataset(tmp_path / "run" / "results.nc", engine="scipy") as results:
        assert dict(results.sizes) == {"variant": 2, "repeat": 2, "iteration": 4}
        collisions = results["collisions"].values
        # 20 keys in a table: (20 - collisions) keys of +10, the others -10.
        np.testing.assert_allclose(results["mean_reward"][0].values, 10 - collisions[0], atol=1e-4)
    assert (tmp_path / "run" / "hash_reinforce.png").stat().st_size > 10_000
    captured = capsys.readouterr()
    assert "own reward" in captured.out
    assert "chance: 5 collisions" in captured.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--words", "99999"], 1, "batch_size=99999 is more than the 10902 keys"),
        (["--keys", "{tmp}/none.txt"], 1, "none.txt"),
        (["--seeds", "0"], 2, "seeds=0 is less than 1"),
        (["--seeds", "three"], 2, "three"),
    ],
)
def test_bad_options_get_one_clear_error_and_write_nothing(tmp_path, capsys, arguments, code, message):
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit) as caught:
        hash_reinforce.main([*arguments, "--out", str(tmp_path / "run")])
    assert caught.value.code == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_words_are_drawn_by_the_seed():
    first, again, other = (hashing.words(Common(seed=seed), 50) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 50
    with pytest.raises(ValueError, match="20,000 words wanted, but english has 10,902"):
        hashing.words(Common(), 20_000)


@pytest.mark.slow
def test_ctrl_c_ends_a_training_at_once_and_writes_nothing(tmp_path):
    out = tmp_path / "run"
    program = [sys.executable, "-m", "experiments.hash_reinforce", "--words", "50", "--bins", "50"]
    process = subprocess.Popen(
        [*program, "--iterations", "10000000", "--out", str(out)], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    assert process.stderr.readline().strip() == "whole return"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Interrupted. Nothing was written." in error
    assert not out.exists()
