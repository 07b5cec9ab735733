"""How many linear regions lie between two examples, exactly, and how large the region around an example is.

Beyond "Neural networks behave as hash encoders" (arXiv 2101.05490), whose authors look at 200 points of a line: here
every point at which a unit switches is solved (`jaxhash.regions.paths`). Counted against width and depth, between test
examples of the same and of different classes; beside it what 200 evenly spaced points see of it, and the length of
the chord of an example's region, towards another example and in a random direction.

Measured (MNIST, 2 repeats, 10 epochs, 100 pairs of each kind): at width
100 a path between two classes meets 46.8 / 56.3 / 58.9 regions at depth 1 / 2 / 3, one within a class 33.6 / 35.8 /
35.1; different classes lie further apart, but a unit of length holds more regions too (4.6 against 3.7 at depth 1, 5.8
against 3.9 at depth 3). 200 samples miss 10 % to 12 % of the regions there, 2 % at width 20.

    python -m experiments.linear_regions                                  # digits, under a minute on 2 cores
    python -m experiments.linear_regions --dataset mnist --widths 20 50 100 --epochs 20
    python -m experiments.linear_regions --run runs/mnist                 # the models of a finished sweep
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jaxhash
from jaxhash.codes.distinct import num_distinct
from jaxhash.data import Dataset, catalogue
from jaxhash.models.mlp import ModelConfig
from jaxhash.plots import style as plots
from jaxhash.plots.style import BLUE, GREEN, ORANGE, PURPLE
from jaxhash.regions.paths import LINES_AT_A_TIME, affine_layers, cut_points, region_sides, stack_models
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.progress import progress
from jaxhash.terminal.sweeps import run_sweep
from jaxhash.training.mlp import TrainConfig

KINDS = ("same class", "different classes")
COLOURS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"))

_num_distinct = jax.jit(jax.vmap(num_distinct))


@dataclass(frozen=True)
class Config:
    """Linear regions along paths between examples, and the size of the region around an example."""

    run: Path | None = None
    """A finished sweep whose models are measured; without it, models are trained by the options below."""
    dataset: str = "digits"
    """digits, mnist, fashion_mnist, kmnist, cifar10, or the path of an .npz file."""
    widths: tuple[int, ...] = (12, 24, 48, 96)
    """Total hidden units of each model."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Numbers of hidden layers, at most four of them; a model's units are shared among its layers."""
    repeats: int = 3
    """Models of each width and depth."""
    epochs: int = 30
    """Passes over the training set, at most."""
    pairs: int = 100
    """Pairs of test examples of each kind; the same for all models."""
    samples: int = 200
    """Evenly spaced points of each path, its ends among them, for the comparison with sampling."""
    seed: int = 0
    """Of the models, the pairs and the random directions."""
    out: Path | None = None
    """Folder of the data and the figure (default: runs/linear_regions-<dataset>)."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.samples < 2:
            raise ValueError(f"--pairs {self.pairs} must be 1 or more, and --samples {self.samples} 2 or more")
        if not 1 <= len(set(self.depths)) == len(self.depths) <= len(COLOURS):
            raise ValueError(f"--depths {self.depths} must be 1 to {len(COLOURS)} different numbers")


def train(config: Config, out: Path) -> dict[int, Path]:
    """Train what is asked for, one sweep a depth; the folder of each."""
    folders = {}
    for depth in config.depths:
        recipe = TrainConfig(epochs=config.epochs)
        model = ModelConfig(depth=depth)
        grid = SweepConfig(
            dataset=config.dataset,
            widths=config.widths,
            repeats=config.repeats,
            seed=config.seed,
            model=model,
            train=recipe,
        )
        folders[depth] = out / f"depth-{depth}"
        run_sweep(grid, folders[depth], config.data_dir)
    return folders


def draw_pairs(labels: Int[np.ndarray, " n"], pairs: int, seed: int) -> Int[np.ndarray, "kinds pairs 2"]:
    """Random pairs of examples, kind by kind: two of one class, then one each of two classes.

    Raises:
        ValueError: if no class has two examples, or only one has any.
    """
    generator = np.random.default_rng(seed)
    if np.bincount(labels).max() < 2:
        raise ValueError(f"the {len(labels)} test examples hold no two of one class; give a larger test set")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"all {len(labels)} test examples are of one class; give a test set of two or more")
    drawn: list[list[tuple[int, int]]] = [[], []]
    while min(map(len, drawn)) < pairs:
        first, second = (int(i) for i in generator.choice(len(labels), 2, replace=False))
        drawn[int(labels[first] != labels[second])].append((first, second))
    return np.array([kind[:pairs] for kind in drawn])


def measure(config: Config, folders: dict[int, Path], dataset: Dataset) -> xr.Dataset:
    """Everything that is counted, by depth, width, repeat, kind and pair. Lengths in input space; inf: unbounded."""
    chosen = draw_pairs(dataset.y_test, config.pairs, config.seed)
    start, end = (dataset.x_test[chosen[..., i].ravel()].astype(np.float64) for i in (0, 1))
    length = np.linalg.norm(end - start, axis=1)
    if not length.all():
        raise ValueError(f"a pair of examples of {dataset.name} is one and the same; give another --seed")
    anywhere = np.random.default_rng(config.seed + 1).normal(size=start.shape)
    parts = []
    grids = {depth: _finished(folder)[["width", "repeat"]] for depth, folder in folders.items()}
    done = itertools.count(1)
    with progress("counting regions", sum(g.sizes["width"] * g.sizes["repeat"] for g in grids.values())) as told:
        for depth, folder in folders.items():
            widths, repeats = (grids[depth][name].values.tolist() for name in ("width", "repeat"))
            models = [jaxhash.load(folder, width=w, repeat=r) for w in widths for r in repeats]
            layers = stack_models([affine_layers(model.variables) for model in models])
            numbers = {
                "regions": cut_points(layers, start, end).regions,
                "diameter_towards": region_sides(layers, start, end - start).diameter,
                "diameter_random": region_sides(layers, start, anywhere).diameter,
            }
            sampled = []
            for model in models:
                sampled.append(sampled_regions(model, start, end, config.samples))
                told(next(done))
            numbers["sampled_regions"] = np.array(sampled)
            shape = (1, len(widths), len(repeats), len(KINDS), config.pairs)
            dims = ("depth", "width", "repeat", "kind", "pair")
            named = {name: (dims, values.reshape(shape)) for name, values in numbers.items()}
            parts.append(xr.Dataset(named, {"depth": [depth], "width": widths, "repeat": repeats, "kind": list(KINDS)}))
    results = xr.concat(parts, "depth")
    results["length"] = ("kind", "pair"), length.reshape(len(KINDS), -1)
    results["example"] = ("kind", "pair", "end"), chosen
    return results


def sampled_regions(
    model: jaxhash.Model, start: Float[np.ndarray, "n features"], end: Float[np.ndarray, "n features"], samples: int
) -> Int[np.ndarray, " n"]:
    """Different codes among evenly spaced points of each path, float32: what one sees without solving."""
    t = np.linspace(0, 1, samples)[:, None]
    words = []
    for first in range(0, len(start), LINES_AT_A_TIME):
        a, b = (points[first : first + LINES_AT_A_TIME, None] for points in (start, end))
        words.append(np.asarray(model.codes((a + t * (b - a)).reshape(-1, model.features)).words))
    return np.asarray(_num_distinct(np.concatenate(words).reshape(len(start), samples, -1)))


def summarise(results: xr.Dataset, accuracy: dict[tuple[int, int], float]) -> list[dict[str, object]]:
    """One row a depth and width: means over models and pairs, medians of diameters."""
    rows: list[dict[str, object]] = []
    for depth in results["depth"].values:
        for width in results["width"].values:
            part = results.sel(depth=depth, width=width)
            row: dict[str, object] = {"depth": int(depth), "width": int(width)}
            row["test_accuracy"] = accuracy[int(depth), int(width)]
            for kind in KINDS:
                own, name = part.sel(kind=kind), kind.replace(" ", "_")
                row[f"regions_{name}"] = float(own["regions"].mean())
                row[f"regions_per_length_{name}"] = float((own["regions"] / own["length"]).mean())
            row["sampled_regions"] = float(part["sampled_regions"].mean())
            row["missed"] = missed(part)
            for name in ("diameter_towards", "diameter_random"):
                row[f"median_{name}"] = float(np.median(part[name]))
                row[f"unbounded_{name}"] = float(np.isinf(part[name]).mean())
            rows.append(row)
    return rows


def missed(results: xr.Dataset) -> float:
    """The share of all regions that the samples do not see."""
    return 1 - float(results["sampled_regions"].sum()) / float(results["regions"].sum())


def show(rows: list[dict[str, object]], title: str, samples: int) -> Table:
    """The summary for a terminal."""
    table = Table(
        title=title,
        caption="regions between two test examples, mean; missed: share of them that "
        f"{samples} samples do not see; chord: median length of an example's region towards another example and in a "
        "random direction, in input space (in brackets: share unbounded)",
    )
    headings = ("depth", "width", "test\nacc.", "same\nclass", "different\nclasses", "missed", "chord,\ntowards")
    for heading in (*headings, "chord,\nrandom"):
        table.add_column(heading, justify="right")
    for row in rows:
        chords = (
            f"{row[f'median_diameter_{way}']:.3g} ({row[f'unbounded_diameter_{way}']:.0%})"
            for way in ("towards", "random")
        )
        table.add_row(
            str(row["depth"]),
            str(row["width"]),
            f"{row['test_accuracy']:.3f}",
            f"{row['regions_same_class']:.1f}",
            f"{row['regions_different_classes']:.1f}",
            f"{row['missed']:.1%}",
            *chords,
        )
    return table


def draw_figure(results: xr.Dataset, title: str, samples: int) -> Figure:
    """Regions, what samples miss of them, and chords, against width; a colour a depth."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    width = results["width"].values
    for (colour, marker), depth in zip(COLOURS, results["depth"].values, strict=False):
        part, name = results.sel(depth=depth), f"depth {depth}"
        for kind, style in zip(KINDS, ("--", "-"), strict=True):
            counts = part["regions"].sel(kind=kind).mean("pair")
            plots.line(left, counts.transpose("repeat", "width"), f"{name}, {kind}", colour, marker, style)
        shares = [missed(part.sel(width=w)) for w in width]
        middle.plot(width, np.multiply(100, shares), color=colour, marker=marker, markersize=4, label=name)
        for way, style in (("towards", "-"), ("random", "--")):
            label = f"{name}, {'towards another example' if way == 'towards' else 'random direction'}"
            median = np.median(part[f"diameter_{way}"].transpose("width", ...).values.reshape(len(width), -1), axis=1)
            right.plot(width, median, style, color=colour, marker=marker, markersize=4, label=label)
    left.set(title="Regions between two test examples", ylabel="linear regions, mean", ylim=(0, None))
    middle.set(title=f"What {samples} samples a path miss", ylabel="regions not seen (%)", ylim=(0, None))
    right.set(title="Region around a test example", ylabel="chord, median (input-space length)", yscale="log")
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("{x:g}")
    for axes in (left, middle, right):
        _finish(axes)
    figure.suptitle(title)
    return figure


