"""The model-capacity command: a grid of networks trained, their codes measured, and the figure against width drawn.

`jaxhash sweep` and `python -m experiments.model_capacity` are this.
"""

from dataclasses import dataclass

from jaxhash.plots import sweeps as plots
from jaxhash.sweeps import presets
from jaxhash.terminal.command import framed, option, parse
from jaxhash.terminal.dry_run import show_dry_run
from jaxhash.terminal.sweeps import KEPT, SweepOptions, figure_of_sweep

DESCRIPTION = """Train networks of many widths, measure their neural codes, and draw the model-capacity figure.

For every width, --repeats networks are trained side by side. Of each, the codes (which ReLUs are on, for each example)
are measured: the redundancy ratio says how many examples share their code with another, and K-Means, 9-NN and logistic
regression say how well codes alone tell the classes apart.

    jaxhash sweep                                     the embedded digits, under a minute on 2 cores
    jaxhash sweep --dataset mnist                     the grid and recipe of the study (also cifar10, svhn, adult, imdb)
    jaxhash sweep --dataset my.npz --widths 8 16 32   one's own arrays: x_train, y_train, x_test, y_test
    jaxhash sweep --dataset mnist --dry-run           what that takes: programs, memory, time; trains nothing
    jaxhash status runs/model_capacity-mnist          how far it is, from another terminal

In the folder --out it leaves model_capacity.png, results.nc and results.csv (every number of every model), and the
trained models: jaxhash.load(folder, width=..., repeat=...) gives one. Ctrl-C saves; the same command continues.
"""


@dataclass(frozen=True)
class Config(SweepOptions):
    """Redundancy ratio and accuracies on codes against model width.

    The defaults of --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the study's for the
    --dataset given (jaxhash/sweeps/presets.py).
    """

    dry_run: bool = False
    """List the programs of the sweep (models at once, FLOPs, memory), run each once to time it, and stop: nothing is
    written."""


def main(
    arguments: list[str] | None = None, description: str | None = DESCRIPTION, prog: str | None = "jaxhash sweep"
) -> None:
    """The command; `description` and `prog` are what its help says and calls it."""

    def work() -> None:
        default = Config(presets.capacity(option(arguments, "dataset", "digits")))
        body(parse(default, description, arguments, prog))

    framed(work, KEPT)


def body(config: Config) -> None:
    """Train or continue, measure, draw."""
    if config.dry_run:
        show_dry_run(config.sweep, config.data_dir, config.machines.mesh)
    else:
        figure_of_sweep(config, "model_capacity", plots.capacity)
