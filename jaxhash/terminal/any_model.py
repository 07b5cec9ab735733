"""`jaxhash.sweep`, and `jaxhash sweep my_model.py:make`: a grid of models of one's own, trained and measured.

The study's MLPs are what is trained if no model is given.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import optax
import xarray as xr
from rich.console import Console

from jaxhash.data import Dataset
from jaxhash.sweeps import engine
from jaxhash.sweeps.grid import FAMILIES, Properties, SweepConfig, Value
from jaxhash.terminal.sweep_display import Display
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.vmapped import RECIPE, Loss, ModelSpec

EPOCHS = 20
"""Of models of one's own, by default."""
_RECIPE = [f.name for f in dataclasses.fields(TrainConfig)]


def sweep(
    model: Callable[..., Any] | None = None,
    dataset: str | Dataset | tuple[Any, Any, Any, Any] = "digits",
    *,
    out: str | Path,
    grid: Mapping[str, Iterable[Value]] | None = None,
    optimizer: Callable[..., optax.GradientTransformation] | None = None,
    loss: Loss | None = None,
    metrics: Mapping[str, Loss] | None = None,
    properties: Iterable[str] = FAMILIES,
    own_properties: Properties | None = None,
    data_dir: str | Path | None = None,
    mesh: str = "auto",
    **options: Any,
) -> xr.Dataset:
    """Train every model of a grid, measure its neural codes, and save all of it.

    Args:
        model: a Flax Linen module class, or a function that makes a model of some library; `jaxhash.models.network`
            says which. It gets the values of the axes that it names, and `classes`, `features` and `shape` of the data
            if it names them. By default the study's MLPs: their axes are `width` and the options of `jaxhash sweep`.
        dataset: a name (examples are rows [features] then), a `Dataset`, or arrays x_train, y_train, x_test, y_test:
            examples keep their shape. Targets in floating point are no classes: only redundancy is measured then.
        out: folder of the run. One that was interrupted, even killed, continues where it stood.
        grid: values by axis; a model is trained for each combination and repeat.
        optimizer: a function of axes that makes an Optax optimiser; by default Adam at `learning_rate`.
        loss: outputs and labels to a value for each example, or their mean; by default cross-entropy in nats, of
            targets the squared error.
        metrics: further numbers in the same way, by name.
        properties: what is measured of the codes: some of redundancy, kmeans, knn, logistic.
        own_properties: properties of your own by name, as `jaxhash.codes.Property`.
        data_dir: where dataset files are looked up first.
        mesh: the devices to use: `auto`, `none` (the first), or how many.
        options: of the recipe (`epochs`, `batch_size`, `learning_rate`, `l2`, `patience` ...) and the sweep
            (`repeats`, `seed`, `snapshots`, `label_noise`, `execution` ...), as `TrainConfig` and `SweepConfig` have
            them. The recipe of models of your own is `jaxhash.training.vmapped.RECIPE`, for 20 epochs.

    Returns:
        An `xarray.Dataset` with a dimension for each axis: `train_loss`, `test_accuracy`, `knn_accuracy` and so on.
        `jaxhash.load(out, **coordinates)` gives each model.

    Raises:
        ValueError: if a model cannot be trained so, in a line that says why; nothing is written then.
        OSError: if something cannot be written; the same call continues the run.
    """
    recipe = TrainConfig() if model is None else dataclasses.replace(RECIPE, epochs=EPOCHS)
    own = {f.name for f in dataclasses.fields(SweepConfig)} - {"dataset", "grid", "properties", "train", "network"}
    if unknown := [name for name in options if name not in {*_RECIPE, *own}]:
        raise ValueError(f"{unknown[0]} is no option of a sweep or of its recipe ({', '.join(_RECIPE)})")
    train = dataclasses.replace(recipe, **{name: options.pop(name) for name in _RECIPE if name in options})
    config = SweepConfig(
        dataset,
        grid={name: tuple(values) for name, values in (grid or {}).items()},
        properties=tuple(properties),
        train=train,
        network=None if model is None else spec(model, optimizer, loss, metrics),
        **options,
    )
    if model is None and (optimizer or loss or metrics):
        raise ValueError("optimizer, loss and metrics are of models of your own; give a model with them")
    console = Console(stderr=True)
    shared: dict[str, Any] = {"properties": own_properties, "data_dir": data_dir, "mesh": mesh}
    if not console.is_terminal:
        return engine.run(config, out, **shared)
    with Display(config, console) as display:
        return engine.run(config, out, announce=display.announce, callback=display.update, **shared)


def spec(
    model: Callable[..., Any],
    optimizer: Callable[..., optax.GradientTransformation] | None = None,
    loss: Loss | None = None,
    metrics: Mapping[str, Loss] | None = None,
) -> ModelSpec:
    """A model and what it is trained with.

    Raises:
        ValueError: if one of them cannot be called.
    """
    given = {"model": model, "optimizer": optimizer, "loss": loss, **(metrics or {})}
    for name, one in given.items():
        if one is not None and not callable(one):
            raise ValueError(f"{name} is a {type(one).__name__}; give a class or function that makes it")
    return ModelSpec(model, optimizer, loss, dict(metrics or {}), getattr(model, "__name__", "model"))


def from_file(where: str) -> ModelSpec:
    """The model that `FILE.py:NAME` names. The file is run; its `optimizer`, `loss` and `metrics` are taken too.

    Raises:
        ValueError: if there is no such file or name, or the file fails.
    """
    file, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier():
        raise ValueError(f"{where!r} names no model; give FILE.py:NAME, NAME being a class or function in the file")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the Python file that has {name}")
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ValueError(f"{path} is no Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:  # whatever is in it
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{path} cannot be run ({reason})") from error
    if not hasattr(module, name):
        there = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise ValueError(f"{path} has no {name}; it has {', '.join(there) or 'no class or function'}")
    others = {one: getattr(module, one, None) for one in ("optimizer", "loss", "metrics")}
    return spec(getattr(module, name), **others)
