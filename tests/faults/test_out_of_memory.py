"""A device, or a host, without enough memory: one line that says what to make smaller."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import cli
from jaxhash.hashing.perfect import fitting
from jaxhash.runtime.memory import OutOfMemory, explained
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.training.mlp import TrainConfig
from tests.commands import status_of
from tests.faults.conftest import last_event

FAR_TOO_MANY = 2**44


def on_device(*_):
    jnp.zeros(FAR_TOO_MANY).block_until_ready()


def on_host(*_):
    np.ones(2**58)


@pytest.mark.parametrize(("asked", "where"), [(on_device, "70368744177664 bytes"), (on_host, "2.00 EiB")])
def test_a_sweep(tmp_path, monkeypatch, asked, where):
    """The error is the device's own, met by a worker at its task."""
    monkeypatch.setattr(sweep, "work", asked)
    with pytest.raises(OutOfMemory, match=rf"^out of memory on .*: .*{where}.* smaller --batch-size.*$") as caught:
        sweep.run(SweepConfig(widths=(4,), train=TrainConfig(epochs=1)), tmp_path / "x")
    assert isinstance(caught.value, ValueError)  # of which the commands print one line
    assert last_event(tmp_path / "x")["event"] == "failed"
    assert not (tmp_path / "x" / "results.nc").exists()


def test_a_fit(tmp_path, capfd, monkeypatch):
    (tmp_path / "words").write_text("a\nb\nc\n")
    monkeypatch.setattr(fitting, "separate", on_device)
    assert status_of(cli.Fit(str(tmp_path / "words"), tmp_path / "x")) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1, said
    assert "70368744177664 bytes" in said
    assert "Give fewer keys" in said
    assert not (tmp_path / "x").exists()


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), explained("Buy memory"):
        _ = 1 // 0
    with pytest.raises(OutOfMemory, match=r"Buy memory"), explained("Buy memory"):
        on_device()
