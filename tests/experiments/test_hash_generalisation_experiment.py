"""Trained functions on unseen words: the numbers follow from the draws, and Python's hash passes its own test."""

import csv

import numpy as np
import pytest

from experiments import hash_generalisation
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.study.table import expected_collisions


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_numbers_and_a_picture(tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_bytes(b"\n".join(load_keys("english")[::15]))
    sizes = ["--words", "64", "--draws", "10", "--repeats", "2", "--iterations", "40"]
    methods = ("characters", "sharded", "python")
    out = tmp_path / "run"
    hash_generalisation.main(["--keys", str(words), *sizes, "--methods", *methods, "--out", str(out)])
    draws, summary = rows(out / "draws.csv"), {(row["method"], row["repeat"]): row for row in rows(out / "summary.csv")}
    shown = capsys.readouterr().out
    for method in methods:
        part = [row for row in draws if row["method"] == method]
        # 727 words, of which 64 are trained on: ten draws of 64 others, in each of two trainings.
        assert len(part) == 20
        difference = np.array([float(row["collisions"]) - float(row["python"]) for row in part])
        whole = summary[method, "all"]
        assert float(whole["excess"]) == pytest.approx(difference.mean())
        assert float(whole["low"]) < difference.mean() < float(whole["high"])
        assert float(whole["by_chance"]) == pytest.approx(expected_collisions(64, 64))
        assert method in shown
        ones = [float(summary[method, repeat]["unseen_collisions"]) for repeat in "01"]
        assert float(whole["unseen_collisions"]) == pytest.approx(np.mean(ones))
        if method != "python":
            assert float(whole["seen_collisions"]) == 0
    assert float(summary["python", "all"]["seen_collisions"]) > 10
    assert float(summary["python", "all"]["p_value"]) > 1e-3
    changes = rows(out / "avalanche.csv")
    assert len(changes) == 3 * 2 * 6 * 8
    of_python = [float(row["bin_changes"]) for row in changes if row["method"] == "python"]
    assert np.mean(of_python) == pytest.approx(63 / 64, abs=0.01)
    assert (out / "hash_generalisation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--words", "5000"], "--words 5000 leaves 5,902 of the 10,902 keys of english unseen, less than two draws"),
        (["--words", "20000"], "leaves 0 of the 10,902 keys"),
        (["--draws", "1"], "2 or more --draws"),
        (["--methods", "best"], "best"),
    ],
)
def test_what_cannot_be_measured_is_told_and_nothing_is_written(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        hash_generalisation.main([*arguments, "--out", str(tmp_path / "run")])
    assert ended.value.code in (1, 2)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()
