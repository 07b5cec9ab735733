"""How many workers a machine gets, on Linux and where Python tells no affinity."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.runtime.devices import cores, training_options, worker_count
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.training.mlp import TrainConfig


@pytest.fixture
def macos(monkeypatch):
    """A system that does not say which cores a process may use."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "process_cpu_count", os.cpu_count, raising=False)  # Python 3.13's would ask for it


def test_a_worker_a_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7, 9})
    assert cores() == 4
    assert worker_count() == (4 if jax.default_backend() == "cpu" else 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert worker_count() == 1


def test_a_sweep_and_a_fit_where_no_affinity_is_told(macos, tmp_path):
    assert cores() == 3
    config = SweepConfig(widths=(3,), repeats=1, examples=60, train=TrainConfig(epochs=1, batch_size=32))
    found = sweep.run(config, tmp_path / "run")
    assert found["epochs"].item() == 1
    hasher = fit([f"key{i}" for i in range(60)], FitConfig(method="seeds", seeds=SeedsConfig(6, 3)))
    assert sorted(hasher([f"key{i}" for i in range(60)]).tolist()) == list(range(60))


def test_training_programs_have_options_on_a_cpu_only(monkeypatch):
    x = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(jax.jit(lambda x: x @ x, compiler_options=training_options())(x), x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert training_options.__wrapped__() == {}


SAME_BITS = """
import os, sys
from jaxhash.runtime.devices import REPRODUCIBLE, same_bits_each_run
import jax
if "late" in sys.argv:
    jax.devices()
same_bits_each_run()
same_bits_each_run()
assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2 " + REPRODUCIBLE
assert jax.numpy.ones(2).sum() == 2 and len(jax.devices()) == 2
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_the_flag_of_same_bits_is_set_before_jax_starts_or_refused(when):
    """XLA knows it, and the other flags stay."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SAME_BITS, when], env=environment, capture_output=True, text=True)
    if when == "early":
        assert done.returncode == 0, done.stderr
    else:
        assert "JAX has started already; set XLA_FLAGS=--xla_gpu_deterministic_ops=true" in done.stderr
