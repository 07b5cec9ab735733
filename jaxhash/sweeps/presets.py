"""Presets of the study by dataset: widths, repeats and recipe, the defaults of `--dataset`.

He, Lei, Ji, Tao, "Neural networks behave as hash encoders" (arXiv 2101.05490) and the authors' scripts
(LeavesLei/activation-code), which say more than the paper: the networks for Adult, IMDB and SVHN have no batch norm
and do not stop early, and those for Adult and IMDB train with Keras' Adam as it is (1e-3, never lowered; the scripts'
`lr = 1e-2` is not passed on).

One thing differs: the authors train SVHN with SGD (momentum 0.9, weight decay 5e-4, 1e-2 lowered to a fifth after 40,
60 and 90 epochs) on pixels less 0.5; here it is Adam at 1e-2 lowered to a tenth every 20 epochs, on pixels in [0, 1].
"""

from dataclasses import dataclass, field

from jaxhash.models.convnets import classifier
from jaxhash.models.mlp import ModelConfig
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.training.mlp import TrainConfig
from jaxhash.training.vmapped import ModelSpec


@dataclass(frozen=True)
class Study:
    """The three sweeps on one dataset. Widths are total hidden units."""

    widths: tuple[int, ...]
    """Model capacity."""
    sample_widths: tuple[int, ...]
    sample_sizes: tuple[int, ...]
    """Training examples, the first so many."""
    time_widths: tuple[int, ...]
    snapshots: tuple[int, ...]
    """Training time: epochs after which the codes are looked at."""
    repeats: int
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


_NO_NORM = ModelConfig(batch_norm=False)
_TIMES = (0, 1, 3, 6, 10, 20, 30, 40, 60, 80, 100, 120, 140, 160, 180, 200)

STUDIES = {
    "mnist": Study(
        widths=(3, 7, 10, 15, 20, 23, 27, 30, 33, 37, 40, 43, 47, 50, 53, 57, 60, 65, 70, 75, 80, 90, 100),
        sample_widths=(40, 50, 60),
        sample_sizes=(10, 30, 60, 100, 300, 600, 1000, 2000, 3000, 6000, 10_000, 20_000, 30_000, 40_000, 48_000),
        time_widths=(40, 50, 60),
        snapshots=_TIMES,
        repeats=10,
    ),
    "cifar10": Study(
        widths=tuple(range(50, 1001, 50)),
        sample_widths=(50, 100, 200, 400),
        sample_sizes=(10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000),
        time_widths=(50, 100, 200, 400),
        snapshots=_TIMES,
        repeats=10,
        model=ModelConfig(depth=5),
    ),
    "svhn": Study(
        widths=(10, 15, 20, 23, 27, 30, 33, 37, 40, 43, 47, 50, 53, 57, 60, 65, 70, 75, 80, 90, 100),
        sample_widths=(30, 40, 50),
        sample_sizes=(100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000),
        time_widths=(30, 40, 50),
        snapshots=(0, 1, 2, 3, 6, 10, 15, 30, 40, 60, 70, 90, 100),
        repeats=5,
        model=_NO_NORM,
        train=TrainConfig(epochs=100, batch_size=128, patience=0),
    ),
    "adult": Study(
        widths=(10, 20, 40, 60, 80, 100, 150, 200, 250, 300),
        sample_widths=(60, 80, 100),
        sample_sizes=(100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 20_000),
        time_widths=(60, 80, 100),
        snapshots=(0, 1, 2, 3, 6, 10, 20, 30, 60, 100),
        repeats=5,
        model=_NO_NORM,
        train=TrainConfig(epochs=100, batch_size=128, learning_rate=1e-3, drop_factor=1.0, patience=0),
    ),
    "imdb": Study(
        widths=(10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200),
        sample_widths=(60, 80, 100, 150),
        sample_sizes=(100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 20_000, 25_000),
        time_widths=(60, 80, 100),
        snapshots=(0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 20),
        repeats=5,
        model=_NO_NORM,
        train=TrainConfig(epochs=20, batch_size=512, learning_rate=1e-3, drop_factor=1.0, patience=0),
    ),
}
"""By the name of the dataset. What is not in it (digits, a file of one's own) has no study."""


CONVNETS = SweepConfig(
    "cifar10",
    repeats=1,
    grid={"network": ("vgg16", "vgg19", "resnet18", "resnet20", "resnet32", "resnet56")},
    train=TrainConfig(epochs=200, batch_size=64, learning_rate=1e-2, drop_every=50, l2=5e-6, patience=10),
    network=ModelSpec(classifier, name="convnets"),
)
"""The study's convolutional networks, as its authors' script trains them."""


def capacity(dataset: str) -> SweepConfig:
    """The study's model-capacity sweep; the defaults of `SweepConfig` on a dataset that it did not have."""
    study = STUDIES.get(dataset)
    if study is None:
        return SweepConfig(dataset=dataset)
    return SweepConfig(dataset, widths=study.widths, repeats=study.repeats, model=study.model, train=study.train)
