"""Codes of single layers, and of the first k layers, of every model of a sweep: their encoding properties."""

import itertools
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from jaxhash.codes import files
from jaxhash.codes.files import Codes
from jaxhash.codes.properties import PROPERTIES, measure
from jaxhash.data import Dataset
from jaxhash.runtime.devices import worker_count
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import folder, inputs, models
from jaxhash.sweeps.any_model import BYTES_IN_MEMORY
from jaxhash.sweeps.grid import NOISE, SweepConfig
from jaxhash.sweeps.task import Interrupted

SINGLE, FIRST = "single layer", "first layers"
PARTS = (SINGLE, FIRST)

Numbers = dict[str, float]


def measured(
    config: SweepConfig,
    run: Path,
    out: Path,
    data_dir: str | Path | None = None,
    stop: threading.Event | None = None,
    *,
    parts: Sequence[str] = PARTS,
    callback: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Measure the layers of every model of a finished sweep, or read what was measured and saved.

    Args:
        config: the sweep, without sample sizes and snapshots.
        run: its folder.
        out: folder of the results: results.nc and results.csv.
        data_dir: where dataset files are looked up first.
        stop: set it to stop after the measurings under way; nothing is saved then.
        parts: "single layer", the code of one layer alone; "first layers", that of the layers up to it.
        callback: told how many models were measured, and how many there are.

    Returns:
        The numbers that the sweep measures of codes by (part, the axes of the sweep, layer), layers from 1. The code of
        all layers has the numbers that the sweep has saved. NaN for models that diverged, and beyond the last layer of
        models that have fewer than others.

    Raises:
        Interrupted: after `stop` was set.
        ValueError: (CheckpointError among them) if the sweep is not finished or damaged.
    """
    whole = sweep.collect(run)
    if (out / folder.RESULTS).exists():
        with xr.open_dataset(out / folder.RESULTS) as saved:
            if all(saved.attrs[name] == whole.attrs[name] for name in ("config", "data")):
                return saved.load()
    stop = stop or threading.Event()
    data = sweep.prepare(config, data_dir)
    axes, names = list(config.axes), config.measured(data.num_classes)
    places = list(itertools.product(*(range(whole.sizes[axis]) for axis in axes)))
    found: dict[tuple[int, ...], list[list[Numbers]]] = {}

    def fill(at: tuple[int, ...]) -> None:
        own = whole.isel(dict(zip(axes, at, strict=True)))
        if not own["diverged"]:
            coordinates = {axis: own[axis].values.item() for axis in axes}
            model = models.load(run, **coordinates)
            key = config.repeat_key(coordinates["repeat"])
            key = stream_key(key, Stream.MEASURE_LAYERS, coordinates.get("width", 0) if not config.network else 0)
            labels = inputs.labels(config, data, coordinates["repeat"], coordinates.get(NOISE))
            of_all_layers = {name: float(own[name]) for name in names}
            found[at] = _of_model(key, model, of_all_layers, data, labels, config, stop, parts)
        callback(len(found), len(places))

    with ThreadPoolExecutor(worker_count()) as pool:
        try:
            list(pool.map(fill, places))
        except BaseException:
            stop.set()  # the other threads stop too
            raise
    depth = max((len(of[0]) for of in found.values()), default=1)
    table = np.full((len(names), len(parts), *(whole.sizes[axis] for axis in axes), depth), np.nan)
    for at, of in found.items():
        for part, layers in enumerate(of):
            for layer, numbers in enumerate(layers):
                place: Any = (slice(None), part, *at, layer)
                table[place] = [numbers[name] for name in names]
    results = xr.Dataset(
        {
            name: (("part", *axes, "layer"), values, whole[name].attrs)
            for name, values in zip(names, table, strict=True)
        },
        coords={
            "part": list(parts),
            **{axis: whole[axis] for axis in axes},
            "layer": ("layer", np.arange(1, depth + 1, dtype=np.int32), {"long_name": "hidden layer"}),
        },
        attrs=whole.attrs,
    )
    out.mkdir(parents=True, exist_ok=True)
    sweep.save_results(out, results)
    return results


def _of_model(
    key: Array,
    model: models.Model,
    of_all_layers: Numbers,
    data: Dataset,
    y_train: np.ndarray,
    config: SweepConfig,
    stop: threading.Event,
    parts: Sequence[str],
) -> list[list[Numbers]]:
    """For each of the parts an entry a layer."""
    with tempfile.TemporaryDirectory() as place:
        codes = [_coded(model, x, Path(place) / f"{i}.npy") for i, x in enumerate((data.x_train, data.x_test))]
        labels = jnp.asarray(y_train), jnp.asarray(data.y_test)
        properties = {name: PROPERTIES[name] for name in of_all_layers}

        def numbers(cut: Callable[[Codes], Codes]) -> Numbers:
            if stop.is_set():
                raise Interrupted
            train, test = (cut(code) for code in codes)
            return measure(
                train,
                labels[0],
                test,
                labels[1],
                key=key,
                num_classes=data.num_classes,
                assignment=config.assignment,
                properties=properties,
            )

        names = [layer.name for layer in codes[0].layers]
        if len(names) == 1:
            return [[of_all_layers] for _ in parts]
        single = [numbers(methodcaller("layer", name)) for name in names]
        if FIRST not in parts:
            return [single]
        between = [numbers(methodcaller("up_to", name)) for name in names[1:-1]]
        found = {SINGLE: single, FIRST: [single[0], *between, of_all_layers]}
        return [found[part] for part in parts]


def _coded(model: models.Model, x: np.ndarray, path: Path) -> Codes:
    """The codes of examples; in a file, which is then made, where they are long."""
    code = model.codes(x[:1])
    if len(x) * code.num_words * 4 <= BYTES_IN_MEMORY:
        return model.codes(x)
    with files.writing(path, len(x), code.num_bits, code.layers, code.skipped) as append:
        for _, some in model.stream(x):
            append(np.asarray(some.words))
    return files.load(path)
