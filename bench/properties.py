"""Encoding properties of a model: measured faster here than with scikit-learn and FAISS?

Trains one 100-unit network on MNIST, and measures everything the study measures of its 48,000 + 10,000 codes: with
jaxhash, with scikit-learn as the study's authors call it, and the nearest neighbours with FAISS besides, turn by turn
in one run. Prints seconds and ratios, and whether the answers agree.

    python -m bench.properties            # about 3 minutes on 2 cores
    python -m bench.properties --quick    # a quarter of the codes: under a minute
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bench import harness
from bench.data import mnist
from jaxhash.codes import Code, kmeans, knn, logistic, measure, nearest, redundancy
from jaxhash.codes.properties import NEIGHBOURS, RESTARTS
from jaxhash.data import Dataset
from jaxhash.models.mlp import ModelConfig
from jaxhash.training.evaluate import make_evaluate
from jaxhash.training.mlp import TrainConfig, epoch_order, init_state, make_epoch
from jaxhash.training.population import plan_blocks

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Config(harness.Options):
    """Measure the encoding properties of one model; --quick: on a quarter of its codes."""

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
    train_code: Code
    test_code: Code


def main(config: Config) -> None:
    """Run the benchmark and print it."""
    data, source = mnist(config.data_dir)
    harness.say(f"training a network of {config.width} units on {source} ...")
    codes = codes_of(data, config)
    works_of_ours, theirs = ours(codes), _scikit_learn(codes)
    first, answers = harness.interleaved(works_of_ours, 1)
    works: dict[str, harness.Timed] = {}
    for name, run in works_of_ours.items():
        # The short ones several times, and in between the long ones, so that all see the same machine.
        works[f"jaxhash {name}"] = harness.Work(run, times=3)
        if name == "9-NN" and (search := _faiss(codes)) is not None:
            works["FAISS 9-NN"] = harness.Work(search, times=3)
        if name in theirs:
            works[f"scikit-learn {name}"] = theirs[name]
    seconds, latest = harness.interleaved(works, 1 if config.quick else 3)
    result = figures(first, seconds) | {
        "agreement": _agreement(codes, answers, latest),
        "data": source,
        "codes": [len(codes.train), len(codes.test)],
        "bits": config.width,
    }
    middle, faiss = result["median_seconds"], result["knn_vs_faiss"]
    rows = []
    for name, ratio in (result["ratios"] | {"all together": result["ratio_vs_sklearn"]}).items():
        mine = middle[f"jaxhash {name}"]
        more = (f"{faiss * mine:.2f} s", f"{faiss:.2f}x") if name == "9-NN" and faiss else ("", "")
        rows.append((name, f"{mine:.3f} s", f"{ratio * mine:.2f} s", f"{ratio:.0f}x", *more))
    harness.show(
        f"{len(codes.train):,} + {len(codes.test):,} codes of {config.width} bits ({source})",
        ("", "jaxhash", "scikit-learn", "ratio", "FAISS", "ratio"),
        rows,
        *result["agreement"],
        f"compiling took {result['compile_seconds']:.1f} s and is not in these times",
    )
    harness.finish("properties", config, result, "scikit-learn", "faiss-cpu")


def figures(first: dict[str, list[float]], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The ratios.

    Args:
        first: seconds of each of our parts when it was run for the first time, and so compiled.
        seconds: of ours and the peers', afterwards.
    """
    middle = harness.medians(seconds)
    peer = {name: middle[f"scikit-learn {name}"] for name in first if f"scikit-learn {name}" in middle}
    faiss = middle.get("FAISS 9-NN")
    return {
        "ratio_vs_sklearn": sum(peer.values()) / middle["jaxhash all together"],
        "knn_vs_faiss": faiss and faiss / middle["jaxhash 9-NN"],
        "ratios": {name: took / middle[f"jaxhash {name}"] for name, took in peer.items()},
        "compile_seconds": sum(took - middle[f"jaxhash {name}"] for name, (took,) in first.items()),
        "median_seconds": middle,
        "spread": harness.spreads(seconds),
        "seconds": seconds,
    }


def codes_of(data: Dataset, config: Config) -> Codes:
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
        Code.of(train_bits),
        Code.of(test_bits),
    )


def ours(codes: Codes) -> dict[str, Callable[[], Any]]:
    """Each part of what the study measures, and all of it."""
    train_labels, test_labels = jnp.asarray(codes.train_labels), jnp.asarray(codes.test_labels)
    train, test = codes.train_code, codes.test_code
    return {
        "distinct codes": lambda: (redundancy(train), redundancy(test)),
        "K-Means, training codes": lambda: float(kmeans(KEY, train, 10, restarts=RESTARTS).inertia),
        "K-Means, test codes": lambda: float(kmeans(KEY, test, 10, restarts=RESTARTS).inertia),
        "9-NN": lambda: np.asarray(knn(train, train_labels, test, k=NEIGHBOURS, num_classes=10)),
        "logistic regression": lambda: np.asarray(logistic(train, train_labels, test, num_classes=10)),
        "all together": lambda: measure(train, train_labels, test, test_labels, key=KEY, num_classes=10),
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


def _faiss(codes: Codes) -> Callable[[], np.ndarray] | None:
    """Exact search on packed bytes, all cores; building the index is part of the time, as it is in ours."""
    if (faiss := harness.peer("faiss")) is None:
        return None
    train, test = (
        np.ascontiguousarray(words).view(np.uint8) for words in (codes.train_code.words, codes.test_code.words)
    )

    def search() -> np.ndarray:
        index = faiss.IndexBinaryFlat(train.shape[1] * 8)
        index.add(train)
        return index.search(test, NEIGHBOURS)[0]

    return search


def _agreement(codes: Codes, ours: dict[str, Any], latest: dict[str, Any]) -> list[str]:
    """What the peers' answers say of ours, in sentences."""
    theirs = {name: latest[f"scikit-learn {name}"] for name in ours if f"scikit-learn {name}" in latest}
    off = max(abs(a - b) for a, b in zip(ours["distinct codes"], theirs["distinct codes"], strict=True))
    sentences = [f"redundancy ratios equal NumPy's{f' to {off:.1e}' if off else ''}"]
    if "FAISS 9-NN" in latest:
        distances = np.asarray(nearest(codes.train_code, codes.test_code, k=NEIGHBOURS)[0])
        wrong = int((distances != latest["FAISS 9-NN"]).sum())
        sentences.append(f"{wrong} of {distances.size:,} neighbour distances differ from FAISS'")
    (knn, other_knn), (logistic, other_logistic) = (
        [(answers[name] == codes.test_labels).mean() for answers in (ours, theirs)]
        for name in ("9-NN", "logistic regression")
    )
    sentences += [
        f"9-NN predicts {(ours['9-NN'] == theirs['9-NN']).mean():.2%} of the test examples as scikit-learn does "
        f"(accuracy {knn:.4f} and {other_knn:.4f}; they settle ties among neighbours differently)",
        f"logistic regression: accuracy {logistic:.4f} and {other_logistic:.4f}",
    ]
    for name in ("K-Means, training codes", "K-Means, test codes"):
        sentences.append(f"{name}: inertia {ours[name] / theirs[name] - 1:+.2%} against scikit-learn's")
    return sentences


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
