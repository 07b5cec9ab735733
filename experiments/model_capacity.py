"""The study's model-capacity figure: redundancy ratio and accuracies on codes against width.

Figure 2 of He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): MNIST with one hidden
layer, CIFAR-10 with five. What we measured stands in the README, with the time it took.

    python -m experiments.model_capacity                       # digits, under a minute on 2 cores
    python -m experiments.model_capacity --dataset mnist       # the study's grid and recipe (jaxhash/sweeps/presets.py)
    python -m experiments.model_capacity --dataset cifar10     # the same, depth 5; svhn, adult and imdb too
    python -m experiments.model_capacity --dataset my.npz --widths 8 16 32 --epochs 30 --out runs/mine

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


@dataclass(frozen=True)
class Config:
    """Redundancy ratio and accuracies on codes against model width.

    The defaults of --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the study's for the
    --dataset given (jaxhash/sweeps/presets.py).
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
    config = parse(Config(sweep=presets.capacity(dataset)), __doc__, arguments)
    out = config.out or Path("runs") / f"model_capacity-{Path(dataset).stem}"
    results = run_sweep(config.sweep, out, config.data_dir, config.machines)
    title, picture = title_of(config.sweep), out / "model_capacity.png"
    style.save(style.capacity(results, title), picture)
    conclude(results, title, picture)


if __name__ == "__main__":
    main()
