"""What benchmarks share: whose turn it is in a round, what is timed, and what goes to standard output."""

import gc
import hashlib
import itertools
import json
import resource
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from bench import harness


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 1, 2, 3, ... seconds each time it is looked at."""
    ticks = itertools.accumulate(itertools.count())
    monkeypatch.setattr(harness, "clock", lambda: float(next(ticks)))


def test_works_take_turns_and_each_measurement_has_its_own_time_and_argument(clock):
    said, numbers = [], itertools.count()

    def takes(number):
        assert not gc.isenabled()
        said.append(f"b{number}")
        return number

    works = {"a": lambda: said.append("a"), "b": harness.Work(takes, lambda: next(numbers), times=2)}
    seconds, answers = harness.interleaved(works, 2, warm_up=True)
    assert gc.isenabled()
    assert said == ["a", "b0", "b1", "a", "b2", "b3", "a", "b4", "b5"]
    # Each measurement looks at the clock twice: the n-th takes 2n - 1 seconds.
    assert seconds == {"a": [7.0, 13.0], "b": [9.0, 11.0, 15.0, 17.0]}
    assert answers == {"a": None, "b": 5}
    assert harness.interleaved(works, 1, keep=False)[1] == {}


def test_medians_and_spreads_are_numpys():
    seconds = {"a": [3.0, 1.0, 2.5, 2.0], "b": [4.0]}
    assert harness.medians(seconds) == {name: np.median(some) for name, some in seconds.items()}
    assert harness.spreads(seconds) == {"a": pytest.approx(np.ptp(seconds["a"]) / 2.25), "b": 0.0}


def test_a_work_that_fails_leaves_the_garbage_collector_on():
    with pytest.raises(ZeroDivisionError):
        harness.timed(lambda: 1 / 0)
    assert gc.isenabled()


def test_stages_are_timed_apart_and_what_was_compiled_runs(clock):
    took, run = harness.stages(lambda x, y: x @ y, np.eye(2, dtype=np.float32), np.full((2, 3), 7, np.float32))
    assert took == {"transfer": 1.0, "trace": 2.0, "compile": 3.0, "first_run": 4.0}
    np.testing.assert_array_equal(run(), np.full((2, 3), 7))


@pytest.mark.parametrize("ceiling", [harness.matrix_products(8), harness.copies(1), harness.integer_operations()])
def test_a_ceiling_is_the_work_of_all_cores_by_the_median_time(clock, ceiling):
    run, amount = ceiling
    assert amount > 0
    assert len(run()) == harness.worker_count()
    # Measurements after the one to warm up: 3, 5, 7 seconds.
    assert harness.rate((run, amount), repetitions=3) == pytest.approx(amount / 5)


def test_the_result_is_the_last_line_and_a_record(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    harness.show("Some codes", ("name", "seconds"), [("ours", "1.0")], "all agree")
    harness.finish(
        "codes", harness.Options(quick=True, json=True, record="box"), {"ratio": 2.5}, "chex", "no-such-peer"
    )
    out = capsys.readouterr().out
    assert all(text in out for text in ("Some codes", "ours", "- all agree"))
    found = json.loads(out.splitlines()[-1])
    assert (found["ratio"], found["quick"]) == (2.5, True)
    machine = found["machine"]
    assert machine["versions"]["chex"] == version("chex")
    assert machine["versions"]["no-such-peer"] == "not installed"
    assert machine["cores"] >= 1
    assert machine["processor"]
    assert json.loads((tmp_path / "codes-box.json").read_text()) == found
    harness.finish("codes", harness.Options(), {"ratio": 2.5})
    assert capsys.readouterr().out == ""


def test_cores_are_processor_seconds_of_the_run_alone_by_its_seconds(clock, monkeypatch):
    busy, made = itertools.count(step=6), []
    monkeypatch.setattr(harness.time, "process_time", lambda: float(next(busy)))

    def given():
        next(busy)  # what the argument costs does not count
        made.append(1)
        return 0

    # Three runs of 1, 3 and 5 seconds, each of 6 processor seconds.
    assert harness.cores_used(harness.Work(lambda _: None, given)) == pytest.approx(18 / 9)
    assert len(made) == 3


def test_all_threads_count_as_cores():
    def work():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: hashlib.pbkdf2_hmac("sha256", b"", b"", 300_000), range(2)))

    before = resource.getrusage(resource.RUSAGE_SELF)
    took, used = harness.timed(lambda: harness.cores_used(work, 1))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert used * took == pytest.approx(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, rel=0.2)


def test_wrong_answers_end_a_benchmark():
    assert harness.checked(True, "all agree") == "all agree"
    with pytest.raises(SystemExit) as ended:
        harness.checked(False, "all agree")
    assert "This does not hold: all agree" in ended.value.code  # a text: Python prints it and exits with 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it there")
def test_peak_memory_is_the_systems_high_water_mark():
    held = np.ones(2**28, np.uint8)
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    assert harness.peak_bytes() == pytest.approx(int(line.split()[1]) * 1024, rel=0.02)
    assert harness.peak_bytes() > held.nbytes


def test_a_missing_peer_is_left_out_with_a_word(capsys):
    assert harness.peer("json") is json
    assert harness.peer("no_such_peer") is None
    assert "no_such_peer is not installed" in capsys.readouterr().err
