"""No hidden work of the host: what is on a device stays there while a sweep trains, and while tokens are hashed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.models.mlp import ModelConfig
from jaxhash.sweeps.programs import Programs
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.population import Block

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
        state, losses = programs.epoch(state, keys, order, x, y)
        found = programs.evaluate(state.params, state.stats, x, y, None)
    assert np.isfinite(np.asarray(losses)).all()
    assert found.words[0].shape == (2, 20, 1)


def test_the_guard_sees_what_comes_from_the_host():
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        jax.jit(lambda x: x + 1)(np.ones(3))
