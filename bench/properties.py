"""Are the encoding properties of a model measured faster here than with scikit-learn and FAISS?

Trains one 100-unit network on MNIST, and measures everything the study measures of its 48,000 + 10,000 codes: with
`jaxhash.codes.properties.measure`, with scikit-learn as the study's authors call it, and the nearest neighbours with FAISS
besides, turn by turn in one run. Prints seconds and ratios, and whether the answers agree.

    python -m bench.properties            # about 3 minutes on 2 cores
    python -m bench.properties --quick    # a quarter of the codes: under a minute
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.mnist import load_or_imitate
from jaxhash.codes.code import pack, redundancy_ratio
from jaxhash.codes.kmeans import kmeans
from jaxhash.codes.knn import knn_predict, nearest
from jaxhash.codes.logistic import fit, predict
from jaxhash.codes.properties import NEIGHBOURS, RESTARTS, measure
from jaxhash.data import Dataset
from jaxhash.models.mlp import ModelConfig
from jaxhash.training.evaluate import make_evaluate
from jaxhash.training.mlp import TrainConfig, epoch_order, init_state, make_epoch
from jaxhash.training.population import plan_blocks

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Config:
    """Measure the encoding properties of one model against scikit-learn and FAISS."""

    quick: bool = False
    """A quarter of the codes and one round: under a minute on 2 cores, and less exact."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""
    data_dir: str | None = None
    """Where mnist/ is looked up (default: JAXHASH_DATA_DIR); without it, random pixels of the same shape serve."""
    width: int = 100
    """Hidden units, so bits of a code."""


