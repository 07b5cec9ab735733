"""Models of one's own that cannot be swept: one line says why, and nothing is written."""

import pytest

import jaxhash
from tests.sweeps.own_models import BATCH, DATA, Residual, momentum, without_units


def of_five(width=4):
    return Residual(width, 0.0, classes=5)


def broken(width=4):
    raise RuntimeError("broken on purpose")


def with_needs(width, depth):
    return Residual(width)


class Odd(Residual):
    def __call__(self, x, *, deterministic):
        return x.reshape(7, -1)


REFUSED = {
    "classes": ((of_five, {}), r"returns \[64, 5\] for 64 examples of shape \[12\]; return a logit for each of the 3"),
    "no units": ((without_units, {}), r"has no units to code .*; train it with properties=\(\) all the same"),
    "broken": ((broken, {}), "cannot be initialised .*broken on purpose"),
    "untraceable": ((Odd, {}), "cannot be initialised|cannot be traced"),
    "missing": ((with_needs, {"grid": {"width": (3,)}}), "cannot be initialised .*depth"),
    "axis": ((Residual, {"grid": {"wdth": (3,)}}), r"grid: wdth is no argument of the model \(width, rate\)"),
    "no model": ((lambda: 3, {}), "makes a int, which is no model"),
    "optimizer": ((Residual, {"optimizer": lambda: None}), "cannot be initialised"),
    "own rate": ((Residual, {"optimizer": momentum, "grid": {"drop_every": (1, 2)}}), "drop_every is no argument"),
    "option": ((Residual, {"epoch": 3}), "epoch is no option of a sweep or of its recipe"),
    "values": ((Residual, {"grid": {"width": (3, "a")}}), "all of one kind"),
    "twice": ((Residual, {"grid": {"width": (3, 3)}}), "width 3 is given more than once"),
    "repeat": ((Residual, {"grid": {"repeat": (3,)}}), "repeat is no axis of a grid; give repeats"),
    "family": ((Residual, {"properties": ("kmean",)}), "'kmean' is not known"),
    "noise": ((Residual, {"grid": {"label_noise": (0.0, 2.0)}}), r"label_noise=\(0.0, 2.0\) is outside"),
    "batch": ((Residual, {"batch_size": 500}), "batch_size=500 is more than the 240 training examples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_written(tmp_path, name):
    (make, options), message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        jaxhash.sweep(make, DATA, out=tmp_path / "x", **{"batch_size": BATCH, **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()
