"""Near-duplicates found by their neural codes: planted copies, precision and recall beside distance of pixels.

Copies of training examples are changed a little (noise, brightness, a shift by one pixel) and mixed with test
examples, which are nobody's copies. Each is taken for a duplicate if its nearest training example is near enough: by
Hamming distance of codes (`jaxhash.codes.nearest`, exact), or by Euclidean distance of pixels. Counted are the average
precision of that decision over all thresholds, and how often the nearest one is the very original.

Where it does not work (digits, 100 bits, seed 0): distance of pixels is the better detector of faint noise (average
precision 1.00 against 0.94) and of darker copies (0.94 against 0.77); under strong noise or a shift by a pixel neither
of them works (0.28 to 0.37 where guessing gives 0.46), since a changed copy is then farther from its original than
one digit from the next. What codes offer is size: 100 bits an example.

    python -m experiments.near_duplicates                         # digits, under half a minute on 2 cores
    python -m experiments.near_duplicates --dataset mnist --width 200 --epochs 5
    python -m experiments.near_duplicates --run runs/mnist --width 100
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score, pairwise_distances_argmin_min, precision_recall_curve

import jaxhash
from jaxhash.codes import nearest
from jaxhash.data import Dataset
from jaxhash.plots.style import BLUE, ORANGE
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.network import Common, as_images, load_network

Change = Callable[[Float[np.ndarray, "n side side channels"], np.random.Generator], np.ndarray]

CHANGES: dict[str, Change] = {
    "noise, s.d. 0.05": lambda x, generator: x + generator.normal(0, 0.05, x.shape),
    "noise, s.d. 0.2": lambda x, generator: x + generator.normal(0, 0.2, x.shape),
    "20 % darker": lambda x, generator: 0.8 * x,
    "shifted by a pixel": lambda x, generator: np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1],
}
"""What is done to the copies; pixels are in [0, 1]."""
METHODS = {"codes": (BLUE, "-"), "pixels": (ORANGE, "--")}


@dataclass(frozen=True)
class Config(Common):
    """Planted near-duplicates of training examples, found by codes and by pixels."""

    copies: int = 300
    """Training examples of which a changed copy is planted, for each kind of change."""

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"--copies {self.copies} is less than 1; plant at least one")


@dataclass(frozen=True)
class Found:
    """What one method makes of the queries under one kind of change: the copies first, then the test examples."""

    change: str
    method: str
    planted: np.ndarray
    """Which queries are copies."""
    distance: np.ndarray
    """To the nearest training example."""
    original: float
    """Share of the copies whose nearest training example is their original."""

    @property
    def average_precision(self) -> float:
        """Area under precision against recall, over all thresholds on the distance (scikit-learn's definition)."""
        return float(average_precision_score(self.planted, -self.distance))

    @property
    def row(self) -> dict[str, object]:
        """For the table."""
        numbers = {"average_precision": self.average_precision, "original_found": self.original}
        return {"change": self.change, "method": self.method, **numbers}


def search(config: Config, model: jaxhash.Model, dataset: Dataset) -> list[Found]:
    """Plant, look up, and compare.

    Raises:
        ValueError: if there are fewer training examples than copies to plant.
    """
    if config.copies > len(dataset.x_train):
        raise ValueError(f"--copies {config.copies} is more than the {len(dataset.x_train)} training examples")
    generator = np.random.default_rng(config.seed)
    chosen = generator.choice(len(dataset.x_train), config.copies, replace=False)
    train = model.codes(dataset.x_train)
    found = []
    for change, apply in CHANGES.items():
        copies = apply(as_images(dataset.x_train[chosen]), generator).reshape(config.copies, -1)
        queries = np.concatenate([copies, dataset.x_test]).astype(np.float32)
        planted = np.arange(len(queries)) < config.copies
        distances, indices = nearest(train, model.codes(queries), k=1)
        by_pixels, pixel_distances = pairwise_distances_argmin_min(queries, dataset.x_train)
        for method, distance, index in (
            ("codes", np.asarray(distances)[:, 0], np.asarray(indices)[:, 0]),
            ("pixels", pixel_distances, by_pixels),
        ):
            original = float((index[: config.copies] == chosen).mean())
            found.append(Found(change, method, planted, distance, original))
    return found


def show(found: list[Found], title: str) -> Table:
    """The numbers for a terminal."""
    table = Table(
        title=title,
        caption="average precision of 'a copy' against test examples, over all thresholds; original: share of the "
        "copies whose nearest training example is their own original",
    )
    for heading in ("change", "method", "average precision", "original found"):
        table.add_column(heading, justify="left" if heading in ("change", "method") else "right")
    for one in found:
        table.add_row(one.change, one.method, f"{one.average_precision:.3f}", f"{one.original:.1%}")
    return table


def draw_figure(found: list[Found], title: str) -> Figure:
    """Precision against recall, a panel a kind of change."""
    figure = Figure(figsize=(3.3 * len(CHANGES), 3.6), layout="constrained")
    panels = dict(zip(CHANGES, figure.subplots(1, len(CHANGES), sharey=True), strict=True))
    for one in found:
        precision, recall, _ = precision_recall_curve(one.planted, -one.distance)
        colour, style = METHODS[one.method]
        label = f"{one.method}, AP {one.average_precision:.2f}"
        panels[one.change].plot(recall, precision, style, color=colour, label=label)
    for change, panel in panels.items():
        panel.set(title=change, xlabel="recall of copies", ylim=(0, 1.4), yticks=np.linspace(0, 1, 6))
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, loc="upper right")
    panels[next(iter(CHANGES))].set_ylabel("precision")
    figure.suptitle(title)
    return figure


def body(config: Config) -> None:
    """Train or load, look up, save, draw."""
    out = config.folder("near_duplicates")
    model, dataset = load_network(config, out / "model")
    found = search(config, model, dataset)
    bits = model.codes(dataset.x_test[:1]).num_bits
    title = f"{dataset.name}: {config.copies} changed copies among {len(dataset.x_test):,} others, codes of {bits} bits"
    Console().print(show(found, title))
    save(out, {"near_duplicates": draw_figure(found, title)}, {"near_duplicates": [one.row for one in found]})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
