"""An out-of-distribution monitor: how far is an input's neural code from every code seen in training?

Scores of test examples against scores of other data, as the area under the ROC curve (scikit-learn): 1 tells them
apart, 0.5 is guessing. Other data: patches of the two photographs that come with scikit-learn, the two last classes,
which a second network has never seen, uniform noise, and other datasets by name, resized (`--others mnist cifar10`).
Beside it two yardsticks: the distance to the nearest training example in pixels, and the network's own doubt,
1 - its largest probability (Hendrycks and Gimpel 2017, arXiv 1610.02136).

Measured (digits, 100 bits, seed 0; codes / pixels / doubt): photographs 0.997 / 1.000 / 0.912, classes left out 0.907 /
0.939 / 0.916, noise 0.995 / 1.000 / 0.838, MNIST resized 0.962 / 0.998 / 0.871, CIFAR-10 in grey 0.988 / 1.000 / 0.838.
So the codes see what the network's own doubt does not, except for classes left out, where they are no better; and on
pictures as small as these the distance in pixels, 64 float32 numbers an example instead of 100 bits, is better still.

    python -m experiments.ood_monitor                                    # digits, under half a minute on 2 cores
    python -m experiments.ood_monitor --others photos mnist cifar10      # files as for --dataset
    python -m experiments.ood_monitor --dataset mnist --others cifar10 left_out noise --epochs 5
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from sklearn.metrics import pairwise_distances_argmin_min, roc_auc_score

import jaxhash
from jaxhash.codes import nearest
from jaxhash.data import Dataset, catalogue
from jaxhash.plots.style import BLUE, GREY, ORANGE
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.network import Common, as_images, load_network, resized_like, train_network

SCORES = {"codes": BLUE, "pixels": GREY, "doubt": ORANGE}
LEFT_OUT_CLASSES = 2
PATCH = 32
"""Side of the square patches cut out of the photographs, pixels."""


@dataclass(frozen=True)
class Config(Common):
    """How well distance to seen codes tells a network's own kind of data from other data."""

    others: tuple[str, ...] = ("photos", "left_out", "noise")
    """Other data: photos, left_out (the last two classes, for a network trained without them), noise, or datasets."""
    examples: int = 1000
    """Examples of each kind of other data, at most, and test examples."""

    def __post_init__(self) -> None:
        if not self.others or len(set(self.others)) != len(self.others):
            raise ValueError(f"--others {self.others} must be one or more different names")
        if self.examples < 2:
            raise ValueError(f"--examples {self.examples} is less than 2; an ROC curve needs some")
        if self.run is not None and "left_out" in self.others:
            raise ValueError("--run has no network that was trained without classes; leave left_out out of --others")


