"""What several test files look at: one small sweep on the embedded digits, trained once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import jaxhash
from jaxhash import data, sweep
from jaxhash.sweep import SweepConfig
from jaxhash.train import TrainConfig


@dataclass(frozen=True)
class Trained:
    """A finished sweep: its configuration, folder, results and data."""

    config: SweepConfig
    out: Path
    results: xr.Dataset
    data: data.Dataset

    def model(self, width: int, repeat: int = 0) -> jaxhash.Model:
        """A model of it."""
        return jaxhash.load(self.out, width=width, repeat=repeat)

    def bits(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the training and of the test examples under the first repeat's model, one bool a bit."""
        model = self.model(width)
        train, test = (model.codes(x).unpack() for x in (self.data.x_train, self.data.x_test))
        return np.asarray(train), np.asarray(test)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = SweepConfig(widths=(20, 3, 40), repeats=2, train=TrainConfig(epochs=8, batch_size=32))
    out = tmp_path_factory.mktemp("sweep") / "run"
    return Trained(config, out, sweep.run(config, out), sweep.prepare(config))
