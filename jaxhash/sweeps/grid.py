"""Configuration of a sweep (`SweepConfig`): grid of models, their data, the epochs after which they are measured.

The axes of a grid are `repeat`, `width` (of the study's MLPs), `examples` (sample sizes), and those that `grid` names:
for the study's MLPs fields of `ModelConfig`, `TrainConfig`, or `label_noise`; for other models (`Trained`) what they,
their optimiser or the recipe take.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import Annotated, Any, Literal

import jax
import tyro
from jaxtyping import Array

from jaxhash.codes.properties import PROPERTIES, Assignment, Property
from jaxhash.data import Dataset
from jaxhash.models.mlp import ModelConfig
from jaxhash.training.mlp import TRACED, TrainConfig
from jaxhash.training.vmapped import ModelSpec

METRICS = {
    "train_loss": "cross-entropy on the training examples (nats)",
    "train_accuracy": "accuracy on the training examples",
    "test_loss": "cross-entropy on the test examples (nats)",
    "test_accuracy": "accuracy on the test examples",
    **{name: one.description for name, one in PROPERTIES.items()},
}
"""The ten metrics that are kept of every model, as the study's authors do."""

FAMILIES = ("redundancy", "kmeans", "knn", "logistic")
"""What can be measured of codes; K-Means and redundancy of training and test codes both."""

RANDOM = {"random_redundancy": "redundancy ratio of the codes of uniform random inputs"}
"""The metric that `random_inputs` adds."""


Properties = Mapping[str, Property]
"""Further properties of the codes of a model by name, each as a line of the table in `jaxhash/codes/properties.py`."""


Value = int | float | bool | str
"""A value of an axis of a grid."""
Coordinates = dict[str, Value]
"""Where a model stands in a grid: the value on some axes or all, by name."""

NOISE = "label_noise"
TAKEN = ("repeat", "width", "examples", "epoch")
"""Axes that a grid has by other fields than `grid`."""

_NAME_OR_FILE = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="NAME|FILE",
    instance_from_str=lambda words: words[0],
    is_instance=lambda value: isinstance(value, str | Dataset),
    str_from_instance=lambda value: [value if isinstance(value, str) else value.name],
)
"""How a command line names a dataset."""


