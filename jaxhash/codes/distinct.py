"""Distinct codes, counted exactly; the redundancy ratio; and which bits vary at all.

One code may be in memory or in a file; files are read a few rows at a time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, UInt32, UInt64

from jaxhash.codes.code import Code
from jaxhash.codes.files import Codes, check_alike, chunks, rows_at_a_time

_WORDS_AT_A_TIME = 32
"""Mixed into a fingerprint by one piece of compiled code; longer codes go through it in a loop, so that what is
compiled does not grow with them."""


def distinct(codes: Codes) -> int:
    """Number of different codes, exactly.

    Cost: of codes in memory, a sort of n triples of 32-bit numbers and two passes over the words; of a file, what
    `groups` costs.

    >>> distinct(Code.of(jnp.array([[True, False], [True, False], [True, True]])))
    2
    """
    if not codes.n:
        return 0
    return int(num_distinct(codes.words)) if isinstance(codes, Code) else len(groups(codes).first)


def redundancy(codes: Codes, count: int | None = None) -> float:
    """Redundancy ratio (n - distinct codes) / n; 0 when every example has a code of its own (perfect determinism).

    Args:
        codes: the codes of n examples.
        count: n, where the codes beyond the first n only repeat others, as `first_repeated` makes them.

    Raises:
        ValueError: if there are no codes.

    >>> redundancy(Code.of(jnp.array([[True, False], [True, False], [True, True], [False, False]])))
    0.25
    """
    n = codes.n if count is None else count
    if n == 0:
        raise ValueError("no codes; the redundancy ratio needs at least 1")
    # Divided on the host: compiled float32 division may be off by one in the last place.
    return (n - distinct(codes)) / n


def varying(*codes: Codes) -> UInt32[Array, " words"] | UInt32[np.ndarray, " words"]:
    """A mask of the bits that are not the same in all codes of all arguments together. One pass over each.

    Raises:
        ValueError: if the codes differ in their number of bits.

    >>> varying(Code.of(jnp.array([[True, False]])), Code.of(jnp.array([[True, True]])))
    Array([2], dtype=uint32)
    """
    for some in codes:
        check_alike(codes[0], some)
    if all(isinstance(some, Code) for some in codes):
        return varying_bits(*(some.words for some in codes if isinstance(some, Code)))
    first = codes[0].rows(slice(0, 1))
    mask = np.zeros(codes[0].num_words, np.uint32)
    for some in codes:
        for _, words in chunks(some):
            mask |= np.bitwise_or.reduce(words ^ first, axis=0)
    return mask


class Groups(NamedTuple):
    """Codes that are the same belong to one group; groups are numbered by their first codes, in order."""

    group: Int32[np.ndarray, " n"]
    """The group of each code. `np.flatnonzero(group == g)` are the codes of group g."""
    first: Int32[np.ndarray, " groups"]
    """The first code of each group."""
    sizes: Int32[np.ndarray, " groups"]
    """How many codes are the same."""


def groups(codes: Codes) -> Groups:
    """Which codes are the same, exactly: codes of equal fingerprint are compared in full.

    Cost: one pass over the codes, a sort of the fingerprints, and all codes but the first of a group are read again.
    Memory: a few chunks of rows, and some 60 bytes a code.

    >>> groups(Code.of(jnp.array([[True, False], [True, True], [True, False]]))).group
    array([0, 1, 0], dtype=int32)
    """
    prints = fingerprints(codes)
    representative = np.arange(codes.n)
    pending = representative
    while pending.size:
        # The first code of each fingerprint stands for those that are equal to it; the others come again.
        _, first, group = np.unique(prints[pending], return_index=True, return_inverse=True)
        rest = np.ones(len(pending), bool)
        rest[first] = False
        others, representatives = pending[rest], pending[first][group[rest]]
        same = _equal(codes, others, representatives)
        representative[others[same]] = representatives[same]
        pending = others[~same]
    is_first = representative == np.arange(codes.n)
    number = np.cumsum(is_first, dtype=np.int32) - 1
    index = number[representative]
    return Groups(index, np.flatnonzero(is_first).astype(np.int32), np.bincount(index).astype(np.int32))


def fingerprints(codes: Codes) -> UInt64[np.ndarray, " n"]:
    """64 bits of each code that equal codes share, and different ones with probability about 2^-64.

    Cost: one pass over the codes. Memory: a few chunks of rows.
    """
    rows = rows_at_a_time(codes)
    found = [
        np.asarray(_fingerprints(np.pad(words, [(0, rows - len(words)), (0, 0)])))[: len(words)]
        for _, words in chunks(codes)
    ]
    return np.concatenate([np.zeros((0, 2), np.uint32), *found]).view(np.uint64)[:, 0]


def fingerprint(words: UInt32[Array, "n words"], seed: UInt32[Array, ""] | int) -> UInt32[Array, "n 2"]:
    """64 bits of each code that equal codes share, and different codes share with probability about 2^-64.

    Each word is mixed in by MurmurHash3's finaliser (Appleby, public domain), in two streams of different seed.
    """
    n, num_words = words.shape
    start = jnp.asarray(seed, jnp.uint32) * jnp.uint32(0x9E3779B9)
    states = [jnp.broadcast_to(_mix(start + jnp.uint32(key)), (n,)) for key in (0x243F6A88, 0x85A308D3)]

    def add(states: list[Array], block: Array, first: Array | int) -> list[Array]:
        # Stream by stream: elementwise over the codes, XLA's CPU backend is several times as fast as over [n, 2].
        for i in range(block.shape[1]):
            added = jnp.uint32(0xE6546B64 + i) + jnp.asarray(first, jnp.uint32)
            states = [_mix((state ^ block[:, i]) * jnp.uint32(5) + added) for state in states]
        return states

    whole = num_words // _WORDS_AT_A_TIME
    if whole > 1:

        def some(i: Array, states: list[Array]) -> list[Array]:
            first = i * _WORDS_AT_A_TIME
            return add(states, jax.lax.dynamic_slice_in_dim(words, first, _WORDS_AT_A_TIME, axis=1), first)

        states = jax.lax.fori_loop(0, whole, some, states)
    first = whole * _WORDS_AT_A_TIME if whole > 1 else 0
    return jnp.stack(add(states, words[:, first:], first), axis=1)


@jax.jit
def num_distinct(words: UInt32[Array, "n words"]) -> Int[Array, ""]:
    """Number of different codes, exactly, int32; the array-level core of `distinct`, for use within programs.

    Codes are sorted by fingerprint; neighbours are then compared in full. If two neighbours share a fingerprint but
    not the code, the fingerprints cannot be trusted to bring equal codes together, and another seed is tried.
    """
    n = words.shape[0]
    if n == 0:
        return jnp.zeros((), jnp.int32)

    def attempt(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        seed = carry[0]
        prints = fingerprint(words, seed)
        first, second, order = jax.lax.sort((prints[:, 0], prints[:, 1], jnp.arange(n)), num_keys=2)
        ordered = words[order]
        same_code = (ordered[1:] == ordered[:-1]).all(1)
        same_print = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
        return seed + 1, n - same_code.sum(dtype=jnp.int32), (same_print & ~same_code).any()

    # The first attempt is made in the loop too: it is compiled once.
    start = jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.int32), jnp.array(True)
    return jax.lax.while_loop(lambda carry: carry[2], attempt, start)[1]


@jax.jit
def first_repeated(words: UInt32[Array, "n words"], count: Int[Array, ""] | int) -> UInt32[Array, "n words"]:
    """Codes with all but the first `count` replaced by the first: of one shape for every count.

    There are as many distinct codes and varying bits among all n as among the first `count`.
    """
    return jnp.where(jnp.arange(words.shape[0])[:, None] < count, words, words[0])


@jax.jit
def varying_bits(*words: UInt32[Array, "_ words"]) -> UInt32[Array, " words"]:
    """The array-level core of `varying`."""
    mask = jnp.zeros(words[0].shape[1], jnp.uint32)
    there = [some for some in words if len(some)]
    for some in there:
        mask |= jax.lax.reduce(some ^ there[0][0], jnp.uint32(0), jax.lax.bitwise_or, (0,))
    return mask


@jax.jit
def without_constant(*words: UInt32[Array, "_ words"]) -> tuple[UInt32[Array, "_ words"], ...]:
    """The words of all arguments with those bits 0 that are the same in all codes of all arguments together."""
    mask = varying_bits(*words)
    return tuple(some & mask for some in words)


_fingerprints = jax.jit(lambda words: fingerprint(words, 0))


def _equal(codes: Codes, a: Int[np.ndarray, " pairs"], b: Int[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
    """Whether the codes of each pair of rows are the same."""
    size = rows_at_a_time(codes)
    parts = [
        (codes.rows(a[start : start + size]) == codes.rows(b[start : start + size])).all(1)
        for start in range(0, len(a), size)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
