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

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from jaxhash.plots import style
from jaxhash.sweeps import presets
from jaxhash.sweeps.engine import SweepConfig
from jaxhash.terminal.command import conclude, option, parse, run_sweep, title_of
from jaxhash.terminal.machines import Machines
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
class Config:
    """Redundancy ratio and accuracies on codes against the number of training examples.

    The defaults of --sample-sizes, --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the
    study's for the --dataset given (jaxhash/sweeps/presets.py).
    """

    sweep: tyro.conf.OmitArgPrefixes[SweepConfig] = field(default_factory=SweepConfig)
    machines: tyro.conf.OmitArgPrefixes[Machines] = field(default_factory=Machines)
    out: Path | None = None
    """Folder of the run (default: runs/sample_size-<dataset>). A run that stands there is continued."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""

    def __post_init__(self) -> None:
        if not self.sweep.sample_sizes:
            raise ValueError("sample_sizes is empty; give at least one number of training examples")
        if self.sweep.snapshots:
            raise ValueError("snapshots have no place in this figure; use experiments.phase_chart for both")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    dataset = option(arguments, "dataset", "digits")
    config = parse(Config(sweep=default(dataset)), __doc__, arguments)
    out = config.out or Path("runs") / f"sample_size-{Path(dataset).stem}"
    results = run_sweep(config.sweep, out, config.data_dir, config.machines)
    title, picture = title_of(config.sweep), out / "sample_size.png"
    style.save(style.against(results, "examples", PANELS, title), picture)
    conclude(results, title, picture)


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
