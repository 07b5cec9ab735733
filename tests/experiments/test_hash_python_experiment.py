"""The table of Python's hash: its numbers follow from its draws, and these from Python's hash."""

import csv

import numpy as np
import pytest

from experiments import hash_python
from jaxhash.hashing.study.table import collision_deviation, expected_collisions


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_numbers_and_a_picture(tmp_path, capsys):
    sizes = ["--num-keys", "40", "300", "--num-bins", "50", "100", "--draws", "60"]
    hash_python.main([*sizes, "--out", str(tmp_path / "run")])
    draws, summary = rows(tmp_path / "run" / "draws.csv"), rows(tmp_path / "run" / "summary.csv")
    assert len({row["salt"] for row in draws}) == len(draws) == 120
    shown = capsys.readouterr().out
    for i, (n, m) in enumerate([(40, 50), (300, 100)]):
        part = draws[60 * i : 60 * (i + 1)]
        assert {(row["keys"], row["bins"]) for row in part} == {(str(n), str(m))}
        collisions = np.array([int(row["collisions"]) for row in part])
        assert float(summary[i]["collisions"]) == pytest.approx(collisions.mean())
        assert float(summary[i]["deviation"]) == pytest.approx(collisions.std(ddof=1))
        assert f"{collisions.mean():.1f} ± {collisions.std(ddof=1):.1f}" in shown
        # Python's hash is as good as chance: a wrong table or hash would leave far more or fewer.
        assert abs(collisions.mean() - expected_collisions(n, m)) < 4 * collision_deviation(n, m) / np.sqrt(60)
    assert (tmp_path / "run" / "hash_python.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keys", "no-such-file"], "no-such-file: no such file"),
        (["--num-keys", "99999", "--num-bins", "5"], "--num-keys 99999 is more than the 10,902 keys of english"),
        (["--num-keys", "5"], "--num-keys has 1 numbers and --num-bins 4"),
        (["--draws", "1"], "--draws 1 is less than 2"),
    ],
)
def test_what_cannot_be_measured_is_told_and_nothing_is_written(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        hash_python.main([*arguments, "--out", str(tmp_path / "run")])
    assert ended.value.code in (1, 2)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()
