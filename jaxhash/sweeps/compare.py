"""Effect sizes: how far each metric moves between the extremes of each factor, beside its spread over repeats."""

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.variants import BASELINE, Factor, label

WIDTH = "width"


@dataclass(frozen=True)
class Effect:
    """What one factor does to one number of the models of one width, all else as in the baseline."""

    factor: str
    number: str
    """Name of the variable, such as "knn_accuracy"."""
    width: int | None
    """Width of the models that are compared; None where width itself is the factor."""
    low: str
    """The first of the factor's values."""
    high: str
    """The last of them."""
    mean_low: float
    """Over repeats; models that diverged are left out."""
    mean_high: float
    sd_low: float
    """Standard deviation over repeats (n - 1); NaN if fewer than 2 are left."""
    sd_high: float
    difference: float
    """mean_high - mean_low."""
    pooled_sd: float
    """Square root of the mean of both variances, each weighted with its n - 1."""
    standardised: float
    """difference / pooled_sd (Cohen 1988, Statistical Power Analysis, section 2.2: d); NaN where the spread is 0."""
    span: float
    """Largest mean less smallest over all values of the factor: above |difference| where it is not monotone."""


def of_factor(results: xr.DataArray, baseline: SweepConfig, factor: Factor, width: int) -> Effect:
    """The effect of a factor on one number.

    Args:
        results: one variable of `variants.run`'s results, by variant, repeat and width.
        baseline: the configuration that the variants are changes of.
        factor: what was changed.
        width: of the models to compare.

    Raises:
        ValueError: if the factor has fewer than two values.
    """
    names = [factor.variant(baseline, value) for value in factor.values]
    groups = [results.sel(variant=name, width=width).values for name in names]
    return _effect(factor.name, results, width, [label(value) for value in factor.values], groups)


def of_width(results: xr.DataArray) -> Effect:
    """The effect of width in the baseline, from the smallest to the largest; as `of_factor`."""
    widths = results["width"].values
    groups = [results.sel(variant=BASELINE, width=width).values for width in widths]
    return _effect(WIDTH, results, None, [str(width) for width in widths], groups)


def _effect(
    factor: str, results: xr.DataArray, width: int | None, labels: list[str], groups: list[Float[np.ndarray, " repeat"]]
) -> Effect:
    if len(groups) < 2:
        raise ValueError(f"{factor} has {len(groups)} value ({', '.join(labels)}); an effect needs two or more")
    finite = [group[np.isfinite(group)] for group in groups]
    means = [group.mean() if len(group) else math.nan for group in finite]
    low, high = finite[0], finite[-1]
    difference, pooled = means[-1] - means[0], _pooled_sd(low, high)
    return Effect(
        factor=factor,
        number=str(results.name),
        width=width,
        low=labels[0],
        high=labels[-1],
        mean_low=float(means[0]),
        mean_high=float(means[-1]),
        sd_low=_sd(low),
        sd_high=_sd(high),
        difference=float(difference),
        pooled_sd=pooled,
        standardised=float(difference / pooled) if pooled > 0 else math.nan,
        span=float(np.nanmax(means) - np.nanmin(means)) if np.isfinite(means).any() else math.nan,
    )


def _sd(group: Float[np.ndarray, " _"]) -> float:
    return float(group.std(ddof=1)) if len(group) > 1 else math.nan


def _pooled_sd(low: Float[np.ndarray, " _"], high: Float[np.ndarray, " _"]) -> float:
    freedom = len(low) - 1, len(high) - 1
    if min(freedom) < 1:
        return math.nan
    return math.sqrt((freedom[0] * low.var(ddof=1) + freedom[1] * high.var(ddof=1)) / sum(freedom))
