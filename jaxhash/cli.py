"""The `jaxhash` command: train a grid of networks and measure their codes; learn, apply and describe a hash function.

    jaxhash sweep --dataset mnist              train networks of many widths, measure their codes, draw the figure
    jaxhash status runs/x                      how a sweep stands, while it runs or afterwards; or a fit, by its --out
    jaxhash fit words.txt --out my.hash        learn a perfect hash of the lines of a file
    jaxhash hash my.hash other.txt             one bin a line, in the order of the lines
    jaxhash info my.hash                       what it is, and what it costs
    jaxhash export my.hash my.zip              one file that runs without this package, and that `hash` takes too

Exit status: 0 done; 1 the keys, a folder or a value cannot be used; 2 the command line is wrong; 3 keys still collide,
the best function was saved; 130 Ctrl-C, 143 SIGTERM, the same command goes on; 141 the reader of the output went away.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from jaxhash.hashing.keys import lines, tokens, words
from jaxhash.hashing.keys.lines import Flat
from jaxhash.hashing.keys.source import KeyFile, spooled
from jaxhash.hashing.perfect import export, hasher, resume
from jaxhash.hashing.perfect import fitting as perfect
from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect
from jaxhash.hashing.perfect.network import NetworkMethodConfig
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.hashing.perfect.sharded import ShardedConfig
from jaxhash.runtime import memory
from jaxhash.storage.program import PLATFORMS
from jaxhash.storage.saves import Interrupted
from jaxhash.sweeps import status, tensorboard
from jaxhash.terminal.command import framed, interruptible
from jaxhash.terminal.progress import Lines, share_bar

OK, NOT_PERFECT = 0, 3
STDIN = "-"
OUT_OF_MEMORY = (
    "Give fewer keys, another --method, or fewer --network.hidden units; JAX_PLATFORMS=cpu uses the host's memory"
)
UNFINISHED = ".unfinished"
"""At the end of the name of the folder where what a fit has learned is saved until it is done."""
NOTHING_SAVED = "Nothing was saved; the same command begins anew."
CONSOLE = Console(stderr=True)


@dataclass(frozen=True, kw_only=True)
class _Compiles:
    """What every command takes that runs compiled programs."""

    compile_cache: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Keep compiled programs in this folder, and take them from there the next time. Only for a folder that nobody
    else may write to: what is in it is run."""


@dataclass(frozen=True)
class Fit(_Compiles):
    """Learn a hash function that gives every key a bin of its own, check it on every key, and save it."""

    keys: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KEYS")]
    """Keys, one a line (plain or .gz): a file, - for standard input, or the name of a word list: english (some ten
    thousand common words, in the package) or dwyl (the dictionary of the study)."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """New folder for the function. An existing one is refused; it appears whole or not at all. Of a fit that lasts,
    what has been learned is saved in DIR.unfinished once a minute, and when it is stopped after the first; the same
    command goes on there."""
    bins: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Bins. By default as many as keys: a minimal perfect hash. With more it stays perfect; with fewer, all bins are
    filled and no two differ by more than one key."""
    method: Literal["sharded", "seeds", "network"] = "sharded"
    """sharded: a tiny policy for every 32 keys, trained side by side; seconds for a dictionary. seeds: 16-bit seeds
    found by search, nothing is trained; the smallest, 2.5 to 4 bits a key. network: the study's network for all keys,
    trained by the policy gradient: 1,000 keys take seconds, 10,000 minutes; with over 20,000 some may collide."""
    seed: int = 0
    """Another seed gives another function of the same keys."""
    drop_duplicates: bool = False
    """Drop repeated keys instead of refusing them."""
    mesh: Annotated[str, tyro.conf.arg(metavar="auto|none|N")] = "auto"
    """Devices that learn: auto all of this process, none the first, a number that many. The function is the same."""
    sharded: ShardedConfig = field(default_factory=ShardedConfig)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    network: NetworkMethodConfig = field(default_factory=NetworkMethodConfig)


@dataclass(frozen=True)
class Hash(_Compiles):
    """Print the bin of every key, one a line, in order; keys that were not in the key set get a bin too."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `jaxhash fit` wrote, or file that `jaxhash export` wrote."""
    keys: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KEYS")] = STDIN
    """Keys, one a line (plain or .gz): a file, - for standard input, or the name of a word list. Repeats are fine."""


@dataclass(frozen=True)
class Info(_Compiles):
    """Describe a saved hash function: keys, bins, load, size beside the least possible."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `jaxhash fit` wrote."""


