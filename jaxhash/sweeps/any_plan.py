"""Plan of a sweep of models of one's own: what is checked before, which axes share a program, and the tasks."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxhash.data import Dataset
from jaxhash.models.network import names_of
from jaxhash.runtime.devices import worker_count
from jaxhash.sweeps.any_model import trainable_of
from jaxhash.sweeps.grid import NOISE, TAKEN, Coordinates, SweepConfig, Value
from jaxhash.sweeps.tasks import Task, cut_any, kinds
from jaxhash.training.mlp import TRACED
from jaxhash.training.trainable import seen
from jaxhash.training.vmapped import OF_DATA


def plan(config: SweepConfig, data: Dataset) -> list[Task]:
    """Cut a grid into tasks, once every kind of model in it was traced.

    Raises:
        ValueError: if an axis is none that model, optimiser or recipe know; or a model cannot be made, traced, trained
            or looked at on this data.
    """
    check_axes(config)
    traced = [name for name, values in config.grid.items() if _may_be_traced(config, data, name, values)]
    for shared, members in kinds(config.grid, (*traced, NOISE)):
        check_model(config, shared, members[0], data)
    return cut_any(config, traced, worker_count())


def check_axes(config: SweepConfig) -> None:
    """Refuse axes that nobody knows.

    Raises:
        ValueError: naming those that there are.
    """
    network = config.network
    assert network is not None
    for name in config.grid:
        if name in (NOISE, *TAKEN) and name != "width":
            continue
        if name in OF_DATA or not network.takes(name):
            own = [*names_of(network.make), *(names_of(network.optimizer) if network.optimizer else ())]
            known = [one for one in own if one not in (*OF_DATA, "rngs", "key", "parent", "name")]
            recipe = [f.name for f in dataclasses.fields(config.train) if network.takes(f.name)]
            raise ValueError(
                f"grid: {name} is no argument of the model ({', '.join(known) or 'it has none'}) or its optimiser, and "
                f"not of the recipe ({', '.join(dict.fromkeys([NOISE, 'examples', *recipe]))})"
            )


def check_model(config: SweepConfig, shared: Mapping[str, Value], member: Mapping[str, Value], data: Dataset) -> None:
    """Trace a kind of model from its start to its codes.

    Raises:
        ValueError: if that fails, in a line that says where.
    """
    network = config.network
    assert network is not None
    at = ", ".join(f"{name}={value}" for name, value in {**shared, **member}.items())
    named = f"{network.name}({at})"
    hyper = {name: jax.ShapeDtypeStruct((2,), np.float32) for name in member if name != NOISE}
    trainable = trainable_of(config, shared, data)
    batch = config.recipe(shared).batch_size
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    x = jax.ShapeDtypeStruct((2 * batch, data.features), np.float32)
    y = jax.ShapeDtypeStruct((2, 2 * batch, *data.y_train.shape[1:]), data.y_train.dtype)
    order, number = jax.ShapeDtypeStruct((2, 1, batch), np.int32), jax.ShapeDtypeStruct((), np.int32)

    def traced(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # whatever the user's code trips over
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ValueError(f"{named} {what} ({reason})") from error

    begin = jax.vmap(trainable.init, (0, 0, None))
    state = traced("cannot be initialised", partial(jax.eval_shape, begin), keys, hyper, x)
    trained = jax.eval_shape(trainable.trained_of, state)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (trained, hyper))
    outputs, code = traced("cannot be traced", partial(seen, trainable.look), *one, x)
    n, classes = 2 * batch, data.num_classes
    wanted = (n, classes) if classes else (n, *outputs.shape[1:])
    if outputs.shape != wanted:
        mend = f"return a logit for each of the {classes} classes" if classes else "return an output for each example"
        raise ValueError(f"{named} returns {list(outputs.shape)} for {n} examples of shape {list(data.shape)}; {mend}")
    if code.num_bits == 0 and (config.properties or config.random_inputs):
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in code.skipped) or "it has no ReLU-like activations"
        raise ValueError(f"{named} has no units to code ({reasons}); train it with properties=() all the same")
    train = jax.vmap(trainable.advance, (0, 0, 0, None, 0, 0, None, None))
    after = traced("cannot be trained", partial(jax.eval_shape, train), state, keys, order, x, y, hyper, number, number)
    if jax.tree.map(lambda a: (a.shape, a.dtype), after) != jax.tree.map(lambda a: (a.shape, a.dtype), state):
        raise ValueError(f"{named}: a training step changes the shapes or types of parameters or state")
    for name, metric in network.metrics_of(classes).items():
        of = jax.ShapeDtypeStruct(outputs.shape, outputs.dtype), jax.ShapeDtypeStruct(y.shape[1:], y.dtype)
        found = traced(f"has a metric {name} that fails", partial(jax.eval_shape, metric), *of)
        if not hasattr(found, "shape"):
            raise ValueError(f"{named}: metric {name} returns a {type(found).__name__}; return an array")


def _may_be_traced(config: SweepConfig, data: Dataset, name: str, values: tuple[Value, ...]) -> bool:
    """Whether a program can take values of an axis as an argument: found out by trying."""
    if name == NOISE or not isinstance(values[0], float):
        return False
    others: Coordinates = {axis: some[0] for axis, some in config.grid.items() if axis not in (name, NOISE)}
    if not (config.network and name in names_of(config.network.make)) and name in TRACED:
        return True
    try:
        check_model(config, others, {name: next((value for value in values if value != 0), values[0])}, data)
    except ValueError:
        return False
    return True
