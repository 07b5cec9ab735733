"""The commands of the hash experiments, as a person at a terminal uses them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from experiments import hash_capacity, hash_meta, hash_study
from jaxhash.terminal import hashing
from jaxhash.terminal.hashing import Common


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "learners"),
    [("2", ["whole_return", "own_reward"]), ("3", ["actor_critic"]), ("5", ["sees_table"]), ("7", ["expected_return"])],
)
def test_a_figure_leaves_its_numbers_its_picture_and_a_table(tmp_path, capsys, figure, learners):
    size = ["--words", "30", "--iterations", "4", "--seeds", "2", "--keys", "english"]
    hash_study.main(["--figure", figure, *size, "--learner", *learners, "--out", str(tmp_path / "run")])
    placed = 10 if figure == "7" else 30
    with xr.open_dataset(tmp_path / "run" / "results.nc", engine="scipy") as results:
        assert dict(results.sizes) == {"learner": len(learners), "repeat": 2, "iteration": 4}
        assert results["learner"].values.tolist() == learners
        variables = {"collisions", "largest_bin", "drawn_collisions", "drawn_largest_bin", "mean_reward", "entropy"}
        assert variables <= set(results)
        # placed - collisions keys earn +10, the others -10.
        expected = 10 - 20 * results["drawn_collisions"].values / placed
        np.testing.assert_allclose(results["mean_reward"].values, expected, atol=1e-4)
    assert (tmp_path / "run" / "hash_study.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert f"Figure {figure}: " in said
    assert "reported: " in said
    assert said.count("no collision left on ") == len(learners)
    assert all(learner in said for learner in learners)


@pytest.mark.slow
def test_the_most_probable_bins_follow_from_the_saved_policy(tmp_path):
    """By a plain NumPy network that reads the words' letters."""
    size = ["--words", "40", "--iterations", "30", "--seeds", "2", "--keys", "english", "--hidden", "200"]
    hash_study.main(["--figure", "6", *size, "--learner", "expected_return", "--out", str(tmp_path)])
    with np.load(tmp_path / "policy-expected_return.npz") as file:
        saved = dict(file)
    letters, width = saved["letters"].tolist(), max(map(len, saved["words"]))
    inputs = np.zeros((40, width, len(letters) + 1))
    for row, word in zip(inputs, saved["words"].tolist(), strict=True):
        row[np.arange(len(word)), [letters.index(letter) for letter in word]] = 1
    for repeat in range(2):
        units = inputs.reshape(40, -1)
        for layer in range(3):
            units = units @ saved[f"Dense_{layer}/kernel"][repeat] + saved[f"Dense_{layer}/bias"][repeat]
            units = np.maximum(units, 0) if layer < 2 else units
        np.testing.assert_array_equal(units.argmax(1), saved["bins"][repeat])
        assert len(set(saved["bins"][repeat].tolist())) == 40


@pytest.mark.slow
def test_the_first_figure_has_the_losses_of_all_words_and_of_few(tmp_path):
    hash_study.main(
        ["--figure", "1", "--keys", "english", "--iterations", "3", "--seeds", "1", "--out", str(tmp_path / "run")]
    )
    with xr.open_dataset(tmp_path / "run" / "results.nc", engine="scipy") as results:
        assert set(results["learner"].values.tolist()) == {"10,902 words", "1,000 words"}
        # Untrained, a network guesses one of 1,000 classes.
        np.testing.assert_allclose(results["loss"][:, :, 0], np.log(1000), rtol=0.2)


def test_sizes_follow_the_options():
    def size(figure, **options):
        return hash_study.size_of(hash_study.Config(**options), hash_study.FIGURES[figure])

    assert size("6") == hash_study.FIGURES["6"].size
    assert (size("6", words=300).words, size("6", words=300).bins, size("6", words=300).placed) == (300, 300, 300)
    assert (size("7", words=300).bins, size("7", words=300).placed) == (100, 100)
    assert size("2", words=50, bins=70).bins == 70
    assert max(size(name, quick=True).placed for name in hash_study.FIGURES) == 100


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--words", "99999"], 1, "99,999 words wanted, but english has 10,902"),
        (["--keys", "{tmp}/none.txt"], 1, "none.txt"),
        (["--seeds", "0"], 2, "seeds=0 is less than 1"),
        (["--words", "0"], 2, "words=0 is less than 1"),
        (["--seeds", "three"], 2, "three"),
        (["--learner", "magic"], 2, "magic"),
    ],
)
def test_bad_options_get_one_clear_error_and_write_nothing(tmp_path, capsys, arguments, code, message):
    arguments = [argument.format(tmp=tmp_path) for argument in ["--figure", "6", "--keys", "english", *arguments]]
    with pytest.raises(SystemExit) as caught:
        hash_study.main([*arguments, "--out", str(tmp_path / "run")])
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
    program = [sys.executable, "-m", "experiments.hash_study", "--figure", "2", "--words", "50", "--keys", "english"]
    process = subprocess.Popen(
        [*program, "--iterations", "10000000", "--out", str(out)], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    assert process.stderr.readline().strip() == "figure 2, whole_return"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Interrupted. Nothing was written." in error
    assert not out.exists()


@pytest.mark.slow
def test_capacity_tells_widths_that_hold_the_words_from_those_that_do_not(tmp_path):
    options = ["--words", "40", "--hidden", "4", "64", "--readers", "bits", "--iterations", "60", "--seeds", "2"]
    hash_capacity.main([*options, "--keys", "english", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "hash_capacity.csv")
    longest = max(map(len, hashing.words(Common(), 40)))
    for units, perfect in ((4, False), (64, True)):
        rows = table[table["hidden"] == units]
        # Kernels and biases of three layers that begin at 8 bits a character.
        assert set(rows["parameters"]) == {8 * longest * units + units + units**2 + units + 40 * units + 40}
        assert ((rows["fewest_collisions"] == 0) == perfect).all()
        assert (rows["iterations_to_perfect"].notna() == perfect).all()
    assert (tmp_path / "hash_capacity.png").stat().st_size > 10_000


def test_meta_learning_is_compared_on_the_same_key_sets(tmp_path):
    common = Common(seeds=2, out=tmp_path)
    config = hash_meta.Config(common, 16, iterations=1, tasks=2, inner_steps=(1,), new_sets=4, most=200)
    hash_meta.body(config)
    table = pd.read_csv(tmp_path / "hash_meta.csv", keep_default_na=False)
    assert table["learned"].tolist() == ["none", "hidden", "all"]
    assert table["p"].tolist()[0] == ""
    assert (table["given_up"] == 0).all()
    assert (table["least_of_seeds"] <= table["iterations"]).all()
    assert (table["iterations"] <= table["most_of_seeds"]).all()
