"""Does a sweep over sample sizes cost more than the same number of model-steps in a sweep over widths?

Both are run whole on MNIST, one after the other in one process: training, compiling, measuring, saving. Sample sizes:
14 sizes of 10 to 40,000 examples x 3 widths x 3 repeats, as the study has them; widths: 21 of the study's 23 (without
the smallest and the largest) x 6 repeats, which are as many models, steps and measurings. The sample sizes' models are
wider (50 units on average against 44).

    python -m bench.sample_size            # 20 epochs, about 10 minutes on 2 cores
    python -m bench.sample_size --quick    # 2 epochs and a third of the repeats: compiling weighs more
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from bench import machine
from jaxhash.data import load
from jaxhash.sweeps.presets import STUDIES
from jaxhash.sweeps.run import SweepConfig, lanes, one_thread_a_lane, run
from jaxhash.sweeps.task import Progress
from jaxhash.training.mlp import TrainConfig


@dataclass(frozen=True)
class Config:
    """Measure what sample sizes cost a sweep."""

    quick: bool = False
    """2 epochs and a third of the repeats."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    data_dir: str | None = None
    """Where mnist/ is looked up (default: JAXHASH_DATA_DIR)."""


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    one_thread_a_lane()
    console = Console(stderr=True)
    study = STUDIES["mnist"]
    repeats, epochs = (1, 2) if config.quick else (3, 20)
    train = TrainConfig(epochs=epochs, patience=0)
    steps = train.steps_per_epoch(len(load("mnist", config.data_dir).x_train))
    grids = {
        "widths": SweepConfig("mnist", widths=study.widths[1:-1], repeats=2 * repeats, train=train),
        "sample sizes": SweepConfig(
            "mnist", widths=study.sample_widths, repeats=repeats, sample_sizes=study.sample_sizes[:-1], train=train
        ),
    }
    seconds, model_steps = {}, {}
    for name, grid in grids.items():
        models = len(grid.widths) * grid.repeats * max(len(grid.sample_sizes), 1)
        model_steps[name] = models * epochs * steps
        measured: list[int] = []

        def report(progress: Progress, name: str = name, models: int = models, done: list[int] = measured) -> None:
            if progress.models:
                done.append(len(progress.models))
                console.print(f"{name}: {sum(done)} of {models} models measured", end="\r")

        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run(grid, Path(folder) / "run", data_dir=config.data_dir, report=report)
            seconds[name] = time.perf_counter() - start
    rates = {name: model_steps[name] / seconds[name] for name in grids}
    ratio = rates["widths"] / rates["sample sizes"]
    out = Console(width=100)
    for name in grids:
        out.print(
            f"{name}: {model_steps[name]:,} model-steps in {seconds[name]:.0f} s, {rates[name]:,.0f} a second",
            highlight=False,
        )
    out.print(f"A model-step of the sample-size sweep takes {ratio:.2f}x the time of one of the width sweep.")
    if config.json:
        result = {
            "ratio": ratio,
            "seconds": seconds,
            "model_steps": model_steps,
            "lanes": lanes(),
            "quick": config.quick,
            "machine": machine.describe(),
        }
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
