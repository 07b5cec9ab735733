"""What regularisation and noise do to neural codes, beside what model size, training time and sample size do.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): regularisation
and label noise shape the encoding properties too, but size, time and sample size dominate. Here each of batch norm,
weight decay, dropout, label noise, input noise, epochs and training examples is changed alone, at a few widths, and
one table gives the size of every effect. What we measured stands in the README.

    python -m experiments.regularisation                               # digits
    python -m experiments.regularisation --dataset mnist --epochs 20   # widths 3 to 100, the study's recipe
    python -m experiments.regularisation --dropout-grid 0 0.2 0.4 0.6 --out runs/mine

An interrupted run continues with the same command.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from jaxhash.plots import compare as compare_plots
from jaxhash.sweeps import compare, presets
from jaxhash.sweeps.compare import Effect
from jaxhash.sweeps.grid import METRICS, SweepConfig
from jaxhash.sweeps.variants import Factor, Value, get_field, one_at_a_time
from jaxhash.terminal.command import command, option
from jaxhash.terminal.files import save
from jaxhash.terminal.sweeps import KEPT, SweepOptions, run_variants, say_diverged
from jaxhash.training.mlp import TrainConfig

SHOWN = ("test_redundancy", "knn_accuracy", "logistic_accuracy", "test_kmeans_accuracy", "test_accuracy")
"""Columns of the printed table; effects.csv has all ten numbers."""
DOMINANT = (compare.WIDTH, "training time", "sample size")
"""The factors that matter most, as the study says."""


@dataclass(frozen=True)
class Config(SweepOptions):
    """Effects of regularisation, noise, time, sample size and width on the properties of codes.

    The options of a sweep (--widths, --epochs, --l2 ...) say what the baseline is. Each grid is run with all else as
    in the baseline, whose own value is added where a grid lacks it.
    """

    l2_grid: tuple[float, ...] = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
    """Weight decay; the study's is 1e-6."""
    dropout_grid: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5)
    """Probability with which a hidden unit is left out of a step."""
    label_noise_grid: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Fraction of training labels replaced by random ones."""
    input_noise_grid: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5)
    """Standard deviation of the noise on the inputs, where pixels reach from 0 to 1."""
    epochs_grid: tuple[int, ...] = (1, 3, 10)
    """Passes over the training set."""
    sample_grid: tuple[int, ...] = (10, 100)
    """Training examples beside all of them; few are repeated until they fill an epoch."""
    effect_width: int | None = None
    """Width of the models in the printed table (default: the one in the middle); effects.csv has all widths."""

    def __post_init__(self) -> None:
        if self.sweep.repeats < 2:
            raise ValueError(f"repeats={self.sweep.repeats} has no spread to hold an effect against; give 2 or more")
        if len(self.sweep.widths) < 2:
            raise ValueError(f"widths={self.sweep.widths} is one width; give two or more to see what width does")
        if self.sweep.sample_sizes or self.sweep.snapshots:
            raise ValueError(
                "sample_sizes and snapshots are no part of the baseline; give --sample-grid, --epochs-grid"
            )
        if self.effect_width is not None and self.effect_width not in self.sweep.widths:
            raise ValueError(f"effect_width={self.effect_width} is none of the widths {self.sweep.widths}; give one")

    def factors(self) -> list[Factor]:
        """What is changed, regularisation first; a grid without any other value than the baseline's changes nothing."""

        def grid(name: str, path: str, values: Sequence[Value]) -> Factor:
            return Factor(name, path, tuple(sorted({*values, get_field(self.sweep, path)})))

        found = [
            grid("batch norm", "model.batch_norm", (False, True)),
            grid("weight decay", "train.l2", self.l2_grid),
            grid("dropout", "model.dropout", self.dropout_grid),
            grid("label noise", "label_noise", self.label_noise_grid),
            grid("input noise", "train.input_noise", self.input_noise_grid),
            grid("training time", "train.epochs", self.epochs_grid),
            Factor("sample size", "sample_sizes", (*((size,) for size in sorted(set(self.sample_grid))), ())),
        ]
        return [factor for factor in found if len(factor.values) > 1]


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    dataset = option(arguments, "dataset", "digits")
    command(default(dataset), __doc__, body, arguments, kept=KEPT)


