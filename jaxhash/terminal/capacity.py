"""The model-capacity command: a grid of networks trained, their codes measured, and the figure against width drawn.

`jaxhash sweep` and `python -m experiments.model_capacity` are this.
"""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from jaxhash.plots import sweeps as plots
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal import any_model
from jaxhash.terminal.command import framed, option, parse
from jaxhash.terminal.dry_run import show_dry_run
from jaxhash.terminal.sweeps import KEPT, SweepOptions, figure_of_sweep
from jaxhash.training.vmapped import RECIPE

DESCRIPTION = """Train a grid of networks, measure their neural codes, and draw the figure.

For every width (or place in the grid), --repeats networks are trained side by side. Of each, the codes (which ReLUs are
on, for each example) are measured: the redundancy ratio says how many examples share their code with another, and
K-Means, 9-NN and logistic regression say how well codes alone tell the classes apart.

    jaxhash sweep                                     the embedded digits, under a minute on 2 cores
    jaxhash sweep --dataset mnist                     the grid and recipe of the study (also cifar10, svhn, adult, imdb)
    jaxhash sweep --dataset my.npz --widths 8 16 32   one's own arrays: x_train, y_train, x_test, y_test
    jaxhash sweep --grid depth=1,2 learning_rate=1e-3,1e-2 --widths 16 64
                                                      any option of the model or the recipe as an axis
    jaxhash sweep my_model.py:make --dataset digits --grid width=16,64 learning_rate=1e-3,1e-2 --epochs 20
                                                      a model of one's own: the class or function `make` in my_model.py,
                                                      called with the axes that it names (Flax Linen or NNX, Equinox, or
                                                      a pair of functions init, apply); `optimizer`, `loss` and
                                                      `metrics` in the file are used too
    jaxhash sweep --dataset mnist --dry-run           what that takes: programs, memory, time; trains nothing
    jaxhash status runs/model_capacity-mnist          how far it is, from another terminal

In the folder --out it leaves a figure, results.nc and results.csv (every number of every model), and the trained
models: jaxhash.load(folder, width=..., repeat=...) gives one, without the code of the model. Ctrl-C saves; the same
command continues.
"""


@dataclass(frozen=True)
class Config(SweepOptions):
    """Redundancy ratio and accuracies on codes against model width.

    The defaults of --widths, --repeats, --depth, --epochs and all that belongs to the recipe are the study's for the
    --dataset given (jaxhash/sweeps/presets.py).
    """

    model: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[FILE.py:NAME]")] = None
    """A model of one's own. The file is run as Python: only one that you trust. Its recipe is Adam at 1e-3 for 20
    epochs, unless options say otherwise. By default the study's MLPs."""
    dry_run: bool = False
    """List the programs of the sweep (models at once, FLOPs, memory), run each once to time it, and stop: nothing is
    written."""


def main(
    arguments: list[str] | None = None, description: str | None = DESCRIPTION, prog: str | None = "jaxhash sweep"
) -> None:
    """The command; `description` and `prog` are what its help says and calls it."""

    def work() -> None:
        dataset, model = option(arguments, "dataset", "digits"), model_of(arguments)
        sweep = presets.capacity(dataset)
        if model is not None:
            recipe = dataclasses.replace(RECIPE, epochs=any_model.EPOCHS)
            sweep = SweepConfig(dataset, train=recipe, network=any_model.from_file(model))
        body(parse(Config(sweep), description, arguments, prog))

    framed(work, KEPT)


def body(config: Config) -> None:
    """Train or continue, measure, draw."""
    name = "model_capacity"
    if config.sweep.network is not None:
        name = f"sweep-{config.sweep.network.name}"
    if config.dry_run:
        show_dry_run(config.sweep, config.data_dir, config.machines.mesh)
    else:
        figure_of_sweep(config, name, plots.of_grid)


def model_of(arguments: list[str] | None) -> str | None:
    """The model that a command line names, if it does."""
    first = next(iter(sys.argv[1:] if arguments is None else arguments), "-")
    return None if first.startswith("-") else first
