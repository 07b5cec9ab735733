"""MATLAB 5 files, against what SciPy writes."""

import io
import struct

import numpy as np
import pytest
from scipy.io import savemat

from jaxhash.data import mat5


def numbers(**arrays):
    stream = io.BytesIO()
    savemat(stream, arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (numbers(a=np.zeros(3))[:-1], "ends inside an array"),
        (numbers(a=np.zeros(3)) + b"\x0e\0\0\0", "ends inside a tag"),
        (numbers(a=np.zeros(3)) + struct.pack("<II", 14, 0), "an array has no values"),
        (numbers(a=np.zeros(3)) + struct.pack("<HHI", 1, 5, 0), "a tag for 5 bytes has room for 4"),
        (numbers(a=np.zeros(3)) + struct.pack("<II", 5, 0), "element of type 5"),
        (numbers(a=np.zeros(3)) + struct.pack("<II", 15, 3) + b"abc", "incorrect header check"),
        (numbers(a=1j), "something else than arrays of real numbers"),
        (numbers(a="text"), "something else than arrays of real numbers"),
        (numbers(a={"b": 1}), "something else than arrays of real numbers"),
        (numbers(a=np.zeros(3)).replace(struct.pack("<II", 9, 24), struct.pack("<II", 9, 23)), "ends inside a number"),
    ],
)
def test_matlab_files_that_are_not_whole_or_hold_something_else(content, complaint):
    with pytest.raises(ValueError, match=complaint):
        mat5.read(content)


def test_matlab_files_have_the_arrays_that_scipy_wrote():
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    arrays = {kind: np.arange(24).reshape(2, 3, 4).astype(kind) for kind in kinds} | {"small": np.array([[7]], "u1")}
    for name, array in mat5.read(numbers(**arrays)).items():
        np.testing.assert_array_equal(array.values.reshape(array.shape, order="F"), arrays[name])
        assert np.dtype(array.kind.replace("double", "float64").replace("single", "float32")) == arrays[name].dtype
