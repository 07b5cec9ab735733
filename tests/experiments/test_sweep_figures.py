"""The commands of the sample-size and training-time figures and of the phase chart, and the regimes of the chart."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from experiments import phase_chart, sample_size, training_time
from jaxhash.plots import phase
from jaxhash.plots.sweeps import against
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import METRICS, RANDOM
from jaxhash.sweeps.phase import CRITICAL, NAMES, SUFFICIENT, UNDER, UNKNOWN, Thresholds, chart
from jaxhash.terminal import sweeps
from jaxhash.terminal.command import option


def results_of(config):
    """Random numbers in the shape of a sweep's results."""
    rng = np.random.default_rng(0)
    axes = {
        "repeat": range(config.repeats),
        "width": sorted(config.widths),
        "examples": sorted(config.sample_sizes),
        "epoch": sorted(config.snapshots),
    }
    axes = {name: list(values) for name, values in axes.items() if values}
    shape = [len(values) for values in axes.values()]
    numbers = {name: (tuple(axes), rng.random(shape)) for name in [*METRICS, *RANDOM, "epochs"]}
    return xr.Dataset({**numbers, "diverged": (tuple(axes), np.zeros(shape))}, coords=axes)


@pytest.mark.parametrize(("module", "picture"), [(sample_size, "sample_size"), (training_time, "training_time")])
def test_a_command_runs_its_grid_and_leaves_figure_and_table(module, picture, tmp_path, monkeypatch, capfd):
    asked = []

    def run_sweep(config, out, data_dir, machines):
        out.mkdir()
        asked.append(config)
        return results_of(config)

    monkeypatch.setattr(sweeps, "run_sweep", run_sweep)
    module.main(["--dataset", "mnist", "--repeats", "2", "--epochs", "30", "--out", str(tmp_path / "run")])
    (config,) = asked
    assert (config.dataset, config.repeats, config.train.epochs, config.widths) == ("mnist", 2, 30, (40, 50, 60))
    if module is sample_size:
        assert config.sample_sizes == presets.STUDIES["mnist"].sample_sizes
        assert not config.snapshots
        assert config.train.patience == 10
    else:
        assert config.snapshots == (0, 1, 3, 6, 10, 20, 30)
        assert config.random_inputs
        assert config.train.patience == 0
    with Image.open(tmp_path / "run" / f"{picture}.png") as image:
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    rows = config.sample_sizes or config.snapshots
    told = capfd.readouterr().out
    assert sum(line.strip(" │┃").startswith(("40 ", "50 ", "60 ")) for line in told.splitlines()) == 3 * len(rows)


@pytest.mark.parametrize("dataset", ["digits", *presets.STUDIES])
def test_the_default_grids_are_valid_and_the_studys(dataset):
    sizes, times, both = (
        sample_size.default(dataset),
        training_time.default(dataset, 0),
        phase_chart.default(dataset, 5),
    )
    assert sizes.sample_sizes
    assert not sizes.snapshots
    assert times.snapshots[-1] == times.train.epochs
    assert both.sample_sizes
    assert both.snapshots == (0, 1, 3, 5)
    if dataset in presets.STUDIES:
        study = presets.STUDIES[dataset]
        assert sizes.sample_sizes == study.sample_sizes
        assert times.snapshots == study.snapshots
        assert {min(both.widths), max(both.widths)} == {min(study.widths), max(study.widths)}
        assert both.model == study.model


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (sample_size, ["--sample-sizes"], "sample_sizes is empty"),
        (sample_size, ["--snapshots", "0", "60"], "use experiments.phase_chart"),
        (training_time, ["--epochs", "5", "--snapshots", "0", "3"], "do not fit epochs=5"),
        (training_time, ["--epochs", "many"], "many"),
        (phase_chart, ["--high-redundancy", "0.01"], "high_redundancy=0.01"),
        (phase_chart, ["--panels", "width"], "width"),
    ],
)
def test_contradictions_get_one_clear_error(module, arguments, message, tmp_path, capfd):
    with pytest.raises(SystemExit) as stopped:
        module.main([*arguments, "--out", str(tmp_path / "run")])
    assert stopped.value.code in (1, 2)
    assert message in " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_options_are_read_ahead():
    assert option(["--widths", "3", "4", "--epochs", "7"], "epochs", 20) == 7
    assert option([], "epochs", 20) == 20
    assert option(["--epochs=9", "--what"], "epochs", 20) == 9
    assert option(["--epochs", "many"], "epochs", 20) == 20