def body(config: Config) -> None:
    """Train or continue every variant, compare, draw."""
    factors = config.factors()
    configs = one_at_a_time(config.sweep, factors)
    out = config.folder("regularisation")
    results = run_variants(configs, out, config.data_dir, config.machines)
    found = all_effects(results, config.sweep, factors)
    console = Console()
    widths = sorted(config.sweep.widths)
    width = config.effect_width or widths[len(widths) // 2]
    shown = [effect for effect in found if effect.width in (width, None)]
    console.print(table(shown, width))
    for number in SHOWN:
        console.print(verdict([effect for effect in shown if effect.number == number]), highlight=False)
    say_diverged(results)
    of = f"{Path(config.sweep.data_name).stem}, {config.sweep.repeats} repeats, {config.sweep.train.epochs} epochs"
    title = f"{of}; one factor changed at a time"
    figure = compare_plots.factors(results, config.sweep, factors, ("test_redundancy", "knn_accuracy"), title)
    effects = [dataclasses.asdict(effect) for effect in found]
    save(out, {"regularisation": figure}, {"effects": effects}, others=("results.nc", "results.csv"))


def default(dataset: str) -> Config:
    """The study's recipe, or one for the embedded digits, at few widths and sample sizes."""
    study = presets.STUDIES.get(dataset)
    if study is None:
        train = TrainConfig(epochs=60)
        return Config(SweepConfig(dataset, widths=(3, 10, 20, 30), repeats=5, train=train))
    widths = _spread(study.widths)
    return Config(
        dataclasses.replace(presets.capacity(dataset), widths=widths, repeats=3),
        sample_grid=_spread(study.sample_sizes)[:-1],
    )


def _spread(values: tuple[int, ...]) -> tuple[int, ...]:
    """Four of them, the first and the last included."""
    return tuple(values[round(i * (len(values) - 1) / 3)] for i in range(4))


def all_effects(results: xr.Dataset, baseline: SweepConfig, factors: Sequence[Factor]) -> list[Effect]:
    """Width first, then every factor at every width, for each of the ten numbers."""
    found = [compare.of_width(results[number]) for number in METRICS]
    return found + [
        compare.of_factor(results[number], baseline, factor, int(width))
        for factor in factors
        for width in results["width"].values
        for number in METRICS
    ]


def table(shown: Sequence[Effect], width: int) -> Table:
    """Differences between the extremes of each factor, at one width."""
    made = Table(
        title=f"Effects at width {width}",
        caption="each cell: difference of the means over repeats between both extremes, ± pooled standard deviation "
        "of the repeats; below, the difference in such standard deviations (d)",
        box=SIMPLE,
    )
    made.add_column("factor")
    for number in SHOWN:
        made.add_column(compare_plots.SHORT[number].replace(" ", "\n"), justify="right", no_wrap=True)
    names = {effect.factor: None for effect in shown}
    dominant = [name for name in DOMINANT if name in names]
    for name in [*dominant, *(name for name in names if name not in dominant)]:
        of_factor = {effect.number: effect for effect in shown if effect.factor == name}
        extremes = of_factor[SHOWN[0]]
        made.add_row(
            f"{name}\n{extremes.low} to {extremes.high}",
            *(
                f"{effect.difference:+.2f}±{effect.pooled_sd:.2f}\nd {effect.standardised:+.1f}"
                for effect in (of_factor[number] for number in SHOWN)
            ),
            end_section=name == dominant[-1],
        )
    return made


def verdict(of_number: Sequence[Effect]) -> str:
    """Whether what the study calls dominant moves a number more than all else does, in a sentence."""
    dominant = {effect.factor: abs(effect.difference) for effect in of_number if effect.factor in DOMINANT}
    others = {effect.factor: abs(effect.difference) for effect in of_number if effect.factor not in DOMINANT}
    most = max(others, key=lambda name: others[name])
    exceeded = [name for name, size in dominant.items() if size < others[most]]
    sizes = ", ".join(f"{name} {size:.3f}" for name, size in dominant.items())
    rest = f"more than {' and '.join(exceeded)}" if exceeded else "less than each of them"
    number = compare_plots.SHORT[of_number[0].number]
    return f"{number}: {sizes}; of the rest {most} does most, {others[most]:.3f}, {rest}."


if __name__ == "__main__":
    main()
