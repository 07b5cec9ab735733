"""Hashers of unknown origin: an array or a number that is not as its method writes it is refused before it is used."""

import dataclasses

import numpy as np
import pytest

from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect import hasher as hashers
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.methods import METHODS
from jaxhash.hashing.perfect.network import MAX_HIDDEN, Network

HIDDEN, KEYS = 8, 5
NETWORK = Network(
    np.zeros((64, HIDDEN), np.int8),
    np.zeros((HIDDEN, HIDDEN), np.int8),
    np.zeros((HIDDEN, KEYS), np.int8),
    np.zeros(HIDDEN, np.int32),
    np.zeros(HIDDEN, np.int32),
    np.zeros(KEYS, np.int32),
    np.zeros(2, np.int8),
)


@pytest.fixture(scope="module")
def sharded():
    return fit(load_keys("english", count=100), FitConfig(method="sharded"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"weights": p.weights.astype(np.int16)}, "weights int16"),
        (lambda p: {"weights": p.weights[0]}, "weights int8"),
        (lambda p: {"weights": np.zeros((len(p.weights), 33, 2), np.int8)}, "weights int8"),
        (lambda p: {"weights": np.zeros((len(p.weights), 2, 8), np.int8)}, "weights int8"),
        (lambda p: {"attempts": p.attempts[:-1]}, "attempts uint8"),
        (lambda p: {"attempts": p.attempts.astype(np.int32)}, "attempts int32"),
    ],
)
def test_arrays_of_a_sharded_policy(sharded, change, message):
    policy = type(sharded.policy)(*map(np.asarray, sharded.policy))
    METHODS["sharded"].check(policy, 100, 100)
    with pytest.raises(ValueError, match=message):
        METHODS["sharded"].check(policy._replace(**change(policy)), 100, 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.zeros((64, 0), np.int8)}, "0 hidden units"),
        ({"first": np.zeros((), np.int8)}, "0 hidden units"),
        ({"first": np.zeros((64, MAX_HIDDEN + 1), np.int8)}, "1024 hidden units"),
        ({"second": np.zeros((HIDDEN, 9), np.int8)}, r"weights int8\(8, 9\)"),
        ({"output": np.zeros((HIDDEN, KEYS), np.int32)}, "weights int32"),
        ({"second": np.full((HIDDEN, HIDDEN), 2**15 - 1, np.int16)}, "weights of more than"),
    ],
)
def test_arrays_of_a_network(change, message):
    METHODS["network"].check(NETWORK, KEYS, KEYS)
    with pytest.raises(ValueError, match=message):
        METHODS["network"].check(NETWORK._replace(**change), KEYS, KEYS)


@pytest.mark.parametrize("change", [{"num_keys": -1}, {"num_bins": 0}, {"num_bins": True}, {"seed": 2**32}])
def test_numbers_of_a_hasher(sharded, change):
    hashers._check(sharded)
    with pytest.raises(ValueError, match=f"{next(iter(change))}="):
        hashers._check(dataclasses.replace(sharded, **change))
