"""Figures of the learners show the numbers they are given."""

import numpy as np
import pytest
import xarray as xr

from jaxhash.plots import hashing
from jaxhash.plots.hashing import Panel


@pytest.fixture
def results():
    values = np.random.default_rng(0).random((2, 3, 5))
    other = values.copy()
    other[1] = np.nan
    dims = ("learner", "repeat", "iteration")
    coords = {"learner": ["one", "two"], "repeat": range(3), "iteration": range(1, 6)}
    return xr.Dataset({"collisions": (dims, values), "temperature": (dims, other)}, coords)


def test_curves_show_means_and_the_range_of_seeds(results):
    panels = [Panel("collisions", "collisions", 0.5, "chance"), Panel("temperature", "temperature", log=True)]
    figure = hashing.curves([("row", results)], [panels], "title")
    left, right = figure.axes
    assert [line.get_label() for line in left.get_lines()][:2] == ["one", "two"]
    for i, line in enumerate(left.get_lines()[:2]):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_allclose(line.get_ydata(), results["collisions"].values[i].mean(0))
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == results["collisions"].values[0].max()
    assert band.min() == results["collisions"].values[0].min()
    assert left.get_title(loc="left") == "row"
    assert left.texts[0].get_text() == "chance"
    # The learner that has no temperature is left out there.
    assert [line.get_label() for line in right.get_lines()] == ["one"]
    assert right.get_yscale() == "log"


def test_a_heat_map_writes_each_mean_in_its_place():
    values = xr.DataArray(
        np.arange(12.0).reshape(2, 3, 2),
        dims=("learning_rate", "entropy_bonus", "baseline"),
        coords={"learning_rate": [0.1, 0.2], "entropy_bonus": [0.0, 1.0, 2.0], "baseline": [0.0, 1.0]},
    )
    figure = hashing.heat_map(values, "title", "collisions")
    for axes, baseline in zip(figure.axes, (0.0, 1.0), strict=False):
        assert len(axes.texts) == 6
        for text in axes.texts:
            column, row = text.get_position()
            one = values.sel(baseline=baseline)[int(column), int(row)]
            assert text.get_text() == f"{float(one):.1f}"


def test_histograms_name_the_means():
    figure = hashing.histograms({"cold": np.array([4, 6, 8]), "warm": np.array([1, 2, 3])}, "title", "iterations")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["cold: mean 6.0", "warm: mean 2.0"]
