"""The properties of layers, worked out again from their bits by NumPy and scikit-learn."""

import itertools
import threading

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier

import jaxhash
from jaxhash.codes.properties import PROPERTIES
from jaxhash.models.mlp import ModelConfig
from jaxhash.plots import compare
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import layers
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Interrupted
from jaxhash.training.mlp import TrainConfig

DEPTH, WIDTH = 3, 24
CONFIG = SweepConfig(widths=(WIDTH,), repeats=1, model=ModelConfig(depth=DEPTH), train=TrainConfig(epochs=2))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A sweep of depth 3; its folder, the folder of its layers, and their numbers."""
    folder = tmp_path_factory.mktemp("layers")
    sweep.run(CONFIG, folder / "run")
    return folder / "run", folder / "layers", layers.measured(CONFIG, folder / "run", folder / "layers")


def bits_of_layers(run, repeat):
    """Whether each pre-activation is positive, layer by layer, of training and of test examples."""
    model, data = jaxhash.load(run, width=WIDTH, repeat=repeat), sweep.prepare(CONFIG)
    return [
        [np.asarray(z) > 0 for z in model.module.apply(model.variables, jnp.asarray(x))[1]]
        for x in (data.x_train, data.x_test)
    ], data


def test_numbers_of_layers_are_those_of_their_bits(measured):
    run, _, found = measured
    (train_layers, test_layers), data = bits_of_layers(run, repeat=0)
    assert found.sizes == {"part": 2, "repeat": 1, "width": 1, "layer": DEPTH}
    for part, layer in itertools.product(("single layer", "first layers"), range(1, DEPTH + 1)):
        first = layer - 1 if part == "single layer" else 0
        train, test = (np.concatenate(bits[first:layer], 1) for bits in (train_layers, test_layers))
        numbers = found.sel(part=part, layer=layer, repeat=0, width=WIDTH)
        assert numbers["train_redundancy"] == (len(train) - len(np.unique(train, axis=0))) / len(train)
        assert numbers["test_redundancy"] == (len(test) - len(np.unique(test, axis=0))) / len(test)
        if layer != 2:
            continue  # scikit-learn takes seconds
        logistic = OneVsOneClassifier(LogisticRegression(tol=1e-8, max_iter=10_000)).fit(train, data.y_train)
        assert abs(numbers["logistic_accuracy"] - logistic.score(test, data.y_test)) <= 0.003


def test_more_layers_tell_at_least_as_many_examples_apart(measured):
    redundancy = measured[2]["train_redundancy"].sel(part="first layers")
    assert (redundancy.diff("layer") <= 0).all()
    assert (redundancy <= measured[2]["train_redundancy"].sel(part="single layer")).all()


def test_all_layers_and_the_first_one_are_measured_once(measured):
    run, _, found = measured
    whole = sweep.collect(run)
    for name in PROPERTIES:
        np.testing.assert_array_equal(found[name].sel(part="first layers", layer=DEPTH), whole[name])
    xr.testing.assert_equal(*(found.sel(part=part, layer=1, drop=True) for part in ("single layer", "first layers")))


def test_what_is_saved_is_read_and_not_measured_again(measured, monkeypatch):
    run, out, found = measured
    monkeypatch.delattr(layers, "measure")
    xr.testing.assert_identical(layers.measured(CONFIG, run, out), found)


def test_a_stop_leaves_nothing_behind(measured, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        layers.measured(CONFIG, measured[0], tmp_path / "layers", stop=stop)
    assert not (tmp_path / "layers").exists()


def test_layers_are_drawn_at_their_numbers(measured):
    run, _, found = measured
    whole = sweep.collect(run).expand_dims(depth=[DEPTH])
    figure = compare.depths(whole, found.expand_dims(depth=[DEPTH]), WIDTH, ("train_redundancy",), "a title")
    _, single, first = figure.axes
    for axes, part in ((single, "single layer"), (first, "first layers")):
        (line,) = axes.get_lines()
        assert line.get_label() == "depth 3"
        expected = found["train_redundancy"].sel(part=part, width=WIDTH).mean("repeat")
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "3"]
