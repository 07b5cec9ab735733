"""Neural codes of convolutional networks: redundancy ratio and accuracies of each layer's code, and of all together.

VGG and ResNet on CIFAR-10, as in He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490): Adam
1e-2, x0.1 every 50 epochs, L2 5e-6, images rotated up to 15 degrees, shifted up to 10 % and mirrored. The defaults are
a quick run: ResNet-8 of a quarter of its width on the embedded digits, enlarged to 32 x 32.

    python -m experiments.convnets                                               # digits, under a minute on 2 cores
    python -m experiments.convnets --dataset cifar10 --network resnet20 --examples 5000 --test-examples 1000

The study's configuration, for an accelerator (batch size and number of epochs are not stated there):

    for network in vgg16 vgg19 resnet18 resnet20 resnet32 resnet56; do
        python -m experiments.convnets --dataset cifar10 --network $network --width-factor 1 \
            --norm-momentum 0.99 --epochs 200
    done

An interrupted run continues with the same command. Redundancy ratio and 9-NN use every bit; K-Means and logistic
regression see --sampled-bits of the bits that vary. Codes are written to <out>/codes as they are computed and read
back in pieces, so memory is bounded whatever their size; --keep-codes leaves them there.
"""

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash import codes as neural_codes
from jaxhash.codes import CodeFile
from jaxhash.codes.properties import SAMPLED_BITS
from jaxhash.data import load, subset
from jaxhash.encoding import encode_with_output, reductions
from jaxhash.models.convnets import NETWORKS, ConvNet, Cost, Variables, as_images, build, cost
from jaxhash.plots import style
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.storage import checkpoint
from jaxhash.sweeps import folder
from jaxhash.terminal.command import command, interruptible
from jaxhash.terminal.files import save
from jaxhash.terminal.progress import progress
from jaxhash.training.convnets import ConvTrainConfig, fit

REDUCTIONS: dict[str, Callable[["Config"], reductions.Reduction]] = {
    "every": lambda config: neural_codes.active,
    # The sum of a ReLU's outputs over a map is greater than 0 where one of them is.
    "channel_sum": lambda config: reductions.any_position(),
    "sampled": lambda config: reductions.sampled_positions(config.positions, jax.random.key(config.seed)),
}
ALL = "all layers"


