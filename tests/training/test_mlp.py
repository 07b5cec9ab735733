"""A population against plain Flax + Optax loops, one model at a time."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from jaxhash.models.mlp import ModelConfig, build
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.training.mlp import TrainConfig, TrainState, epoch_order, init_state, make_epoch
from jaxhash.training.population import Block, model_key, split
from tests.training import QUICKLY

DIGITS = load_digits()
X, Y = jnp.asarray(DIGITS.data[:320] / 16, jnp.float32), jnp.asarray(DIGITS.target[:320], jnp.int32)
REPEAT = jax.random.fold_in(jax.random.key(3), 1)


def block(*widths, **model):
    return Block(widths, ModelConfig(**model), X.shape[1], 10)


def fresh(block):
    return jax.jit(init_state, static_argnums=0, compiler_options=QUICKLY)(block, REPEAT)


def train(block, config, epochs, x=X, state=None):
    """The states after each epoch, and the losses [epochs, models]."""
    epoch = jax.jit(make_epoch(block, config), compiler_options=QUICKLY)
    state = fresh(block) if state is None else state
    states, losses = [], []
    for number in range(epochs):
        state, loss = epoch(state, REPEAT, jnp.asarray(epoch_order(REPEAT, number, len(x), config.batch_size)), x, Y)
        states.append(state)
        losses.append(np.asarray(loss))
    return states, np.array(losses)


def plain_loop(width, model, config, epochs):
    """What one would write without jaxhash: a Flax module, an Optax optimiser, a Python loop over batches."""
    net = build(model, width, 10)
    variables = jax.jit(net.init, compiler_options=QUICKLY)(model_key(REPEAT, width), X[:1])
    params, stats = variables["params"], variables.get("batch_stats", {})
    steps = len(X) // config.batch_size
    schedule = optax.piecewise_constant_schedule(
        config.learning_rate, {config.drop_every * steps * k: config.drop_factor for k in range(1, 10)}
    )
    optimiser = optax.adam(schedule, config.beta1, config.beta2, config.epsilon)
    memory = jax.jit(optimiser.init)(params)

    def loss(params, stats, x, y, key):
        (logits, _), new = net.apply(
            {"params": params, "batch_stats": stats}, x, train=True, dropout_key=key, mutable=["batch_stats"]
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        l2 = sum(jnp.sum(params[f"hidden_{i}"]["kernel"] ** 2) for i in range(model.depth))
        return entropy + config.l2 * l2, new.get("batch_stats", {})

    @partial(jax.jit, compiler_options=QUICKLY)
    def step(params, stats, memory, x, y, key):
        gradient, stats = jax.grad(loss, has_aux=True)(params, stats, x, y, key)
        updates, memory = optimiser.update(gradient, memory, params)
        return optax.apply_updates(params, updates), stats, memory

    count = 0
    for epoch in range(epochs):
        for batch in epoch_order(REPEAT, epoch, len(X), config.batch_size):
            key = stream_key(REPEAT, Stream.DROPOUT, count, width)
            # Drawn without a width: every model of a repeat sees the same noise.
            noise_key = stream_key(REPEAT, Stream.INPUT_NOISE, count)
            x = X[batch] + config.input_noise * jax.random.normal(noise_key, (len(batch), X.shape[1]))
            params, stats, memory = step(params, stats, memory, x, Y[batch], key)
            count += 1
    return {"params": params, "batch_stats": stats} if stats else {"params": params}


def assert_close(actual, expected, tolerance=2e-4):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for path, value in jax.tree_util.tree_leaves_with_path(actual):
        reference = expected
        for entry in path:
            reference = reference[entry.key]
        np.testing.assert_allclose(value, reference, rtol=tolerance, atol=tolerance, err_msg=str(path))


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (ModelConfig(depth=1), TrainConfig(batch_size=32, drop_every=1)),
        (ModelConfig(depth=3, dropout=0.25), TrainConfig(batch_size=32, learning_rate=1e-3, l2=1e-3)),
        (ModelConfig(depth=2, batch_norm=False), TrainConfig(batch_size=32, learning_rate=1e-3, input_noise=0.3)),
    ],
)
def test_one_model_is_a_plain_flax_optax_loop(model, config):
    width = 12
    states, _ = train(Block((width,), model, X.shape[1], 10), config, epochs=2)
    assert_close(
        split(Block((width,), model, X.shape[1], 10), states[-1].params, states[-1].stats)[0],
        plain_loop(width, model, config, epochs=2),
    )


def test_every_model_of_a_population_is_its_own_plain_loop():
    model, config = ModelConfig(depth=2, dropout=0.2), TrainConfig(batch_size=64, input_noise=0.1)
    together = Block((6, 9, 20), model, X.shape[1], 10)
    states, _ = train(together, config, epochs=1)
    for width, variables in zip(together.widths, split(together, states[-1].params, states[-1].stats), strict=True):
        assert_close(variables, plain_loop(width, model, config, epochs=1))


def test_a_model_does_not_depend_on_its_neighbours():
    config = TrainConfig(batch_size=64)
    first, second = block(8, 5, 20), block(8, 13)
    a, _ = train(first, config, 2)
    b, _ = train(second, config, 2)
    assert_close(split(first, a[-1].params, a[-1].stats)[0], split(second, b[-1].params, b[-1].stats)[0])


def test_repeats_vmapped_are_repeats_alone():
    population, config = block(5, 8), TrainConfig(batch_size=64)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), jnp.arange(3))
    orders = jnp.stack([epoch_order(key, 0, len(X), 64) for key in keys])
    epoch = make_epoch(population, config)
    states = jax.jit(jax.vmap(partial(init_state, population)), compiler_options=QUICKLY)(keys)
    together, losses = jax.jit(jax.vmap(epoch, in_axes=(0, 0, 0, None, None)), compiler_options=QUICKLY)(
        states, keys, orders, X, Y
    )
    alone, loss = train(population, config, 1)
    np.testing.assert_allclose(losses[1], loss[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone[-1].params), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=2e-4, atol=2e-4)


def test_padding_stays_exactly_zero():
    population = block(4, 9, 20, depth=2)
    states, _ = train(population, TrainConfig(batch_size=64), 2)
    for m, units in enumerate(population.units):
        for array in (states[-1].params.offset, states[-1].params.scale):
            assert not np.any(array[:, m, units:])
        assert not np.any(states[-1].params.output[m, :, units:])
        assert not np.any(states[-1].params.hidden[0][m, units:])
        assert not np.any(states[-1].params.hidden[0][m, :, units:])


def test_early_stop_freezes_a_model_while_the_others_go_on():
    population, config = block(4, 10), TrainConfig(batch_size=64, patience=2)
    state = fresh(population)
    # A best loss that cannot be beaten: model 0 has to stop after two epochs.
    state = state._replace(best_loss=jnp.array([0.0, jnp.inf]))
    states, losses = train(population, config, 5, state=state)
    assert states[1].active.tolist() == [False, True]
    assert states[-1].epochs.tolist() == [2, 5]
    stopped = [split(population, s.params, s.stats)[0] for s in (states[1], states[-1])]
    jax.tree.map(np.testing.assert_array_equal, *stopped)
    assert losses[-1, 1] < losses[1, 1]
    assert not states[-1].diverged.any()


def test_a_diverging_model_is_reported_and_leaves_its_neighbours_alone():
    population, config = block(4, 10, depth=2), TrainConfig(batch_size=64)
    clean, _ = train(population, config, 2)
    state = fresh(population)
    broken = state._replace(params=state.params._replace(output_bias=state.params.output_bias.at[0].set(jnp.nan)))
    states, losses = train(population, config, 2, state=broken)
    assert states[-1].diverged.tolist() == [True, False]
    assert states[-1].active.tolist() == [False, True]
    assert np.isnan(losses[:, 0]).all()
    for s in (clean[-1], states[-1]):
        assert np.isfinite(jax.tree.leaves(split(population, s.params, s.stats)[1])[0]).all()
    assert_close(
        split(population, states[-1].params, states[-1].stats)[1],
        split(population, clean[-1].params, clean[-1].stats)[1],
        tolerance=0,
    )


def test_one_program_trains_every_epoch():
    population, config = block(4, 6), TrainConfig(batch_size=64, drop_every=1)
    chex.clear_trace_counter()
    epoch = jax.jit(chex.assert_max_traces(make_epoch(population, config), n=1))
    state = fresh(population)
    for number in range(3):
        state, _ = epoch(state, REPEAT, jnp.asarray(epoch_order(REPEAT, number, len(X), 64)), X, Y)
    assert isinstance(state, TrainState)


def test_no_float_is_summed_in_an_order_that_a_device_may_choose():
    """A scatter adds in any order on a GPU: the loss, and with it early stopping, would differ from run to run."""
    population, config = block(4, 6), TrainConfig(batch_size=64, drop_every=1, l2=1e-3)
    order = jnp.asarray(epoch_order(REPEAT, 0, len(X), 64))
    program = str(jax.make_jaxpr(make_epoch(population, config))(fresh(population), REPEAT, order, X, Y))
    sums = re.findall(r"(\w+)\[[^\n]*\] = scatter-add", program)
    assert set(sums) == {"i32"}  # counts of right answers, which are exact


def test_epoch_order_is_a_shuffle_of_its_own_for_each_epoch_and_repeat():
    orders = [epoch_order(key, e, 300, 32) for key in (REPEAT, jax.random.key(0)) for e in (0, 1)]
    for order in orders:
        assert order.shape == (9, 32)
        assert len(np.unique(order)) == 288
    assert not any(np.array_equal(a, b) for i, a in enumerate(orders) for b in orders[:i])
    np.testing.assert_array_equal(orders[0], epoch_order(REPEAT, 0, 300, 32))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"drop_every": 0}, "drop_every=0"),
        ({"drop_factor": 0.0}, "drop_factor=0.0"),
        ({"l2": -1.0}, "l2=-1.0"),
        ({"input_noise": -0.1}, "input_noise=-0.1"),
        ({"patience": -1}, "patience=-1"),
        ({"beta2": 1.0}, "beta2=1.0"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size=64 is more than the 10 training examples"):
        TrainConfig().steps_per_epoch(10)
