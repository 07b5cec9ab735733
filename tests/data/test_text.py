"""Bags of words against scikit-learn's CountVectorizer; archives and local files written here."""

import gzip
import io
import json
import string
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxhash.data import catalogue
from jaxhash.data import text as text_data
from jaxhash.data.download import DataError, DataFile
from jaxhash.data.text import bags, parse_archive, parse_jsonl, read_imdb
from tests.data.test_catalogue import assert_form, parts, real_data  # noqa: F401
from tests.data.test_download import put, sha256, tar

HERE = Path("somewhere/reviews")
TEXTS = [
    "A fine, fine film.<br /><br />It's FINE!",
    "dull; dull film",
    "",
    "Não é \u201cmau\u201d -- it's\tgood\u00a0fun",
]


def by_counting(train, test, n):
    """The same by Python's own means: the n most frequent words, and which of them occur in each text."""
    table = str.maketrans(dict.fromkeys(set(string.punctuation) - {"'"}, " "))
    words = [[text.lower().translate(table).split() for text in part] for part in (train, test)]
    counts = Counter(word for text in words[0] for word in text)
    chosen = sorted(counts, key=lambda word: (-counts[word], word))[:n]
    sets = [[set(text) for text in part] for part in words]
    return chosen, [np.array([[word in text for word in chosen] for text in part], np.float32) for part in sets]


@pytest.mark.parametrize("n", [5, 1000])
def test_bags_hold_the_most_frequent_words_first_and_say_which_occur(monkeypatch, n):
    monkeypatch.setattr(text_data, "WORDS", n)
    other = ["don't_stop(me)-now 10/10 '90s it's good", "film"]
    words, expected = by_counting(TEXTS, other, n)
    assert words[:5] == ["fine", "br", "dull", "film", "it's"]
    for x, y in zip(bags(TEXTS, other), expected, strict=True):
        assert (x.dtype, x.flags.c_contiguous) == (np.float32, True)
        np.testing.assert_array_equal(x, y)


def as_jsonl(reviews, **more):
    return "".join(json.dumps({"label": label, "text": text, **more}) + "\n" for text, label in reviews).encode()


REVIEWS = {
    "train": [(f"good film {i}", 1) for i in range(6)] + [(f"bad film {i}", 0) for i in range(6)],
    "test": [("good but bad", 1), ("unseen words bad", 0)],
}


def as_archive(reviews=REVIEWS, **more):
    """The published layout: negative ones first, unlabelled ones and bags of words between."""
    members = {"aclImdb/README": b"read me", "aclImdb/train/unsup/0_0.txt": b"neither", "aclImdb/imdb.vocab": b"bad"}
    for part, texts in reviews.items():
        for i, (text, label) in sorted(enumerate(texts), key=lambda at: at[1][1]):
            members[f"aclImdb/{part}/{('neg', 'pos')[label]}/{i}_{10 * label}.txt"] = text.encode()
    return tar(members | more)


def imdb_file(content):
    return DataFile("imdb/aclImdb_v1.tar.gz", sha256(content), "https://example.org/aclImdb_v1.tar.gz")


def test_the_archive_is_read_without_being_unpacked_and_its_reviews_are_mixed(tmp_path):
    content = as_archive()
    put(tmp_path, "imdb/aclImdb_v1.tar.gz", content)
    examples = read_imdb(tmp_path, imdb_file(content))
    assert (len(examples.y_train), len(examples.y_validation), examples.num_classes) == (12, 0, 2)
    words = ["film", "bad", "good", *"012345"]  # 12, 6, 6, and 2 of each number
    assert examples.x_train.shape == (12, len(words))
    found = {(tuple(w for w, there in zip(words, row, strict=True) if there), int(y))
             for row, y in zip(examples.x_train, examples.y_train, strict=True)}  # fmt: skip
    assert found == {(("film", "good", str(i)), 1) for i in range(6)} | {(("film", "bad", str(i)), 0) for i in range(6)}
    assert sorted(zip(examples.x_test.sum(1).tolist(), examples.y_test.tolist(), strict=True)) == [(1, 0), (2, 1)]
    assert 0 < examples.y_train[:6].sum() < 6  # no longer the negative ones first
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["aclImdb_v1.tar.gz"]


def test_the_order_does_not_depend_on_the_order_in_the_archive():
    backwards = {part: reviews[::-1] for part, reviews in REVIEWS.items()}
    one, other = tar(dict(members(as_archive()))), tar(dict(reversed(members(as_archive()))))
    assert parse_archive(one, HERE) == parse_archive(other, HERE)
    assert parse_archive(as_archive(backwards), HERE) != parse_archive(one, HERE)  # other names


