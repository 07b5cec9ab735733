"""Results of a sweep as an `xarray.Dataset`: put together from its finished tasks, labelled, saved."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps.grid import Value

AXES = {"width": "hidden units", "examples": "training examples", "epoch": "epochs of training"}
"""What the values of an axis are; of the others the name says it."""
STATE = {"epochs": "epochs trained", "diverged": "1 where the training loss left the finite numbers"}


def collect(out: Path) -> xr.Dataset:
    """The results of a finished run, put together from its tasks.

    Returns:
        The metrics of `SweepConfig.metrics` and the user's properties, `epochs` and `diverged`, by the axes of the grid
        and, if the sweep has snapshots, by `epoch`.

    Raises:
        CheckpointError: if a task is missing or damaged.
    """
    description = runs.read_description(out)
    config, tasks, snapshots = description["config"], runs.tasks_of(description), description["config"]["snapshots"]
    axes = runs.axes_of(description) | ({"epoch": tuple(sorted(snapshots))} if snapshots else {})
    try:
        attributes = description["metrics"] | description.get("properties", {}) | STATE
        if not axes.keys().isdisjoint(attributes) or not all(isinstance(text, str) for text in attributes.values()):
            raise ValueError(f"metrics or properties {attributes!r:.40}")
        noted = {
            "config": json.dumps(config),
            "data": description["data"],
            "versions": json.dumps(description["versions"]),
            "device": description["device"],
            "seed": config["seed"],
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{out / runs.CONFIG}: damaged ({error!r}); restore it from a copy") from None
    table = {name: np.full([len(values) for values in axes.values()], np.nan) for name in attributes}
    for task in tasks:
        for epoch in axes.get("epoch", (None,)):
            path = task.folder(out, epoch)
            try:
                for entry in runs.describe_task(out, task, path, epoch)["models"]:
                    at = tuple(values.index(entry[name]) for name, values in axes.items())
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
            name: (name, _coordinate(values), {"long_name": AXES[name]} if name in AXES else {})
            for name, values in axes.items()
        },
        attrs=noted,
    )


def _coordinate(values: Sequence[Value]) -> np.ndarray:
    """As NetCDF 3 can hold them."""
    kinds = {bool: np.int8, int: np.int32}
    return np.array(values, kinds.get(type(values[0])))


def save_results(out: Path, results: xr.Dataset) -> None:
    """Write results.nc and results.csv, each whole or not at all."""
    # NetCDF 3: an HDF5 file would hold the time it was written, and never be bit-identical to another.
    checkpoint.write_bytes(out / runs.RESULTS, bytes(results.to_netcdf(engine="scipy")))
    table = results.to_dataframe().reset_index()
    checkpoint.write_text(out / runs.TABLE, table.to_csv(index=False))
