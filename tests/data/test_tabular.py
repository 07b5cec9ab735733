"""UCI Adult: records written here, and the real file coded once more by other means."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder

from jaxhash.data import catalogue
from jaxhash.data.download import DataError, DataFile
from jaxhash.data.tabular import COLUMNS, FEATURES, parse_adult, read_adult
from tests.data.test_catalogue import assert_form, parts, real_data  # noqa: F401
from tests.data.test_download import put, sha256

HERE = Path("somewhere/adult.data")
RECORD = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, "
    "United-States, <=50K"
)
OTHER = "52, ?, 287927, HS-grad, 9, Married-civ-spouse, ?, Wife, White, Female, 15024, 0, 44, ?, >50K"
NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")


def names():
    """The features in the order of adult.names: `column` or `column=value`."""
    found = []
    for column, values in COLUMNS.items():
        found += [column] if len(values) in (0, 2) else [f"{column}={value}" for value in values]
    return found


def test_a_record_has_a_feature_for_each_number_and_each_value():
    x, y = parse_adult(f"{RECORD}\n\n{OTHER}.\n|a comment\n".encode(), HERE)
    assert (x.dtype, y.dtype, x.shape) == (np.float32, np.int32, (2, 107))
    assert y.tolist() == [0, 1]
    first, second = ({name: value for name, value in zip(names(), row, strict=True) if value} for row in x.tolist())
    assert first == {
        "age": 39, "workclass=State-gov": 1, "fnlwgt": 77516, "education=Bachelors": 1, "education-num": 13,
        "marital-status=Never-married": 1, "occupation=Adm-clerical": 1, "relationship=Not-in-family": 1,
        "race=White": 1, "sex": 1, "capital-gain": 2174, "hours-per-week": 40, "native-country=United-States": 1,
    }  # fmt: skip
    assert second == {
        "age": 52, "workclass=?": 1, "fnlwgt": 287927, "education=HS-grad": 1, "education-num": 9,
        "marital-status=Married-civ-spouse": 1, "occupation=?": 1, "relationship=Wife": 1, "race=White": 1,
        "capital-gain": 15024, "hours-per-week": 44, "native-country=?": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "holds no record"),
        ("|1x3 Cross validator\n", "holds no record"),
        (RECORD + "\n39, State-gov", "record 2 has fnlwgt = '' where a whole number"),
        (RECORD + ", x", "record 1 has 16 fields where 15"),
        (RECORD.replace("39", "old"), "record 1 has age = 'old' where a whole number up to 16,777,216 is expected"),
        (RECORD.replace("39", "-1"), "age = '-1' where"),
        (RECORD.replace("77516", "16777217"), "fnlwgt = '16777217' where"),
        (RECORD.replace("77516", "9" * 5000), "fnlwgt = '9{40}' where"),
        (RECORD.replace("39", "³"), "has age = "),
        (
            RECORD.replace("Bachelors", "School"),
            "education = 'School' where one of Bachelors, .*, Preschool is expected",
        ),
        (RECORD.replace("Male", "?"), r"sex = '\?' where one of Female, Male is expected"),
        (RECORD.replace("<=50K", "50K"), "label = '50K' where <=50K or >50K is expected"),
    ],
)
def test_what_is_no_adult_file_is_refused(content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        parse_adult(content.encode(), HERE)
    assert str(caught.value).startswith(f"{HERE}: ")
    assert "get the file again" in str(caught.value)


def write(folder, train, test, packed=False):
    """adult.data and adult.test in `folder`, and what is known of them."""
    files = []
    for name, lines in (("adult.data", train), ("adult.test", test)):
        content = "\n".join(lines).encode() + b"\n\n"
        files.append(DataFile(f"adult/{name}", sha256(content), f"https://example.org/{name}"))
        put(folder, f"adult/{name}.gz" if packed else f"adult/{name}", gzip.compress(content) if packed else content)
    return files


@pytest.mark.parametrize("packed", [False, True])
def test_seventy_percent_train_the_rest_tests_and_the_test_file_validates(tmp_path, packed):
    train = [RECORD.replace("39", str(age), 1) for age in range(20, 29)] + [OTHER]
    held_out = ["|1x3 Cross validator", OTHER.replace("52", "78", 1) + "."]
    examples = read_adult(tmp_path, *write(tmp_path, train, held_out, packed))
    assert examples.num_classes == 2
    assert examples.y_train.tolist() == [0] * 7
    assert examples.y_validation.tolist() == [1]
    assert examples.y_test.tolist() == [0, 0, 1]
    # Divided by the largest of all ten records, 52; the held-out one goes beyond it.
    np.testing.assert_array_equal(examples.x_train[:, 0], np.float32(range(20, 27)) / np.float32(52))
    np.testing.assert_array_equal(examples.x_validation[:, 0], np.float32([78]) / np.float32(52))
    np.testing.assert_array_equal(examples.x_test[:, 0], np.float32([27, 28, 52]) / np.float32(52))
    assert np.isfinite(examples.x_train).all()
    assert examples.x_test.max() == 1


def test_one_record_is_too_few(tmp_path):
    with pytest.raises(DataError, match="has 1 record where 70 % train"):
        read_adult(tmp_path, *write(tmp_path, [RECORD], [OTHER]))


def test_the_real_files_as_scikit_learn_codes_them(real_data):  # noqa: F811
    if not (real_data / "adult").is_dir():
        pytest.skip(f"{real_data} has no adult/")
    adult = catalogue.load("adult", real_data)
    assert_form(adult)
    assert (adult.features, adult.num_classes, FEATURES) == (107, 2, 107)
    assert [len(y) for _, y in parts(adult).values()] == [22_792, 16_281, 9_769]
    records = []
    for name in ("adult.data", "adult.test"):
        packed = real_data / "adult" / f"{name}.gz"
        with gzip.open(packed, "rt") if packed.exists() else (real_data / "adult" / name).open() as stream:
            records.append([row for row in csv.reader(stream, skipinitialspace=True) if len(row) == 15])
    assert [len(part) for part in records] == [32_561, 16_281]
    wide = [column for column, values in COLUMNS.items() if len(values) > 2]
    at = {column: i for i, column in enumerate(COLUMNS)}
    encoder = OneHotEncoder(
        categories=[list(COLUMNS[column]) for column in wide], dtype=np.float32, sparse_output=False
    )
    own_order = [*NUMBERS, "sex", *(f"{column}={value}" for column in wide for value in COLUMNS[column])]
    order = [own_order.index(name) for name in names()]

    def coded(part):
        numbers = np.array([[int(row[at[column]]) for column in NUMBERS] for row in part], np.float32)
        sex = np.array([[row[at["sex"]] == "Male"] for row in part], np.float32)
        values = encoder.fit_transform([[row[at[column]] for column in wide] for row in part])
        return np.hstack((numbers, sex, values))[:, order]

    train, held_out = map(coded, records)
    largest = train.max(axis=0)
    assert largest.min() == 1  # every value is somebody's
    labels = [np.array([row[14].startswith(">") for row in part], int) for part in records]
    np.testing.assert_array_equal(np.concatenate((adult.x_train, adult.x_test)), train / largest)
    np.testing.assert_array_equal(adult.x_validation, held_out / largest)
    np.testing.assert_array_equal(np.concatenate((adult.y_train, adult.y_test)), labels[0])
    np.testing.assert_array_equal(adult.y_validation, labels[1])
