"""UCI Adult (Becker and Kohavi 1996): people of the US census of 1994, and whether they earn more than 50,000 dollars.

Coded as the authors of arXiv 2101.05490 do (adult.py in LeavesLei/activation-code): a column for each number, one for
the sex (0 female, 1 male), and one for every value of the other columns, unknown (`?`) among them where it occurs;
then each column is divided by its maximum over adult.data. The first 70 % of adult.data train (22,792), its rest tests
(9,769). adult.test, which the study leaves aside, validates (16,281).
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from jaxhash.data.dataset import Examples
from jaxhash.data.download import DataError, DataFile, fetch

_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/"
ADULT_DATA = DataFile(
    "adult/adult.data",
    "sha256:5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    f"{_URL}adult.data",
)
ADULT_TEST = DataFile(
    "adult/adult.test",
    "sha256:a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
    f"{_URL}adult.test",
)

_NAMES = """
age:
workclass: Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov Without-pay Never-worked ?
fnlwgt:
education: Bachelors Some-college 11th HS-grad Prof-school Assoc-acdm Assoc-voc 9th 7th-8th 12th Masters 1st-4th 10th \
    Doctorate 5th-6th Preschool
education-num:
marital-status: Married-civ-spouse Divorced Never-married Separated Widowed Married-spouse-absent Married-AF-spouse
occupation: Tech-support Craft-repair Other-service Sales Exec-managerial Prof-specialty Handlers-cleaners \
    Machine-op-inspct Adm-clerical Farming-fishing Transport-moving Priv-house-serv Protective-serv Armed-Forces ?
relationship: Wife Own-child Husband Not-in-family Other-relative Unmarried
race: White Asian-Pac-Islander Amer-Indian-Eskimo Other Black
sex: Female Male
capital-gain:
capital-loss:
hours-per-week:
native-country: United-States Cambodia England Puerto-Rico Canada Germany Outlying-US(Guam-USVI-etc) India Japan \
    Greece South China Cuba Iran Honduras Philippines Italy Poland Jamaica Vietnam Mexico Portugal Ireland France \
    Dominican-Republic Laos Ecuador Taiwan Haiti Columbia Hungary Guatemala Nicaragua Scotland Thailand Yugoslavia \
    El-Salvador Trinadad&Tobago Peru Hong Holand-Netherlands ?
"""
COLUMNS = {
    column: tuple(values.split()) for column, _, values in (line.partition(":") for line in _NAMES.strip().splitlines())
}
"""The columns of a record and the values of those that are no numbers, in the order of adult.names."""
LABELS = ("<=50K", ">50K")
"""Of the classes 0 and 1."""

# float32 tells all whole numbers apart up to here.
_LARGEST_NUMBER = 2**24


def _places() -> dict[tuple[str, str], tuple[int, int]]:
    """(column, value) -> the feature it stands in, and as which number; the value of a column of numbers is ''."""
    places: dict[tuple[str, str], tuple[int, int]] = {}
    features = 0
    for column, values in COLUMNS.items():
        if len(values) == 2:
            places |= {(column, value): (features, number) for number, value in enumerate(values)}
            features += 1
        else:
            places |= {(column, value): (features + i, 1) for i, value in enumerate(values or ("",))}
            features += len(values) or 1
    return places


_PLACES = _places()
FEATURES = max(feature for feature, _ in _PLACES.values()) + 1
"""107: six numbers, the sex, and 100 values."""


def read_adult(folder: Path | None, train: DataFile = ADULT_DATA, test: DataFile = ADULT_TEST) -> Examples:
    """The dataset, 107 features in [0, 1] (adult.test may go beyond 1), 2 classes.

    Raises:
        DataError: if a file is missing, damaged, or not in the format of UCI Adult.
    """
    (path, content), (held_out_path, held_out_content) = fetch(train, folder), fetch(test, folder)
    x, y = parse_adult(content, path)
    held_out_x, held_out_y = parse_adult(held_out_content, held_out_path)
    cut = len(y) * 7 // 10
    if not cut:
        raise DataError(f"{path}: has {len(y)} record where 70 % train; get the file again from {train.url}")
    largest = x.max(axis=0)
    largest[largest == 0] = 1  # a value that nobody has
    x, held_out_x = x / largest, held_out_x / largest
    return Examples(
        np.concatenate((x[:cut], held_out_x)),
        np.concatenate((y[:cut], held_out_y)),
        x[cut:],
        y[cut:],
        num_classes=len(LABELS),
        training=cut,
    )


def parse_adult(content: bytes, path: Path) -> tuple[Float32[np.ndarray, "n features"], Int32[np.ndarray, " n"]]:
    """Records as float32 [n, 107], not yet scaled, and their classes int32 [n].

    Empty lines and those that begin with `|` are no records; adult.test's labels end in a full stop.

    Raises:
        DataError: if there is none, or one is not as adult.names says; names the line and the value.
    """
    mend = "get the file again from its publisher"
    rows, labels = [], []
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        if not line or line.startswith("|"):
            continue
        *fields, label = line.split(", ")
        if len(fields) != len(COLUMNS):
            raise DataError(
                f"{path}: line {number} has {len(fields) + 1} fields where {len(COLUMNS) + 1} are expected; {mend}"
            )
        row = np.zeros(FEATURES, np.float32)
        for (column, values), field in zip(COLUMNS.items(), fields, strict=True):
            if field in values:
                at, value = _PLACES[column, field]
            elif not values and field.isdecimal() and len(field) <= 8 and int(field) <= _LARGEST_NUMBER:
                at, value = _PLACES[column, ""][0], int(field)
            else:
                wanted = f"one of {', '.join(values)}" if values else f"a whole number up to {_LARGEST_NUMBER:,}"
                raise DataError(
                    f"{path}: line {number} has {column} = {field[:40]!r} where {wanted} is expected; {mend}"
                )
            row[at] = value
        if label.removesuffix(".") not in LABELS:
            raise DataError(
                f"{path}: line {number} has the label {label[:40]!r} where {' or '.join(LABELS)} is expected; {mend}"
            )
        rows.append(row)
        labels.append(LABELS.index(label.removesuffix(".")))
    if not rows:
        raise DataError(f"{path}: holds no record; {mend}")
    return np.stack(rows), np.array(labels, np.int32)
