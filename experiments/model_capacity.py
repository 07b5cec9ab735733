"""The study's model-capacity figure: redundancy ratio and accuracies on codes against width.

Figure 2 of He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): MNIST with one hidden
layer, CIFAR-10 with five. What we measured stands in the README, with the time it took.

    python -m experiments.model_capacity                                  # digits, under a minute on 2 cores
    python -m experiments.model_capacity --dataset mnist --repeats 10     # the paper's setting
    python -m experiments.model_capacity --dataset cifar10 --repeats 10   # the paper's setting, depth 5
    python -m experiments.model_capacity --dataset my.npz --widths 8 16 32 --epochs 30 --out runs/mine

An interrupted run continues with the same command.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from experiments.command import run_sweep, summary
from jaxhash import plots
from jaxhash.models import ModelConfig
from jaxhash.sweep import SweepConfig

PAPER_WIDTHS: dict[str, tuple[int, ...]] = {
    "mnist": (3, 7, 10, 15, 20, 23, 27, 30, 33, 37, 40, 43, 47, 50, 53, 57, 60, 65, 70, 75, 80, 90, 100),
    "cifar10": tuple(range(50, 1001, 50)),
}
PAPER_DEPTH = {"cifar10": 5}


@dataclass(frozen=True)
class Config:
    """Redundancy ratio and accuracies on codes against model width.

    The defaults of --widths and --depth are the study's for the --dataset given (23 widths on MNIST; 20 widths of
    depth 5 on CIFAR-10); the other defaults are its training recipe.
    """

    sweep: tyro.conf.OmitArgPrefixes[SweepConfig] = field(default_factory=SweepConfig)
    out: Path | None = None
    """Folder of the run (default: runs/model_capacity-<dataset>). A run that stands there is continued."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset", default="digits")
    dataset = first.parse_known_args(arguments)[0].dataset
    default = SweepConfig(
        dataset=dataset,
        widths=PAPER_WIDTHS.get(dataset, SweepConfig.widths),
        model=ModelConfig(depth=PAPER_DEPTH.get(dataset, 1)),
    )
    try:
        config = tyro.cli(
            tyro.conf.OmitArgPrefixes[Config], description=__doc__, default=Config(sweep=default), args=arguments
        )
    except ValueError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
        sys.exit(1)

    name = Path(dataset).stem
    out = config.out or Path("runs") / f"model_capacity-{name}"
    results = run_sweep(config.sweep, out, config.data_dir)
    picture = out / "model_capacity.png"
    depth = config.sweep.model.depth
    title = f"{name}, {depth} hidden layer{'s' if depth > 1 else ''}, {config.sweep.repeats} repeats"
    plots.save(plots.capacity(results, title), picture)
    console = Console()
    console.print(summary(results, title))
    if diverged := int(results["diverged"].sum()):
        console.print(f"[bold yellow]{diverged} models diverged[/] (loss not finite); they are left out of the means.")
    console.print(f"Figure: {picture}\nNumbers: {out / 'results.nc'}, {out / 'results.csv'}")


if __name__ == "__main__":
    main()
