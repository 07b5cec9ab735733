"""The contract that every learner keeps: pure, deterministic by key, a seed is the same whoever trains beside it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import (
    actor_critic,
    expected_return,
    guided,
    imitation,
    reinforce,
    reptile,
    soft_actor_critic,
    table_reinforce,
)
from jaxhash.hashing.study.loop import iterate, train_seeds
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of

TOKENS = tokenize([a + b for a in "abcd" for b in "abc"])
BINS = jnp.arange(12, dtype=jnp.int32) * 5 % 8
SMALL = {
    "num_bins": 8,
    "iterations": 6,
    "network": NetworkConfig((8,), "embedding", 4, alphabet_of(TOKENS)),
}

IMITATE = imitation.ImitateConfig(
    num_bins=8,
    iterations=300,
    batch_size=10,
    held_out=4,
    learning_rate=1e-2,
    network=NetworkConfig((32,), alphabet=alphabet_of(TOKENS)),
)

LEARNERS = {
    "imitate": (imitation, IMITATE, (TOKENS, BINS)),
    "reinforce": (reinforce, reinforce.ReinforceConfig(**SMALL, batch_size=8), (TOKENS,)),
    "expected_return": (
        expected_return,
        expected_return.ExpectedReturnConfig(**SMALL, batch_size=6, blocks=2),
        (TOKENS,),
    ),
    "actor_critic": (actor_critic, actor_critic.ActorCriticConfig(**SMALL, batch_size=8), (TOKENS,)),
    "soft_actor_critic": (
        soft_actor_critic,
        soft_actor_critic.SoftActorCriticConfig(
            **SMALL, batch_size=8, replay=2, replay_batch=4, updates=2, initial_temperature=2.0
        ),
        (TOKENS,),
    ),
    "table_reinforce": (
        table_reinforce,
        table_reinforce.TableReinforceConfig(**SMALL, batch_size=8, episodes=2),
        (TOKENS,),
    ),
    "table_reinforce, return": (
        table_reinforce,
        table_reinforce.TableReinforceConfig(**SMALL, batch_size=8, episodes=2, credit="return"),
        (TOKENS,),
    ),
    "guided": (guided, guided.GuidedConfig(**SMALL, batch_size=6), (TOKENS,)),
    "meta": (
        reptile,
        reptile.MetaConfig(
            keys_per_task=6,
            iterations=SMALL["iterations"],
            tasks=2,
            inner_steps=2,
            learner=expected_return.ExpectedReturnConfig(**SMALL, blocks=1),
        ),
        (TOKENS,),
    ),
}


# These programs run for milliseconds: they are compiled without optimisation, which is what takes the time.
QUICKLY = {"xla_backend_optimization_level": "0"}
SEEDS = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), jnp.arange(3))


@cache
def trained(name):
    """Three seeds side by side."""
    module, config, data = LEARNERS[name]
    train = jax.vmap(module.make_train(config), in_axes=(0, *(None for _ in data)))
    return jax.tree.map(np.asarray, jax.jit(train, compiler_options=QUICKLY)(SEEDS, *data))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_seed_alone_is_the_seed_among_others_and_the_same_again(name):
    module, config, data = LEARNERS[name]
    train = jax.jit(module.make_train(config), compiler_options=QUICKLY)
    with jax.debug_key_reuse(True):  # an error if two draws share a key
        first, again = (train(jax.random.fold_in(jax.random.key(7), 1), *data) for _ in range(2))
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, others in zip(jax.tree.leaves(first), jax.tree.leaves(trained(name)), strict=True):
        np.testing.assert_allclose(one, others[1], rtol=2e-3, atol=2e-4)


def test_seeds_are_numbered_from_the_runs_seed():
    found = train_seeds(lambda key, data: (jax.random.key_data(key), data * 2), 3, 7, jnp.arange(2))
    np.testing.assert_array_equal(found[0], jax.random.key_data(SEEDS))
    np.testing.assert_array_equal(found[1], [[0, 2]] * 3)


@pytest.mark.parametrize("name", LEARNERS)
def test_histories_have_all_iterations_and_seeds_differ(name):
    _, history = trained(name)
    for values in history:
        assert values.shape == (3, LEARNERS[name][1].iterations)
        assert np.isfinite(values).all()
    assert len(np.unique(history.loss[:, 0])) == 3
    if "collisions" in history._fields:
        assert history.collisions.min() >= 0
        assert history.collisions.max() <= 7


def test_the_temperature_begins_where_it_is_told():
    _, history = trained("soft_actor_critic")
    np.testing.assert_allclose(history.temperature[:, 0], 2.0, rtol=1e-6)
    assert (history.temperature[:, -1] != 2.0).all()
    assert (history.value_spread > 0).all()


def test_imitation_learns_few_keys_by_heart_and_not_those_held_out():
    _, history = trained("imitate")
    assert history.accuracy[:, -10:].mean() > 0.99
    assert history.loss[:, -10:].mean() < 0.1
    assert history.held_out_loss[:, -10:].mean() > np.log(8)


def test_reports_tell_how_far_a_training_is():
    told = []
    done, squares = jax.jit(
        lambda key: iterate(lambda s, k, i: (s + 1, i * i), jnp.zeros((), jnp.int32), key, 100, told.append)
    )(jax.random.key(0))
    jax.effects_barrier()
    assert int(done) == 100
    assert np.asarray(squares).tolist() == [i * i for i in range(100)]
    assert sorted(told) == list(range(2, 101, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reinforce.ReinforceConfig(iterations=0), "iterations=0 is not valid"),
        (lambda: actor_critic.ActorCriticConfig(discount=1.5), "discount=1.5 is not valid"),
        (lambda: soft_actor_critic.SoftActorCriticConfig(target_rate=0.0), "target_rate=0.0 is not valid"),
        (
            lambda: soft_actor_critic.SoftActorCriticConfig(initial_temperature=0.0),
            "initial_temperature=0.0 is not valid",
        ),
        (lambda: table_reinforce.TableReinforceConfig(episodes=0), "episodes=0 is not valid"),
        (lambda: reptile.MetaConfig(keys_per_task=33), "a perfect hash needs num_bins >= 33"),
        (lambda: imitation.ImitateConfig(batch_size=0), "batch_size=0 is not valid"),
    ],
)
def test_options_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
