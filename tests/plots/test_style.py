import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from jaxhash.plots import style
from jaxhash.plots.sweeps import capacity, of_grid
from jaxhash.sweeps.grid import METRICS


@pytest.fixture
def results():
    """Three repeats of two widths; one model diverged."""
    rng = np.random.default_rng(0)
    numbers = {name: (("repeat", "width"), rng.random((3, 2))) for name in METRICS}
    numbers["train_redundancy"][1][1, 0] = np.nan
    return xr.Dataset(numbers, coords={"repeat": np.arange(3), "width": [5, 50]})


def test_lines_are_means_over_repeats_that_did_not_diverge(results):
    figure = capacity(results, "a title")
    left, right = figure.axes
    drawn = {line.get_label(): line for axes in (left, right) for line in axes.get_lines()}
    for label, name in {
        "training examples": "train_redundancy",
        "test examples": "test_redundancy",
        "9-NN": "knn_accuracy",
        "logistic regression": "logistic_accuracy",
        "K-Means": "test_kmeans_accuracy",
        "the network itself": "test_accuracy",
    }.items():
        np.testing.assert_array_equal(drawn[label].get_xdata(), [5, 50])
        np.testing.assert_allclose(drawn[label].get_ydata(), np.nanmean(results[name].values, axis=0))
    assert [axes.get_xlabel() for axes in (left, right)] == ["width (hidden units)"] * 2
    assert figure.get_suptitle() == "a title"


def test_of_several_snapshots_and_sample_sizes_the_last_and_largest_is_drawn(results):
    several = xr.concat([results, results + 1, results + 2], xr.Variable("epoch", [0, 20, 10]))
    several = xr.concat([several + 5, several], xr.Variable("examples", [3000, 100]))
    figure = capacity(several, "a title")
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[1].get_lines()}
    np.testing.assert_allclose(drawn["9-NN"], results["knn_accuracy"].values.mean(0) + 6)
    assert figure.get_suptitle() == "a title, epoch 20, examples 3,000"


def test_bands_are_one_standard_deviation_either_side(results):
    axes = Figure().subplots()
    style.line(axes, results["train_redundancy"], "x", style.BLUE, "o")
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    column = results["train_redundancy"].values[:, 0]
    for end in (np.nanmean(column) - np.nanstd(column), np.nanmean(column) + np.nanstd(column)):
        assert np.isclose(corners[corners[:, 0] == 5][:, 1], end).any()


def test_a_figure_is_written_as_a_picture(results, tmp_path):
    style.save(capacity(results, "a title"), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (1500, 630)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
        assert picture.text["Title"] == "a title"
        assert picture.text["Description"].startswith(
            "Determinism: redundancy ratio of the codes against width (hidden"
        )
        assert f"numpy {np.__version__}" in picture.text["Software"]
        assert "Command" not in picture.text  # this test is no experiment's command


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/usr/bin/python3", "-m", "experiments.depth", "--out", "a b"], "python -m experiments.depth --out 'a b'"),
        (["python", "-W", "error", "-m", "bench.codes"], "python -m bench.codes"),
        (["python", "-m", "pytest", "-m", "slow"], ""),
        (["python", "file.py"], ""),
        (["python"], ""),
    ],
)
def test_the_command_of_an_experiment_is_noted_as_it_was_typed(argv, line):
    assert style.command_line(argv) == line


def test_any_grid_is_a_panel_a_number_and_a_line_for_every_other_place():
    axes = {"repeat": [0, 1], "width": [4, 64], "learning_rate": [1e-3, 1e-2, 1e-1]}
    rng = np.random.default_rng(0)
    values = {name: (tuple(axes), rng.random((2, 2, 3))) for name in ("test_accuracy", "knn_accuracy", "test_loss")}
    figure = of_grid(xr.Dataset(values, coords=axes), "a title")
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in shown] == ["test accuracy", "knn accuracy"]
    for panel, name in zip(shown, ("test_accuracy", "knn_accuracy"), strict=True):
        assert panel.get_xscale() == "log"
        assert panel.get_xlabel() == "width"
        drawn = [line.get_ydata() for line in panel.get_lines()]
        np.testing.assert_allclose(drawn, values[name][1].mean(0).T)
