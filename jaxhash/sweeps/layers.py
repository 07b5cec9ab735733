"""Codes of single layers, and of the first k layers, of every model of a sweep: their encoding properties."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from jaxhash.codes.code import Code
from jaxhash.codes.properties import PROPERTIES, Assignment, measure
from jaxhash.data import Dataset
from jaxhash.runtime.devices import worker_count
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import folder, inputs, models
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Interrupted

SINGLE, FIRST = "single layer", "first layers"
PARTS = (SINGLE, FIRST)


def measured(
    config: SweepConfig,
    run: Path,
    out: Path,
    data_dir: str | Path | None = None,
    stop: threading.Event | None = None,
) -> xr.Dataset:
    """Measure the layers of every model of a finished sweep, or read what was measured and saved.

    Args:
        config: the sweep, without sample sizes and snapshots.
        run: its folder.
        out: folder of the results: results.nc and results.csv.
        data_dir: where dataset files are looked up first.
        stop: set it to stop after the measurings under way; nothing is saved then.

    Returns:
        The numbers of `PROPERTIES` by (part, repeat, width, layer): part "single layer" has the code of layer `layer`
        alone (from 1), part "first layers" that of the layers up to it, all of them at the last. The code of all
        layers has the numbers that the sweep has saved. NaN for models that diverged.

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
    data, depth = sweep.prepare(config, data_dir), config.model.depth
    places = itertools.product(range(whole.sizes["repeat"]), range(whole.sizes["width"]))
    shape = len(PROPERTIES), len(PARTS), whole.sizes["repeat"], whole.sizes["width"], depth
    table = np.full(shape, np.nan)

    def fill(at: tuple[int, int]) -> None:
        own = whole.isel(repeat=at[0], width=at[1])
        if not own["diverged"]:
            model = models.load(run, width=int(own["width"]), repeat=int(own["repeat"]))
            key = stream_key(config.repeat_key(int(own["repeat"])), Stream.MEASURE_LAYERS, int(own["width"]))
            labels = inputs.labels(config, data, int(own["repeat"]))
            of_all_layers = {name: float(own[name]) for name in PROPERTIES}
            found = _of_model(key, model, of_all_layers, data, labels, config.assignment, stop)
            table[:, :, *at] = [[[one[name] for one in part] for part in found] for name in PROPERTIES]

    with ThreadPoolExecutor(worker_count()) as pool:
        try:
            list(pool.map(fill, places))
        except BaseException:
            stop.set()  # the other threads stop too
            raise
    results = xr.Dataset(
        {
            name: (("part", "repeat", "width", "layer"), values, whole[name].attrs)
            for name, values in zip(PROPERTIES, table, strict=True)
        },
        coords={
            "part": list(PARTS),
            "repeat": whole["repeat"],
            "width": whole["width"],
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
    of_all_layers: dict[str, float],
    data: Dataset,
    y_train: np.ndarray,
    assignment: Assignment,
    stop: threading.Event,
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """One entry a layer: of the layer alone, and of the layers up to it."""
    codes = model.codes(data.x_train), model.codes(data.x_test)
    if len(codes[0].layers) == 1:
        return [of_all_layers], [of_all_layers]
    labels = jnp.asarray(y_train), jnp.asarray(data.y_test)

    def properties(cut: Callable[[Code], Code]) -> dict[str, float]:
        if stop.is_set():
            raise Interrupted
        train, test = (cut(code) for code in codes)
        return measure(train, labels[0], test, labels[1], key=key, num_classes=data.num_classes, assignment=assignment)

    names = [layer.name for layer in codes[0].layers]
    single = [properties(methodcaller("layer", name)) for name in names]
    between = [properties(methodcaller("up_to", name)) for name in names[1:-1]]
    return single, [single[0], *between, of_all_layers]