@dataclass(frozen=True)
class Export(_Compiles):
    """Write a saved hash function as one file with StableHLO in it, which needs JAX to run and nothing else."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `jaxhash fit` wrote."""
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """New file, a zip archive; README.txt in it says how to call the function. An existing one is refused."""


@dataclass(frozen=True)
class StatusOf:
    """Say how a sweep stands (models done, epochs, loss, speed, time left), or a fit, and whether a process works on
    it."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of the sweep, in progress or finished, or --out of a fit in progress. It is only read."""
    tensorboard: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write what the log of a sweep says so far into this new folder too, as scalars for TensorBoard; needs
    tensorboardX (pip install "jaxhash[tensorboard]")."""


@dataclass(frozen=True)
class Sweep:
    """Train networks of many widths side by side, measure their codes, draw the figure: `jaxhash sweep --help`."""


Command = (
    Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Hash, tyro.conf.subcommand("hash")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[StatusOf, tyro.conf.subcommand("status")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `jaxhash` command."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["sweep"]:  # its defaults depend on --dataset, and the others need not import what it needs
        from jaxhash.terminal import capacity

        return capacity.main(given[1:])
    framed(lambda: run(tyro.cli(Command, prog="jaxhash", description=__doc__, args=given)), kept="")


def run(chosen: Sweep | Fit | Hash | Info | Export | StatusOf) -> int:
    """Run a command; its exit status.

    Raises:
        ValueError, OSError: if the keys, a folder or a value cannot be used.
    """
    if isinstance(chosen, _Compiles) and chosen.compile_cache is not None:
        keep_compiled(chosen.compile_cache)
    runs: dict[type, Callable[[Any], int]]
    runs = {Fit: _fit, Hash: _hash, Info: _info, Export: _export, StatusOf: _status}
    return runs[type(chosen)](chosen)


def keep_compiled(folder: Path) -> None:
    """Turn on JAX's cache of compiled programs, for small ones too: by default it leaves out what took under 1 s."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _fit(chosen: Fit) -> int:
    _refuse_existing(chosen.out)
    there = next(folder for folder in chosen.out.absolute().parents if folder.exists())
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{there} cannot be written to; give another folder as --out")
    config = FitConfig(chosen.bins, chosen.method, chosen.seed, chosen.sharded, chosen.seeds, chosen.network)
    began = time.monotonic()
    with (
        interruptible(None, CONSOLE, kept=lambda: _what_was_saved(chosen.out), step="the step under way") as stop,
        memory.explained(OUT_OF_MEMORY),
        _collisions_left() as told,
    ):
        found, exit_status = _learn(chosen, config, told, stop)
    size = "" if not found.num_keys else f", {found.bits_per_key:.1f} bits per key"
    kind = "best function found" if exit_status else "minimal perfect hash" if found.load == 1 else "hash"
    _say(
        f"{found.num_keys:,} keys in {found.num_bins:,} bins, {found.collisions:,} collisions{size}, "
        f"{time.monotonic() - began:.1f} s: {kind} saved in {chosen.out}"
    )
    return exit_status


def _learn(
    chosen: Fit, config: FitConfig, told: Callable[[perfect.Progress], None], stop: threading.Event
) -> tuple[hasher.Hasher, int]:
    """The function, once it is saved, and the exit status."""

    def copied(_: int) -> None:
        if stop.is_set():
            raise Interrupted

    exit_status = OK
    with ExitStack() as stack:
        source: KeyFile | list[bytes]
        if chosen.keys == STDIN:
            source = stack.enter_context(spooled(sys.stdin.buffer, copied))
        elif chosen.keys not in words.KEY_SETS and Path(chosen.keys).exists():
            source = KeyFile(Path(chosen.keys))
            if not source.path.is_file():  # a pipe, which can be read once only
                source = stack.enter_context(spooled(stack.enter_context(source.path.open("rb")), copied))
        else:
            source = words.load_keys(chosen.keys)
        unfinished = stack.enter_context(resume.opened(_unfinished(chosen.out), chosen.method, _say))
        _refuse_existing(chosen.out)  # another process may have made it meanwhile
        try:
            found = perfect.fit(
                source,
                config,
                told,
                drop_duplicates=chosen.drop_duplicates,
                mesh=chosen.mesh,
                unfinished=unfinished,
                stop=stop,
            )
        except NotPerfect as error:
            found, exit_status = error.hasher, NOT_PERFECT
            _say(f"Not perfect: {error}.")
        found.save(chosen.out)
    return found, exit_status


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise FileExistsError(f"{out} exists; give another folder as --out, or delete it first")


