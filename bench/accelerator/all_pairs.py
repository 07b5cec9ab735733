"""The 10 nearest of each of a million codes among all of them, 10^12 pairs: by int8 products, and by population counts.

Both ways go through one search (`make_search`), exact, in order of distance and then of index, as
`jaxhash.codes.nearest`: the smallest key (distance, index) of each block of 64 codes is kept, then the blocks with the
smallest keys are looked through again. So a distance is read once where it was made, and never sorted.

products      codes as +1/-1 int8; the distance is (bits - product) / 2
popcounts     codes as packed words; xor, population count, sum (`jaxhash/codes/hamming.py`)
"""

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int8, Int32, UInt32

from bench import harness
from bench.accelerator.ceilings import ceilings, int8_product
from bench.accelerator.part import Setting, figure
from bench.codes import CLASSES, COPIES
from bench.data import write_codes
from jaxhash.codes import Code, nearest, unpack
from jaxhash.codes.hamming import distances
from jaxhash.codes.nearest_words import in_one_program

NEIGHBOURS = 10
GOAL = 10.0
"""Seconds for 10^12 pairs."""
BLOCK = 64
"""Codes whose smallest key is kept."""
LONGEST = 60.0
"""Seconds that all pairs may take; where it would be more, as many queries are asked as fit."""
CHECKED, CHECKED_BY_NUMPY = 512, 8
"""Queries whose neighbours are compared with those of `jaxhash.codes.nearest`, and of NumPy."""
LIBRARY = "jaxhash.codes.nearest"
_NEVER = 2**31 - 1


class Way(NamedTuple):
    """A way to make distances."""

    prepare: Callable[[UInt32[Array, "n words"]], Array]
    """What the distances are made of, a row a code."""
    distances: Callable[[Array, Array], Int32[Array, "rows queries"]]


class Sizes(NamedTuple):
    """What is measured."""

    codes: int
    bits: tuple[int, ...]
    queries: int
    """Of a program."""
    tiles: tuple[int, ...]
    """Codes of a tile, in which distances are made: each is tried, and the fastest kept."""


FULL = Sizes(1_000_000, (128, 1024), 8192, (1024, 4096, 16384))
QUICK = Sizes(1_000, (100,), 128, (256,))


def signs(words: UInt32[Array, "n words"]) -> Int8[Array, "n bits"]:
    """+1 for a bit that is 0, -1 for one that is 1; the bits that fill the last word are 0."""
    return 1 - 2 * unpack(words, 32 * words.shape[1]).astype(jnp.int8)


def by_products(rows: Int8[Array, "rows bits"], queries: Int8[Array, "queries bits"]) -> Int32[Array, "rows queries"]:
    """Distances of +1/-1 codes. Cost: 2 * bits int8 operations a pair."""
    return (rows.shape[1] - int8_product(rows, queries)) >> 1


def by_popcounts(
    rows: UInt32[Array, "rows words"], queries: UInt32[Array, "queries words"]
) -> Int32[Array, "rows queries"]:
    """Distances of packed codes. Cost: words times xor, population count and sum a pair."""
    return distances(rows, queries.T)


WAYS = {"products": Way(signs, by_products), "popcounts": Way(lambda words: words, by_popcounts)}

Search = Callable[[Array, Array, Any], tuple[Array, Array]]


