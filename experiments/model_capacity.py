"""The study's model-capacity figure: redundancy ratio and accuracies on codes against width.

Figure 2 of He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): MNIST with one hidden
layer, CIFAR-10 with five. What we measured stands in the README, with the time it took.

    python -m experiments.model_capacity                       # digits, under a minute on 2 cores
    python -m experiments.model_capacity --dataset mnist       # the study's grid and recipe (experiments/paper.py)
    python -m experiments.model_capacity --dataset cifar10     # the same, depth 5; svhn, adult and imdb too
    python -m experiments.model_capacity --dataset my.npz --widths 8 16 32 --epochs 30 --out runs/mine

An interrupted run continues with the same command.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from experiments import paper
from experiments.command import conclude, option, parse, run_sweep, title_of
from experiments.machines import Machines
from jaxhash import plots
from jaxhash.sweep import SweepConfig


@dataclass(frozen=True)
class Config:
    """Redundancy ratio and accuracies on codes against model width.

    The defaults of --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the study's for the
    --dataset given (experiments/paper.py).
    """

    sweep: tyro.conf.OmitArgPrefixes[SweepConfig] = field(default_factory=SweepConfig)
    machines: tyro.conf.OmitArgPrefixes[Machines] = field(default_factory=Machines)
    out: Path | None = None
    """Folder of the run (default: runs/model_capacity-<dataset>). A run that stands there is continued."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    dataset = option(arguments, "dataset", "digits")
    config = parse(Config(sweep=paper.capacity(dataset)), __doc__, arguments)
    out = config.out or Path("runs") / f"model_capacity-{Path(dataset).stem}"
    results = run_sweep(config.sweep, out, config.data_dir, config.machines)
    title, picture = title_of(config.sweep), out / "model_capacity.png"
    plots.save(plots.capacity(results, title), picture)
    conclude(results, title, picture)


if __name__ == "__main__":
    main()