def _unfinished(out: Path) -> Path:
    return out.with_name(out.name + UNFINISHED)


def _what_was_saved(out: Path) -> str:
    folder = _unfinished(out)
    if not folder.exists():
        return NOTHING_SAVED
    return f"What was learned is saved in {folder}; the same command goes on from there."


def _hash(chosen: Hash) -> int:
    if chosen.keys == STDIN:
        return _print_bins(chosen.folder, lines.blocks(sys.stdin.buffer, "standard input"))
    if chosen.keys not in words.KEY_SETS and Path(chosen.keys).exists():
        return _print_bins(chosen.folder, lines.file_blocks(Path(chosen.keys), chosen.keys))
    return _print_bins(chosen.folder, [tokens.flatten(words.load_keys(chosen.keys))])


def _print_bins(path: Path, blocks: Iterable[Flat]) -> int:
    # A saved function is a folder, an exported one a file.
    function = export.load(path) if path.is_file() else hasher.load_hasher(path)
    for block in blocks:
        sys.stdout.write("".join(f"{b}\n" for b in np.asarray(function(block)).tolist()))
        sys.stdout.flush()
    return OK


def _export(chosen: Export) -> int:
    hasher.load_hasher(chosen.folder).export(chosen.file)
    _say(f"{chosen.file.stat().st_size:,} bytes for {', '.join(PLATFORMS)} written to {chosen.file}")
    return OK


def _info(chosen: Info) -> int:
    found = hasher.load_hasher(chosen.folder)
    disk = sum(f.stat().st_size for f in chosen.folder.rglob("*") if f.is_file())
    rows = {
        "method": found.method,
        "keys": f"{found.num_keys:,}",
        "bins": f"{found.num_bins:,}",
        "load factor": f"{found.load:.4g} (keys / bins)",
        "collisions": f"{found.collisions:,} (keys - occupied bins)",
    }
    if found.num_keys:
        rows["bits per key"] = f"{found.bits_per_key:.2f} ({found.bits // 8:,} bytes of weights and tables)"
        if found.load <= 1:
            rows["least possible"] = f"{hasher.floor_bits_per_key(found.load):.2f} bits per key at this load factor"
    rows["on disk"] = f"{disk:,} bytes, with checks and description"
    rows["arrays"] = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in found.policy._asdict().items())
    rows["seed"] = str(found.seed)
    settings = found.config.get(found.config.get("method", ""), {})
    rows["trained with"] = ", ".join(f"{name}={value}" for name, value in settings.items())
    return _print_rows(rows)


def _status(chosen: StatusOf) -> int:
    of_fit = chosen.run if chosen.run.name.endswith(UNFINISHED) else _unfinished(chosen.run)
    if of_fit.exists():
        return _print_rows(resume.table(of_fit))
    rows = status.table(chosen.run, status.status(chosen.run))
    if chosen.tensorboard is not None:
        written = tensorboard.write_scalars(chosen.run, chosen.tensorboard)
        rows["tensorboard"] = f"{written:,} scalars in {chosen.tensorboard}"
    return _print_rows(rows)


def _print_rows(rows: dict[str, str]) -> int:
    for name, value in rows.items():
        print(f"{name:<15} {value}")
    return OK


@contextmanager
def _collisions_left() -> Iterator[Callable[[perfect.Progress], None]]:
    """Progress of a fit."""
    bar, lines = share_bar(CONSOLE, transient=True), Lines()
    task = bar.add_task("reading keys", total=None, left="")

    def told(progress: perfect.Progress) -> None:
        fitting, keys = progress.stage == "fitting", f"{progress.num_keys:,}"
        bar.update(
            task,
            total=progress.num_keys if fitting else None,
            completed=progress.num_keys - progress.collisions,
            description=f"{progress.stage} {keys} keys",
            left=f", {progress.collisions:,} collisions left, step {progress.steps:,}" if fitting else "",
        )
        if not CONSOLE.is_terminal and lines.due():
            done = f"{progress.collisions:,} of {keys} keys collide" if fitting else f"{progress.stage} {keys} keys"
            _say(f"{progress.seconds:.0f} s: {done}")

    with bar:
        yield told


def _say(text: str) -> None:
    CONSOLE.print(text, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
