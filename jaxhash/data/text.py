"""IMDB reviews (Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis"), as bags of words.

A feature is 1 if one of the 10,000 words that are most frequent in the training texts occurs in the review, else 0
(words as frequent as each other: in the order of the alphabet). Words are separated as by Keras' Tokenizer: in lower
case, parted by white space and by every ASCII punctuation mark except the apostrophe (so `<br />` leaves the word
"br"). The authors of arXiv 2101.05490 take Keras' ready-made bags: 9,996 words, and marks for the start of a text and
for any other word, which these lack. Labels: 0 negative, 1 positive.

All 25,000 training reviews train, as in the study, and 25,000 test; nothing validates. The bags of both, in float32,
are 1 GB each; the whole archive stands in the folder or is downloaded, 84 MB, and is read without being unpacked.
"""

import io
import json
import re
import string
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxhash.data.dataset import Dataset
from jaxhash.data.download import DataError, DataFile, fetch, read_gzip

IMDB = DataFile(
    "imdb/aclImdb_v1.tar.gz",
    "md5:7c2ac02c03563afcf9b574c7e56c153a",
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
)
SUBSET = ("imdb/train_5000.jsonl.gz", "imdb/test_5000.jsonl.gz")
"""A part of the reviews that may stand in a local folder in place of the archive: a JSON object a line, with `label`
(0 or 1) and `text`, already shuffled."""
WORDS = 10_000
"""Words in a bag, at most."""

_MEMBER = re.compile(r"aclImdb/(train|test)/(neg|pos)/\d+_\d+\.txt")
_MOST_BYTES_A_REVIEW = 2**20
_WORD = rf"[^\s{re.escape(string.punctuation.replace(chr(39), ''))}]+"
# So that the first n reviews are a sample of all: in the archive the negative ones come first.
_SHUFFLE_SEED = 0


class Reviews(NamedTuple):
    """Texts and their labels, 0 or 1."""

    texts: list[str]
    labels: list[int]


def read_imdb(folder: Path | None, archive: DataFile = IMDB) -> Dataset:
    """The dataset, at most `WORDS` features, 2 classes.

    The archive if it stands in `folder`, else `SUBSET` if that does, else the archive out of the cache or the network.

    Raises:
        DataError: if a file is missing, damaged, or not in its format.
    """
    subset = None if folder is None or (folder / archive.path).exists() else [folder / name for name in SUBSET]
    if subset is not None and any(path.exists() for path in subset):
        train, test = (parse_jsonl(read_gzip(path), path) for path in subset)
    else:
        path, content = fetch(archive, folder)
        train, test = parse_archive(content, path)
    x_train, x_test = bags(train.texts, test.texts)
    y_train, y_test = (np.array(part.labels, np.int32) for part in (train, test))
    return Dataset("imdb", x_train, y_train, x_train[:0], y_train[:0], x_test, y_test, 2)


def bags(
    train: Sequence[str], test: Sequence[str]
) -> tuple[Float32[np.ndarray, "train words"], Float32[np.ndarray, "test words"]]:
    """Which of the `WORDS` words that occur most often in the training texts occur in each text: 1 or 0.

    The most frequent word first, words as frequent as each other in the order of the alphabet.

    >>> bags(["good film", "bad film"], ["so bad"])[1].tolist()  # film, bad, good
    [[0.0, 1.0, 0.0]]
    """
    from sklearn.feature_extraction.text import CountVectorizer  # here, because its import takes more than a second

    counter = CountVectorizer(token_pattern=_WORD)
    counts = counter.fit_transform(train)  # columns in the order of the alphabet
    # Not its `max_features`: that keeps any of the words as frequent as each other, and leaves the alphabet's order.
    words = np.argsort(-np.asarray(counts.sum(axis=0))[0], kind="stable")[:WORDS]
    x_train, x_test = ((part[:, words] > 0).astype(np.float32).toarray() for part in (counts, counter.transform(test)))
    return x_train, x_test


def parse_jsonl(content: bytes, path: Path) -> Reviews:
    """Reviews out of a JSON object a line.

    Raises:
        DataError: if a line is none, or a label is missing among all; names the line.
    """
    mend = 'write a JSON object a line: {"label": 0 or 1, "text": "..."}'
    reviews = Reviews([], [])
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            text, label = record["text"], record["label"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is no review ({type(error).__name__}: {error}); {mend}") from error
        if type(text) is not str or type(label) is not int or label not in (0, 1):
            raise DataError(f"{path}: line {number} has the label {label!r:.40} and a {type(text).__name__}; {mend}")
        reviews.texts.append(text)
        reviews.labels.append(label)
    return _with_both_labels(reviews, path, mend)


def parse_archive(content: bytes, path: Path) -> tuple[Reviews, Reviews]:
    """Training and test reviews out of the published archive, in an order drawn once and for all.

    Raises:
        DataError: if it is no such archive.
    """
    mend = f"get the file again from {IMDB.url}"
    found: dict[str, list[tuple[str, str, int]]] = {"train": [], "test": []}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as packed:
            for member in packed:
                match = _MEMBER.fullmatch(member.name)
                stream = packed.extractfile(member) if match and member.isreg() else None
                if match is None or stream is None:
                    continue
                if member.size > _MOST_BYTES_A_REVIEW:
                    raise DataError(f"{path}: {member.name} claims {member.size:,} bytes, no review is so long; {mend}")
                text = stream.read().decode("utf-8", "replace")
                found[match[1]].append((member.name, text, int(match[2] == "pos")))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a whole .tar.gz ({type(error).__name__}: {error}); {mend}") from error
    train, test = (_shuffled(sorted(part)) for part in found.values())
    return _with_both_labels(train, path, mend), _with_both_labels(test, path, mend)


def _shuffled(found: list[tuple[str, str, int]]) -> Reviews:
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(found))
    return Reviews([found[i][1] for i in order], [found[i][2] for i in order])


def _with_both_labels(reviews: Reviews, path: Path, mend: str) -> Reviews:
    if set(reviews.labels) != {0, 1}:
        found = f"only the label {reviews.labels[0]}" if reviews.labels else "no review"
        raise DataError(f"{path}: holds {found} where 0 and 1 are expected; {mend}")
    return reviews
