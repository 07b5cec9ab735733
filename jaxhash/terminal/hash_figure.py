"""What the commands of the hash experiments share: options, training with progress, results saved and drawn."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import tyro
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from jaxhash.data.download import DataError
from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.study.loop import Report, train_seeds
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of
from jaxhash.hashing.study.table import expected_collisions
from jaxhash.plots import hashing as hash_plots
from jaxhash.plots import style
from jaxhash.plots.hashing import Panel
from jaxhash.storage import checkpoint
from jaxhash.terminal.command import EXIT_INTERRUPTED

Config = TypeVar("Config")
SECONDS_BETWEEN_LINES = 10
"""How often progress is told where there is no terminal to draw a bar in."""


@dataclass(frozen=True)
class Common:
    """Options that all hash experiments have."""

    keys: str = "english"
    """The words: english (in the package), dwyl (the study's 466,551), or a file of one key a line."""
    seeds: int = 3
    """Trainings side by side, for the band."""
    seed: int = 0
    """Where the seeds begin."""
    out: Path | None = None
    """Folder of the data and the picture (default: runs/<name of the experiment>)."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds={self.seeds} is less than 1; train at least once")


def command(config: type[Config], description: str | None, body: Callable[[Config], None], arguments: Any) -> None:
    """Run an experiment for a person at a terminal: errors that can be mended in one line, 130 after Ctrl-C."""
    console = Console(stderr=True)
    try:
        body(tyro.cli(config, description=description, args=arguments, config=(tyro.conf.OmitArgPrefixes,)))
    except (ValueError, DataError, OSError) as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Interrupted; nothing was written.")
        # A compiled program cannot be stopped from outside: the process ends without waiting for it.
        os._exit(EXIT_INTERRUPTED)


def words(common: Common, count: int | None = None) -> list[bytes]:
    """`count` keys drawn from the key set, by the run's seed; all of them, shuffled, if None.

    Raises:
        ValueError: if there are not so many.
    """
    every = load_keys(common.keys)
    if count is not None and count > len(every):
        raise ValueError(f"{count:,} words wanted, but {common.keys} has {len(every):,}; give a larger --keys")
    order = np.random.default_rng(common.seed).permutation(len(every))[:count]
    return [every[i] for i in order]


def listed(name: str, say: Console) -> list[bytes]:
    """The keys of a list by name or path; where the study's dictionary is not at hand, the words of the package.

    Raises:
        DataError: if another list is not at hand.
    """
    try:
        return load_keys(name)
    except DataError as error:
        if name != "dwyl":
            raise
        say.print(f"{error}\nTaking the words of the package (english) instead.", highlight=False)
        return load_keys("english")


def network(tokens: Tokens, hidden: tuple[int, ...] = (300, 300), reader: str = "one_hot") -> NetworkConfig:
    """A network that tells all the letters of these keys apart."""
    return NetworkConfig(hidden, reader, alphabet=alphabet_of(tokens))  # type: ignore[arg-type]


def train(
    label: str,
    make_train: Callable[..., Any],
    config: Any,
    common: Common,
    *data: Any,
) -> tuple[Any, Any]:
    """Train a learner from all seeds in one program, with progress.

    Returns:
        The states and the history (NumPy) with a leading axis of seeds.
    """
    console = Console(stderr=True)
    bar = Progress(*Progress.get_default_columns()[:2], TimeElapsedColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task(label, total=config.iterations)
    spoke = time.monotonic()

    def report(done: int) -> None:
        nonlocal spoke
        bar.update(task, completed=done)
        if not console.is_terminal and time.monotonic() - spoke > SECONDS_BETWEEN_LINES:
            spoke = time.monotonic()
            console.print(f"{label}: iteration {done:,} of {config.iterations:,}")

    def work(report: Report) -> Any:
        return jax.block_until_ready(train_seeds(make_train(config, report), common.seeds, common.seed, *data))

    if console.is_terminal:
        with bar:
            state, history = in_background(lambda: work(report))
    else:
        console.print(label)
        state, history = in_background(lambda: work(report))
    return state, jax.tree.map(np.asarray, history)


def in_background(work: Callable[[], Any]) -> Any:
    """Run a long computation in another thread, so that Ctrl-C is heard while it runs."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]
    return results[0]


def labelled(history: Any) -> xr.Dataset:
    """A history [repeat, iteration] by name."""
    variables = {name: (("repeat", "iteration"), values) for name, values in history._asdict().items()}
    repeats, iterations = history[0].shape
    return xr.Dataset(variables, {"repeat": np.arange(repeats), "iteration": np.arange(1, iterations + 1)})


def variants(histories: dict[str, Any]) -> xr.Dataset:
    """Histories as one dataset [variant, repeat, iteration]; NaN where one has no such variable or iteration."""
    named = [labelled(history).expand_dims(variant=[name]) for name, history in histories.items()]
    return xr.concat(named, "variant", join="outer", data_vars="all")


def show_episodes(
    name: str, learner: str, common: Common, words: int, bins: int, histories: dict[str, Any], panels: Sequence[Panel]
) -> None:
    """What the study's figures 2 to 4 have in common: collisions of episodes against chance, saved, drawn, summed up.

    Args:
        name: of the experiment and its picture.
        learner: for the title.
        common: where to save.
        words: words an episode.
        bins: bins they are placed in.
        histories: of each variant.
        panels: what is drawn beside the collisions.

    Raises:
        OSError: if something cannot be written.
    """
    results = variants(histories)
    chance = expected_collisions(words, bins)
    title = f"{learner}, {words:,} words in {bins:,} bins, {common.seeds} seeds"
    row = [Panel("collisions", "collisions, bins drawn", chance, "chance"), *panels]
    save(name, common, {"results": results}, {name: hash_plots.curves([("", results)], [row], title)})
    columns = {"collisions": "collisions", "greedy_collisions": "best bins", "largest_bin": "fullest bin"}
    Console().print(summary(f"{title}; chance: {chance:.0f} collisions", [("", results)], columns))


def save(name: str, common: Common, results: dict[str, xr.Dataset], figures: dict[str, Figure]) -> None:
    """Write datasets and pictures into the experiment's folder under their names, and say so.

    Raises:
        OSError: if they cannot be written.
    """
    out = common.out or Path("runs") / name
    out.mkdir(parents=True, exist_ok=True)
    numbers, pictures = [out / f"{file}.nc" for file in results], [out / f"{file}.png" for file in figures]
    for path, data in zip(numbers, results.values(), strict=True):
        checkpoint.write_bytes(path, bytes(data.to_netcdf(engine="scipy")))
    for path, figure in zip(pictures, figures.values(), strict=True):
        style.save(figure, path)
    Console().print(f"Figure: {', '.join(map(str, pictures))}\nNumbers: {', '.join(map(str, numbers))}")


def summary(title: str, rows: Sequence[tuple[str, xr.Dataset]], variables: dict[str, str], last: int = 10) -> Table:
    """Each variable of each variant, at first and at the end: means over seeds, with the spread at the end."""
    table = Table(
        title=title,
        caption=f"first iteration -> mean of the last {last}: mean over seeds, +- one standard deviation at the end",
    )
    table.add_column("")
    for heading in variables.values():
        table.add_column(heading, justify="right")
    for row, results in rows:
        for variant in results["variant"].values:
            cells = []
            for variable in variables:
                values = results[variable].sel(variant=variant).dropna("iteration", how="all")
                first, seeds = values[:, :1], values[:, -last:].mean("iteration")
                text = f"{float(first.mean()):.4g} -> {float(seeds.mean()):.4g} +- {float(seeds.std()):.2g}"
                cells.append(text if values.size else "")
            table.add_row(" ".join(filter(None, (row, str(variant)))), *cells)
    return table
