"""The study's training-time figure: redundancy ratio and accuracies on codes along one training.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): MNIST with one hidden layer at widths
40, 50, 60, CIFAR-10 with five at 50, 100, 200, 400, looked at before training and after 1, 3, 6, 10 ... 200 epochs of
one run without early stop. The control, uniform random inputs outside the range of pixels, shows what of determinism
is not learned from the data. What we measured stands in the README, with the time it took.

    python -m experiments.training_time                              # digits, under a minute on 2 cores
    python -m experiments.training_time --dataset mnist              # the grid and recipe of jaxhash/sweeps/presets.py
    python -m experiments.training_time --dataset mnist --repeats 2 --epochs 60
    python -m experiments.training_time --dataset my.npz --snapshots 0 1 5 30 --epochs 30 --out runs/mine

An interrupted run continues with the same command.
"""

import dataclasses
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure

from jaxhash.plots.sweeps import against
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.command import command, option
from jaxhash.terminal.sweeps import KEPT, SweepOptions, figure_of_sweep
from jaxhash.training.mlp import TrainConfig

PANELS = {
    "train_redundancy": "codes of training examples",
    "test_redundancy": "codes of test examples",
    "random_redundancy": "codes of random inputs",
    "test_kmeans_accuracy": "K-Means on test codes",
    "knn_accuracy": "9-NN on codes",
    "logistic_accuracy": "logistic regression on codes",
}


@dataclass(frozen=True)
class Config(SweepOptions):
    """Redundancy ratio and accuracies on codes against training time.

    The defaults of --snapshots, --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the
    study's for the --dataset given (jaxhash/sweeps/presets.py), but no model stops early; with another --epochs, the
    snapshots up to it.
    """

    def __post_init__(self) -> None:
        if not self.sweep.snapshots:
            raise ValueError("snapshots is empty; give the epochs after which to look at the codes")
        if self.sweep.sample_sizes:
            raise ValueError("sample sizes have no place in this figure; use experiments.phase_chart for both")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    dataset = option(arguments, "dataset", "digits")
    config = Config(default(dataset, option(arguments, "epochs", 0)))
    command(config, __doc__, body, arguments, kept=KEPT)


def body(config: Config) -> None:
    """Train or continue, measure, draw."""

    def draw(results: xr.Dataset, title: str) -> Figure:
        return against(results, "epoch", {name: PANELS[name] for name in PANELS if name in results}, title)

    figure_of_sweep(config, "training_time", draw)


def default(dataset: str, epochs: int) -> SweepConfig:
    """The study's grid up to some epoch (0: its own last one), or one for the embedded digits."""
    study = presets.STUDIES.get(dataset)
    if study is None:
        study = presets.Study(
            widths=(),
            sample_widths=(),
            sample_sizes=(),
            time_widths=(10, 20, 40),
            snapshots=(0, 1, 3, 6, 10, 20, 40, 80),
            repeats=3,
            train=TrainConfig(epochs=80),
        )
    epochs = epochs if epochs > 0 else study.train.epochs
    return SweepConfig(
        dataset,
        widths=study.time_widths,
        repeats=study.repeats,
        snapshots=(*(epoch for epoch in study.snapshots if epoch < epochs), epochs),
        random_inputs=True,
        model=study.model,
        train=dataclasses.replace(study.train, epochs=epochs, patience=0),
    )


if __name__ == "__main__":
    main()
