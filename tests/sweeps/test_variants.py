"""Variants of a sweep: what is changed, what is joined and saved, and the size of effects."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from jaxhash.models.mlp import ModelConfig
from jaxhash.plots import compare as compare_plots
from jaxhash.sweeps import compare, variants
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps.folder import RunError
from jaxhash.sweeps.grid import METRICS, SweepConfig
from jaxhash.sweeps.variants import BASELINE, Factor, get_field, label, one_at_a_time, with_field
from jaxhash.training.mlp import TrainConfig

BASE = SweepConfig(widths=(3, 6), repeats=3, train=TrainConfig(epochs=2))
NOISE = Factor("label noise", "label_noise", (0.0, 0.5, 1.0))
NORM = Factor("batch norm", "model.batch_norm", (False, True))
SAMPLE = Factor("sample size", "sample_sizes", ((10,), ()))


def test_one_factor_is_changed_at_a_time():
    configs = one_at_a_time(BASE, [NOISE, NORM, SAMPLE, Factor("time", "train.epochs", (1, 2))])
    assert configs == {
        "baseline": BASE,
        "label_noise=0.5": dataclasses.replace(BASE, label_noise=0.5),
        "label_noise=1": dataclasses.replace(BASE, label_noise=1.0),
        "batch_norm=off": dataclasses.replace(BASE, model=ModelConfig(batch_norm=False)),
        "sample_sizes=10": dataclasses.replace(BASE, sample_sizes=(10,)),
        "epochs=1": dataclasses.replace(BASE, train=TrainConfig(epochs=1)),
    }


def test_a_value_that_is_not_valid_is_refused_with_its_factor():
    with pytest.raises(ValueError, match=r"label noise: label_noise=1\.5 is outside"):
        one_at_a_time(BASE, [Factor("label noise", "label_noise", (0.0, 1.5))])
    with pytest.raises(ValueError, match="dropout: a value is given twice"):
        Factor("dropout", "model.dropout", (0.1, 0.1))


def test_values_have_names():
    assert [label(v) for v in (True, False, 1e-6, 200, (), (10,))] == ["on", "off", "1e-06", "200", "all", "10"]
    assert get_field(with_field(BASE, "train.l2", 0.25), "train.l2") == 0.25


@pytest.fixture(scope="module")
def joined(trained, tmp_path_factory):
    """Three variants that stand there finished, one of them with a sample size: the folder, and what is in it."""
    out = tmp_path_factory.mktemp("variants")
    for name in ("baseline", "again"):
        shutil.copytree(trained.out, out / name)
    sampled = trained.results.assign(test_loss=trained.results["test_loss"] + 1).expand_dims(examples=[10], axis=-1)

    def run_one(config, folder):
        return sampled if config.sample_sizes else sweep.run(config, folder)

    configs = {
        "baseline": trained.config,
        "again": trained.config,
        "sample_sizes=10": dataclasses.replace(trained.config, sample_sizes=(10,)),
    }
    return out, sampled, variants.run(configs, out, run_sweep=run_one)


def test_variants_stand_side_by_side_and_are_saved(trained, joined):
    out, sampled, results = joined
    assert results["variant"].values.tolist() == ["baseline", "again", "sample_sizes=10"]
    assert results.sizes == {"variant": 3, "repeat": 2, "width": 3}
    for number in METRICS:
        np.testing.assert_array_equal(results[number].sel(variant="again"), trained.results[number])
    np.testing.assert_array_equal(results["test_loss"].sel(variant="sample_sizes=10"), sampled["test_loss"][..., 0])
    with xr.open_dataset(out / "results.nc") as saved:
        xr.testing.assert_identical(saved.load(), results)
        assert json.loads(saved.attrs["config"])["again"]["widths"] == [20, 3, 40]
    table = pd.read_csv(out / "results.csv", converters=dict.fromkeys(METRICS, float)).set_index(
        ["variant", "repeat", "width"]
    )
    assert table.loc[("again", 1, 20), "test_loss"] == trained.results["test_loss"].sel(repeat=1, width=20)


def test_variants_that_are_finished_are_read_by_the_sweep_itself(trained, joined):
    results = variants.run(
        {"baseline": trained.config, "again": trained.config}, joined[0], dimension="depth", coordinate=[1, 2]
    )
    assert results["depth"].values.tolist() == [1, 2]
    xr.testing.assert_equal(results.sel(depth=2, drop=True), trained.results)


def test_a_variant_of_another_configuration_is_refused(trained, joined):
    with pytest.raises(RunError, match="seed: 0 there, 5 here"):
        variants.run({"again": dataclasses.replace(trained.config, seed=5)}, joined[0])


def test_folders_and_grids_that_do_not_fit_are_refused(trained, joined, tmp_path):
    with pytest.raises(RunError, match="is the folder of a single sweep"):
        variants.run({BASELINE: trained.config}, joined[0] / "again")
    with pytest.raises(ValueError, match="2 different grids of widths and repeats"):
        variants.run({"a": BASE, "b": dataclasses.replace(BASE, widths=(3,))}, tmp_path)
    several = xr.concat([joined[1], joined[1].assign_coords(examples=[20])], "examples")
    with pytest.raises(ValueError, match="examples has 2 values in one variant and none in another"):
        variants.run(
            {"a": BASE, "b": BASE}, tmp_path, run_sweep=lambda _, out: several if out.name == "a" else trained.results
        )


@pytest.fixture
def numbers():
    """Random results of four variants: 6 repeats of 2 widths, one model diverged."""
    values = np.random.default_rng(0).normal(size=(4, 6, 2))
    values[2, 4, 1] = np.nan
    names = [BASELINE, "sample_sizes=10", "label_noise=0.5", "label_noise=1"]
    coordinates = {"variant": names, "repeat": np.arange(6), "width": [3, 6]}
    return xr.DataArray(values, coordinates, ("variant", "repeat", "width"), name="knn_accuracy")


def test_effects_are_those_of_a_t_test_between_the_extremes(numbers):
    """Student's t of two samples is Cohen's d over sqrt(1/n + 1/m)."""
    effect = compare.of_factor(numbers, BASE, Factor("label noise", "label_noise", (1.0, 0.0, 0.5)), 6)
    high, low = numbers.values[2, :, 1], numbers.values[3, :, 1]
    high = high[~np.isnan(high)]
    t = stats.ttest_ind(high, low).statistic
    assert (len(high), effect.low, effect.high, effect.width) == (5, "1", "0.5", 6)
    np.testing.assert_allclose(effect.standardised, t * np.sqrt(1 / 5 + 1 / 6))
    np.testing.assert_allclose(effect.difference, high.mean() - low.mean())
    np.testing.assert_allclose([effect.sd_low, effect.sd_high], [stats.tstd(low), stats.tstd(high)])
    means = [numbers.values[0, :, 1].mean(), low.mean(), high.mean()]
    np.testing.assert_allclose(effect.span, np.ptp(means))


def test_the_effect_of_width_is_between_the_narrowest_and_the_widest_of_the_baseline(numbers):
    effect = compare.of_width(numbers)
    t = stats.ttest_ind(numbers.values[0, :, 1], numbers.values[0, :, 0]).statistic
    assert (effect.factor, effect.low, effect.high, effect.width) == ("width", "3", "6", None)
    np.testing.assert_allclose(effect.standardised, t * np.sqrt(1 / 6 + 1 / 6))


def test_an_effect_without_spread_has_no_size_in_spreads(numbers):
    same = xr.zeros_like(numbers)
    assert np.isnan(compare.of_width(same).standardised)
    one_repeat = compare.of_width(numbers.isel(repeat=[0]))
    assert np.isnan(one_repeat.pooled_sd)
    with pytest.raises(ValueError, match="label noise has 1 value"):
        compare.of_factor(numbers, BASE, Factor("label noise", "label_noise", (1.0,)), 3)


def drawn(axes):
    return {line.get_label(): line.get_ydata() for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_a_panel_a_factor_shows_means_over_repeats_in_the_order_of_the_values(numbers):
    results = numbers.to_dataset(name="knn_accuracy")
    figure = compare_plots.factors(results, BASE, [NOISE, SAMPLE], ("knn_accuracy",), "a title")
    assert isinstance(figure, Figure)
    panels = {axes.get_xlabel(): axes for axes in figure.axes if axes.get_xlabel()}
    assert set(panels) == {"label noise", "sample size", "width (hidden units)"}
    means = np.nanmean(numbers.values, axis=1)
    np.testing.assert_allclose(drawn(panels["label noise"])["width 6"], means[[0, 2, 3], 1])
    np.testing.assert_allclose(drawn(panels["sample size"])["width 3"], means[[1, 0], 0])
    np.testing.assert_allclose(drawn(panels["width (hidden units)"])["baseline"], means[0])
    assert [text.get_text() for text in panels["label noise"].get_xticklabels()] == ["0", "0.5", "1"]
    assert [text.get_text() for text in panels["sample size"].get_xticklabels()] == ["10", "all"]
    assert figure.get_suptitle() == "a title"