def make_search(way: Way, n: int, k: int, tile: int, queries: int) -> Search:
    """search(prepared, words, first) -> distances and indices [queries, k], nearest first; to be jitted.

    `prepared` and `words` are the codes in both forms, filled up with rows of anything to a multiple of `tile` and of
    `queries`; the neighbours are those of the codes from `first` on, among all.

    Args:
        way: how distances are made.
        n: codes.
        k: neighbours of each query.
        tile: codes at a time, a multiple of `BLOCK`.
        queries: codes whose neighbours are looked for.

    Raises:
        ValueError: by `search`, if (distance, index) pairs do not fit 31 bits.

    Memory: tile * queries int32 for a tile, and n / 64 * queries for the blocks.
    """

    def search(
        prepared: Array, words: UInt32[Array, "filled words"], first: Int[Array, ""]
    ) -> tuple[Int[Array, "queries k"], Int[Array, "queries k"]]:
        if (32 * words.shape[1] + 1) * n >= _NEVER:
            raise ValueError(f"{n} codes of {words.shape[1]} words: (bits + 1) * codes must stay below 2^31")

        asked = jax.lax.dynamic_slice_in_dim(prepared, first, queries)
        asked_words = jax.lax.dynamic_slice_in_dim(words, first, queries)

        def key(distance: Array, index: Array) -> Array:
            # Distance first, then index: all keys differ, and their order is the order of nearness.
            return jnp.where(index < n, distance * n + index, _NEVER)

        def of_tile(some: tuple[Array, Array]) -> Array:
            rows, index = some
            keys = key(way.distances(rows, asked), index[:, None])
            return keys.reshape(tile // BLOCK, BLOCK, -1).min(1)

        tiles = prepared.reshape(-1, tile, prepared.shape[1])
        index = jnp.arange(len(prepared), dtype=jnp.int32).reshape(-1, tile)
        minima = jax.lax.map(of_tile, (tiles, index)).reshape(-1, queries)
        # The k nearest are in the k blocks with the smallest minima: each is such a minimum, or stands behind one.
        blocks = smallest(minima, k) % n // BLOCK
        inside = blocks[..., None] * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)
        ones = jax.lax.population_count(words[inside] ^ asked_words[None, :, None]).astype(jnp.int32).sum(-1)
        keys = smallest(key(ones, inside).transpose(0, 2, 1).reshape(-1, queries), k).T
        return keys // n, keys % n

    return search


def smallest(keys: Int32[Array, "candidates queries"], k: int) -> Int32[Array, "k queries"]:
    """The k smallest keys of each column, ascending; equal ones count once. k passes, each over keys above the last."""

    def above(last: Array, _: None) -> tuple[Array, Array]:
        found = jnp.where(keys > last, keys, _NEVER).min(0)
        return found, found

    return jax.lax.scan(above, jnp.full(keys.shape[1], -1, jnp.int32), None, length=k)[1]


class Filled(NamedTuple):
    """Codes on the device, filled up with rows of zeros to a multiple of a tile and of the queries of a program."""

    prepared: Array
    words: UInt32[Array, "filled words"]


def fill(way: Way, words: UInt32[np.ndarray, "n words"], multiple: int) -> Filled:
    """Codes as a search takes them."""
    there = jnp.asarray(np.pad(words, ((0, -len(words) % multiple), (0, 0))))
    return Filled(jax.jit(way.prepare)(there), there)


def run(setting: Setting) -> dict[str, Any]:
    """Pairs a second of each way, and seconds for all pairs by the fastest."""
    sizes = QUICK if setting.quick else FULL
    found = {bits: of_codes(sizes, bits) for bits in sizes.bits}
    top = ceilings(setting.quick)
    figures = []
    for bits, one in found.items():
        goal = None if setting.quick else GOAL
        figures += [
            figure(f"s for 10^12 pairs, {bits:,} bits", one["seconds_for_1e12_pairs"], goal, at_most=True),
            *(
                figure(f"G pairs/s, {bits:,} bits, {name}", rate / 1e9)
                for name, rate in one["pairs_per_second"].items()
            ),
            figure(
                f"share of the int8 product rate, {bits:,} bits",
                2 * bits * 1e12 / one["seconds_for_1e12_pairs"] / top.int8_operations,
            ),
        ]
    return {"figures": figures, "codes": sizes.codes, "neighbours": NEIGHBOURS, "by_bits": found} | {
        "ceilings": top.as_json()
    }