@dataclass(frozen=True)
class Config:
    """Codes of one convolutional network."""

    dataset: str = "digits"
    """A dataset of images of at most 32 x 32 pixels: cifar10 is the study's; or the path of an .npz file."""
    network: str = "resnet8"
    """vgg11, vgg16, vgg19, resnet8, resnet18, resnet20, resnet32 or resnet56; the study has vgg16, vgg19, resnet18,
    resnet20, resnet32 and resnet56."""
    width_factor: float = 0.25
    """Multiplies the channels of every layer; 1 is the published width."""
    norm_momentum: float = 0.9
    """Share of its running statistics that batch norm keeps in a step. 0.99 is the authors'; runs of some hundred
    steps need less."""
    examples: int | None = None
    """Train on the first so many training examples only; all of them by default."""
    test_examples: int | None = None
    """Measure on the first so many test examples only; all of them by default."""
    reduction: Literal["every", "channel_sum", "sampled"] = "every"
    """What becomes a bit: every unit; every channel, by the sum over its map (as the study's ImageNet codes); or every
    channel at --positions of its map."""
    positions: int = 16
    """Positions of each map with --reduction sampled."""
    sampled_bits: int = SAMPLED_BITS
    """Bits that K-Means and logistic regression see."""
    seed: int = 0
    """Of everything random."""
    train: ConvTrainConfig = field(default_factory=lambda: ConvTrainConfig(epochs=6))
    keep_codes: bool = False
    """Leave the codes in <out>/codes (.npy of packed words, and a .json that names the layers)."""
    out: Path | None = None
    """Folder of the run (default: runs/convnets-<dataset>-<network>). A run that stands there is continued."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""

    def __post_init__(self) -> None:
        if self.test_examples is not None and self.test_examples < 1:
            raise ValueError(f"test_examples={self.test_examples} is less than 1; measure on at least one")
        if self.sampled_bits < 1:
            raise ValueError(f"sampled_bits={self.sampled_bits} is less than 1; K-Means needs at least one bit")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} is negative; give 0 or more")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    given = sys.argv[1:] if arguments is None else arguments
    text = f"{__doc__}\n\n{costs()}" if {"-h", "--help"} & set(given) else __doc__
    command(Config, text, body, arguments, kept="The same command continues it.")


def body(config: Config) -> None:
    """Train or continue, encode, measure, draw."""
    out = config.out or Path("runs") / f"convnets-{Path(config.dataset).stem}-{config.network}"
    console = Console(stderr=True)
    with interruptible(out, console) as stop:
        run(config, out, console, stop)


def run(config: Config, out: Path, console: Console, stop: threading.Event) -> None:
    """Train, encode, measure, save, draw.

    Raises:
        ValueError: if configuration, data or folder do not serve; nothing is written then.
        KeyboardInterrupt: after `stop` was set; what was trained is saved.
        OSError: if something cannot be written.
    """
    data = load(config.dataset, config.data_dir)
    if config.examples is not None:
        data = subset(data, config.examples)
    network = build(
        config.network, data.num_classes, width_factor=config.width_factor, norm_momentum=config.norm_momentum
    )
    x, x_test = as_images(data.x_train), as_images(data.x_test[: config.test_examples])
    y, y_test = data.y_train, data.y_test[: config.test_examples]
    config.train.as_of_mlps().steps_per_epoch(len(x))
    reduce = REDUCTIONS[config.reduction](config)
    console.print(estimate(config, cost(network), len(x)))
    description = {
        "config": folder.plain(replace(config, keep_codes=False, out=None, data_dir=None)),  # what decides the numbers
        "data": hashlib.blake2b(b"".join(map(np.ndarray.tobytes, (x, y, x_test, y_test))), digest_size=16).hexdigest(),
        "features": data.features,
        "classes": data.num_classes,
        "tasks": [],
    }
    with folder.opened(out, description):
        key = jax.random.key(config.seed)
        steps = config.train.epochs * (len(x) // config.train.batch_size)
        with progress(f"training {config.network}", steps) as told:
            done = fit(
                network,
                config.train,
                key,
                x,
                y,
                out / "training",
                report=lambda step, record: told(step, f"loss {float(record.loss[-1]):.3f}"),
                stop=stop,
            )
        if not done.finished:
            raise KeyboardInterrupt
        try:
            codes, accuracy = encode(reduce, network, done.state.variables, (x, x_test), (y, y_test), out, stop)
            rows = measure(config, codes, (y, y_test), data.num_classes, stop)
        finally:
            if not config.keep_codes:
                shutil.rmtree(out / "codes", ignore_errors=True)
        history = {name: np.asarray(values).tolist() for name, values in done.history._asdict().items()}
        numbers = {"train_accuracy": accuracy[0], "test_accuracy": accuracy[1], "epochs": history}
        checkpoint.write_text(out / "network.json", json.dumps(numbers, indent=1))
        title = f"{config.network} x {config.width_factor:g} on {data.name}, {config.train.epochs} epochs"
        Console().print(show(rows, accuracy, title))
        save(out, {"layers": draw(rows, accuracy[1], title)}, {"layers": rows}, others=("network.json",))


def encode(
    reduce: reductions.Reduction,
    network: ConvNet,
    variables: Variables,
    images: tuple[np.ndarray, np.ndarray],
    labels: tuple[np.ndarray, np.ndarray],
    out: Path,
    stop: threading.Event,
) -> tuple[list[CodeFile], list[float]]:
    """Codes of training and test images in files, and the network's accuracies on them."""

    def logits_of(images: Array) -> Array:
        result: Any = network.apply(variables, images)
        return result[0]

    encoder = encode_with_output(logits_of, reduce=reduce)
    files, accuracies = [], []
    for name, x, y in zip(("train", "test"), images, labels, strict=True):
        with progress(f"encoding {name}", len(x), stop) as told:
            path = out / "codes" / f"{name}.npy"
            codes, logits = neural_codes.write(path, encoder, x, callback=told)
        files.append(codes)
        accuracies.append(float((logits.argmax(1) == y).mean()))
    return files, accuracies


def measure(
    config: Config,
    codes: list[CodeFile],
    labels: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    stop: threading.Event,
) -> list[dict[str, Any]]:
    """A row of properties a layer, and one of all layers together at the end."""
    train, test = codes
    views = {layer.name: (train.layer(layer.name), test.layer(layer.name)) for layer in train.layers}
    rows: list[dict[str, Any]] = []
    key = stream_key(jax.random.key(config.seed), Stream.MEASURE)
    with progress("measuring layers", len(views) + 1, stop) as told:
        for name, (some, others) in {**views, ALL: (train, test)}.items():
            found = neural_codes.measure(
                some,
                labels[0],
                others,
                labels[1],
                key=key,
                num_classes=num_classes,
                sampled_bits=config.sampled_bits,
            )
            rows.append({"layer": name, "bits": some.num_bits, **found})
            told(len(rows))
    return rows