def _parse_grid(words: list[str]) -> dict[str, tuple[Value, ...]]:
    found: dict[str, tuple[Value, ...]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not name or not equals or not values or name in found:
            raise ValueError(f"{word!r} is no axis of a grid; give each once, as NAME=VALUE,VALUE,...")
        found[name] = tuple(map(parse_value, values.split(",")))
    return found


def parse_value(text: str) -> Value:
    """A value of an axis as a command line has it: a number, true or false; else the text itself.

    >>> [parse_value(text) for text in ("16", "1e-3", "true", "gelu")]
    [16, 0.001, True, 'gelu']
    """
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


_AXES = tyro.constructors.PrimitiveConstructorSpec(
    nargs="*",
    metavar="[NAME=VALUE,VALUE,... ...]",
    instance_from_str=_parse_grid,
    is_instance=lambda value: isinstance(value, Mapping),
    str_from_instance=lambda value: [f"{name}={','.join(map(str, values))}" for name, values in value.items()],
)
"""How a command line gives a grid."""


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
    grid: Annotated[Mapping[str, tuple[Value, ...]], _AXES] = field(default_factory=dict)
    """More axes, by name, and the values of each: one model is trained for every combination. Of the study's MLPs the
    names are options of the model and of the recipe with their part left out (depth, dropout, learning_rate, l2 ...)
    and label_noise; of other models what they or their optimiser take, too. Where only numbers differ, as with learning
    rates, all train in one program."""
    label_noise: float = 0.0
    """Fraction of training labels replaced by random ones, drawn anew in each repeat."""
    properties: tuple[str, ...] = FAMILIES
    """What is measured of the codes: some of redundancy, kmeans, knn, logistic. On a CPU, K-Means and logistic
    regression take most of the time."""
    assignment: Assignment = "optimal"
    """How K-Means clusters get their labels: the best one-to-one, or the study authors' greedy way."""
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    execution: Literal["auto", "vmap", "map", "scan", "loop"] = "auto"
    """How models of one's own that share a program are trained: all in one array program (vmap), some after the other
    (map), one after the other with an epoch (scan) or a step (loop) in a program; auto times all on the first steps."""
    network: tyro.conf.Suppress[ModelSpec | None] = None
    """Models of one's own, by `jaxhash.sweep`; the study's MLPs by default."""

    def __post_init__(self) -> None:
        if isinstance(self.dataset, tuple) and len(self.dataset) == 4:
            object.__setattr__(self, "dataset", Dataset.from_arrays(*self.dataset))
        elif not isinstance(self.dataset, str | Dataset):
            raise ValueError(
                f"dataset={shortened(self.dataset)} is no dataset; give a name, the path of an .npz file as text, a "
                "Dataset, or a tuple of four arrays (x_train, y_train, x_test, y_test)"
            )
        self._take_axes()
        for width in self.widths:
            self.model.units(width)
        _refuse_twice("width", self.widths, "and use repeats instead")
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} is less than 1; train every width at least once")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is outside 0 ... {2**32 - 1}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"{NOISE}={self.label_noise} is outside [0, 1]; it is a fraction of the labels")
        _refuse_twice("sample size", self.sample_sizes, "and use repeats instead")
        if any(size < 1 for size in self.sample_sizes):
            raise ValueError(f"sample size {min(self.sample_sizes)} is less than 1; train on 1 example or more")
        if unknown := [name for name in self.properties if name not in FAMILIES]:
            raise ValueError(f"properties: {unknown[0]!r} is not known; give some of {', '.join(FAMILIES)}")
        _refuse_twice("snapshot", self.snapshots, "as every epoch is the same again")
        if self.snapshots and (min(self.snapshots) < 0 or max(self.snapshots) != self.train.epochs):
            raise ValueError(
                f"snapshots {min(self.snapshots)} to {max(self.snapshots)} do not fit epochs={self.train.epochs}; give "
                f"epochs from 0 on, the last of them {self.train.epochs}, or --epochs {max(self.snapshots)}"
            )

    def _take_axes(self) -> None:
        """Check the axes of `grid`; a width or sample sizes among them become those of the sweep."""
        grid = {name: _axis(name, values) for name, values in self.grid.items()}
        for name, own in (("examples", "sample_sizes"), *((("width", "widths"),) if self.network is None else ())):
            if name in grid:
                object.__setattr__(self, own, grid.pop(name))
        object.__setattr__(self, "grid", grid)
        if self.network is not None:
            if self.model != ModelConfig():
                raise ValueError(
                    f"model={self.model} describes the study's MLPs; give options of {self.network.name} in the grid"
                )
            object.__setattr__(self, "widths", ())
        for name, instead in (("repeat", "repeats"), ("epoch", "snapshots"), ("epochs", "snapshots")):
            if name in grid:
                raise ValueError(f"{name} is no axis of a grid; give {instead}")
        if any(not 0 <= value <= 1 for value in grid.get(NOISE, ()) if not isinstance(value, str)):
            raise ValueError(f"{NOISE}={grid[NOISE]} is outside [0, 1]; it is a fraction of the labels")
        if self.network is not None:
            return
        if not self.widths:
            raise ValueError("widths is empty; give at least one width")
        for name, values in grid.items():
            for value in values:
                self.at({name: value})

    def at(self, coordinates: Mapping[str, Value]) -> "tuple[ModelConfig, TrainConfig, float]":
        """The model, its recipe and its label noise where a grid of the study's MLPs has these values.

        Raises:
            ValueError: if a name is no axis of such a grid, or a value is not valid there.
        """
        parts: list[Any] = [self.model, self.train]
        noise: Any = self.label_noise
        for name, value in coordinates.items():
            if name in TAKEN:
                continue
            if name == NOISE:
                noise = value
                continue
            own = next((i for i, part in enumerate(parts) if hasattr(part, name)), None)
            if own is None or name == "epochs":
                known = [f.name for part in parts for f in dataclasses.fields(part) if f.name != "epochs"]
                raise ValueError(
                    f"{name} is no axis of a grid; give some of {', '.join(['width', 'examples', NOISE, *known])}"
                )
            kind = type(getattr(parts[own], name))
            if kind is float and type(value) is int:
                value = float(value)
            if type(value) is not kind:
                raise ValueError(f"{name}={value!r}: give values of type {kind.__name__}")
            parts[own] = dataclasses.replace(parts[own], **{name: value})
        if not isinstance(noise, int | float) or not 0 <= noise <= 1:
            raise ValueError(f"{NOISE}={noise} is outside [0, 1]; it is a fraction of the labels")
        return parts[0], parts[1], float(noise)

    def recipe(self, shared: Mapping[str, Value]) -> TrainConfig:
        """How models that have these coordinates in common are trained."""
        if self.network is None:
            return self.at(shared)[1]
        own = {f.name for f in dataclasses.fields(TrainConfig)}
        values: dict[str, Any] = {name: value for name, value in shared.items() if name in own}
        return dataclasses.replace(self.train, **values)

    @property
    def axes(self) -> dict[str, Sequence[Value]]:
        """The axes of the grid and their values, in the order of the results: all but the snapshots."""
        own = {"width": tuple(sorted(self.widths)), "examples": tuple(sorted(self.sample_sizes))}
        return {"repeat": range(self.repeats)} | {n: v for n, v in own.items() if v} | dict(self.grid)

    @property
    def models(self) -> int:
        """Models of the grid."""
        return math.prod(len(values) for values in self.axes.values())

    @property
    def traced(self) -> tuple[str, ...]:
        """Axes along which the study's MLPs share a program."""
        return tuple(name for name in self.grid if name in TRACED)

    @property
    def snapshot_epochs(self) -> tuple[int, ...]:
        """The epochs after which models are measured, ascending."""
        return tuple(sorted(self.snapshots)) or (self.train.epochs,)

    def metrics(self, classes: int) -> dict[str, str]:
        """Names of the metrics that are kept of every model, and what they are; classes: 0 where labels are none."""
        found = METRICS
        if self.network is not None:
            names = self.network.metrics_of(classes)
            sides = (("train", "training"), ("test", "test"))
            found = {f"{side}_{name}": f"{name} on the {long} examples" for side, long in sides for name in names}
            found |= {name: METRICS[name] for name in self.measured(classes)}
        else:
            left_out = PROPERTIES.keys() - set(self.measured(classes))
            found = {name: meaning for name, meaning in METRICS.items() if name not in left_out}
        return found | (RANDOM if self.random_inputs else {})

    def measured(self, classes: int) -> list[str]:
        """Names of the properties of codes that are measured; classes: 0 where labels are none."""
        return [
            name
            for name in PROPERTIES
            if set(self.properties) & set(name.split("_")) and (classes or "redundancy" in name)
        ]

    @property
    def data_name(self) -> str:
        """Name of the dataset, or the path of its file."""
        return self.dataset.name if isinstance(self.dataset, Dataset) else str(self.dataset)

    def repeat_key(self, repeat: int) -> Array:
        """The key of a repeat: the same whoever trains beside it."""
        return jax.random.fold_in(jax.random.key(self.seed), repeat)


def _axis(name: str, values: Any) -> tuple[Value, ...]:
    """The values of an axis, once they were found to be some, each once and all of one kind."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"grid: {name}={shortened(values)} are no values; give a tuple of them")
    found = tuple(value.item() if hasattr(value, "item") else value for value in values)
    if any(isinstance(value, float) for value in found):
        found = tuple(float(value) if type(value) is int else value for value in found)
    if not name.isidentifier() or not found:
        raise ValueError(f"grid: {name!r} has {len(found)} values; give each axis a name and a value or more")
    kinds = {type(value) for value in found}
    if len(kinds) > 1 or not kinds <= {int, float, bool, str}:
        raise ValueError(f"grid: {name}={shortened(found)}; give numbers, or texts, or true and false, all of one kind")
    if any(isinstance(value, float) and not math.isfinite(value) for value in found):
        raise ValueError(f"grid: {name}={shortened(found)}; give finite numbers")
    _refuse_twice(name, found, "and use repeats instead")
    return found


def _refuse_twice(name: str, values: tuple[Value, ...], reason: str) -> None:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{name} {twice} is given more than once; give each once, {reason}")
