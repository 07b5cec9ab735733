"""The benchmarks' arithmetic and their JSON; their figures are for the machine they run on and are not tested."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_training_benchmark_prints_its_figures_as_json_without_the_peers():
    process = [sys.executable, "-m", "bench.sweep_training", "--quick", "--no-peers", "--repeats", "1", "--json"]
    done = subprocess.run(process, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    seconds = sorted(figures["seconds"]["jaxhash"])
    steps = 23 * figures["steps"] * figures["repeats"]
    assert figures["model_steps_per_second"] == pytest.approx(steps / seconds[len(seconds) // 2])
    assert figures["ratio_vs_torch"] is None
    # One example through one layer and back: 2 FLOPs a weight forward, as many for the gradient of the weights, and
    # for the second layer as many again for the gradient of its input.
    widths = (3, 7, 10, 15, 20, 23, 27, 30, 33, 37, 40, 43, 47, 50, 53, 57, 60, 65, 70, 75, 80, 90, 100)
    flops = sum(64 * (4 * 784 * width + 6 * 10 * width) for width in widths)
    rate = figures["model_steps_per_second"] / len(widths) * flops
    assert figures["gflops"] * 1e9 == pytest.approx(rate, rel=1e-6)
    assert figures["fraction_of_matmul_peak"] == pytest.approx(figures["gflops"] / figures["matmul_peak_gflops"])