def members(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        return [(member.name, packed.extractfile(member).read()) for member in packed]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a whole .tar.gz"),
        (b"no archive", "not a whole .tar.gz"),
        (as_archive()[:-200], "not a whole .tar.gz"),
        (tar({"else/train/pos/1_1.txt": b"a"}), "holds no review where 0 and 1 are expected"),
        (as_archive({"train": REVIEWS["train"], "test": REVIEWS["test"][:1]}), "holds only the label 1 where"),
    ],
)
def test_what_is_no_archive_of_reviews_is_refused(content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        parse_archive(content, HERE)
    assert str(caught.value).startswith(f"{HERE}: ")
    assert "get the file again from https://ai.stanford.edu" in str(caught.value)


def test_a_member_too_long_for_a_review_is_refused_unread():
    with pytest.raises(DataError, match="claims 1,048,577 bytes, no review is so long"):
        parse_archive(as_archive(**{"aclImdb/train/pos/7_7.txt": bytes(2**20 + 1)}), HERE)


def test_a_local_part_of_the_reviews_serves_unless_the_archive_is_there(tmp_path):
    for part, reviews in REVIEWS.items():
        put(tmp_path, f"imdb/{part}_5000.jsonl.gz", gzip.compress(as_jsonl(reviews, id=3, rating=7)))
    imdb = catalogue.load("imdb", tmp_path)
    assert_form(imdb)
    assert [len(y) for _, y in parts(imdb).values()] == [12, 0, 2]
    assert imdb.y_train.tolist() == [1] * 6 + [0] * 6  # in the file's own order
    content = as_archive()
    put(tmp_path, "imdb/aclImdb_v1.tar.gz", content)
    assert read_imdb(tmp_path, imdb_file(content)).y_train.tolist() != imdb.y_train.tolist()
    put(tmp_path, "imdb/aclImdb_v1.tar.gz", b"damaged")
    with pytest.raises(DataError, match=r"aclImdb_v1.tar.gz: damaged, .*md5"):
        catalogue.load("imdb", tmp_path)
    (tmp_path / "imdb/aclImdb_v1.tar.gz").unlink()
    (tmp_path / "imdb/test_5000.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"test_5000.jsonl.gz: no such file"):
        catalogue.load("imdb", tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no review"),
        (as_jsonl(REVIEWS["train"][:3]), "holds only the label 1"),
        (as_jsonl([("fine", 1)]) + b"{\n", "line 2 is no review"),
        (b"[1, 2]\n", "line 1 is no review"),
        (b'{"label": 1}\n', "line 1 is no review .KeyError: 'text'"),
        (b"[" * 100_000, "line 1 is no review"),
        (b"\xff\xfe\n", "line 1 is no review"),
        (as_jsonl([("fine", 2)]), "line 1 has the label 2 and a str"),
        (as_jsonl([("fine", True)]), "line 1 has the label True"),
        (as_jsonl([(None, 1)]), "line 1 has the label 1 and a NoneType"),
    ],
)
def test_what_is_no_file_of_reviews_is_refused(content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        parse_jsonl(content, HERE)
    assert str(caught.value).startswith(f"{HERE}: ")
    assert 'write a JSON object a line: {"label": 0 or 1' in str(caught.value)


def test_the_real_part_as_counted_word_by_word(real_data, monkeypatch):  # noqa: F811
    if not (real_data / "imdb" / "train_5000.jsonl.gz").is_file():
        pytest.skip(f"{real_data} has no imdb/train_5000.jsonl.gz")
    monkeypatch.setattr(text_data, "WORDS", 500)  # as many as keep this test short
    imdb = catalogue.load("imdb", real_data)
    assert_form(imdb)
    assert imdb.x_train.shape == imdb.x_test.shape == (5000, 500)
    assert [np.bincount(y).tolist() for y in (imdb.y_train, imdb.y_test)] == [[2500, 2500]] * 2
    texts = []
    for part in ("train", "test"):
        with gzip.open(real_data / "imdb" / f"{part}_5000.jsonl.gz", "rt") as stream:
            texts.append([json.loads(line)["text"] for line in stream])
    for x, expected in zip((imdb.x_train, imdb.x_test), by_counting(*texts, 500)[1], strict=True):
        np.testing.assert_array_equal(x, expected)
