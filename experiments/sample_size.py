"""The study's sample-size figure: redundancy ratio and accuracies on codes against the number of training examples.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): MNIST with one hidden layer at widths
40, 50, 60, CIFAR-10 with five at 50, 100, 200, 400. A sample is the first so many training examples, repeated until
they fill an epoch of the whole set, so that every model makes the same number of steps. What we measured stands in the
README, with the time it took.

    python -m experiments.sample_size                                # digits, under a minute on 2 cores
    python -m experiments.sample_size --dataset mnist                # the grid and recipe of jaxhash/sweeps/presets.py
    python -m experiments.sample_size --dataset mnist --repeats 3 --epochs 20
    python -m experiments.sample_size --dataset my.npz --sample-sizes 10 100 1000 --widths 16 32 --out runs/mine

An interrupted run continues with the same command.
"""

from dataclasses import dataclass

from jaxhash.plots.sweeps import against
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.command import command, option
from jaxhash.terminal.sweeps import KEPT, SweepOptions, figure_of_sweep
from jaxhash.training.mlp import TrainConfig

PANELS = {
    "train_redundancy": "codes of training examples",
    "test_redundancy": "codes of test examples",
    "test_accuracy": "the network itself, on test examples",
    "test_kmeans_accuracy": "K-Means on test codes",
    "knn_accuracy": "9-NN on codes",
    "logistic_accuracy": "logistic regression on codes",
}


@dataclass(frozen=True)
class Config(SweepOptions):
    """Redundancy ratio and accuracies on codes against the number of training examples.

    The defaults of --sample-sizes, --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the
    study's for the --dataset given (jaxhash/sweeps/presets.py).
    """

    def __post_init__(self) -> None:
        if not self.sweep.sample_sizes:
            raise ValueError("sample_sizes is empty; give at least one number of training examples")
        if self.sweep.snapshots:
            raise ValueError("snapshots have no place in this figure; use experiments.phase_chart for both")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config(default(option(arguments, "dataset", "digits"))), __doc__, body, arguments, kept=KEPT)


def body(config: Config) -> None:
    """Train or continue, measure, draw."""
    figure_of_sweep(config, "sample_size", lambda results, title: against(results, "examples", PANELS, title))


def default(dataset: str) -> SweepConfig:
    """The study's grid, or one for the embedded digits."""
    study = presets.STUDIES.get(dataset)
    if study is None:
        sizes, train = (10, 30, 100, 300, 1000), TrainConfig(epochs=60)
        return SweepConfig(dataset, widths=(10, 20, 40), repeats=3, sample_sizes=sizes, train=train)
    return SweepConfig(
        dataset,
        widths=study.sample_widths,
        repeats=study.repeats,
        sample_sizes=study.sample_sizes,
        model=study.model,
        train=study.train,
    )


if __name__ == "__main__":
    main()
