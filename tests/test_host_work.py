"""No hidden work of the host: what is on a device stays there while a sweep trains, and while tokens are hashed.

Programs are counted by JAX's own profiler: an epoch of a task is one, and so is the measuring of its models.
"""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.models.mlp import ModelConfig
from jaxhash.runtime.devices import places
from jaxhash.sweeps import SweepConfig, engine, inputs, measuring, programs
from jaxhash.sweeps.programs import Programs
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.population import Block
from tests.sweeps import stand_in

KEYS = [f"key {i}" for i in range(40)]


@pytest.mark.parametrize("method", ["sharded", "seeds"])
def test_tokens_on_a_device_are_hashed_there(method):
    hasher = fit(KEYS, FitConfig(method=method))
    tokens = jax.tree.map(jnp.asarray, tokenize(KEYS))
    hasher(tokens)  # its tables go to the device with the first keys
    with jax.transfer_guard("disallow"):
        bins = hasher(tokens)
    assert isinstance(bins, jax.Array)
    assert sorted(np.asarray(bins).tolist()) == list(range(40))


def test_models_are_trained_and_evaluated_on_the_device():
    programs = Programs(Block((8, 12), ModelConfig(dropout=0.1), 6, 3), TrainConfig(batch_size=4, input_noise=0.1))
    keys = jax.random.split(jax.random.key(0), 2)
    order, x, y = jnp.zeros((2, 5, 4), jnp.int32), jnp.zeros((20, 6)), jnp.zeros((2, 20), jnp.int32)
    state = programs.init(keys)
    with jax.transfer_guard("disallow"):
        state, losses = programs.epoch(state, keys, order, x, y, {})
        found = programs.evaluate(state.params, state.stats, x, y, None)
    assert np.isfinite(np.asarray(losses)).all()
    assert found.words.shape == (2, 16, 20, 1)  # room for more models


def called(work, folder):
    """How often each jitted function is called by some work that was done before, the ones of JAX's own included."""
    work()
    with jax.profiler.trace(str(folder)):
        work()
    (trace,) = folder.rglob("*.xplane.pb")
    names = Counter(
        event.name
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes
        for line in plane.lines
        for event in line.events
        if event.name.startswith("PjitFunction(")
    )
    return {name.removeprefix("PjitFunction(")[:-1]: count for name, count in names.items()}


def test_the_profiler_tells_what_is_called(tmp_path):
    one = called(lambda: jnp.sin(jnp.ones(3)), tmp_path / "one")["sin"]
    two = called(lambda: jnp.cos(jnp.sin(jnp.sin(jnp.ones(3)))), tmp_path / "two")
    assert (two["sin"], two["cos"]) == (2 * one, one)


@pytest.mark.parametrize(("widths", "repeats"), [((3,), 1), ((3, 9, 20), 2)])
def test_a_task_is_few_programs_however_many_models_it_has(tmp_path, monkeypatch, widths, repeats):
    monkeypatch.setattr(measuring, "PROPERTIES", stand_in.PROPERTIES)
    once = called(lambda: jnp.sin(jnp.ones(3)), tmp_path / "once")["sin"]
    config = SweepConfig(widths=widths, repeats=repeats, random_inputs=True, train=TrainConfig(epochs=1, patience=0))
    data = inputs.put_on_device(config, inputs.prepare(config), places("none")[0])
    (task,) = engine.cut(config, data.host.features, data.host.num_classes, 10**9)
    of_block, keys = programs.programs_for(config, task, data.host), inputs.repeat_keys(config, task)
    y, order = inputs.task_labels(config, data.host, task), inputs.orders(config, task, keys, 0, len(data.x))
    state, order = data.place.spread((of_block.init(keys), order))
    there = data.place.spread(y)

    def epoch():
        nonlocal state
        state, _ = of_block.epoch(state, keys, order, data.x, there, {})

    assert called(epoch, tmp_path / "epoch") == {"epoch": once}
    looked = programs.evaluate(task, of_block, state, data, y)
    # Training, test and random examples.
    assert called(lambda: programs.evaluate(task, of_block, state, data, y), tmp_path / "evaluate") == {
        "evaluate": 3 * once
    }
    measured = called(lambda: measuring.measured(config, looked, {}), tmp_path / "measure")
    assert measured == {"measure_task": once}


def test_the_guard_sees_what_comes_from_the_host():
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        jax.jit(lambda x: x + 1)(np.ones(3))
