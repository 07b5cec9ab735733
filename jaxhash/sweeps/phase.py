"""Phase chart: the regime of a model's codes by its size, training time and sample size.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490), section 5, draw the chart by eye:
under-expressive (high redundancy, poor categorisation), critically-expressive (both change fast),
sufficiently-expressive (redundancy about 0, categorisation flat). Here the borders are numbers.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

UNKNOWN, UNDER, CRITICAL, SUFFICIENT = -1, 0, 1, 2
NAMES = {UNDER: "under-expressive", CRITICAL: "critically-expressive", SUFFICIENT: "sufficiently-expressive"}


@dataclass(frozen=True)
class Thresholds:
    """Where one regime ends and the next begins.

    Redundancy is that of the test codes: of as many examples everywhere in the chart, while ten training examples have
    ten codes in almost any network. Categorisation is 9-NN, the best of the three classifiers on codes.
    """

    high_redundancy: float = 0.5
    """At or above it a model is under-expressive: most examples share their code with others, so that codes tell
    groups of examples apart, not examples."""
    low_redundancy: float = 0.05
    """At or below it a model may be sufficiently expressive: the study calls redundancy ratios of a few per cent
    "around 0"."""
    poor_accuracy: float = 0.5
    """Under-expressive too is a model whose 9-NN accuracy is at most this fraction of the best in the chart."""
    plateau: float = 0.05
    """Sufficiently expressive needs a 9-NN accuracy at most so far below the best in the chart. On MNIST the accuracy
    then rises by less than a percent for ten more units (width 40: .92, 100: .96); below, by several."""

    def __post_init__(self) -> None:
        if not 0 <= self.low_redundancy < self.high_redundancy <= 1:
            raise ValueError(
                f"low_redundancy={self.low_redundancy} and high_redundancy={self.high_redundancy} bound no "
                "regime; give 0 <= low < high <= 1"
            )
        for name in ("poor_accuracy", "plateau"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is outside [0, 1)")


def chart(results: xr.Dataset, thresholds: Thresholds) -> xr.Dataset:
    """The phase chart of a sweep.

    Args:
        results: of a sweep, with any dimensions beside `repeat`.
        thresholds: the borders of the regimes.

    Returns:
        Over all dimensions but `repeat`, whose mean is taken (models that diverged are left out): `test_redundancy`,
        `knn_accuracy`, and `regime` int8, `UNDER`, `CRITICAL`, `SUFFICIENT`, or `UNKNOWN` where all repeats diverged
        (with `flag_values` and `flag_meanings`, as the CF conventions have them). Its attributes hold the thresholds.
    """
    mean = results[["test_redundancy", "knn_accuracy"]].mean("repeat", keep_attrs=True)
    redundancy, accuracy = mean["test_redundancy"], mean["knn_accuracy"]
    best = accuracy.max()
    under = (redundancy >= thresholds.high_redundancy) | (accuracy <= thresholds.poor_accuracy * best)
    sufficient = (redundancy <= thresholds.low_redundancy) & (accuracy >= best - thresholds.plateau)
    regime = xr.where(under, UNDER, xr.where(sufficient, SUFFICIENT, CRITICAL))
    regime = xr.where(redundancy.isnull(), UNKNOWN, regime).astype(np.int8)
    flags = {UNKNOWN: "unknown", **NAMES}
    regime.attrs = {
        "long_name": "regime of the activation hash phase chart",
        "flag_values": np.array(list(flags), np.int8),
        "flag_meanings": " ".join(flags.values()),
    }
    found = mean.assign(regime=regime)
    found.attrs |= {
        "best_knn_accuracy": float(best),
        **{f"threshold_{name}": value for name, value in vars(thresholds).items()},
    }
    return found
