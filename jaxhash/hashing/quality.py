"""Quality of a hash function on unseen keys: collisions beside Python's hash, evenness, avalanche.

A hash function here is anything that maps n keys to n bins, such as a trained `Hasher` or
`partial(python_bins, num_bins=m, salt=s)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float64, Int, Int64
from scipy import stats

from jaxhash.hashing.keys.python_hash import MAX_SALT, python_bins
from jaxhash.hashing.study.table import expected_collisions

HashFunction = Callable[[Sequence[bytes]], Int[np.ndarray | Array, " n"]]

PYTHON_SALTS = 10
"""Salts under which Python hashes a draw: one alone has as much luck as what is compared with it."""


# Compared by identity: arrays have no single answer to ==.
@dataclass(frozen=True, eq=False)
class Comparison:
    """Collisions of a hash function and of Python's on the same keys, draw by draw."""

    collisions: Int64[np.ndarray, " draws"]
    python: Float64[np.ndarray, " draws"]
    """Mean over `PYTHON_SALTS` salts, other ones for each draw."""
    expected: float
    """By chance, in every draw."""
    excess: float
    """Mean of collisions - python."""
    low: float
    """Lower end of the excess's 95 % confidence interval."""
    high: float
    """Its upper end."""
    p_value: float
    """Probability of an excess at least so far from 0, either way, if both behaved alike."""


@dataclass(frozen=True)
class Evenness:
    """Pearson's chi-square test that keys fall into all bins alike."""

    statistic: float
    """Sum over bins of (keys - n/m)^2 / (n/m)."""
    degrees: int
    """m - 1: what the statistic is on average by chance. Less is more even than chance, 0 perfectly even."""
    p_value: float
    """Probability of a statistic at least so large by chance."""


@dataclass(frozen=True, eq=False)
class Avalanche:
    """What flipping one bit of a key does to its bin: shares of keys, and what chance would give."""

    changed: Float64[np.ndarray, "positions 8"]
    """Keys whose bin changes, by the byte and the bit (lowest first) flipped; NaN where no key has that byte."""
    flips: Float64[np.ndarray, "positions 8 bits"]
    """Keys of which the bin's bit (lowest first) flips."""
    keys: Int64[np.ndarray, " positions"]
    """Keys long enough to have the byte."""
    changed_by_chance: float
    """1 - 1/m."""
    flips_by_chance: Float64[np.ndarray, " bits"]
    """2 p (1 - p), where p is the share of bins in which the bit is 1: 1/2 if m is a power of two."""


def compare_with_python(
    hash_function: HashFunction, keys: Sequence[bytes], num_bins: int, sample: int, draws: int, seed: int
) -> Comparison:
    """Collisions of `sample` keys in `num_bins` bins under a hash function and under Python's, over many draws.

    No key is in two draws, so that the draws are independent however the function came about; the difference to
    Python's mean collisions on the same keys is tested by Student's paired t-test, two-sided.

    Args:
        hash_function: called once, on all keys that are drawn.
        keys: different keys, none of which the function was trained on.
        num_bins: bins of the function, 1 or more.
        sample: keys in a draw, 1 or more.
        draws: 2 or more; draws * sample is at most the number of keys.
        seed: of the draws and of Python's salts, 0 or more.

    Raises:
        ValueError: if there are too few keys or draws, or the function's bins are not n numbers in 0 ... num_bins - 1.
    """
    if draws < 2 or sample < 1:
        raise ValueError(f"draws={draws}, sample={sample}: a test needs 2 draws or more, of 1 key or more")
    if draws * sample > len(keys):
        raise ValueError(
            f"draws={draws} of sample={sample:,} need {draws * sample:,} keys, but there are {len(keys):,}; "
            "no key may be in two draws: ask for fewer, or give more keys"
        )
    generator = np.random.default_rng(seed)
    chosen = [keys[i] for i in generator.permutation(len(keys))[: draws * sample]]
    bins = checked_bins(hash_function, chosen, num_bins).reshape(draws, sample)
    salts = generator.integers(1, MAX_SALT, (draws, PYTHON_SALTS), endpoint=True)
    ours = np.array([_collisions(draw) for draw in bins])
    theirs = np.zeros(draws)
    for i in range(draws):
        words = chosen[i * sample : (i + 1) * sample]
        theirs[i] = np.mean([_collisions(python_bins(words, num_bins, int(salt))) for salt in salts[i]])
    return Comparison(ours, theirs, expected_collisions(sample, num_bins), *_paired(ours - theirs))


def pooled(comparisons: Sequence[Comparison]) -> Comparison:
    """All draws of several functions, such as of several trainings, taken together; all of one size.

    Raises:
        ValueError: if there is none, or the expected collisions differ.
    """
    if len({comparison.expected for comparison in comparisons}) != 1:
        raise ValueError(f"{len(comparisons)} comparisons do not share their keys and bins; pool those that do")
    ours, theirs = (
        np.concatenate([getattr(comparison, name) for comparison in comparisons]) for name in ("collisions", "python")
    )
    return Comparison(ours, theirs, comparisons[0].expected, *_paired(ours - theirs))


