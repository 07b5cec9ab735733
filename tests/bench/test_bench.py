"""The benchmarks' arithmetic and their JSON; their figures are for the machine they run on and are not tested."""

import dataclasses
import json

import pytest

from bench import sweep_training

WIDTHS = (3, 20, 41)


@pytest.mark.slow
def test_the_training_benchmark_prints_its_figures_as_json_without_the_peers(monkeypatch, capsys):
    monkeypatch.setattr(sweep_training, "one_thread_a_lane", lambda: None)  # it would outlive the test
    mnist = dataclasses.replace(sweep_training.STUDIES["mnist"], widths=WIDTHS)
    monkeypatch.setitem(sweep_training.STUDIES, "mnist", mnist)
    sweep_training.main(sweep_training.Config(quick=True, peers=False, repeats=1, json=True))
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    seconds = sorted(figures["seconds"]["jaxhash"])
    steps = len(WIDTHS) * figures["steps"] * figures["repeats"]
    assert figures["model_steps_per_second"] == pytest.approx(steps / seconds[len(seconds) // 2])
    assert figures["ratio_vs_torch"] is None
    # One example through one layer and back: 2 FLOPs a weight forward, as many for the gradient of the weights, and
    # for the second layer as many again for the gradient of its input.
    flops = sum(64 * (4 * 784 * width + 6 * 10 * width) for width in WIDTHS)
    rate = figures["model_steps_per_second"] / len(WIDTHS) * flops
    assert figures["gflops"] * 1e9 == pytest.approx(rate, rel=1e-6)
    assert figures["fraction_of_matmul_peak"] == pytest.approx(figures["gflops"] / figures["matmul_peak_gflops"])
