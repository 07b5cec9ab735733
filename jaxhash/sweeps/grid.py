"""Configuration of a sweep (`SweepConfig`): grid of models, their data, the epochs after which they are measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import Annotated, Any

import jax
import tyro
from jaxtyping import Array

from jaxhash.codes.properties import PROPERTIES, Assignment, Property
from jaxhash.data import Dataset
from jaxhash.models.mlp import ModelConfig
from jaxhash.training.mlp import TrainConfig

METRICS = {
    "train_loss": "cross-entropy on the training examples (nats)",
    "train_accuracy": "accuracy on the training examples",
    "test_loss": "cross-entropy on the test examples (nats)",
    "test_accuracy": "accuracy on the test examples",
    **{name: one.description for name, one in PROPERTIES.items()},
}
"""The ten metrics that are kept of every model, as the study's authors do."""

RANDOM = {"random_redundancy": "redundancy ratio of the codes of uniform random inputs"}
"""The metric that `random_inputs` adds."""


Properties = Mapping[str, Property]
"""Further properties of the codes of a model by name, each as a line of the table in `jaxhash/codes/properties.py`."""


_NAME_OR_FILE = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="NAME|FILE",
    instance_from_str=lambda words: words[0],
    is_instance=lambda value: isinstance(value, str | Dataset),
    str_from_instance=lambda value: [value if isinstance(value, str) else value.name],
)
"""How a command line names a dataset."""


@dataclass(frozen=True)
class SweepConfig:
    """A grid of models and what they learn from. It decides every number of the result, bit for bit."""

    dataset: Annotated[str | Dataset | tuple[Any, Any, Any, Any], _NAME_OR_FILE] = "digits"
    """digits (embedded), mnist, fashion_mnist, kmnist, cifar10, svhn, adult, imdb, or the path of an .npz file with
    x_train, y_train, x_test, y_test. In Python also a `Dataset`, or
    those four arrays, of which `Dataset.from_arrays` makes one."""
    widths: tuple[int, ...] = (3, 5, 10, 20, 30, 50, 70, 100)
    """Total hidden units of each model."""
    repeats: int = 3
    """Models of each width, each with an initialisation and a data order of its own."""
    seed: int = 0
    """Of everything random."""
    examples: int | None = None
    """Keep only so many training examples, the first, in every repeat; all by default. Epochs get shorter with them:
    for the effect of sample size alone, use sample sizes."""
    sample_sizes: tuple[int, ...] = ()
    """Numbers of training examples: every model is trained once on the first so many examples of the training set, for
    each number. Few examples are repeated until they fill an epoch of the whole set, so that all train for the same
    number of steps. The first are the same in every repeat, as in the study, and all repeats share one copy of the
    data. Empty: on all of them."""
    snapshots: tuple[int, ...] = ()
    """Epochs after which the models are measured and saved; 0 is untrained, and the last is --epochs. Empty: after the
    last one only."""
    random_inputs: bool = False
    """Measure the codes of random inputs too, uniform in [-1, 0], as many as there are test examples: the study's
    control, outside the range of pixels."""
    label_noise: float = 0.0
    """Fraction of training labels replaced by random ones, drawn anew in each repeat."""
    assignment: Assignment = "optimal"
    """How K-Means clusters get their labels: the best one-to-one, or the study authors' greedy way."""
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if isinstance(self.dataset, tuple) and len(self.dataset) == 4:
            object.__setattr__(self, "dataset", Dataset.from_arrays(*self.dataset))
        elif not isinstance(self.dataset, str | Dataset):
            raise ValueError(
                f"dataset={shortened(self.dataset)} is no dataset; give a name, the path of an .npz file as text, a "
                "Dataset, or a tuple of four arrays (x_train, y_train, x_test, y_test)"
            )
        if not self.widths:
            raise ValueError("widths is empty; give at least one width")
        for width in self.widths:
            self.model.units(width)
        _refuse_twice("width", self.widths, "and use repeats instead")
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} is less than 1; train every width at least once")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is outside 0 ... {2**32 - 1}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise={self.label_noise} is outside [0, 1]; it is a fraction of the labels")
        _refuse_twice("sample size", self.sample_sizes, "and use repeats instead")
        if any(size < 1 for size in self.sample_sizes):
            raise ValueError(f"sample size {min(self.sample_sizes)} is less than 1; train on 1 example or more")
        _refuse_twice("snapshot", self.snapshots, "as every epoch is the same again")
        if self.snapshots and (min(self.snapshots) < 0 or max(self.snapshots) != self.train.epochs):
            raise ValueError(
                f"snapshots {min(self.snapshots)} to {max(self.snapshots)} do not fit epochs={self.train.epochs}; give "
                f"epochs from 0 on, the last of them {self.train.epochs}, or --epochs {max(self.snapshots)}"
            )

    @property
    def snapshot_epochs(self) -> tuple[int, ...]:
        """The epochs after which models are measured, ascending."""
        return tuple(sorted(self.snapshots)) or (self.train.epochs,)

    @property
    def metrics(self) -> dict[str, str]:
        """Names of the metrics that are kept of every model, and what they are."""
        return METRICS | (RANDOM if self.random_inputs else {})

    @property
    def data_name(self) -> str:
        """Name of the dataset, or the path of its file."""
        return self.dataset.name if isinstance(self.dataset, Dataset) else str(self.dataset)

    def repeat_key(self, repeat: int) -> Array:
        """The key of a repeat: the same whoever trains beside it."""
        return jax.random.fold_in(jax.random.key(self.seed), repeat)


def _refuse_twice(name: str, values: tuple[int, ...], reason: str) -> None:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{name} {twice} is given more than once; give each once, {reason}")
