"""The tests of a hash function, tried on functions whose faults are known, and against brute force and SciPy."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from jaxhash.hashing import quality
from jaxhash.hashing.keys.python_hash import python_bins
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.quality import avalanche, checked_bins, compare_with_python, evenness, pooled
from jaxhash.hashing.study.table import collision_deviation, expected_collisions

WORDS = load_keys("english")
BINS = 200


def of_python(salt):
    return partial(python_bins, num_bins=BINS, salt=salt)


def length(keys):
    return np.array([len(key) % BINS for key in keys])


def a_fifth_unused(keys):
    """Python's hash into four fifths of the bins: more collisions than chance by a known amount."""
    return python_bins(keys, BINS * 4 // 5, 7)


def test_collisions_against_counting():
    seen = []

    def spied(keys):
        seen.extend(keys)
        return of_python(5)(keys)

    found = compare_with_python(spied, WORDS, BINS, sample=50, draws=8, seed=3)
    assert len(set(seen)) == len(seen) == 400
    assert set(seen) <= set(WORDS)
    draws = [seen[i * 50 : (i + 1) * 50] for i in range(8)]
    assert found.collisions.tolist() == [50 - len(set(of_python(5)(draw).tolist())) for draw in draws]
    assert found.expected == expected_collisions(50, BINS)
    reference = stats.ttest_rel(found.collisions, found.python)
    assert found.p_value == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.excess == (found.collisions - found.python).mean()
    again = compare_with_python(of_python(5), WORDS, BINS, sample=50, draws=8, seed=3)
    assert again.python.tolist() == found.python.tolist()


@pytest.mark.slow
def test_python_passes_at_the_rate_that_the_test_promises(monkeypatch):
    """60 salts, each against Python under other salts: p-values are uniform, so a twentieth is below 0.05."""
    monkeypatch.setattr(quality, "PYTHON_SALTS", 2)
    found = [compare_with_python(of_python(s), WORDS, BINS, sample=BINS, draws=8, seed=s) for s in range(1, 61)]
    p_values = np.array([comparison.p_value for comparison in found])
    assert stats.binomtest(int((p_values < 0.05).sum()), len(p_values), 0.05).pvalue > 1e-4
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4
    covered = np.mean([comparison.low <= 0 <= comparison.high for comparison in found])
    assert covered > 0.86
    python = np.concatenate([comparison.python for comparison in found])
    assert abs(python.mean() - found[0].expected) < 4 * collision_deviation(BINS, BINS) / np.sqrt(len(python) * 2)
    assert python.std() == pytest.approx(collision_deviation(BINS, BINS) / np.sqrt(2), rel=0.1)
    evenness_p = np.array([evenness(of_python(s)(WORDS[:4000]), BINS).p_value for s in range(1, 101)])
    assert stats.kstest(evenness_p, "uniform").pvalue > 1e-4


def test_bad_functions_are_found_out():
    found = compare_with_python(length, WORDS, BINS, sample=BINS, draws=12, seed=0)
    assert found.p_value < 1e-10
    assert found.low > 80
    assert evenness(length(WORDS), BINS).p_value < 1e-10
    subtle = compare_with_python(a_fifth_unused, WORDS, BINS, sample=BINS, draws=40, seed=0)
    more = expected_collisions(BINS, BINS * 4 // 5) - expected_collisions(BINS, BINS)
    assert subtle.p_value < 1e-6
    assert subtle.low < more < subtle.high
    assert evenness(a_fifth_unused(WORDS), BINS).p_value < 1e-10


def test_a_function_better_than_chance_is_found_out_too():
    place = {word: i for i, word in enumerate(WORDS)}

    def one_by_one(keys):
        return np.array([place[key] % BINS for key in keys])

    assert evenness(one_by_one(WORDS), BINS).p_value > 1 - 1e-10
    assert evenness(np.arange(BINS), BINS) == evenness(np.arange(BINS)[::-1], BINS)
    assert evenness(np.arange(BINS), BINS).statistic == 0
    small = compare_with_python(lambda keys: np.arange(len(keys)) % 20, WORDS, 20, sample=20, draws=12, seed=0)
    assert small.p_value < 1e-6
    assert small.high < 0


def test_pooled_draws_are_tested_as_one_series():
    first = compare_with_python(of_python(1), WORDS, BINS, sample=50, draws=8, seed=1)
    second = compare_with_python(length, WORDS, BINS, sample=50, draws=5, seed=2)
    both = pooled([first, second])
    differences = np.concatenate([first.collisions - first.python, second.collisions - second.python])
    assert both.excess == differences.mean()
    assert both.p_value == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert len(both.python) == 13
    other = compare_with_python(length, WORDS, BINS, sample=40, draws=5, seed=2)
    for unlike in ([first, other], []):
        with pytest.raises(ValueError, match="do not share their keys and bins"):
            pooled(unlike)


def test_no_spread_is_no_proof():
    same = compare_with_python(lambda keys: np.zeros(len(keys), int), WORDS, 1, sample=5, draws=3, seed=0)
    assert (same.excess, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_evenness_by_its_formula():
    bins = np.random.default_rng(0).integers(0, 7, 100)
    counts = [(bins == i).sum() for i in range(7)]
    found = evenness(bins, 7)
    assert found.statistic == pytest.approx(sum((c - 100 / 7) ** 2 / (100 / 7) for c in counts))
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 6))
    assert found.degrees == 6


def test_avalanche_against_flipping_one_bit_at_a_time():
    keys = [b"apple", b"fig", b"", b"kiwi"]
    bins = 11
    hashed = partial(python_bins, num_bins=bins, salt=9)
    found = avalanche(hashed, keys, bins, positions=6)
    assert found.keys.tolist() == [3, 3, 3, 2, 1, 0]
    assert np.isnan(found.changed[5]).all()
    assert np.isnan(found.flips[5]).all()
    for position in range(5):
        for bit in range(8):
            pairs = []
            for key in keys:
                if len(key) > position:
                    other = bytearray(key)
                    other[position] ^= 1 << bit
                    pairs.append(hashed([key, bytes(other)]).tolist())
            assert found.changed[position, bit] == pytest.approx(np.mean([a != b for a, b in pairs]))
            for out in range(4):
                expected = np.mean([(a >> out & 1) != (b >> out & 1) for a, b in pairs])
                assert found.flips[position, bit, out] == pytest.approx(expected)
    every_pair = [(a, b) for a in range(bins) for b in range(bins)]
    assert found.changed_by_chance == pytest.approx(np.mean([a != b for a, b in every_pair]))
    for out in range(4):
        expected = np.mean([(a >> out & 1) != (b >> out & 1) for a, b in every_pair])
        assert found.flips_by_chance[out] == pytest.approx(expected)


def test_avalanche_tells_pythons_hash_from_one_that_hears_little():
    keys = [word for word in WORDS if len(word) >= 4][:500]
    good = avalanche(of_python(1), keys, BINS, positions=4)
    # 500 keys: a share is within four standard errors of chance.
    error = 4 * np.sqrt(good.changed_by_chance * (1 - good.changed_by_chance) / 500)
    assert np.abs(good.changed - good.changed_by_chance).max() < error
    assert np.abs(good.flips - good.flips_by_chance).max() < 4.5 * np.sqrt(0.25 / 500)
    deaf = avalanche(length, keys, BINS, positions=4)
    assert (deaf.changed == 0).all()
    last_bit = avalanche(lambda some: np.array([key[0] & 1 for key in some]), keys, 2, positions=2)
    assert last_bit.changed.tolist() == [[1.0] + [0.0] * 7, [0.0] * 8]


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ValueError, match="draws=3 of sample=5 need 15 keys, but there are 10"):
        compare_with_python(length, WORDS[:10], BINS, sample=5, draws=3, seed=0)
    with pytest.raises(ValueError, match="a test needs 2 draws"):
        compare_with_python(length, WORDS, BINS, sample=5, draws=1, seed=0)
    with pytest.raises(ValueError, match=r"bins 0 \.\.\. 200 are not all in 0 \.\.\. 199"):
        checked_bins(lambda keys: np.array([0, 200]), [b"a", b"b"], BINS)
    with pytest.raises(ValueError, match="must give one integer for each"):
        checked_bins(lambda keys: np.array([0, 1, 2]), [b"a", b"b"], BINS)
    with pytest.raises(ValueError, match="must give one integer for each"):
        checked_bins(lambda keys: np.array([0.0, 1.0]), [b"a", b"b"], BINS)
    with pytest.raises(ValueError, match="evenness needs a key and two bins"):
        evenness(np.zeros(3, int), 1)
    with pytest.raises(ValueError, match="two bins and one position"):
        avalanche(length, WORDS[:3], 1)