def of_codes(sizes: Sizes, bits: int) -> dict[str, Any]:
    """All figures of codes of so many bits."""
    n, queries = sizes.codes, sizes.queries
    words = draw(n, bits)
    filled = {name: fill(way, words, max(*sizes.tiles, queries)) for name, way in WAYS.items()}
    searches: dict[str, Callable[[int], tuple[Array, Array]]] = {}
    for (name, way), tile in product(WAYS.items(), sizes.tiles):
        program = jax.jit(make_search(way, n, NEIGHBOURS, tile, queries))
        searches[f"{name}, tiles of {tile:,}"] = partial(_ask, program, filled[name])
    code = Code(jnp.asarray(words), bits)
    few = Code(code.words[:CHECKED], bits)
    works: dict[str, harness.Timed] = {name: partial(_waited, search) for name, search in searches.items()}
    works[LIBRARY] = lambda: nearest(code, few, k=NEIGHBOURS)
    works, failed = _working(works)
    seconds, answers = harness.interleaved(works, 3)
    agreement = agreed(words, answers)
    asked = {name: few.n if name == LIBRARY else queries for name in works}
    rates = {name: asked[name] * n / took for name, took in harness.medians(seconds).items()}
    fastest = max((name for name in searches if name in works), key=rates.__getitem__)
    programs = min(-(-n // queries), max(int(LONGEST * rates[fastest] / (n * queries)), 1))
    harness.say(f"all pairs by {fastest}")
    took, neighbours = harness.timed(
        lambda: jax.block_until_ready([searches[fastest](i * queries) for i in range(programs)])
    )
    pairs = min(programs * queries, n) * n
    # Each code is its own nearest, but for copies of codes with a smaller index.
    zeros = all((np.asarray(found[0])[: n - i * queries, 0] == 0).all() for i, found in enumerate(neighbours))
    agreement.append(harness.checked(zeros, f"{fastest}: the nearest code of each is at distance 0"))
    return {
        "pairs_per_second": rates,
        "fastest": fastest,
        "pairs": pairs,
        "seconds_of_all_pairs": took,
        "seconds_for_1e12_pairs": took * 1e12 / pairs,
        "agreement": agreement,
        "path_of_the_library": "one program" if in_one_program(code.n, code.num_words) else "streamed",
        "ways_left_out": failed,
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }


def draw(n: int, bits: int) -> UInt32[np.ndarray, "n words"]:
    """Codes around a centre a class, a tenth of them copies, as those of `bench/codes.py`."""
    harness.say(f"drawing {n:,} codes of {bits:,} bits")
    with tempfile.TemporaryDirectory() as folder:
        codes, _ = write_codes(Path(folder, "codes.npy"), n, bits, classes=CLASSES, copies=round(COPIES * n))
        return np.array(codes.rows(slice(None)))


def _ask(program: Search, codes: Filled, first: int) -> tuple[Array, Array]:
    return program(*codes, np.int32(first))


def _waited(search: Callable[[int], tuple[Array, Array]]) -> tuple[Array, Array]:
    return jax.block_until_ready(search(0))


def _working(works: dict[str, harness.Timed]) -> tuple[dict[str, harness.Timed], dict[str, str]]:
    """The works that run here, compiled; and why the others do not, as where a tile takes too much memory."""
    fine, failed = {}, {}
    for name, work in works.items():
        harness.say(f"{name}: first run")
        try:
            harness.timed(work)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[-500:]
        else:
            fine[name] = work
    if not set(fine) - {LIBRARY}:
        raise RuntimeError(f"no way works: {failed}")
    return fine, failed


def agreed(words: UInt32[np.ndarray, "n words"], answers: dict[str, Any]) -> list[str]:
    """What was checked of the neighbours that each way found; wrong ones end the part."""
    few = words[:CHECKED_BY_NUMPY]
    right = np.bitwise_count(few[:, None] ^ words[None]).sum(-1, dtype=np.int64)
    nearest_by_numpy = np.argsort(right, axis=1, kind="stable")[:, :NEIGHBOURS]
    by_numpy = np.take_along_axis(right, nearest_by_numpy, 1), nearest_by_numpy
    oracles = {"NumPy's": by_numpy} | {f"those of {name}": answer for name, answer in answers.items()}
    sentences = []
    for name, found in answers.items():
        for whose, oracle in oracles.items():
            count = min(len(oracle[0]), len(found[0]))
            same = all(np.array_equal(a[:count], b[:count]) for a, b in zip(found, oracle, strict=True))
            if whose != f"those of {name}":
                sentences.append(harness.checked(same, f"{name}: the {NEIGHBOURS} nearest of {count:,} are {whose}"))
    return sentences
