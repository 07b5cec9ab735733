"""The command as a person uses it, on a few images of one's own."""

import numpy as np
import pytest
import xarray as xr

import jaxhash
from experiments import convnets


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 100)
    x = random.random((100, 8, 8)).astype(np.float32)
    x[y == 0, :4] += 1
    path = tmp_path / "halves.npz"
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return path, x


@pytest.mark.slow
def test_a_run_leaves_the_properties_of_each_layer_and_two_figures(tmp_path, images, capfd):
    path, x = images
    out = tmp_path / "run"
    grid = ["--grid", "network=resnet8", "width_factor=0.0625", "norm_momentum=0.9"]
    size = ["--batch-size", "32", "--epochs", "1", "--execution", "loop", "--properties", "redundancy", "knn"]
    convnets.main(["--dataset", str(path), *grid, *size, "--test-examples", "12", "--out", str(out)])
    model = jaxhash.load(out)
    code = model.codes(x[80:92])
    assert [layer.name for layer in code.layers] == [f"OfRows/network/conv_0{i}/relu" for i in range(1, 8)]
    assert [layer.size for layer in code.layers] == [1024, 1024, 1024, 512, 512, 256, 256]
    results = xr.load_dataset(out / "layers" / "results.nc").squeeze()
    for i, layer in enumerate(code.layers):
        distinct = len(np.unique(np.asarray(code.layer(layer.name).words), axis=0))
        assert float(results["test_redundancy"].isel(layer=i)) == pytest.approx(1 - distinct / 12)
    assert np.isfinite(results["knn_accuracy"]).all()
    for name in ("convnets.png", "layers.png"):
        assert (out / name).stat().st_size > 10_000
    assert "measuring the layers of models: 1 of 1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "network=vgg17"], "network 'vgg17' is not known; give one of vgg11"),
        (["--batch-size", "5000"], "batch_size=5000 is more than the 1150 training examples"),
        (["--grid", "rotation=-1.0"], "rotation=-1.0"),
        (["--grid", "network"], "'network' is no axis of a grid"),
    ],
)
def test_bad_inputs_get_one_clear_error_and_write_nothing(tmp_path, capfd, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        convnets.main([*arguments, "--out", str(tmp_path / "run")])
    assert stopped.value.code in (1, 2)
    assert message in " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_help_says_what_each_network_costs(capfd):
    with pytest.raises(SystemExit) as stopped:
        convnets.main(["--help"])
    assert stopped.value.code == 0
    lines = capfd.readouterr().out.splitlines()
    vgg = next(line for line in lines if line.split()[:1] == ["vgg16"])
    assert vgg.split()[1:3] == ["15,250,378", "277,504"]
