"""The commands of variants: what they refuse, what they leave, and what they say of it."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import jaxhash
from experiments import depth, regularisation
from jaxhash.codes import PROPERTIES
from jaxhash.data import load
from jaxhash.sweeps import layers, measuring, presets
from jaxhash.sweeps.grid import METRICS
from jaxhash.sweeps.variants import one_at_a_time
from tests.sweeps import stand_in


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (regularisation, ["--repeats", "1"], "repeats=1 has no spread"),
        (regularisation, ["--widths", "20"], "give two or more"),
        (regularisation, ["--effect-width", "7"], "effect_width=7 is none of the widths"),
        (regularisation, ["--sample-sizes", "10"], "no part of the baseline"),
        (regularisation, ["--dropout-grid", "1.5"], "dropout: dropout=1.5 is outside [0, 1)"),
        (depth, ["--widths", "100"], "width=100 does not divide into (1, 2, 3, 4, 5) layers of equal size"),
        (depth, ["--depths", "2", "2"], "depths=(2, 2) is no list of different numbers of layers"),
        (depth, ["--depths", "0"], "depths=(0,)"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, capfd, command, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        command.main([*arguments, "--out", str(tmp_path / "run")])
    assert stopped.value.code in (1, 2)
    assert message in " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dataset", ["digits", "mine.npz", *presets.STUDIES])
def test_every_dataset_has_a_grid_of_its_own_recipe(dataset):
    config = regularisation.default(dataset)
    assert config.sweep.model == presets.capacity(dataset).model
    assert [factor.name for factor in config.factors()] == [
        *("batch norm", "weight decay", "dropout", "label noise", "input noise", "training time", "sample size")
    ]
    configs = one_at_a_time(config.sweep, config.factors())
    assert len(configs) == 1 + sum(len(factor.values) - 1 for factor in config.factors())
    if dataset in presets.STUDIES:
        ends = presets.STUDIES[dataset].widths
        assert (config.sweep.widths[0], config.sweep.widths[-1]) == (ends[0], ends[-1])


def test_effects_are_saved_printed_and_compared(tmp_path, monkeypatch, capfd):
    """On made-up results: dropout moves 9-NN by 0.5, sample size by 0.25, width by 0.125, and nothing else anything."""
    spread = np.array([-0.01, 0.0, 0.01])

    def made_up(configs, out, data_dir, machines):
        values = np.full((len(configs), 3, 2), 0.25) + spread[:, None]
        names = list(configs)
        values[names.index("dropout=0.5")] += 0.5
        values[names.index("sample_sizes=10")] -= 0.25
        values[:, :, 1] += 0.125
        coordinates = {"variant": names, "repeat": np.arange(3), "width": [5, 50]}
        numbers = dict.fromkeys(METRICS, (("variant", "repeat", "width"), values))
        return xr.Dataset({**numbers, "diverged": (("variant", "repeat", "width"), values * 0)}, coordinates)

    monkeypatch.setattr(regularisation, "run_variants", made_up)
    regularisation.main(["--widths", "5", "50", "--repeats", "3", "--l2-grid", "1e-6", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "effects.csv")
    of_50 = table[(table["number"] == "knn_accuracy") & (table["width"] != 5)].set_index("factor")
    found = [of_50.loc[name] for name in ("width", "dropout", "sample size", "label noise")]
    assert [round(effect["difference"], 9) for effect in found] == [0.125, 0.5, 0.25, 0.0]
    assert all(round(effect["pooled_sd"], 9) == 0.01 for effect in found)
    assert "weight decay" not in of_50.index  # its grid is the baseline's value alone
    text = " ".join(capfd.readouterr().out.split())
    assert "9-NN accuracy: width 0.125, training time 0.000, sample size 0.250" in text
    assert "dropout does most, 0.500, more than width and training time and sample size." in text
    assert "+0.50±0.01" in text
    assert (tmp_path / "regularisation.png").stat().st_size > 10_000


def test_depth_leaves_numbers_of_all_layers_and_of_each(tmp_path, capfd, monkeypatch):
    quick = stand_in.PROPERTIES | {name: PROPERTIES[name] for name in ("train_redundancy", "test_redundancy")}
    for module in (measuring, layers):
        monkeypatch.setattr(module, "PROPERTIES", quick)
    options = ["--repeats", "1", "--epochs", "2", "--batch-size", "32", "--depths", "2", "1", "--out", str(tmp_path)]
    depth.main(["--widths", "12", "20", *options])
    x = load("digits").x_test
    whole, of_layers = (xr.load_dataset(tmp_path / path) for path in ("results.nc", "layers/results.nc"))
    assert whole["depth"].values.tolist() == [1, 2]
    code = jaxhash.load(tmp_path, width=12, depth=2, repeat=0).codes(x)
    assert [layer.size for layer in code.layers] == [6, 6]

    def redundancy(code):
        return 1 - len(np.unique(np.asarray(code.words), axis=0)) / len(x)

    all_layers = whole["test_redundancy"].sel(width=12, depth=2, repeat=0)
    assert float(all_layers) == pytest.approx(redundancy(code))
    own = of_layers["test_redundancy"].sel(width=12, depth=2, repeat=0)
    for i, layer in enumerate(code.layers, 1):
        assert float(own.sel(part="single layer", layer=i)) == pytest.approx(redundancy(code.layer(layer.name)))
    np.testing.assert_allclose(own.sel(part="first layers"), [own.sel(part="single layer", layer=1), all_layers])
    shallow = of_layers["test_redundancy"].sel(width=12, depth=1, repeat=0, part="single layer")
    assert float(shallow.sel(layer=1)) == float(whole["test_redundancy"].sel(width=12, depth=1, repeat=0))
    assert np.isnan(shallow.sel(layer=2))
    assert f"{float(all_layers):.3f}" in capfd.readouterr().out
    assert (tmp_path / "depth.png").stat().st_size > 10_000