def evenness(bins: Int[np.ndarray | Array, " n"], num_bins: int) -> Evenness:
    """Pearson's chi-square test of the bins of n keys against equal shares.

    The chi-square distribution of the statistic is an approximation; it serves from about one key a bin on where
    there are hundreds of bins, and from about five keys a bin where there are few (Koehler and Larntz, "An empirical
    investigation of goodness-of-fit statistics for sparse multinomials", 1980).

    Raises:
        ValueError: if there is no key, fewer than two bins, or a bin is not in 0 ... num_bins - 1.
    """
    found = np.asarray(bins)
    if num_bins < 2 or not len(found):
        raise ValueError(f"{len(found)} keys in num_bins={num_bins}: evenness needs a key and two bins")
    _check(found, num_bins)
    statistic, p_value = stats.chisquare(np.bincount(found, minlength=num_bins))
    return Evenness(float(statistic), num_bins - 1, float(p_value))


def avalanche(hash_function: HashFunction, keys: Sequence[bytes], num_bins: int, positions: int = 8) -> Avalanche:
    """Flip each bit of the first `positions` bytes of each key, one at a time: does the bin change, and which bits?

    Cost: 8 * positions * n keys are hashed, in one call.

    Args:
        hash_function: takes any bytes, flipped ones too.
        keys: n keys; one shorter than a byte's position takes no part there.
        num_bins: bins of the function, 2 or more.
        positions: bytes from a key's beginning, 1 or more.

    Raises:
        ValueError: if `num_bins` or `positions` is too small, or the function's bins are not n numbers in
            0 ... num_bins - 1.
    """
    if num_bins < 2 or positions < 1:
        raise ValueError(f"num_bins={num_bins}, positions={positions}: an avalanche needs two bins and one position")
    longer = [[i for i, key in enumerate(keys) if len(key) > position] for position in range(positions)]
    flipped = [
        keys[i][:position] + bytes([keys[i][position] ^ 1 << bit]) + keys[i][position + 1 :]
        for position in range(positions)
        for bit in range(8)
        for i in longer[position]
    ]
    all_bins = checked_bins(hash_function, [*keys, *flipped], num_bins)
    before, after = all_bins[: len(keys)], all_bins[len(keys) :]

    output = np.arange((num_bins - 1).bit_length())
    changed = np.full((positions, 8), np.nan)
    flips = np.full((positions, 8, len(output)), np.nan)
    start = 0
    for position, rows in enumerate(longer):
        if not rows:
            continue
        difference = before[rows] ^ after[start : start + 8 * len(rows)].reshape(8, len(rows))
        changed[position] = (difference != 0).mean(1)
        flips[position] = (difference[..., None] >> output & 1).mean(1)
        start += 8 * len(rows)
    ones = (np.arange(num_bins)[:, None] >> output & 1).mean(0)
    counts = np.array([len(rows) for rows in longer])
    return Avalanche(changed, flips, counts, 1 - 1 / num_bins, 2 * ones * (1 - ones))


def checked_bins(hash_function: HashFunction, keys: Sequence[bytes], num_bins: int) -> Int64[np.ndarray, " n"]:
    """The bins of keys under a hash function that is not trusted.

    Raises:
        ValueError: if they are not one number in 0 ... num_bins - 1 for each key.
    """
    bins = np.asarray(hash_function(keys))
    if bins.shape != (len(keys),) or not np.issubdtype(bins.dtype, np.integer):
        raise ValueError(
            f"the hash function gave {bins.dtype}{list(bins.shape)} for {len(keys):,} keys; it must give one integer "
            "for each"
        )
    _check(bins, num_bins)
    return bins.astype(np.int64)


def _collisions(bins: Int[np.ndarray, " n"]) -> int:
    return len(bins) - len(np.unique(bins))


def _check(bins: Int[np.ndarray, " n"], num_bins: int) -> None:
    if num_bins < 1:
        raise ValueError(f"num_bins={num_bins} is less than 1; a table needs a bin")
    if len(bins) and not 0 <= bins.min() <= bins.max() < num_bins:
        raise ValueError(f"bins {bins.min()} ... {bins.max()} are not all in 0 ... {num_bins - 1}; is num_bins right?")


def _paired(differences: Float64[np.ndarray, " draws"]) -> tuple[float, float, float, float]:
    """Mean difference, its 95 % confidence interval, and the p-value of Student's test that it is 0."""
    mean = float(differences.mean())
    if not np.ptp(differences):  # no spread: nothing to estimate an error from
        return mean, mean, mean, float(mean == 0)
    result = stats.ttest_1samp(differences, 0.0)
    interval = result.confidence_interval(0.95)
    return mean, float(interval.low), float(interval.high), float(result.pvalue)
