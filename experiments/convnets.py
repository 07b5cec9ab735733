"""Neural codes of convolutional networks: a sweep of VGG and ResNet, and the properties of each layer's code.

As in He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490) and the authors' script: batch 64,
at most 200 epochs, early stop (patience 10), Adam 1e-2, x0.1 every 50 epochs, L2 5e-6, Glorot kernels, projection
shortcuts, images rotated up to 15 degrees, shifted up to 10 % and mirrored. The defaults are a quick run: ResNet-8 of a
quarter of its width on the embedded digits, enlarged to 32 x 32.

    python -m experiments.convnets                                          # digits, a few minutes on 2 cores
    python -m experiments.convnets --dataset cifar10 --grid network=resnet20 width_factor=1.0 --epochs 20 \\
        --examples 5000 --test-examples 1000

The study's configuration, for an accelerator:

    python -m experiments.convnets --dataset cifar10 --epochs 200 --repeats 1 \\
        --grid network=vgg16,vgg19,resnet18,resnet20,resnet32,resnet56 width_factor=1.0 norm_momentum=0.99

An interrupted run continues with the same command. `--help` says what each network costs. Axes of --grid are arguments
of `jaxhash.models.convnets.classifier` and options of the recipe.
"""

import dataclasses
import sys
from dataclasses import dataclass

import xarray as xr
from rich.console import Console
from rich.table import Table

from jaxhash.data import load
from jaxhash.models.convnets import NETWORKS, build, cost
from jaxhash.plots import sweeps as plots
from jaxhash.sweeps import layers
from jaxhash.sweeps.grid import Value
from jaxhash.sweeps.presets import CONVNETS
from jaxhash.terminal.command import command, interruptible
from jaxhash.terminal.files import save
from jaxhash.terminal.progress import progress
from jaxhash.terminal.sweeps import KEPT, SweepOptions, run_sweep, say_diverged, summary, title_of

QUICK = dataclasses.replace(CONVNETS.train, epochs=6)
GRID: dict[str, tuple[Value, ...]] = {"network": ("resnet8",), "width_factor": (0.25,), "norm_momentum": (0.9,)}


@dataclass(frozen=True)
class Config(SweepOptions):
    """Redundancy ratio and accuracies of the code of each layer, and of all layers together."""

    test_examples: int | None = None
    """Measure on the first so many test examples only; all of them by default. 9-NN takes time for each."""


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    given = sys.argv[1:] if arguments is None else arguments
    text = f"{__doc__}\n\n{costs()}" if {"-h", "--help"} & set(given) else __doc__
    command(
        Config(dataclasses.replace(CONVNETS, dataset="digits", grid=GRID, train=QUICK)),
        text,
        body,
        arguments,
        kept=KEPT,
    )


def body(config: Config) -> None:
    """Train or continue, measure every layer, draw."""
    out, sweep = config.folder("convnets"), config.sweep
    if config.test_examples is not None:
        data = load(sweep.data_name, config.data_dir)
        few = dataclasses.replace(
            data, x_test=data.x_test[: config.test_examples], y_test=data.y_test[: config.test_examples]
        )
        sweep = dataclasses.replace(sweep, dataset=few)
    whole = run_sweep(sweep, out, config.data_dir, config.machines)
    console = Console(stderr=True)
    with interruptible(out, console) as stop, progress("measuring the layers of models", sweep.models, stop) as told:
        of_layers = layers.measured(
            sweep,
            out,
            out / "layers",
            config.data_dir,
            stop,
            parts=[layers.SINGLE],
            callback=lambda done, _: told(done),
        )
    title = title_of(sweep)
    Console().print(summary(whole, title), table(of_layers))
    say_diverged(whole)
    alone = of_layers.sel(part=layers.SINGLE, drop=True)
    figures = {"convnets": plots.of_grid(whole, title), "layers": plots.of_grid(alone, f"{title}: layers")}
    save(out, figures, others=("results.nc", "results.csv", "layers/results.nc", "layers/results.csv"))


def table(of_layers: xr.Dataset) -> Table:
    """Means over repeats, a row for each layer."""
    means = of_layers.sel(part=layers.SINGLE, drop=True).mean("repeat")
    return summary(means.expand_dims("repeat"), "Layers, each alone")


def costs(batch_size: int = CONVNETS.train.batch_size, examples: int = 40_000) -> str:
    """A table of what the networks cost at full width, worked out from their shapes."""
    lines = [
        f"At full width, batch {batch_size}; {examples:,} examples an epoch (CIFAR-10); codes of 50,000:",
        "",
        f"    {'network':10}{'parameters':>12}{'code bits':>11}{'GFLOP/step':>12}{'TFLOP/epoch':>13}{'GB codes':>10}",
    ]
    for name in NETWORKS:
        found = cost(build(name, 10))
        flops, bits = found.training_flops(batch_size), sum(found.code_bits.values())
        lines.append(
            f"    {name:10}{found.parameters:>12,}{bits:>11,}{flops / 1e9:>12.1f}"
            f"{flops * (examples // batch_size) / 1e12:>13.1f}{50_000 * bits / 8e9:>10.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
