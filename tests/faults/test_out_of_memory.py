"""A device, or a host, without enough memory: one line that says what to make smaller."""

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxhash import cli
from jaxhash.hashing.perfect import fitting
from jaxhash.runtime.memory import OutOfMemory, explained
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal import capacity, command
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


@pytest.mark.parametrize("printed", [True, False])
def test_what_no_command_explains(capfd, monkeypatch, printed):
    """It has no text of its own; and to print it may need memory too."""

    def work(*_, **__):
        if not printed:
            monkeypatch.setattr(Console, "print", work)
        raise MemoryError

    with pytest.raises(SystemExit, match="1"):
        command.framed(work, kept="")
    said = capfd.readouterr().err
    assert said.startswith("Error: out of memory on this machine. Give less at once"), said
    assert said.count("\n") == 1


def test_a_path_is_said_as_it_is(capfd):
    """No :names: of pictures, no [colours]."""

    def work():
        raise OSError("/tmp/:cat:/[red]x")

    with pytest.raises(SystemExit):
        command.framed(work, kept="")
    assert capfd.readouterr().err == "Error: /tmp/:cat:/[red]x\n"


@pytest.mark.parametrize(
    "error",
    [ImportError("x.so: failed to map segment from shared object"), RuntimeError("can't start new thread")],
)
def test_what_loads_a_library_or_starts_a_thread(error):
    with (
        pytest.raises(OutOfMemory, match=rf"^out of memory on this machine: {error}. Buy memory$"),
        explained("Buy memory"),
    ):
        raise error
    with pytest.raises(type(error), match=r"^no$"), explained("Buy memory"):
        raise type(error)("no")


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), explained("Buy memory"):
        _ = 1 // 0
    with pytest.raises(OutOfMemory, match=r"Buy memory"), explained("Buy memory"):
        on_device()


def test_the_defaults_of_a_sweep(capfd, monkeypatch):
    """They are looked up before the command line is read."""

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(capacity.presets, "capacity", no_memory)
    with pytest.raises(SystemExit, match="1"):
        capacity.main([])
    assert capfd.readouterr().err.startswith("Error: out of memory on this machine. ")
