"""UCI Adult (Becker and Kohavi 1996): people of the US census of 1994, and whether they earn more than 50,000 dollars.

Coded as the authors of arXiv 2101.05490 do (adult.py in LeavesLei/activation-code): a column for each number, one for
the sex (0 female, 1 male), and one for every value of the other columns, unknown (`?`) among them where it occurs;
then each column is divided by its maximum over adult.data. The first 70 % of adult.data train (22,792), its rest tests
(9,769). adult.test, which the study leaves aside, validates (16,281).
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from jaxhash.data.dataset import Dataset
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


FEATURES = sum(1 if len(values) == 2 else len(values) or 1 for values in COLUMNS.values())
"""107: six numbers, the sex, and 100 values."""


def read_adult(folder: Path | None, train: DataFile = ADULT_DATA, test: DataFile = ADULT_TEST) -> Dataset:
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
    return Dataset("adult", x[:cut], y[:cut], held_out_x, held_out_y, x[cut:], y[cut:], len(LABELS))


def parse_adult(content: bytes, path: Path) -> tuple[Float32[np.ndarray, "n features"], Int32[np.ndarray, " n"]]:
    """Records as float32 [n, 107], not yet scaled, and their classes int32 [n].

    Empty lines and those that begin with `|` are no records; adult.test's labels end in a full stop.

    Raises:
        DataError: if there is none, or one is not as adult.names says; names the record and the value.
    """
    import pandas as pd  # here, because few need it and its import takes a while

    mend = "get the file again from its publisher"
    try:
        table = pd.read_csv(
            io.BytesIO(content), header=None, dtype=str, na_filter=False, skipinitialspace=True, comment="|"
        )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: holds no record; {mend}") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: not a table of Adult's records ({error}); {mend}") from error
    if table.shape[1] != len(COLUMNS) + 1:
        raise DataError(f"{path}: record 1 has {table.shape[1]} fields where {len(COLUMNS) + 1} are expected; {mend}")
    table.columns = [*COLUMNS, "label"]

    def refuse_where(wrong: Any, column: str, wanted: str) -> None:
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{path}: record {at + 1} has {column} = {str(table[column][at])[:40]!r} where {wanted} is expected; "
                f"{mend}"
            )

    blocks = []
    for column, values in COLUMNS.items():
        if values:
            refuse_where(~table[column].isin(values), column, f"one of {', '.join(values)}")
            kinds = table[column].astype(pd.CategoricalDtype(values))
            block = kinds.cat.codes if len(values) == 2 else pd.get_dummies(kinds)
        else:
            block = pd.to_numeric(table[column], errors="coerce")
            whole = table[column].str.fullmatch("[0-9]{1,8}") & (block <= _LARGEST_NUMBER)
            refuse_where(~whole, column, f"a whole number up to {_LARGEST_NUMBER:,}")
        blocks.append(block.to_numpy(np.float32).reshape(len(table), -1))
    labels = table["label"].str.removesuffix(".")
    refuse_where(~labels.isin(LABELS), "label", " or ".join(LABELS))
    return np.ascontiguousarray(np.hstack(blocks)), (labels == LABELS[1]).to_numpy(np.int32)
