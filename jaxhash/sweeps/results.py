"""Results of a sweep as an `xarray.Dataset`: put together from its finished tasks, labelled, saved."""

import json
from pathlib import Path

import numpy as np
import xarray as xr

from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps.grid import METRICS, RANDOM

STATE = {"epochs": "epochs trained", "diverged": "1 where the training loss left the finite numbers"}


def collect(out: Path) -> xr.Dataset:
    """The results of a finished run, put together from its tasks.

    Returns:
        `METRICS` (and `random_redundancy` and the user's properties, if the sweep measured them), `epochs` and
        `diverged`, by repeat and width, and, if the grid has them, by `examples` and `epoch`.

    Raises:
        CheckpointError: if a task is missing or damaged.
    """
    description = runs.read_description(out)
    config, tasks = description["config"], runs.tasks_of(description)
    sizes, snapshots = sorted(config["sample_sizes"]), sorted(config["snapshots"])
    axes = {
        "repeat": (list(range(config["repeats"])), "number of the repeat"),
        "width": (sorted(config["widths"]), "hidden units"),
        "examples": (sizes, "training examples"),
        "epoch": (snapshots, "epochs of training"),
    }
    axes = {name: axis for name, axis in axes.items() if axis[0]}
    try:
        properties = description.get("properties", {})
        if not isinstance(properties, dict) or not axes.keys().isdisjoint(properties):
            raise ValueError(f"properties {properties!r:.40}")
        attributes = METRICS | (RANDOM if config["random_inputs"] else {}) | properties | STATE
        noted = {
            "config": json.dumps(config),
            "data": description["data"],
            "versions": json.dumps(description["versions"]),
            "device": description["device"],
            "seed": config["seed"],
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{out / runs.CONFIG}: damaged ({error!r}); restore it from a copy") from None
    table = {name: np.full([len(values) for values, _ in axes.values()], np.nan) for name in attributes}
    for task in tasks:
        for epoch in snapshots or (None,):
            path = task.folder(out, epoch)
            try:
                for entry in runs.describe_task(out, task, path, epoch)["models"]:
                    at = tuple(values.index(entry[name]) for name, (values, _) in axes.items())
                    for name in attributes:
                        table[name][at] = entry[name]
            except CheckpointError:
                raise
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise CheckpointError(
                    f"{path}: does not have the metrics of its models ({error!r}); delete this folder and run the "
                    "same command again"
                ) from None
    return xr.Dataset(
        {name: (tuple(axes), table[name], {"long_name": meaning}) for name, meaning in attributes.items()},
        coords={
            name: (name, np.array(values, np.int32), {} if name == "repeat" else {"long_name": meaning})
            for name, (values, meaning) in axes.items()
        },
        attrs=noted,
    )


def save_results(out: Path, results: xr.Dataset) -> None:
    """Write results.nc and results.csv, each whole or not at all."""
    # NetCDF 3: an HDF5 file would hold the time it was written, and never be bit-identical to another.
    checkpoint.write_bytes(out / runs.RESULTS, bytes(results.to_netcdf(engine="scipy")))
    table = results.to_dataframe().reset_index()
    checkpoint.write_text(out / runs.TABLE, table.to_csv(index=False))
