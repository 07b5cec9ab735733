"""What several test files look at: one small sweep on the embedded digits, trained once."""

# isort: off
import os

# Small products: threads of BLAS that wait for one another use many times the time of the work.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# isort: on

import fcntl
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_limits

import jaxhash
from jaxhash.data import Dataset
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import results
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.training.mlp import TrainConfig

# The environment reaches libraries that load later, and processes of tests; this those that pytest's plugins loaded.
threadpool_limits(1)
# Oracles are float32: on a GPU, products would otherwise be TF32's.
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_configure(config: pytest.Config) -> None:
    """What one process of the suite compiles, the others find, and the next suite too (in `.pytest_cache`)."""
    settings = {
        "jax_compilation_cache_dir": str(config.cache.mkdir("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, setting in settings.items():
        jax.config.update(name, setting)
        os.environ[name.upper()] = str(setting)


started: list[subprocess.Popen] = []
"""Processes that the tests started, and that may still run."""
_start = subprocess.Popen.__init__


def _noted_start(process: subprocess.Popen, *arguments: object, **options: object) -> None:
    _start(process, *arguments, **options)
    started.append(process)


subprocess.Popen.__init__ = _noted_start  # type: ignore[method-assign, assignment]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """A test that fails or is interrupted leaves no process behind."""
    end_processes()
    return (yield)


def end_processes() -> None:
    """Kill the processes that the tests started and that still run."""
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    started.clear()


@dataclass(frozen=True)
class Trained:
    """A finished sweep: its configuration, folder, results and data."""

    config: SweepConfig
    out: Path
    results: xr.Dataset
    data: Dataset

    def model(self, width: int, repeat: int = 0) -> jaxhash.Model:
        """A model of it."""
        return jaxhash.load(self.out, width=width, repeat=repeat)

    def bits(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the training and of the test examples under the first repeat's model, one bool a bit."""
        model = self.model(width)
        train, test = (model.codes(x).unpack() for x in (self.data.x_train, self.data.x_test))
        return np.asarray(train), np.asarray(test)


COVERED = (
    "tests/codes",
    "tests/experiments/test_sweep_figures.py",
    "tests/faults",
    "tests/hashing/perfect",
    "tests/storage",
    "tests/sweeps",
)
"""Tests that `--cov` follows. Those take a third longer: before Python 3.14 it slows down all of JAX's Python."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests first: several processes then end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    if config.pluginmanager.hasplugin("_cov"):
        folders = [config.rootpath / folder for folder in COVERED]
        for item in items:
            if not any(item.path.is_relative_to(folder) for folder in folders):
                item.add_marker("no_cover")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that fills a folder: one process of the suite does it (pytest-xdist has several), the others wait."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def filled(name: str, fill: Callable[[Path], object]) -> Path:
        with (shared / f"{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                draft = Path(tempfile.mkdtemp(dir=shared))
                fill(draft)
                draft.rename(shared / name)
        return shared / name

    return filled


@pytest.fixture(scope="session")
def trained(once: Callable[[str, Callable[[Path], object]], Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = SweepConfig(widths=(20, 3, 40), repeats=2, train=TrainConfig(epochs=8, batch_size=32))
    done = once("trained", lambda folder: sweep.run(config, folder / "run"))
    # A copy, for no test of one process may meet one of another in it.
    out = shutil.copytree(done / "run", tmp_path_factory.mktemp("sweep") / "run")
    return Trained(config, out, results.collect(out), sweep.prepare(config))
