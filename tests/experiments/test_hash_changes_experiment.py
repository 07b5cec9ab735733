"""The sweep of single changes: its table, and what it takes from a history."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from experiments import hash_changes
from experiments.hash_study import Size
from jaxhash.hashing.study.loop import Record
from jaxhash.hashing.study.networks import NetworkConfig


def test_the_last_and_the_worst_iterations_of_a_seed_are_those_of_a_loop():
    values = np.random.default_rng(0).integers(0, 9, (2, 12)).astype(np.float32)
    found = hash_changes.of_seed(Record(*[values + i for i in range(7)]), 1, 4)
    assert found["seed"] == 1
    assert found["collisions"] == pytest.approx(sum(values[1, 8:]) / 4)
    assert found["loss"] == pytest.approx(sum(values[1, 8:]) / 4 + 6)
    worst = max(sum(values[1, i : i + 4]) / 4 for i in range(9)) + 2
    assert found["most_drawn_collisions"] == pytest.approx(worst)


@pytest.mark.slow
def test_the_table_has_a_line_for_each_change_and_seed(tmp_path, monkeypatch):
    sweep = hash_changes.SWEEPS["5"]
    small = replace(sweep, size=Size(20, 20, 12), changes=sweep.changes[1:2], last=10)
    monkeypatch.setitem(hash_changes.SWEEPS, "5", small)
    hash_changes.main(["--figure", "5", "--seeds", "2", "--out", str(tmp_path)])
    with (tmp_path / "hash_changes.csv").open() as file:
        rows = list(csv.DictReader(file))
    (change,) = small.changes
    ((option, value),) = change.items()
    assert [(row["change"], row["seed"]) for row in rows] == [(f"{option}={value}", str(seed)) for seed in range(2)]
    assert all(0 <= float(row["collisions"]) <= 19 for row in rows)


@pytest.mark.parametrize("figure", hash_changes.SWEEPS)
def test_every_change_gives_another_learner(figure):
    sweep = hash_changes.SWEEPS[figure]
    learner = hash_changes.LEARNERS[sweep.learner][1](sweep.size, NetworkConfig())
    assert len({replace(learner, **change) for change in sweep.changes}) == len(sweep.changes)
