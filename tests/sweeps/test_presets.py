"""The study's settings as defaults of the commands."""

import re

import pytest

from experiments import model_capacity
from jaxhash.data import NAMES
from jaxhash.sweeps import presets
from jaxhash.sweeps.grid import SweepConfig


def test_a_dataset_without_a_study_keeps_the_defaults():
    assert presets.capacity("digits") == SweepConfig(dataset="digits")
    assert set(presets.STUDIES) == set(NAMES) - {"digits", "fashion_mnist", "kmnist"}


@pytest.mark.parametrize("name", presets.STUDIES)
def test_every_study_can_be_run_as_it_stands(name):
    study = presets.STUDIES[name]
    assert presets.capacity(name).dataset == name
    for numbers in (study.widths, study.sample_widths, study.sample_sizes, study.time_widths, study.snapshots):
        assert list(numbers) == sorted(set(numbers))
    for width in (*study.widths, *study.sample_widths, *study.time_widths):
        assert study.model.units(width) * study.model.depth == width
    assert study.snapshots[0] == 0
    assert study.snapshots[-1] == study.train.epochs


def test_the_help_of_a_command_shows_the_studys_settings_for_the_dataset_given(capfd):
    with pytest.raises(SystemExit):
        model_capacity.main(["--dataset", "adult", "--help"])
    text = re.sub(r"[│\s]+", " ", capfd.readouterr().out)
    assert "(default: 10 20 40 60 80 100 150 200 250 300)" in text
    assert "(default: 128)" in text
    assert "(default: adult)" in text