def body(config: Config) -> None:
    """Train or load, measure, save, draw."""
    if config.run is not None:
        description = runs.read_description(config.run)
        name = description["config"]["dataset"]
        folders = {int(description["config"]["model"]["depth"]): config.run}
    else:
        name = config.dataset
    dataset = catalogue.load(name, config.data_dir)
    out = config.out or Path("runs") / f"linear_regions-{Path(name).stem}"
    if config.run is None:
        folders = train(config, out)
    accuracy: dict[tuple[int, int], float] = {}
    for depth, folder in folders.items():
        means = _finished(folder)["test_accuracy"].mean("repeat")
        accuracy |= {(depth, int(width)): float(means.sel(width=width)) for width in means["width"].values}
    results = measure(config, folders, dataset)
    rows = summarise(results, accuracy)
    title = f"{Path(name).stem}, {results.sizes['repeat']} repeats, {config.pairs} pairs of each kind"
    Console().print(show(rows, title, config.samples))
    save(out, {"linear_regions": draw_figure(results, title, config.samples)}, {"summary": rows}, {"regions": results})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


def _finished(folder: Path) -> xr.Dataset:
    """The numbers of a finished run by width and repeat: of its largest sample size and last snapshot, as `load`.

    Raises:
        ValueError: if it is not finished, or a model diverged, which has no regions to speak of.
    """
    runs.read_description(folder)
    if not (folder / runs.RESULTS).exists():
        raise ValueError(f"{folder} is not finished; run its command again to continue it")
    results = xr.load_dataset(folder / runs.RESULTS, engine="scipy")
    results = results.isel({str(dim): -1 for dim in results.dims if dim not in ("repeat", "width")})
    if results["diverged"].any():
        raise ValueError(f"{folder}: {int(results['diverged'].sum())} models diverged; give a run without such models")
    return results


def _finish(axes: Axes) -> None:
    axes.set_xlabel("width (hidden units, all layers)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
