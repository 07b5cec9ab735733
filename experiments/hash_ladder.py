"""How small a perfect hash can be: bits per key against the time to find it and the time to read it.

A ladder from the float network of "Neural Hash Functions" (A. Museth, CS285) down: float32, integers of few bits, then
one function for all keys with a 16-bit seed for every few of them, found by search. Compiled perfect hashes stand
beside: PtrHash takes 2.1 to 3.0 bits (R. Groot Koerkamp 2025; 300 million keys, 6 threads, his machine).
The least possible is 1.44 bits a key.

    python -m experiments.hash_ladder                              # the study's dictionary; some minutes on 2 cores
    python -m experiments.hash_ladder --count 20000 --seeds 1      # half a minute
    python -m experiments.hash_ladder --keys my.txt --out runs/mine
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect, fit
from jaxhash.hashing.perfect.hasher import floor_bits_per_key
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.hashing.study import guided
from jaxhash.hashing.study.guided import GuidedConfig
from jaxhash.hashing.study.networks import make_network
from jaxhash.plots import style
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save

FLOAT_WORDS = 1000
"""Keys of the float network, which costs keys x bins."""
FLOAT_ITERATIONS = 40
NETWORK_WORDS = 1000
"""Keys of the network in integers at most."""
ROUNDS = 7
"""Timings of a function, turn by turn; the median counts."""


class Rung(NamedTuple):
    """One way to make a function."""

    name: str
    config: FitConfig
    most_keys: int
    marker: str
    colour: str


def _seeds(keys_per_leaf: int, leaves: int) -> FitConfig:
    return FitConfig(method="seeds", seeds=SeedsConfig(keys_per_leaf, leaves))


_ALL = 2**31
RUNGS = (
    Rung("one network, integers", FitConfig(method="network"), NETWORK_WORDS, "s", style.GREY),
    Rung("buckets of 32, 8-bit", FitConfig(), _ALL, "o", style.ORANGE),
    *(
        Rung(f"seeds, leaves of {keys}, {leaves} a bucket", _seeds(keys, leaves), _ALL, marker, style.BLUE)
        for keys, leaves, marker in ((4, 4, "o"), (6, 4, "s"), (8, 4, "D"), (10, 4, "P"), (11, 5, "X"))
    ),
)
FLOAT_NAME = "one network, float32"
PUBLISHED = ((2.12, 63), (2.40, 32), (2.99, 27))
"""PtrHash's bits per key and nanoseconds a key to build: compact, default, fast (RagnarGrootKoerkamp/research)."""


@dataclass(frozen=True)
class Config:
    """Minimal perfect hashes of one key set, from the largest function to the smallest."""

    keys: str = "dwyl"
    """dwyl (the study's dictionary; english if it is not at hand), english, or a file of one key a line."""
    count: int | None = None
    """The first so many keys; all by default."""
    seeds: int = 2
    """Fits of each rung; the first one compiles as well and is told apart."""
    out: Path = Path("runs/hash_ladder")
    """Folder of the numbers and the figure."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds} is less than 1; fit at least once")


def body(config: Config) -> None:
    """Fit, time, save, draw."""
    say = Console(stderr=True)
    keys = hashing.listed(config.keys, say)
    if config.count is not None and not 1 <= config.count <= len(keys):
        raise ValueError(f"--count {config.count} is not within the {len(keys):,} keys of {config.keys}")
    keys = keys[: config.count]
    rows, readers = [], {}
    for row, reader in (float_rung(keys[:FLOAT_WORDS]), *(rung_of(r, keys, config.seeds, say) for r in RUNGS)):
        rows.append(row)
        readers[str(row["function"])] = reader
        say.print(f"{row['function']}: {row['bits_per_key']:,} bits per key, {row['seconds']} s", highlight=False)
    for name, nanoseconds in time_readers(readers).items():
        next(row for row in rows if row["function"] == name)["ns_per_key"] = round(nanoseconds, 1)
    Console().print(show(rows))
    figure = draw_figure(rows, f"Minimal perfect hashes of {len(keys):,} keys")
    save(config.out, {"hash_ladder": figure}, {"ladder": rows})


Reader = tuple[Callable[[], Array], int]
"""What reads the bins of all keys, tokens on the device, and how many keys these are."""


def rung_of(rung: Rung, keys: list[bytes], seeds: int, say: Console) -> tuple[dict[str, object], Reader]:
    """Fit a rung once a seed; its row, and how to read the last function."""
    some = keys[: rung.most_keys]
    seconds, collisions = [], 0
    for seed in range(seeds):
        began = time.monotonic()
        try:
            hasher = fit(some, replace(rung.config, seed=seed))
        except NotPerfect as error:
            say.print(f"{rung.name}: {error}", highlight=False)
            hasher = error.hasher
        seconds.append(time.monotonic() - began)
        collisions += hasher.collisions
    tokens = on_device(some)
    row = _row(rung.name, len(some), collisions, hasher.bits_per_key, seconds)
    return row, (lambda: hasher(tokens), len(some))


def float_rung(keys: list[bytes]) -> tuple[dict[str, object], Reader]:
    """The study's network with float32 weights, shown good bins until no two of its keys share one."""
    tokens = tokenize(keys)
    network = hashing.network(tokens)
    config = GuidedConfig(len(keys), FLOAT_ITERATIONS, len(keys), network=network)
    began = time.monotonic()
    state, _ = jax.block_until_ready(jax.jit(guided.make_train(config))(jax.random.key(0), tokens))
    seconds = time.monotonic() - began
    apply = make_network(network, len(keys)).apply
    read = jax.jit(lambda params, tokens: jnp.argmax(apply(params, tokens), -1))
    collisions = len(keys) - len(np.unique(np.asarray(read(state.params, tokens))))
    bits = 32 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    there = on_device(keys)
    row = _row(FLOAT_NAME, len(keys), collisions, bits / len(keys), [seconds])
    return row, (lambda: read(state.params, there), len(keys))


