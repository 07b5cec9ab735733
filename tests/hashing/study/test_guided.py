"""Good bins against a plain Python auction, and what being shown them leads to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxhash.hashing.study.guided import GuidedConfig, good_bins


def plain_good_bins(logits):
    """The rounds in plain Python, on the same log probabilities."""
    liking = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
    n, num_bins = liking.shape
    bins, free = [-1] * n, set(range(num_bins))
    while -1 in bins:
        proposals = {}
        for key in range(n):
            if bins[key] < 0:
                wish = max(sorted(free), key=lambda b: liking[key, b])
                proposals.setdefault(wish, []).append(key)
        for wish, rivals in proposals.items():
            winner = max(rivals, key=lambda key: (liking[key, wish], -key))
            bins[winner] = wish
            free.discard(wish)
    return bins


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_good_bins_are_those_of_a_plain_auction(seed, ties):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(7, 9)).astype(np.float32)
    if ties:
        logits = np.round(logits)
    found = np.asarray(jax.jit(good_bins)(jnp.asarray(logits)))
    assert found.tolist() == plain_good_bins(logits)
    assert len(set(found.tolist())) == 7


def test_a_policy_without_collisions_is_shown_its_own_bins():
    logits = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    logits[np.arange(7), np.arange(7) + 1] += 20
    assert np.asarray(good_bins(jnp.asarray(logits))).tolist() == list(range(1, 8))


def test_keys_that_all_like_the_same_get_a_bin_each():
    found = np.asarray(jax.jit(good_bins)(jnp.zeros((5, 5))))
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]


def test_more_keys_than_bins_are_refused():
    with pytest.raises(ValueError, match="a perfect hash needs num_bins >= 20"):
        GuidedConfig(num_bins=10, batch_size=20)
