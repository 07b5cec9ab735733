"""The table of goals: figures from the raw seconds, met or not."""

import json
from statistics import median

import pytest

from bench import goals, harness, tables


def result(name):
    return json.loads((tables.RESULTS / f"{name}-{tables.MACHINE}.json").read_text())


def test_figures_are_ratios_of_medians():
    """Where peer and jaxhash do as much in a round; in training a peer makes fewer steps, and rates are recorded."""
    seconds = result("hash_throughput")["seconds"]
    ours = median(seconds["jaxhash seeds, dictionary"]["tokens"])
    (goal,) = [goal for goal in goals.GOALS if goal.what.startswith("tokens")]
    assert goal.measured(result("hash_throughput")).figure == median(seconds["Python's hash"]["in order"]) / ours


def test_the_spread_is_that_of_the_rounds():
    assert goals.Measured(2.0, [2.0, 4.0, 6.0], [1.0, 2.0, 2.0]).spread == pytest.approx(0.5)


def test_the_table_says_what_is_met_and_what_is_missing(tmp_path, monkeypatch, capsys):
    kept = result("properties")
    kept["seconds"]["FAISS 9-NN"] = [0.5 * took for took in kept["seconds"]["jaxhash 9-NN"]]
    (tmp_path / "properties-here.json").write_text(json.dumps(kept))
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    goals.main(goals.Config("here"))
    lines = capsys.readouterr().out.splitlines()
    (nearest,) = [line for line in lines if "9-NN of 48,000" in line]
    assert "0.50" in nearest
    assert "no, 50% of it" in nearest
    assert sum("no sweep_training-here.json" in line for line in lines) == 5