def test_regimes_are_what_the_thresholds_say_point_by_point():
    results = results_of(phase_chart.default("digits", 20))
    results["knn_accuracy"][0, 1, 1, 1] = results["test_redundancy"][0, 1, 1, 1] = np.nan
    results["test_redundancy"][:, 3:] *= 0.1
    results["knn_accuracy"][:, 3:] = 0.9 + 0.1 * results["knn_accuracy"][:, 3:]
    found = chart(results, Thresholds())
    redundancy, accuracy = results["test_redundancy"].values.mean(0), results["knn_accuracy"].values.mean(0)
    best = np.nanmax(accuracy)
    for at in np.ndindex(redundancy.shape):
        if np.isnan(redundancy[at]):
            expected = UNKNOWN
        elif redundancy[at] >= 0.5 or accuracy[at] <= best / 2:
            expected = UNDER
        elif redundancy[at] <= 0.05 and accuracy[at] >= best - 0.05:
            expected = SUFFICIENT
        else:
            expected = CRITICAL
        assert found["regime"].values[at] == expected
    assert set(np.unique(found["regime"])) == {UNKNOWN, UNDER, CRITICAL, SUFFICIENT}
    assert found.attrs["threshold_plateau"] == 0.05
    assert found["regime"].attrs["flag_meanings"].split() == ["unknown", *NAMES.values()]


@pytest.mark.parametrize("panels", ["examples", "epoch"])
def test_the_chart_has_a_column_each_and_the_data_in_its_cells(panels):
    results = results_of(phase_chart.default("digits", 20))
    found = chart(results, Thresholds())
    figure = phase.phase_chart(found, Thresholds(), panels, "a title")
    values = found[panels].values
    maps = [axes for axes in figure.axes if axes.collections and axes.get_subplotspec() is not None][: 3 * len(values)]
    assert [axes.get_title().split()[0] for axes in maps[: len(values)]] == [f"{value:,}" for value in values]
    cells = maps[1].collections[0].get_array()
    up = "epoch" if panels == "examples" else "examples"
    np.testing.assert_allclose(cells, found["test_redundancy"].sel({panels: values[1]}).transpose(up, "width"))


def test_lines_against_training_time_keep_the_untrained_models():
    results = results_of(training_time.default("digits", 0))
    figure = against(results, "epoch", training_time.PANELS, "a title")
    lines = figure.axes[4].get_lines()
    assert [line.get_label() for line in lines] == ["width 10", "width 20", "width 40"]
    np.testing.assert_array_equal(lines[1].get_xdata(), results["epoch"])
    np.testing.assert_allclose(lines[1].get_ydata(), results["knn_accuracy"].sel(width=20).mean("repeat"))
    low, high = figure.axes[4].get_xlim()
    assert low < 0
    assert high > 80


@pytest.mark.slow
def test_a_phase_chart_is_one_sweep_with_its_regimes_saved(tmp_path):
    out = tmp_path / "run"
    grid = ["--widths", "4", "30", "--sample-sizes", "20", "1000", "--snapshots", "0", "2", "--epochs", "2"]
    program = [sys.executable, "-m", "experiments.phase_chart", *grid, "--out", str(out)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "To do: 4 models, each measured 2 times; 136 model-steps" in " ".join(done.stderr.split())
    assert (out / "phase_chart.png").stat().st_size > 10_000
    with xr.open_dataset(out / "phase_chart.nc") as found:
        assert dict(found.sizes) == {"width": 2, "examples": 2, "epoch": 2}
        assert found["regime"].sel(width=4).values.ravel().tolist() == [UNDER] * 4
    assert len(pd.read_csv(out / "phase_chart.csv")) == 8
    assert len(pd.read_csv(out / "results.csv")) == 8
