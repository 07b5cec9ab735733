"""Which training examples share, or almost share, the neural code of an input.

A look-up that explains a network's answer by examples: those that fall into the same linear region, or into one few
units away. The search is exact (`jaxhash.codes.nearest`); k-NN on codes is the study's categorisation (arXiv
2101.05490, section 4), here with the neighbours shown.

Measured (digits, 100 bits, seed 0): the farther the nearest code, the less its label can be trusted: all of the 105
test examples within 10 bits have the label of their neighbour, 97 % of those at 11 to 15 bits, 76 % beyond. No test
example shares a code with a training example at this width, and the nearest in pixels is right more often (94.7 %
against 91.4 %): the codes tell what the network takes for alike, not what is.

    python -m experiments.nearest_examples                        # digits, under half a minute on 2 cores
    python -m experiments.nearest_examples --dataset mnist --width 100 --epochs 5
    python -m experiments.nearest_examples --run runs/mnist --width 50
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import pairwise_distances_argmin_min

from jaxhash.codes import nearest
from jaxhash.data import Dataset
from jaxhash.plots import style
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.network import Common, as_images, load_network

BANDS = ((0, 0), (1, 5), (6, 10), (11, 15), (16, 10**9))
"""Distances that the summary puts together, bits, both ends counted in."""


@dataclass(frozen=True)
class Config(Common):
    """The training examples whose codes are nearest to those of test examples."""

    neighbours: int = 8
    """Nearest training examples of each test example."""
    shown: int = 8
    """Test examples in the picture, evenly spread over the range of distances to the nearest code."""

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.shown < 1:
            raise ValueError(f"--neighbours {self.neighbours} and --shown {self.shown} must be 1 or more")


def summarise(
    distances: Int[np.ndarray, "m k"], labels: Int[np.ndarray, "m k"], y: Int[np.ndarray, " m"]
) -> list[dict[str, object]]:
    """One row a band of distances to the nearest code: how many examples, and how many have its label."""
    rows: list[dict[str, object]] = []
    for low, high in BANDS:
        inside = (distances[:, 0] >= low) & (distances[:, 0] <= high)
        band = f"{low}" if low == high else f"{low} to {high}" if high < 10**9 else f"{low} or more"
        same = float((labels[inside, 0] == y[inside]).mean()) if inside.any() else float("nan")
        rows.append({"distance": band, "examples": int(inside.sum()), "same_label": same})
    return rows


def show(rows: list[dict[str, object]], title: str, pixels: float, codes: float) -> Table:
    """The summary for a terminal."""
    table = Table(
        title=title,
        caption="distance: bits between a test example's code and the nearest training code; all together "
        f"{codes:.1%} have the label of the nearest code, {pixels:.1%} that of the nearest pixels",
    )
    for heading in ("distance", "test examples", "nearest has the same label"):
        table.add_column(heading, justify="right")
    for row in rows:
        share = f"{row['same_label']:.1%}" if row["examples"] else ""
        table.add_row(str(row["distance"]), str(row["examples"]), share)
    return table


def draw_figure(dataset: Dataset, distances: np.ndarray, indices: np.ndarray, shown: int, title: str) -> Figure:
    """A row a test example, then its neighbours; the farther down, the stranger the example."""
    order = np.argsort(distances[:, 0], kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(shown, len(order))).round().astype(int)]
    columns = 1 + indices.shape[1]
    figure = Figure(figsize=(1.1 * columns + 0.4, 1.35 * len(chosen) + 0.6), layout="constrained")
    panels = figure.subplots(len(chosen), columns, squeeze=False)
    queries, train = as_images(dataset.x_test), as_images(dataset.x_train)
    for row, i in zip(panels, chosen, strict=True):
        pictures = [queries[i], *train[indices[i]]]
        own = dataset.y_test[i]
        labels = [
            f"test: {own}",
            *(f"{dataset.y_train[j]}, {d} bits" for j, d in zip(indices[i], distances[i], strict=True)),
        ]
        right = [True, *(dataset.y_train[indices[i]] == own)]
        for panel, picture, label, agrees in zip(row, pictures, labels, right, strict=True):
            panel.imshow(picture.squeeze(), cmap="gray_r", vmin=0, vmax=1)
            panel.set_title(label, fontsize=8, color="black" if agrees else style.ORANGE)
            panel.set_axis_off()
    figure.suptitle(title)
    return figure


def body(config: Config) -> None:
    """Train or load, look up, save, draw."""
    out = config.folder("nearest_examples")
    model, dataset = load_network(config, out / "model")
    as_images(dataset.x_test[:1])
    train, test = model.codes(dataset.x_train), model.codes(dataset.x_test)
    distances, indices = map(np.asarray, nearest(train, test, k=config.neighbours))
    labels = dataset.y_train[indices]
    rows = summarise(distances, labels, dataset.y_test)
    by_pixels, _ = pairwise_distances_argmin_min(dataset.x_test, dataset.x_train)
    every = [
        {"test_example": i, "label": int(dataset.y_test[i]), "rank": rank, "train_example": int(indices[i, rank])}
        | {"train_label": int(labels[i, rank]), "distance": int(distances[i, rank])}
        for i in range(len(indices))
        for rank in range(config.neighbours)
    ]
    title = f"{dataset.name}: nearest of {len(train.words):,} training codes, {train.num_bits} bits"
    figure = draw_figure(dataset, distances, indices, config.shown, title)
    right = (dataset.y_train[nearest_by] == dataset.y_test for nearest_by in (by_pixels, indices[:, 0]))
    Console().print(show(rows, title, *(float(same.mean()) for same in right)))
    save(out, {"nearest_examples": figure}, {"neighbours": every, "summary": rows})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
