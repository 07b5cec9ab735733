"""Figures that README.md quotes, worked out anew from the raw seconds of the files."""

import json
import re
from statistics import median

import pandas as pd
import pytest

from bench import tables
from experiments import perfect_hash
from tests.branch_coverage import COUNTS, by_package
from tests.faults.fuzz_readers import READERS

README = (tables.ROOT / "README.md").read_text()


def result(name):
    return json.loads((tables.RESULTS / f"{name}-{tables.MACHINE}.json").read_text())


def row(start):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {start}")]
    return line


def test_hashing_is_beside_the_map_into_numpy_and_beside_the_loop():
    found = result("hash_throughput")
    ours, mapped, loop = (
        [median(found["seconds"][name][form]) for form in ("in order", "at random")]
        for name in ("jaxhash seeds, dictionary", "Python's hash, map into NumPy", "Python's hash")
    )
    line = row("300,000 words hashed")
    nanoseconds = [f"{took / 300_000 * 1e9:.0f}" for took in ours]
    assert re.findall(r"(\d+) (?:ns|at random)", line) == nanoseconds
    ratios = [theirs / took for others in (mapped, loop) for theirs, took in zip(others, ours, strict=True)]
    assert [float(x) for x in re.findall(r"([\d.]+)x", line)] == pytest.approx(ratios, abs=0.051)


def test_the_dictionary_takes_as_long_as_its_command_with_the_default_method():
    (found,) = [
        some for some in result("perfect_hash")["results"] if some["method"] == "sharded" and some["words"] == 466_551
    ]
    line = row("minimal perfect hash of 466,551 words")
    assert f"| {median(found['seconds']):.1f} s | {found['bits_per_key']:.1f} bits a key |" in line


def test_every_kept_answer_was_checked():
    found = result("hash_throughput")
    assert len(found["agreement"]) == len(found["seconds"]) - 1  # Python's loop is what its map is compared with
    assert found["skipped"] == []
    assert all(
        "words has one of as many bins to itself" in some["agreement"] for some in result("perfect_hash")["results"]
    )


def test_the_experiment_quotes_its_kept_file():
    rows = pd.read_csv(tables.ROOT / "docs" / "data" / "perfect-hash.csv").set_index(["method", "words"])
    assert not rows["collisions"].any()
    text = " ".join(perfect_hash.__doc__.split())
    small, one, all_words = (
        rows.loc[("sharded", 10_000)],
        rows.loc[("network", 1_000)],
        rows.loc[("sharded", 466_551)],
    )
    assert f"10,000 words in {small['seconds']:.1f} s at {small['bits_per_key']:.1f} bits per key" in text
    assert f"1,000 words in {one['seconds']:.1f} s at {one['bits_per_key']:,.0f} (network)" in text
    assert f"the dictionary in {all_words['seconds']:.1f} s at {all_words['bits_per_key']:.1f}" in text


def test_coverage_is_of_the_kept_counts_and_rounded_down(monkeypatch, tmp_path):
    files = {
        f"{name}.py": {"summary": dict(zip(COUNTS, counts, strict=True))}
        for name, counts in {"a/x": (10, 9, 4, 4), "a/y": (10, 10, 4, 3), "b/c/z": (80, 80, 192, 192)}.items()
    }
    packages = by_package(files)
    assert list(packages["a"].values()) == [20, 19, 8, 7]
    monkeypatch.setattr(tables, "DATA", tmp_path)
    (tmp_path / "coverage.json").write_text(json.dumps({"packages": packages}))
    assert tables.coverage("") == "The tests take 99% of the branches of `a` and `b.c`, and reach 99% of their lines.\n"


def test_the_readers_fuzzed_are_those_there_are():
    rows = json.loads((tables.DATA / "fuzz.json").read_text())["readers"]
    assert [row["reader"] for row in rows] == list(READERS)
    assert all(row["finding"] is None for row in rows)
