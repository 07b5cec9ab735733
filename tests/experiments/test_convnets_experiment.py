"""The command as a person uses it, on a few images of one's own."""

import csv

import numpy as np
import pytest

from experiments import convnets
from jaxhash.codes import files


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 100)
    x = random.random((100, 8, 8)).astype(np.float32)
    x[y == 0, :4] += 1
    path = tmp_path / "halves.npz"
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return path


@pytest.mark.slow
def test_a_run_leaves_a_row_a_layer_a_figure_and_the_codes_if_wanted(tmp_path, images, capfd):
    out = tmp_path / "run"
    size = ["--network", "resnet8", "--width-factor", "0.0625", "--batch-size", "32", "--epochs", "1"]
    codes = ["--reduction", "sampled", "--positions", "5", "--sampled-bits", "32", "--keep-codes"]
    convnets.main(["--dataset", str(images), *size, *codes, "--out", str(out)])
    with (out / "layers.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["layer"] for row in rows] == [f"ResNet/conv_0{i}/relu" for i in range(1, 8)] + ["all layers"]
    assert [int(row["bits"]) for row in rows] == [5, 5, 5, 10, 10, 20, 20, 75]
    for name, n in (("train", 64), ("test", 20)):
        stored = files.load(out / "codes" / f"{name}.npy")
        assert stored.n == n
        views = [stored.layer(layer.name) for layer in stored.layers]
        for row, view in zip(rows, [*views, stored], strict=True):
            distinct = len(np.unique(view.rows(slice(None)), axis=0))
            assert float(row[f"{name}_redundancy"]) == pytest.approx((n - distinct) / n)
    assert (out / "layers.png").stat().st_size > 10_000
    printed = capfd.readouterr()
    assert "resnet8: 355 parameters" in " ".join(printed.err.split())
    assert "training resnet8: 2 of 2" in printed.err
    assert "conv_07" in printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--network", "vgg17"], 1, "network 'vgg17' is not known; give one of vgg11"),
        (["--batch-size", "5000"], 1, "batch_size=5000 is more than the 1150 training examples"),
        (["--positions", "0", "--reduction", "sampled"], 1, "count=0 positions"),
        (["--rotation", "-1"], 2, "rotation=-1"),
    ],
)
def test_bad_inputs_get_one_clear_error_and_write_nothing(tmp_path, capfd, arguments, code, message):
    with pytest.raises(SystemExit) as stopped:
        convnets.main([*arguments, "--out", str(tmp_path / "run")])
    assert stopped.value.code == code
    assert message in " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_help_says_what_each_network_costs(capfd):
    with pytest.raises(SystemExit) as stopped:
        convnets.main(["--help"])
    assert stopped.value.code == 0
    lines = capfd.readouterr().out.splitlines()
    vgg = next(line for line in lines if line.split()[:1] == ["vgg16"])
    assert vgg.split()[1:3] == ["15,250,378", "277,504"]