@dataclass(frozen=True)
class Codes:
    """What every peer gets, each in the form it is fastest with."""

    train: np.ndarray
    """Bool [n, bits]."""
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    train_words: jax.Array
    test_words: jax.Array


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    console = Console(stderr=True)
    data, source = load_or_imitate(config.data_dir)
    console.print(f"training a network of {config.width} units on {source} ...")
    codes = _codes(data, config)
    ours, theirs = _ours(codes), _scikit_learn(codes)
    faiss_search = _faiss(codes)
    start = time.perf_counter()
    answers = {name: run() for name, run in ours.items()}
    compile_seconds = time.perf_counter() - start
    peer_answers: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {}
    rounds = 1 if config.quick else 3
    for number in range(rounds):
        for name in ours:
            console.print(f"round {number + 1} of {rounds}: {name:30}", end="\r")
            # The short ones several times, and in between the long ones, so that all see the same machine.
            for _ in range(3):
                _timed(seconds, f"jaxhash {name}", ours[name])
            if name == "9-NN":
                for _ in range(3):
                    peer_answers["FAISS"] = _timed(seconds, "FAISS 9-NN", faiss_search)
            if name in theirs:
                peer_answers[name] = _timed(seconds, f"scikit-learn {name}", theirs[name])
    middle = {name: float(np.median(s)) for name, s in seconds.items()}
    peer_total = sum(middle[f"scikit-learn {name}"] for name in theirs)
    result: dict[str, Any] = {
        "ratio_vs_sklearn": peer_total / middle["jaxhash all together"],
        "knn_vs_faiss": middle["FAISS 9-NN"] / middle["jaxhash 9-NN"],
        "ratios": {name: middle[f"scikit-learn {name}"] / middle[f"jaxhash {name}"] for name in theirs},
        "compile_seconds": compile_seconds - sum(middle[f"jaxhash {name}"] for name in ours),
        "agreement": _agreement(codes, answers, peer_answers),
        "seconds": seconds,
        "data": source,
        "codes": [len(codes.train), len(codes.test)],
        "bits": config.width,
        "quick": config.quick,
        "machine": machine.describe("scikit-learn", "faiss-cpu"),
    }

    table = Table(title=f"{len(codes.train):,} + {len(codes.test):,} codes of {config.width} bits ({source})")
    for column in ("", "jaxhash", "scikit-learn", "ratio", "FAISS", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name in theirs:
        mine, peer = middle[f"jaxhash {name}"], middle[f"scikit-learn {name}"]
        more = (f"{middle['FAISS 9-NN']:.2f} s", f"{result['knn_vs_faiss']:.2f}x") if name == "9-NN" else ("", "")
        table.add_row(name, f"{mine:.3f} s", f"{peer:.2f} s", f"{peer / mine:.0f}x", *more)
    together = middle["jaxhash all together"]
    table.add_row("all together", f"{together:.3f} s", f"{peer_total:.2f} s", f"{peer_total / together:.0f}x", "", "")
    out = Console(width=100)
    out.print(table)
    for sentence in result["agreement"]:
        out.print(f"- {sentence}")
    out.print(f"Compiling took {result['compile_seconds']:.1f} s and is not in these times.")
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")


def _timed(seconds: dict[str, list[float]], name: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    answer = run()
    seconds.setdefault(name, []).append(time.perf_counter() - start)
    return answer


def _codes(data: Dataset, config: Config) -> Codes:
    """Five epochs at the study's recipe: the codes are near their final shape by then."""
    (block,) = plan_blocks((config.width,), ModelConfig(), data.features, data.num_classes, units_per_block=10**9)
    train = TrainConfig()
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    epoch = jax.jit(make_epoch(block, train), donate_argnums=0)
    state = jax.jit(partial(init_state, block))(KEY)
    for number in range(5):
        state, _ = epoch(state, KEY, epoch_order(KEY, number, len(x), train.batch_size), x, y)
    share = 4 if config.quick else 1
    evaluate = jax.jit(make_evaluate(block))
    bits = []
    for some_x, some_y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        n = len(some_x) // share
        words = evaluate(state.params, state.stats, jnp.asarray(some_x[:n]), jnp.asarray(some_y[:n])).words[0]
        unpacked = np.unpackbits(np.asarray(words).view(np.uint8), axis=1, bitorder="little")[:, : config.width]
        bits.append(unpacked.astype(bool))
    varying = np.concatenate(bits).any(0) & ~np.concatenate(bits).all(0)
    train_bits, test_bits = bits[0][:, varying], bits[1][:, varying]
    return Codes(
        train_bits,
        test_bits,
        data.y_train[: len(train_bits)],
        data.y_test[: len(test_bits)],
        pack(jnp.asarray(train_bits)),
        pack(jnp.asarray(test_bits)),
    )


def _ours(codes: Codes) -> dict[str, Callable[[], Any]]:
    train_labels, test_labels = jnp.asarray(codes.train_labels), jnp.asarray(codes.test_labels)
    train, test = codes.train_words, codes.test_words
    return {
        "distinct codes": lambda: (redundancy_ratio(train), redundancy_ratio(test)),
        "K-Means, training codes": lambda: float(kmeans(KEY, train, 10, restarts=RESTARTS).inertia),
        "K-Means, test codes": lambda: float(kmeans(KEY, test, 10, restarts=RESTARTS).inertia),
        "9-NN": lambda: np.asarray(knn_predict(train, train_labels, test, k=NEIGHBOURS, num_classes=10)),
        "logistic regression": lambda: np.asarray(predict(fit(train, train_labels, num_classes=10), test)),
        "all together": lambda: measure(KEY, train, train_labels, test, test_labels, num_classes=10),
    }


def _scikit_learn(codes: Codes) -> dict[str, Callable[[], Any]]:
    """The calls of the study's authors, who pass int8; float32, and bool for k-NN, are faster."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsOneClassifier
    from sklearn.neighbors import KNeighborsClassifier

    train, test = codes.train.astype(np.float32), codes.test.astype(np.float32)

    def distinct() -> tuple[float, float]:
        count = partial(np.unique, axis=0)
        return 1 - len(count(codes.train)) / len(codes.train), 1 - len(count(codes.test)) / len(codes.test)

    def neighbours() -> np.ndarray:
        model = KNeighborsClassifier(NEIGHBOURS, metric="hamming").fit(codes.train, codes.train_labels)
        return model.predict(codes.test)

    def logistic() -> np.ndarray:
        model = OneVsOneClassifier(LogisticRegression(max_iter=1000)).fit(train, codes.train_labels)
        return model.predict(test)

    return {
        "distinct codes": distinct,
        "K-Means, training codes": lambda: KMeans(10, n_init=RESTARTS, random_state=0).fit(train).inertia_,
        "K-Means, test codes": lambda: KMeans(10, n_init=RESTARTS, random_state=0).fit(test).inertia_,
        "9-NN": neighbours,
        "logistic regression": logistic,
    }


def _faiss(codes: Codes) -> Callable[[], np.ndarray]:
    """Exact search on packed bytes, all cores; building the index is part of the time, as it is in ours."""
    import faiss

    def packed(words: jax.Array) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(words)).view(np.uint8)

    train, test = packed(codes.train_words), packed(codes.test_words)

    def search() -> np.ndarray:
        index = faiss.IndexBinaryFlat(train.shape[1] * 8)
        index.add(train)
        return index.search(test, NEIGHBOURS)[0]

    return search


def _agreement(codes: Codes, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What the peers' answers say of ours, in sentences."""
    same_ratios = ours["distinct codes"] == tuple(np.float64(r) for r in theirs["distinct codes"])
    off = max(abs(a - b) for a, b in zip(ours["distinct codes"], theirs["distinct codes"], strict=True))
    distances = np.asarray(nearest(codes.train_words, codes.test_words, k=NEIGHBOURS)[0])
    wrong = int((distances != theirs["FAISS"]).sum())
    labels = codes.test_labels
    sentences = [
        f"redundancy ratios equal NumPy's{'' if same_ratios else f' to {off:.1e}'}",
        f"{wrong} of {distances.size:,} neighbour distances differ from FAISS'",
        f"9-NN predicts {(ours['9-NN'] == theirs['9-NN']).mean():.2%} of the test examples as scikit-learn does "
        f"(accuracy {(ours['9-NN'] == labels).mean():.4f} and {(theirs['9-NN'] == labels).mean():.4f}; "
        "they settle ties among neighbours differently)",
        f"logistic regression: accuracy {(ours['logistic regression'] == labels).mean():.4f} and "
        f"{(theirs['logistic regression'] == labels).mean():.4f}",
    ]
    for name in ("K-Means, training codes", "K-Means, test codes"):
        sentences.append(f"{name}: inertia {ours[name] / theirs[name] - 1:+.2%} against scikit-learn's")
    return sentences


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
