"""The table against a Python loop over keys, and chance against enumeration and simulation."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxhash.hashing.study.table import (
    collision_deviation,
    collisions,
    expected_collisions,
    largest_bin,
    load_factor,
    occupancy,
    place,
    place_key,
    rewards,
)

# Shapes are fixed, so that each function is compiled once: what varies are the bins.
NUM_KEYS, NUM_BINS = 12, 7
bin_lists = st.lists(st.integers(-3, NUM_BINS + 2), min_size=NUM_KEYS, max_size=NUM_KEYS)
tables = st.lists(st.booleans(), min_size=NUM_BINS, max_size=NUM_BINS)


def one_by_one(bins, occupied):
    """The study's table in plain Python."""
    occupied, earned = list(occupied), []
    for chosen in bins:
        empty = 0 <= chosen < len(occupied) and not occupied[chosen]
        earned.append(10.0 if empty else -10.0)
        if empty:
            occupied[chosen] = True
    return earned, occupied


@given(bin_lists, tables)
@settings(max_examples=100, deadline=None)
def test_a_batch_is_placed_as_keys_one_after_another(bins, occupied):
    earned, afterwards = one_by_one(bins, occupied)
    placed = place(jnp.asarray(bins), NUM_BINS, jnp.asarray(occupied))
    assert placed.rewards.tolist() == earned
    assert placed.occupied.tolist() == afterwards
    assert placed.rewards.dtype == jnp.float32
    last, scanned = jax.lax.scan(place_key, jnp.asarray(occupied), jnp.asarray(bins))
    assert scanned.tolist() == earned
    assert last.tolist() == afterwards


@given(bin_lists)
@settings(max_examples=50, deadline=None)
def test_two_batches_earn_what_one_does(bins):
    whole = place(jnp.asarray(bins), NUM_BINS)
    first = place(jnp.asarray(bins[:5]), NUM_BINS)
    second = place(jnp.asarray(bins[5:]), NUM_BINS, first.occupied)
    assert first.rewards.tolist() + second.rewards.tolist() == whole.rewards.tolist()
    assert second.occupied.tolist() == whole.occupied.tolist()


@given(bin_lists)
@settings(max_examples=100, deadline=None)
def test_counts_against_numpy(bins):
    inside = [chosen for chosen in bins if 0 <= chosen < NUM_BINS]
    counts = np.bincount(inside, minlength=NUM_BINS) if inside else np.zeros(NUM_BINS, int)
    some = jnp.asarray(bins)
    assert occupancy(some, NUM_BINS).tolist() == counts.tolist()
    assert collisions(some, NUM_BINS) == NUM_KEYS - len(set(inside))
    assert largest_bin(some, NUM_BINS) == counts.max()
    # The first into each bin earns 10, every collision costs 10.
    assert rewards(some, NUM_BINS).sum() == 10 * (NUM_KEYS - 2 * int(collisions(some, NUM_BINS)))


def test_tables_side_by_side():
    bins = jnp.asarray(np.random.default_rng(0).integers(0, NUM_BINS, (4, NUM_KEYS)), jnp.int32)
    together = jax.vmap(lambda some: place(some, NUM_BINS))(bins)
    for i, some in enumerate(bins.tolist()):
        earned, occupied = one_by_one(some, [False] * NUM_BINS)
        assert together.rewards[i].tolist() == earned
        assert together.occupied[i].tolist() == occupied
    assert jax.vmap(lambda some: collisions(some, NUM_BINS))(bins).tolist() == [
        NUM_KEYS - len(set(some)) for some in bins.tolist()
    ]


def test_no_keys():
    none = jnp.zeros(0, jnp.int32)
    assert place(none, 3).rewards.shape == (0,)
    assert collisions(none, 3) == largest_bin(none, 3) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 3), (1, 1), (5, 1), (1, 4), (4, 2), (3, 3), (5, 4), (2, 6)])
def test_chance_against_every_table_there_is(n, m):
    """All m^n ways in which n keys fall into m bins."""
    found = [n - len(set(ways)) for ways in itertools.product(range(m), repeat=n)]
    assert expected_collisions(n, m) == pytest.approx(np.mean(found), abs=1e-12)
    assert collision_deviation(n, m) == pytest.approx(np.std(found), abs=1e-7)


def test_chance_at_the_studys_sizes():
    assert expected_collisions(1000, 1000) == pytest.approx(1000 / math.e, rel=1e-3)
    # In 2^40 bins every pair of keys collides there with probability 2^-40.
    assert expected_collisions(1000, 2**40) == pytest.approx(1000 * 999 / 2 / 2**40, rel=1e-3)
    rng = np.random.default_rng(1)
    drawn = [2000 - len(np.unique(rng.integers(0, 1500, 2000))) for _ in range(2000)]
    standard_error = collision_deviation(2000, 1500) / math.sqrt(len(drawn))
    assert abs(np.mean(drawn) - expected_collisions(2000, 1500)) < 4 * standard_error
    assert np.std(drawn) == pytest.approx(collision_deviation(2000, 1500), rel=4 / math.sqrt(2 * len(drawn)))
    assert collision_deviation(466_551, 466_551) == pytest.approx(
        math.sqrt(466_551 * (math.exp(-1) - 2 * math.exp(-2))), rel=1e-4
    )


def test_tables_that_cannot_be_are_refused():
    none = jnp.zeros(2, jnp.int32)
    for function in (place, occupancy, collisions, largest_bin):
        with pytest.raises(ValueError, match="num_bins=0 is less than 1"):
            function(none, 0)
    with pytest.raises(ValueError, match="num_bins=3 but occupied has shape"):
        place(none, 3, jnp.zeros(2, bool))
    with pytest.raises(ValueError, match="num_keys=-1 is negative"):
        expected_collisions(-1, 3)
    assert load_factor(3, 4) == 0.75