def other_data(name: str, like: Dataset, config: Config) -> Float[np.ndarray, "n features"]:
    """Examples of another kind, in the shape of `like`'s.

    Raises:
        ValueError: if there is no such data.
    """
    generator = np.random.default_rng(config.seed)
    _, side, _, channels = as_images(like.x_test[:1]).shape
    if name == "noise":
        return generator.uniform(0, 1, (config.examples, like.features)).astype(np.float32)
    if name == "photos":
        images = []
        for photo in load_sample_images().images:
            rows, columns = (generator.integers(0, size - PATCH, config.examples // 2) for size in photo.shape[:2])
            images += [photo[i : i + PATCH, j : j + PATCH] / 255 for i, j in zip(rows, columns, strict=True)]
        return resized_like(np.stack(images), side, channels)
    other = catalogue.load(name, config.data_dir)
    return resized_like(as_images(other.x_test[: config.examples]), side, channels)


def without_classes(dataset: Dataset, path: Path) -> Dataset:
    """The dataset without its last classes, written as an .npz file that a sweep can train on."""
    classes = dataset.num_classes - LEFT_OUT_CLASSES
    if classes < 2:
        raise ValueError(f"{dataset.name} has {dataset.num_classes} classes; leaving {LEFT_OUT_CLASSES} out needs 4")
    x = np.concatenate([dataset.x_train, dataset.x_validation])
    y = np.concatenate([dataset.y_train, dataset.y_validation])
    known, test = y < classes, dataset.y_test < classes
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as stream:
        np.savez(stream, x_train=x[known], y_train=y[known], x_test=dataset.x_test[test], y_test=dataset.y_test[test])
    draft.replace(path)
    return catalogue.load(str(path))


def scores(model: jaxhash.Model, dataset: Dataset, x: np.ndarray) -> dict[str, Float[np.ndarray, " n"]]:
    """How strange each input looks: by its code, its pixels, and to the network itself; larger is stranger."""
    distances, _ = nearest(model.codes(dataset.x_train), model.codes(x), k=1)
    _, pixels = pairwise_distances_argmin_min(x, dataset.x_train)
    doubt = 1 - np.asarray(jax.nn.softmax(model.apply(x)).max(1))
    return {"codes": np.asarray(distances)[:, 0].astype(float), "pixels": pixels, "doubt": doubt}


def compare(name: str, own: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, object]:
    """The areas under the ROC curves of one kind of other data, and the median distances of codes."""
    row: dict[str, object] = {"other": name, "examples": len(other["codes"])}
    for score in SCORES:
        strange = np.repeat([0, 1], [len(own[score]), len(other[score])])
        row[f"auroc_{score}"] = float(roc_auc_score(strange, np.concatenate([own[score], other[score]])))
    for label, part in (("test", own), ("other", other)):
        row[f"median_bits_{label}"] = float(np.median(part["codes"]))
    return row


def show(rows: list[dict[str, object]], title: str) -> Table:
    """The areas for a terminal."""
    table = Table(
        title=title,
        caption="area under the ROC curve, 1: told apart, 0.5: guessing, below: taken for more usual than test "
        "examples; bits: median distance to the nearest training code, test examples / other data",
    )
    for heading in ("other data", "examples", "codes", "pixels", "doubt", "bits"):
        table.add_column(heading, justify="left" if heading == "other data" else "right")
    for row in rows:
        areas = (f"{row[f'auroc_{score}']:.3f}" for score in SCORES)
        bits = f"{row['median_bits_test']:.0f} / {row['median_bits_other']:.0f}"
        table.add_row(str(row["other"]), str(row["examples"]), *areas, bits)
    return table


def draw_figure(
    rows: list[dict[str, object]], distances: dict[str, tuple[np.ndarray, np.ndarray]], title: str
) -> Figure:
    """Histograms of the distances to the nearest code, a panel a kind of other data."""
    figure = Figure(figsize=(3.6 * len(rows), 3.6), layout="constrained")
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    for row, panel in zip(rows, panels, strict=True):
        own, other = distances[str(row["other"])]
        edges = np.arange(-0.5, max(own.max(), other.max()) + 2, max(1, round(max(own.max(), other.max()) / 30)))
        for values, colour, label in ((own, BLUE, "test examples"), (other, ORANGE, str(row["other"]))):
            panel.hist(values, edges, density=True, color=colour, alpha=0.55, label=label)
        panel.set(title=f"{row['other']}: AUROC {row['auroc_codes']:.3f}", xlabel="bits to the nearest training code")
        panel.set_ylim(0, 1.35 * panel.get_ylim()[1])
        panel.legend(frameon=False, loc="upper right")
    panels[0].set_ylabel("density")
    figure.suptitle(title)
    return figure


def body(config: Config) -> None:
    """Train or load, score, save, draw."""
    out = config.folder("ood_monitor")
    model, dataset = load_network(config, out / "model")
    bits = model.codes(dataset.x_test[:1]).num_bits
    title = f"{dataset.name}: distance to {len(dataset.x_train):,} seen codes of {bits} bits"
    own = scores(model, dataset, dataset.x_test[: config.examples])
    rows, distances = [], {}
    for name in config.others:
        usual = own
        if name == "left_out":
            path = out / "known_classes.npz"
            known = without_classes(dataset, path)
            partial = train_network(config, str(path), out / "model_of_known_classes")
            unknown = dataset.x_test[dataset.y_test >= known.num_classes]
            usual = scores(partial, known, known.x_test[: config.examples])
            other = scores(partial, known, unknown[: config.examples])
        else:
            other = scores(model, dataset, other_data(name, dataset, config))
        rows.append(compare(name, usual, other))
        distances[name] = usual["codes"], other["codes"]
    Console().print(show(rows, title))
    save(out, {"ood_monitor": draw_figure(rows, distances, title)}, {"ood_monitor": rows})


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
