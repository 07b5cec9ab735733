"""Policies of few bits: the closed form against all draws, the rounding against its levels, and the command."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments import hash_buckets
from experiments.hash_buckets import Config


def test_the_closed_form_is_the_mean_over_all_draws(monkeypatch):
    """Three keys, four codes: the probability that a code is drawn, summed over all 64 outcomes."""
    monkeypatch.setattr(hash_buckets, "OUTPUTS", 2)
    logits = np.random.default_rng(0).normal(0, 1, (3, 2))
    one = 1 / (1 + np.exp(-logits))
    p = np.stack([(1 - one[:, 0]) * (1 - one[:, 1]), (1 - one[:, 0]) * one[:, 1], one[:, 0] * (1 - one[:, 1])], 1)
    p = np.concatenate([p, 1 - p.sum(1, keepdims=True)], 1)
    occupied = np.zeros(4)
    for codes in product(range(4), repeat=3):
        occupied[list(set(codes))] += np.prod(p[range(3), codes])
    assert float(hash_buckets.log_occupied(jnp.asarray(logits))) == pytest.approx(np.log(occupied).mean(), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_rounded_weights_have_so_many_levels(bits):
    weights = jnp.linspace(-1.2, 1.2, 5001)[:, None]
    levels = np.unique(np.asarray(hash_buckets.rounded(weights, bits)))
    np.testing.assert_allclose(levels, (np.arange(2**bits) + 0.5) / 2 ** (bits - 1) - 1, atol=1e-6)
    inside = weights[np.abs(weights[:, 0]) < 1]
    assert float(jnp.abs(hash_buckets.rounded(inside, bits) - inside).max()) <= 2.0**-bits + 1e-6


def test_collisions_are_those_of_the_most_probable_codes():
    logits = np.random.default_rng(1).normal(0, 1, (32, 5)).astype(np.float32)
    codes = {tuple(row) for row in (logits > 0).tolist()}
    assert int(hash_buckets.collisions(jnp.asarray(logits))) == 32 - len(codes)


def test_the_command_compares_both_learners(tmp_path):
    """With many inputs a policy is free enough: then nearly every bucket becomes perfect."""
    hash_buckets.body(Config(buckets=16, inputs=(16,), bits=(3, 8), initial_weights=(45,), out=tmp_path))
    table = pd.read_csv(tmp_path / "hash_buckets.csv").set_index(["learner", "bits"])
    assert table.loc[("expected_return", 3), "perfect"] > 0.6
    assert table.loc[("shown_bins", 8), "perfect"] > 0.3
    assert table.loc[("expected_return", 3), "weight_bits_per_key"] == 16 * 5 * 3 / 32


def test_a_rounded_policy_learns_and_an_untrained_one_does_not():
    signs = jnp.asarray(np.random.default_rng(2).choice([-1.0, 1.0], (32, 14)), jnp.float32)
    after = [int(jax.jit(hash_buckets.make_train(3, steps))(jax.random.key(0), signs)) for steps in (1, 300)]
    assert after[0] > 5 > after[1]
