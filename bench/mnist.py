"""The data of the benchmarks: MNIST, or numbers of its shape where it cannot be had."""

import numpy as np

from jaxhash.data import DataError, Dataset, load


def load_or_imitate(data_dir: str | None) -> tuple[Dataset, str]:
    """MNIST and its name; without the files and without a network, random pixels and labels of the same shapes."""
    try:
        return load("mnist", data_dir), "MNIST"
    except DataError:
        rng = np.random.default_rng(0)
        x = [rng.random((n, 784), np.float32) for n in (48_000, 12_000, 10_000)]
        y = [rng.integers(0, 10, len(part)).astype(np.int32) for part in x]
        return Dataset("random pixels", x[0], y[0], x[1], y[1], x[2], y[2], 10), "random pixels"
