"""One trained network and its data, for the commands that show uses of neural codes; and examples as pictures."""

import math
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

import jaxhash
from jaxhash.data import Dataset, catalogue
from jaxhash.models.mlp import ModelConfig
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal.sweeps import run_sweep
from jaxhash.training.mlp import TrainConfig


@dataclass(frozen=True)
class Common:
    """Which network and which data: trained for this, or taken out of a finished sweep by --run."""

    run: Path | None = None
    """A finished sweep to take the network from; then --dataset, --depth, --epochs are those of the sweep."""
    dataset: str = "digits"
    """digits, mnist, fashion_mnist, kmnist, cifar10, or the path of an .npz file of square images."""
    width: int = 100
    """Total hidden units of the network."""
    depth: int = 1
    """Number of hidden layers that share them."""
    epochs: int = 30
    """Passes over the training set, at most."""
    seed: int = 0
    """Of everything random."""
    out: Path | None = None
    """Folder of the data and the picture (default: runs/<name of the experiment>-<dataset>)."""
    data_dir: Path | None = None
    """Folder in which dataset files are looked up first (default: the environment variable JAXHASH_DATA_DIR)."""

    @property
    def data_name(self) -> str:
        """The dataset, of the run if there is one."""
        return self.dataset if self.run is None else str(runs.read_description(self.run)["config"]["dataset"])

    def folder(self, experiment: str) -> Path:
        """Where results go."""
        return self.out or Path("runs") / f"{experiment}-{Path(self.data_name).stem}"


def load_network(config: Common, out: Path) -> tuple[jaxhash.Model, Dataset]:
    """The network, trained into `out` if it is not there yet, and its data.

    Raises:
        ValueError: if the run has no such network, or the data cannot be had.
    """
    dataset = catalogue.load(config.data_name, config.data_dir)
    if config.run is None:
        return train_network(config, config.dataset, out), dataset
    try:
        return jaxhash.load(config.run, width=config.width, repeat=0), dataset
    except KeyError as error:
        raise ValueError(f"--width {config.width}: {error.args[0]}") from None


def train_network(config: Common, dataset: str, out: Path) -> jaxhash.Model:
    """Train one network on a dataset by the study's recipe, into a folder of its own."""
    grid = SweepConfig(
        dataset=dataset,
        widths=(config.width,),
        repeats=1,
        seed=config.seed,
        model=ModelConfig(depth=config.depth),
        train=TrainConfig(epochs=config.epochs),
    )
    run_sweep(grid, out, config.data_dir)
    return jaxhash.load(out, width=config.width, repeat=0)


def as_images(x: np.ndarray) -> Float[np.ndarray, "n side side channels"]:
    """Examples `[n, features]` as square pictures, grey (1 channel) or in colour (3).

    Raises:
        ValueError: if they are none.
    """
    for channels in (1, 3):
        side = math.isqrt(x.shape[1] // channels)
        if side * side * channels == x.shape[1]:
            return x.reshape(len(x), side, side, channels)
    raise ValueError(f"{x.shape[1]} features make no square picture; give a dataset of square images")


def resized_like(
    images: Float[np.ndarray, "n height width channels"], side: int, channels: int
) -> Float[np.ndarray, "n features"]:
    """Pictures of any size, grey if `channels` is 1, as examples of side x side pixels (linear, antialiased)."""
    if channels == 1:
        images = images.mean(-1, keepdims=True)
    elif images.shape[-1] == 1:
        images = np.repeat(images, channels, axis=-1)
    shape = (len(images), side, side, channels)
    small = jax.image.resize(np.asarray(images, np.float32), shape, "linear")
    return np.asarray(small).reshape(len(images), -1)