def _row(name: str, count: int, collisions: int, bits: float, seconds: list[float]) -> dict[str, object]:
    return {
        "function": name,
        "keys": count,
        "collisions": collisions,
        "bits_per_key": round(bits, 2),
        "first_seconds": round(seconds[0], 2),
        "seconds": round(float(np.median(seconds[1:] or seconds)), 2),
        "ns_per_key": float("nan"),
    }


def on_device(keys: list[bytes]) -> Tokens:
    """Keys as tokens on the default device, as wide as fingerprints read: 4 characters at a time."""
    return Tokens(*map(jnp.asarray, tokenize(keys, -(-max(map(len, keys), default=1) // 4) * 4)))


def time_readers(readers: dict[str, Reader]) -> dict[str, float]:
    """Median nanoseconds a key of each, turn by turn."""
    for read, _ in readers.values():
        jax.block_until_ready(read())  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, (read, _) in readers.items():
            began = time.perf_counter()
            jax.block_until_ready(read())
            seconds[name].append(time.perf_counter() - began)
    return {name: 1e9 * float(np.median(seconds[name])) / readers[name][1] for name in readers}


def draw_figure(rows: list[dict[str, object]], title: str) -> Figure:
    """Bits per key against microseconds a key to find the function, and against nanoseconds a key to read it."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    styles = {rung.name: (rung.marker, rung.colour) for rung in RUNGS} | {FLOAT_NAME: ("*", style.GREY)}
    for row in rows:
        name, bits, count = str(row["function"]), float(str(row["bits_per_key"])), int(str(row["keys"]))
        marker, colour = styles[name]
        label = name if count == max(int(str(r["keys"])) for r in rows) else f"{name} ({count:,} keys)"
        microseconds = 1e6 * float(str(row["seconds"])) / count
        left.plot(microseconds, bits, marker, color=colour, label=label, markersize=8, linestyle="")
        right.plot(float(str(row["ns_per_key"])), bits, marker, color=colour, markersize=8, linestyle="")
    bits_published, nanoseconds = zip(*PUBLISHED, strict=True)
    left.plot(
        np.array(nanoseconds) / 1000, bits_published, "h", color=style.GREEN, mfc="none", markersize=8,
        linestyle="", label="PtrHash compact, default, fast (published)",
    )  # fmt: skip
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.axhline(floor_bits_per_key(1), color=style.GREY, linestyle=":", linewidth=1)
        axes.grid(alpha=0.25, which="both")
    left.annotate("least possible, 1.44", (0.98, floor_bits_per_key(1)), xycoords=("axes fraction", "data"), ha="right",
                  xytext=(0, 3), textcoords="offset points", fontsize=8, color=style.GREY)  # fmt: skip
    left.set(xlabel="microseconds a key to find the function", ylabel="bits per key")
    right.set(xlabel="nanoseconds a key to read it (tokens on the device)")
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def show(rows: list[dict[str, object]]) -> Table:
    """The ladder."""
    table = Table(title="Smaller", caption="first s: with compiling; the least possible is 1.44 bits a key")
    for column in ("function", "keys", "collisions", "bits/key", "first s", "s", "ns/key"):
        table.add_column(column, justify="left" if column == "function" else "right")
    for row in rows:
        table.add_row(
            str(row["function"]), f"{row['keys']:,}", f"{row['collisions']:,}", f"{row['bits_per_key']:,}",
            str(row["first_seconds"]), str(row["seconds"]), str(row["ns_per_key"]),
        )  # fmt: skip
    return table


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
