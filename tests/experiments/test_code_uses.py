"""The examples of uses of neural codes, on the shared finished sweep, against brute force and scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from experiments import naswot, near_duplicates, nearest_examples, ood_monitor
from jaxhash.codes.code import pack
from jaxhash.models.mlp import ModelConfig, build
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.terminal import network
from jaxhash.training.population import model_key


def run(module, trained, out, *options):
    """An example on the shared sweep's network of width 40."""
    module.main([str(option) for option in ("--run", trained.out, "--width", 40, *options, "--out", out)])
    return out


def hamming(a, b):
    return (a[:, None] != b[None]).sum(-1)


def test_nearest_examples_are_those_of_brute_force(trained, tmp_path):
    out = run(nearest_examples, trained, tmp_path / "run", "--neighbours", 3, "--shown", 2)
    train, test = trained.bits(40)
    distances = hamming(test, train)
    order = np.argsort(distances, axis=1, kind="stable")[:, :3]
    table = pd.read_csv(out / "neighbours.csv")
    np.testing.assert_array_equal(table["train_example"], order.ravel())
    np.testing.assert_array_equal(table["distance"], np.take_along_axis(distances, order, 1).ravel())
    np.testing.assert_array_equal(table["train_label"], trained.data.y_train[order.ravel()])
    summary = pd.read_csv(out / "summary.csv")
    assert summary["examples"].sum() == len(test)
    same = trained.data.y_train[order[:, 0]] == trained.data.y_test
    assert (summary["examples"] * summary["same_label"].fillna(0)).sum() == pytest.approx(same.sum())
    assert (out / "nearest_examples.png").stat().st_size > 5000


def test_near_duplicates_are_scored_as_scikit_learn_does(trained, tmp_path):
    out = run(near_duplicates, trained, tmp_path / "run", "--copies", 50, "--seed", 5)
    table = pd.read_csv(out / "near_duplicates.csv").set_index(["change", "method"])
    chosen = np.random.default_rng(5).choice(len(trained.data.x_train), 50, replace=False)
    darker = np.float32(0.8 * trained.data.x_train[chosen])  # the change that draws nothing at random
    queries = np.concatenate([darker, trained.data.x_test])
    codes = np.asarray(trained.model(40).codes(queries).unpack())
    distances = hamming(codes, trained.bits(40)[0])
    row = table.loc["20 % darker", "codes"]
    planted = np.arange(len(queries)) < 50
    assert row["average_precision"] == pytest.approx(average_precision_score(planted, -distances.min(1)))
    assert row["original_found"] == pytest.approx((distances[:50].argmin(1) == chosen).mean())
    assert table.loc["noise, s.d. 0.05", "pixels"]["average_precision"] > 0.99
    shift = near_duplicates.CHANGES["shifted by a pixel"](np.arange(9.0).reshape(1, 3, 3, 1), None)
    np.testing.assert_array_equal(shift.squeeze(), [[0, 0, 1], [0, 3, 4], [0, 6, 7]])


def test_the_monitor_s_areas_are_those_of_the_distances(trained, tmp_path):
    out = run(ood_monitor, trained, tmp_path / "run", "--others", "noise", "photos", "--examples", 200)
    table = pd.read_csv(out / "ood_monitor.csv").set_index("other")
    noise = np.random.default_rng(0).uniform(0, 1, (200, 64)).astype(np.float32)
    model, train = trained.model(40), trained.bits(40)[0]
    own, other = (
        hamming(np.asarray(model.codes(x).unpack()), train).min(1) for x in (trained.data.x_test[:200], noise)
    )
    expected = roc_auc_score(np.repeat([0, 1], 200), np.concatenate([own, other]))
    assert table.loc["noise", "auroc_codes"] == pytest.approx(expected)
    assert expected > 0.8
    assert table.loc["photos", "auroc_pixels"] > 0.9
    assert (out / "ood_monitor.png").stat().st_size > 5000


def test_classes_left_out_are_in_no_part_of_the_data(trained, tmp_path):
    known = ood_monitor.without_classes(trained.data, tmp_path / "known.npz")
    assert known.num_classes == 8
    assert {y.max() for y in (known.y_train, known.y_validation, known.y_test)} == {7}
    assert len(known.y_test) == (trained.data.y_test < 8).sum()


def test_pictures_are_resized_and_turned_grey():
    colour = np.ones((2, 6, 6, 3), np.float32) * np.array([0.0, 0.3, 0.9], np.float32)
    np.testing.assert_allclose(network.resized_like(colour, 3, 1), np.full((2, 9), 0.4), rtol=1e-6)
    assert network.resized_like(colour[..., :1], 4, 3).shape == (2, 48)
    assert network.as_images(np.zeros((5, 3072))).shape == (5, 32, 32, 3)
    with pytest.raises(ValueError, match="14 features make no square picture"):
        network.as_images(np.zeros((5, 14)))


def test_the_naswot_score_is_the_log_determinant():
    rng = np.random.default_rng(0)
    bits = rng.random((6, 40)) < 0.5
    kernel = np.array([[(a == b).sum() for b in bits] for a in bits], float)
    score = naswot.naswot(pack(jnp.asarray(bits)), 40)
    assert score == pytest.approx(np.log(np.linalg.eigvalsh(kernel)).sum())
    bits[3] = bits[0]
    assert naswot.naswot(pack(jnp.asarray(bits)), 40) == -np.inf
    many = rng.random((12, 10)) < 0.5  # more examples than units + 1
    assert naswot.naswot(pack(jnp.asarray(many)), 10) == -np.inf


@pytest.mark.slow
def test_untrained_codes_are_those_of_each_network_alone(trained):
    grid = SweepConfig(widths=(6, 11), repeats=2, model=ModelConfig(depth=2))
    x = trained.data.x_train[:8].reshape(2, 4, -1)
    words = naswot.untrained_words(grid, 10, x)
    module = build(grid.model, 11, 10)
    variables = module.init(model_key(grid.repeat_key(1), 11), jnp.asarray(x[0]))
    (_, pre_activations), _ = module.apply(variables, jnp.asarray(x[1]), train=True, mutable=["batch_stats"])
    alone = np.concatenate(pre_activations, axis=1)
    clear = np.abs(alone) > 1e-5
    shared = np.unpackbits(np.asarray(words[1][1, 1]).view(np.uint8), axis=1, bitorder="little")[:, :10]
    np.testing.assert_array_equal(shared[clear] == 1, alone[clear] > 0)
    assert clear.mean() > 0.9


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (nearest_examples, ["--width", "77"], "--width 77: no model of width=77"),
        (nearest_examples, ["--neighbours", "0"], "--neighbours 0 and --shown 8 must be 1 or more"),
        (near_duplicates, ["--width", "40", "--copies", "9999"], "--copies 9999 is more than the 1150 training"),
        (ood_monitor, ["--width", "40"], "leave left_out out of --others"),
        (ood_monitor, ["--width", "40", "--others", "mnits"], "did you mean mnist"),
    ],
)
def test_bad_options_get_one_clear_error(trained, tmp_path, capfd, module, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        module.main(["--run", str(trained.out), *arguments, "--out", str(tmp_path / "run")])
    assert stopped.value.code in (1, 2)
    assert message in " ".join(capfd.readouterr().err.replace("│", " ").split())


def test_a_minibatch_whose_kernel_is_always_singular_is_refused():
    with pytest.raises(ValueError, match="--batch 22 must be 2 to 21"):
        naswot.Config(batch=22)