def estimate(config: Config, found: Cost, n: int) -> str:
    """What the run will cost, from the shapes of the network."""
    steps = config.train.epochs * (n // config.train.batch_size)
    flops = found.training_flops(config.train.batch_size)
    return (
        f"{config.network}: {found.parameters:,} parameters, {sum(found.code_bits.values()):,} ReLU units. Training: "
        f"{steps:,} steps of {flops / 1e9:.3g} GFLOP, {steps * flops / 1e12:.3g} TFLOP in all, about "
        f"{found.training_bytes(config.train.batch_size) / 1e9:.2g} GB of memory a step."
    )


def costs(batch_size: int = ConvTrainConfig.batch_size, examples: int = 40_000) -> str:
    """A table of what the networks cost at full width, worked out from their shapes."""
    lines = [
        f"At full width, batch {batch_size}; {examples:,} examples an epoch, as of CIFAR-10; codes of 50,000 images:",
        "",
        f"    {'network':10}{'parameters':>12}{'code bits':>11}{'GFLOP/step':>12}{'TFLOP/epoch':>13}"
        f"{'GB/step':>9}{'GB of codes':>13}",
    ]
    for name in NETWORKS:
        found = cost(build(name, 10))
        flops, bits = found.training_flops(batch_size), sum(found.code_bits.values())
        lines.append(
            f"    {name:10}{found.parameters:>12,}{bits:>11,}{flops / 1e9:>12.1f}"
            f"{flops * (examples // batch_size) / 1e12:>13.1f}{found.training_bytes(batch_size) / 1e9:>9.2f}"
            f"{50_000 * bits / 8e9:>13.2f}"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], test_accuracy: float, title: str) -> Figure:
    """Redundancy ratio and accuracies of the code of each layer; all layers together at the right end."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    layers = len(rows) - 1
    x, together = np.arange(1, layers + 1), layers + max(1.5, 0.08 * layers)

    def line(axes: Any, name: str, label: str, colour: str, marker: str, size: int = 4) -> None:
        values = [row[name] for row in rows]
        axes.plot(x, values[:-1], "-", color=colour, marker=marker, markersize=size, label=label)
        axes.plot([together], values[-1:], color=colour, marker=marker, markersize=size + 3)

    # Larger below smaller: both lines often lie at 0.
    line(left, "train_redundancy", "training examples", style.BLUE, "o", 8)
    line(left, "test_redundancy", "test examples", style.ORANGE, "s")
    left.set(title="Determinism", ylabel="redundancy ratio of the codes")
    line(right, "knn_accuracy", "9-NN", style.BLUE, "o")
    line(right, "logistic_accuracy", "logistic regression", style.GREEN, "^")
    line(right, "test_kmeans_accuracy", "K-Means", style.ORANGE, "s")
    right.axhline(test_accuracy, color=style.GREY, linestyle="--", label="the network itself")
    right.set(title="Categorisation", ylabel="accuracy on test examples")
    every = -(-layers // 12)
    ticks = x[::every]
    for axes in (left, right):
        axes.set(xlabel="layer of the code", ylim=(-0.03, 1.03))
        axes.set_xticks([*ticks, together], [*map(str, ticks), "all"])
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def show(rows: list[dict[str, Any]], accuracy: list[float], title: str) -> Table:
    """The table for a terminal."""
    table = Table(title=title, caption=f"network's accuracy: {accuracy[0]:.3f} train, {accuracy[1]:.3f} test")
    columns = {
        "train_redundancy": "train\nred.",
        "test_redundancy": "test\nred.",
        "train_kmeans_accuracy": "train\nK-Means",
        "test_kmeans_accuracy": "test\nK-Means",
        "knn_accuracy": "9-NN",
        "logistic_accuracy": "logistic",
    }
    table.add_column("layer")
    for heading in ("bits", *columns.values()):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["layer"].removesuffix("/relu").split("/")[-1],
            f"{row['bits']:,}",
            *(f"{row[name]:.3f}" for name in columns),
        )
    return table


if __name__ == "__main__":
    main()
