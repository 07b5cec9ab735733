"""The commands as a person at a terminal uses them."""

import pandas as pd
import pytest

from experiments import model_capacity

SMALL = ["--widths", "4", "9", "--repeats", "2", "--epochs", "3"]


def test_a_run_leaves_numbers_a_figure_and_a_table(tmp_path, capfd):
    out = tmp_path / "run"
    model_capacity.main([*SMALL, "--out", str(out)])
    printed = capfd.readouterr()
    assert "100 %  4 of 4 models" in printed.err
    assert (out / "model_capacity.png").stat().st_size > 10_000
    table = pd.read_csv(out / "results.csv")
    assert sorted(zip(table["repeat"], table["width"], strict=True)) == [(0, 4), (0, 9), (1, 4), (1, 9)]
    header = next(line for line in printed.out.splitlines() if "width" in line)
    headings = ["width", "acc.", "acc.", "red.", "red.", "K-Means", "K-Means", "9-NN", "logistic"]
    assert header.replace("┃", " ").split() == headings
    mean = table[table["width"] == 9]["knn_accuracy"].mean()
    assert f"{mean:.3f}" in next(line for line in printed.out.splitlines() if line.strip(" │┃").startswith("9 "))
    with pytest.raises(SystemExit) as refused:
        model_capacity.main([*SMALL, "--seed", "1", "--out", str(out)])
    assert refused.value.code == 1
    assert "seed: 0 there, 1 here" in " ".join(capfd.readouterr().err.split())
    pd.testing.assert_frame_equal(pd.read_csv(out / "results.csv"), table)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dataset", "dijits"], 1, "did you mean digits"),
        (["--dataset", "{tmp}/none.npz"], 1, "none.npz"),
        (["--dataset", "{tmp}/broken.npz"], 1, "broken.npz"),
        (["--batch-size", "5000"], 1, "batch_size=5000 is more than the 1150 training examples"),
        (["--widths", "0"], 2, "width=0"),
        (["--repeats", "0"], 2, "repeats=0 is less than 1"),
        (["--widths", "four"], 2, "four"),
    ],
)
def test_bad_inputs_get_one_clear_error_and_write_nothing(tmp_path, monkeypatch, capfd, arguments, code, message):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        model_capacity.main([*arguments, "--out", str(tmp_path / "run")])
    assert stopped.value.code == code
    error = " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert message in error
    assert not (tmp_path / "run").exists()


def test_help_names_every_option_with_its_default(capfd):
    with pytest.raises(SystemExit) as stopped:
        model_capacity.main(["--help"])
    assert stopped.value.code == 0
    text = " ".join(capfd.readouterr().out.replace("│", " ").split())
    for option in ("--dataset", "--widths", "--repeats", "--seed", "--depth", "--epochs", "--batch-size", "--out"):
        assert option in text
    assert "(default: 64)" in text
