"""Any model: 8 repeats trained by a sweep, against a Python loop of jitted steps over the same models.

A multilayer perceptron, a small convolutional network and a small transformer encoder, in Flax, on 28 x 28 images,
batch 64, Adam. The loop is what one would write: Flax and Optax, a jitted step, data on the device, one model after the
other. The sweep chooses among `vmap`, `map`, `scan` and `loop` by timing them (`jaxhash.sweeps.any_model`).

    python -m bench.any_model            # a few minutes on 2 cores
    python -m bench.any_model --quick
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from bench import harness
from jaxhash.runtime.devices import places, worker_count
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps import any_model
from jaxhash.sweeps.any_plan import plan
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.inputs import orders, prepare, put_on_device, repeat_keys, task_labels
from jaxhash.sweeps.programs import Work
from jaxhash.training.mlp import epoch_order
from jaxhash.training.vmapped import RECIPE, ModelSpec

SIDE, CLASSES, REPEATS = 28, 10, 8
LOOP, OURS = "loop of jitted steps", "jaxhash"


class Mlp(nn.Module):
    """One hidden layer."""

    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        return nn.Dense(CLASSES)(nn.relu(nn.Dense(self.width)(x)))


class Cnn(nn.Module):
    """Two convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        x = x.reshape(-1, SIDE, SIDE, 1)
        for channels in (8, 16):
            x = nn.relu(nn.Conv(channels, (3, 3), strides=(2, 2))(x))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Transformer(nn.Module):
    """Two layers of attention over 16 patches."""

    width: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        patches = x.reshape(-1, 4, SIDE // 4, 4, SIDE // 4).swapaxes(2, 3).reshape(-1, 16, (SIDE // 4) ** 2)
        h = nn.Dense(self.width)(patches) + self.param("places", nn.initializers.normal(0.02), (16, self.width))
        for _ in range(2):
            h = h + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(h))
            h = h + nn.Dense(self.width)(nn.relu(nn.Dense(2 * self.width)(nn.LayerNorm()(h))))
        return nn.Dense(CLASSES)(h.mean(1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp, 16 units": Mlp,
    "mlp, 64 units": lambda: Mlp(64),
    "small cnn": Cnn,
    "small transformer": Transformer,
}


@dataclass(frozen=True)
class Config(harness.Options):
    """Model-steps a second of both."""

    steps: int = 100
    """Of an epoch."""
    rounds: int = 5
    """Epochs of each, in turn."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    steps, rounds = (8, 2) if config.quick else (config.steps, config.rounds)
    found = compared(list(MODELS), steps, rounds)
    rates, ratios, ways = found["model_steps_per_second"], found["ratio_vs_loop"], found["ways"]
    harness.show(
        f"{REPEATS} models side by side, batch {RECIPE.batch_size}: model-steps a second",
        ("model", LOOP, OURS, "ratio", "way"),
        [
            (name, f"{of[LOOP]:,.0f}", f"{of[OURS]:,.0f}", f"{ratios[name]:.2f}", ways[name]["mode"])
            for name, of in rates.items()
        ],
    )
    harness.finish("any_model", config, found, "flax", "optax")


def compared(names: list[str], steps: int, rounds: int) -> dict[str, Any]:
    """Both on each of some `MODELS`: ratios, rates, the way that was chosen and those that were timed."""
    ratios, rates, ways = {}, {}, {}
    all_seconds: dict[str, list[float]] = {}
    for name in names:
        harness.say(name)
        with tempfile.TemporaryDirectory() as folder:
            seconds, ways[name] = _compared(MODELS[name], steps, rounds, Path(folder))
        middle = harness.medians(seconds)
        all_seconds |= {f"{name}: {who}": took for who, took in seconds.items()}
        rates[name] = {who: REPEATS * steps / took for who, took in middle.items()}
        ratios[name] = middle[LOOP] / middle[OURS]
    found = {"ratio_vs_loop": ratios, "model_steps_per_second": rates, "ways": ways}
    return found | {"seconds": all_seconds, "spread": harness.spreads(all_seconds)}


def _compared(
    make: Callable[[], nn.Module], steps: int, rounds: int, folder: Path
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each epoch of all models, by both, once their losses were found the same; and the way chosen."""
    n = steps * RECIPE.batch_size
    rng = np.random.default_rng(0)
    x, y = rng.random((n * 5 // 4, SIDE**2), np.float32), rng.integers(0, CLASSES, n * 5 // 4).astype(np.int32)
    config = SweepConfig(
        (x, y, x[:64], y[:64]),
        repeats=REPEATS,
        train=replace(RECIPE, epochs=1),
        network=ModelSpec(make),
        properties=(),
    )
    ours, losses, way = _sweep(config, folder)
    loop, of_loop = _loop(make(), x[:n], y[:n])
    np.testing.assert_allclose(losses(), of_loop(), rtol=2e-3)
    seconds, _ = harness.interleaved({OURS: ours, LOOP: loop}, rounds, warm_up=True)
    return seconds, way()


def _sweep(config: SweepConfig, folder: Path) -> tuple[Callable[[], Any], Callable[[], np.ndarray], Callable[[], Any]]:
    """A call that trains one more epoch; the losses of the first; the way."""
    data = put_on_device(config, prepare(config), places("none")[0])
    tasks = plan(config, data.host)
    programs = any_model.all_programs(config, tasks, data.host, folder)
    states, given, first = {}, {}, {}
    for task in tasks:
        keys = repeat_keys(config, task)
        work = Work(keys, task_labels(config, data.host, task), {})
        order = orders(config, task, keys, 0, len(data.x))
        given[task] = data.place.spread((work, order))
        states[task] = data.place.spread(programs[task].start(keys, {}, data))

    def epoch(task: Any) -> Any:
        work, order = given[task]
        states[task], losses = programs[task].train(states[task], work, order, data, lambda: None)
        return jax.block_until_ready(losses)

    for task in tasks:
        first[task] = np.asarray(epoch(task))
    pool = ThreadPoolExecutor(worker_count())
    return (
        lambda: list(pool.map(epoch, tasks)),
        lambda: np.concatenate([first[task] for task in tasks]),
        lambda: any_model.Notes(folder).of("all"),
    )


def _loop(module: nn.Module, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    """The same in plain Flax and Optax."""
    images, labels, adam = jnp.asarray(x), jnp.asarray(y), optax.adam(RECIPE.learning_rate)
    keys = [jax.random.fold_in(jax.random.key(0), repeat) for repeat in range(REPEATS)]
    begin = jax.jit(lambda key: module.init(stream_key(key, Stream.INIT), images[:1]))
    params: list[Any] = [begin(key) for key in keys]
    states: list[Any] = [adam.init(own) for own in params]
    batches = [[jnp.asarray(batch) for batch in epoch_order(key, 0, len(x), RECIPE.batch_size)] for key in keys]

    @jax.jit
    def step(params: Any, state: Any, batch: jax.Array) -> tuple[Any, Any, jax.Array]:
        def loss(params: Any) -> jax.Array:
            logits = module.apply(params, images[batch])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = adam.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    def epoch() -> np.ndarray:
        means = []
        for i in range(REPEATS):
            values = []
            for batch in batches[i]:
                params[i], states[i], value = step(params[i], states[i], batch)
                values.append(value)
            means.append(jnp.stack(values).mean())
        return np.asarray(jax.block_until_ready(jnp.stack(means)))

    first = epoch()
    return epoch, lambda: first


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
