"""Variants of a sweep by name: each is a sweep in its own sub-folder, and the results stand in one dataset.

runs/x/<variant>/                  the folder of one sweep (`runs`), by which the whole is resumable
runs/x/results.nc, results.csv     all of them, joined along a dimension of their own
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.folder import CONFIG, RunError
from jaxhash.sweeps.grid import SweepConfig

BASELINE = "baseline"
"""Name of the variant in which nothing is changed."""

Value = float | int | bool | tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """One field of a sweep's configuration, and the values it is given in turn while all else stays."""

    name: str
    """For a reader: "weight decay"."""
    field: str
    """The field's name, dotted: "train.l2"."""
    values: tuple[Value, ...]
    """In the order in which they are drawn; effects are between the first and the last."""

    def __post_init__(self) -> None:
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"{self.name}: a value is given twice in {self.values}; give each once")

    def variant(self, baseline: SweepConfig, value: Value) -> str:
        """Name of the variant that has this value, such as "l2=0.001"."""
        if value == get_field(baseline, self.field):
            return BASELINE
        return f"{self.field.rpartition('.')[2]}={label(value)}"


def label(value: Value) -> str:
    """A value for a reader: "on", "off", a number, or several; "all" for an empty list of sample sizes."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "all"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int) else f"{value:g}"


def one_at_a_time(baseline: SweepConfig, factors: Sequence[Factor]) -> dict[str, SweepConfig]:
    """The baseline, and every value of every factor with the other factors as in the baseline.

    Raises:
        ValueError: if a value is not valid where it stands, naming the factor.
    """
    variants = {BASELINE: baseline}
    for factor in factors:
        for value in factor.values:
            try:
                variants.setdefault(factor.variant(baseline, value), with_field(baseline, factor.field, value))
            except ValueError as error:
                raise ValueError(f"{factor.name}: {error}") from None
    return variants


def run(
    variants: Mapping[str, SweepConfig],
    out: str | Path,
    *,
    dimension: str = "variant",
    coordinate: Sequence[Any] | None = None,
    run_sweep: Callable[[SweepConfig, Path], xr.Dataset] = sweep.run,
) -> xr.Dataset:
    """Every variant as a sweep in `out/<name>`, what is finished there read and not trained again.

    Args:
        variants: configurations by name; the names are names of folders. They share widths and repeats.
        out: folder of all of them.
        dimension: name of the dimension along which they are joined.
        coordinate: its values, one a variant; the names by default.
        run_sweep: called for one configuration and its folder; a command puts its display here, and
            `partial(sweep.run, properties=...)` measures properties of your own.

    Returns:
        What `sweep.run` gives, with the new dimension in front; the attribute `config` holds the configuration of
        every variant by name. Saved as `out/results.nc` and `out/results.csv`.

    Raises:
        ValueError: (RunError among them) as `sweep.run`, or if `out` is itself the folder of a sweep, the variants do
            not share widths and repeats, or one of them has several sample sizes or snapshots and another none.
    """
    out = Path(out)
    if (out / CONFIG).exists():
        raise RunError(f"{out} is the folder of a single sweep; give a new or empty folder as --out")
    grids = {(tuple(sorted(config.widths)), config.repeats) for config in variants.values()}
    if len(grids) != 1:
        raise ValueError(f"the variants have {len(grids)} different grids of widths and repeats; give all the same")
    found = [run_sweep(config, out / name) for name, config in variants.items()]
    shared = {str(name) for name in found[0].dims}.intersection(*(part.dims for part in found))
    results = xr.concat([_over(part, shared) for part in found], "joined", combine_attrs="drop_conflicts")
    results = results.rename(joined=dimension)
    results = results.assign_coords({dimension: list(variants) if coordinate is None else list(coordinate)})
    configs = {name: json.loads(part.attrs["config"]) for name, part in zip(variants, found, strict=True)}
    results.attrs["config"] = json.dumps(configs)
    sweep.save_results(out, results)
    return results


def get_field(config: Any, field: str) -> Any:
    """The value of a dotted field of nested dataclasses."""
    for name in field.split("."):
        config = getattr(config, name)
    return config


def with_field(config: Any, field: str, value: Value) -> Any:
    """The configuration with one dotted field changed."""
    name, _, inner = field.partition(".")
    return dataclasses.replace(config, **{name: with_field(getattr(config, name), inner, value) if inner else value})


def _over(results: xr.Dataset, shared: set[str]) -> xr.Dataset:
    """The same over the shared dimensions only: a variant's single sample size is no dimension of the whole."""
    own = [str(name) for name in results.dims if name not in shared]
    for name in own:
        if results.sizes[name] > 1:
            raise ValueError(
                f"{name} has {results.sizes[name]} values in one variant and none in another; give it one value"
            )
    return results.isel(dict.fromkeys(own, 0), drop=True)
