"""The experiment on the shared finished sweep."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from experiments import linear_regions


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """The folder of a small measurement of the shared sweep."""
    out = tmp_path_factory.mktemp("regions") / "run"
    options = ["--run", trained.out, "--pairs", 6, "--samples", 50, "--seed", 3, "--out", out]
    linear_regions.main([str(option) for option in options])
    return out


def test_regions_of_one_layer_are_the_bits_that_differ_and_one(measured, trained):
    results = xr.load_dataset(measured / "regions.nc")
    assert results["width"].values.tolist() == [3, 20, 40]
    assert results["repeat"].values.tolist() == [0, 1]
    first, second = np.moveaxis(results["example"].values, -1, 0)
    x, y = trained.data.x_test, trained.data.y_test
    assert (y[first[0]] == y[second[0]]).all()
    assert (y[first[1]] != y[second[1]]).all()
    assert (first != second).all()
    np.testing.assert_allclose(results["length"], np.linalg.norm(x[first] - x[second], axis=-1), rtol=1e-6)
    for width in (3, 20, 40):
        for repeat in (0, 1):
            bits = np.asarray(trained.model(width, repeat).codes(x).unpack())
            differ = (bits[first] != bits[second]).sum(-1)  # each unit of one layer switches at most once
            own = results.sel(depth=1, width=width, repeat=repeat)
            np.testing.assert_array_equal(own["regions"], differ + 1)
            assert (own["sampled_regions"] <= own["regions"]).all()
            # Both ends of the path are among the samples.
            assert (own["sampled_regions"] >= np.minimum(own["regions"], 2)).all()


def test_the_summary_is_of_these_numbers(measured):
    results, summary = xr.load_dataset(measured / "regions.nc"), pd.read_csv(measured / "summary.csv")
    widest = summary[summary["width"] == 40].iloc[0]
    own = results.sel(width=40)
    assert widest["regions_same_class"] == pytest.approx(own["regions"].values[..., 0, :].mean())
    assert widest["regions_different_classes"] == pytest.approx(own["regions"].values[..., 1, :].mean())
    assert widest["missed"] == pytest.approx(1 - own["sampled_regions"].values.sum() / own["regions"].values.sum())
    assert 0 < widest["missed"] < 0.5
    assert widest["median_diameter_towards"] == pytest.approx(np.median(own["diameter_towards"]))
    assert (measured / "linear_regions.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "{tmp}/none"], "is not the folder of a sweep"),
        (["--pairs", "0"], "--pairs 0 must be 1 or more"),
        (["--depths", "1", "1"], "different numbers"),
    ],
)
def test_bad_options_get_one_clear_error_and_write_nothing(tmp_path, capfd, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        linear_regions.main([*(a.format(tmp=tmp_path) for a in arguments), "--out", str(tmp_path / "run")])
    assert stopped.value.code in (1, 2)
    assert message in " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_pairs_need_two_examples_of_one_class():
    with pytest.raises(ValueError, match="3 test examples hold no two of one class"):
        linear_regions.draw_pairs(np.array([0, 1, 2]), 2, 0)
    with pytest.raises(ValueError, match="all 2 test examples are of one class"):
        linear_regions.draw_pairs(np.array([1, 1]), 2, 0)
