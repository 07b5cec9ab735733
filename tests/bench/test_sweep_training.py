"""The training benchmark: its rates and ratios, and its FLOPs."""

import json

import numpy as np
import pytest

from bench import harness, sweep_training
from bench.sweep_training import CEILING, OURS
from jaxhash.sweeps.presets import STUDIES


def test_rates_and_ratios_are_those_of_median_seconds():
    seconds = {OURS: [4.0, 2.0, 3.0], "PyTorch": [6.0], "Keras fit": [60.0, 30.0, 90.0], CEILING: [0.5]}
    found = sweep_training.figures(seconds, model_steps=600, repeats=2, flops=9e9, product_flops=8e9)
    assert found["model_steps_per_second"] == pytest.approx(2 * 600 / 3)
    assert found["peers_model_steps_per_second"] == pytest.approx({"PyTorch": 100.0, "Keras fit": 10.0})
    assert (found["ratio_vs_torch"], found["ratio_vs_torch_fused"], found["ratio_vs_keras"]) == (4.0, None, 40.0)
    assert (found["gflops"], found["matmul_peak_gflops"]) == pytest.approx((6.0, 16.0))
    assert found["fraction_of_matmul_peak"] == pytest.approx(6 / 16)


@pytest.mark.slow
def test_the_whole_benchmark_without_the_peers(monkeypatch, capsys):
    widths = (3, 4)
    monkeypatch.setattr(harness, "matrix_products", lambda: (lambda: None, 1.0))
    study = STUDIES["mnist"]
    monkeypatch.setitem(sweep_training.STUDIES, "mnist", type(study)(**(vars(study) | {"widths": widths})))
    data = np.zeros((6400, 784), np.float32), np.zeros(6400, np.int32)
    monkeypatch.setattr(
        sweep_training, "mnist", lambda _: (type("", (), {"x_train": data[0], "y_train": data[1]}), "zeros")
    )
    sweep_training.main(sweep_training.Config(quick=True, peers=False, repeats=1, json=True))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["data"], found["steps"], found["repeats"], found["ratio_vs_keras"]) == ("zeros", 100, 1, None)
    assert {name: len(some) for name, some in found["seconds"].items()} == {OURS: 3, CEILING: 9}
    assert found["compile_seconds"] > 0
    # One example through one layer and back: 2 FLOPs a weight forward, as many for the gradient of the weights, and
    # for the second layer as many again for the gradient of its input.
    flops = sum(64 * (4 * 784 * width + 6 * 10 * width) for width in widths)
    rate = found["model_steps_per_second"] / len(widths) * flops
    assert found["gflops"] * 1e9 == pytest.approx(rate, rel=1e-6)
