"""Commands of the hash study: their options, words, trainings with progress, labelled histories and summaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from jaxhash.data.download import DataError
from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.study.loop import train_seeds
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of
from jaxhash.terminal.command import in_background
from jaxhash.terminal.progress import progress


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

    def folder(self, experiment: str) -> Path:
        """Where results go."""
        return self.out or Path("runs") / experiment


def words(common: Common, count: int | None = None) -> list[bytes]:
    """`count` keys drawn from the key set, by the run's seed; all of them, shuffled, if None.

    Raises:
        ValueError: if there are not so many.
    """
    return drawn(load_keys(common.keys), common, count)


def drawn(every: list[bytes], common: Common, count: int | None = None) -> list[bytes]:
    """`count` of some keys, drawn by the run's seed; all of them, shuffled, if None.

    Raises:
        ValueError: if there are not so many.
    """
    if count is not None and count > len(every):
        raise ValueError(f"{count:,} words wanted, but {common.keys} has {len(every):,}; give a larger --keys")
    order = np.random.default_rng(common.seed).permutation(len(every))[:count]
    return [every[i] for i in order]


def listed(name: str, console: Console) -> list[bytes]:
    """The keys of a list by name or path; where the study's dictionary is not at hand, the words of the package.

    Raises:
        DataError: if another list is not at hand.
    """
    try:
        return load_keys(name)
    except DataError as error:
        if name != "dwyl":
            raise
        console.print(f"{error}\nTaking the words of the package (english) instead.", highlight=False)
        return load_keys("english")


def network(tokens: Tokens, hidden: tuple[int, ...] = (300, 300), reader: str = "one_hot") -> NetworkConfig:
    """A network that tells all the letters of these keys apart."""
    return NetworkConfig(hidden, reader, alphabet=alphabet_of(tokens))  # type: ignore[arg-type]


def train(
    label: str, make_train: Callable[..., Any], config: Any, common: Common, *data: Any, side_by_side: bool = True
) -> tuple[Any, Any]:
    """Train a learner from all seeds in one program, side by side or one after the other, with progress.

    Returns:
        The states and the history (NumPy) with a leading axis of seeds.
    """
    with progress(label, config.iterations) as told:

        def work() -> Any:
            found = train_seeds(make_train(config, told), common.seeds, common.seed, *data, side_by_side=side_by_side)
            return jax.block_until_ready(found)

        state, history = in_background(work)
    return state, jax.tree.map(np.asarray, history)


def labelled(history: Any) -> xr.Dataset:
    """A history [repeat, iteration] by name."""
    variables = {name: (("repeat", "iteration"), values) for name, values in history._asdict().items()}
    repeats, iterations = history[0].shape
    return xr.Dataset(variables, {"repeat": np.arange(repeats), "iteration": np.arange(1, iterations + 1)})


def learners(histories: dict[str, Any]) -> xr.Dataset:
    """Histories as one dataset [learner, repeat, iteration]; NaN where one has no such variable or iteration."""
    named = [labelled(history).expand_dims(learner=[name]) for name, history in histories.items()]
    return xr.concat(named, "learner", join="outer", data_vars="all")


def summary(title: str, rows: Sequence[tuple[str, xr.Dataset]], variables: dict[str, str], last: int = 10) -> Table:
    """Each variable of each learner, at first and at the end: means over seeds, with the spread at the end."""
    table = Table(
        title=title,
        caption=f"first iteration -> mean of the last {last}: mean over seeds, +- one standard deviation at the end",
    )
    table.add_column("")
    for heading in variables.values():
        table.add_column(heading, justify="right")
    for row, results in rows:
        for learner in results["learner"].values:
            cells = []
            for variable in variables:
                values = results[variable].sel(learner=learner).dropna("iteration", how="all")
                first, seeds = values[:, :1], values[:, -last:].mean("iteration")
                text = f"{float(first.mean()):.4g} -> {float(seeds.mean()):.4g} +- {float(seeds.std()):.2g}"
                cells.append(text if values.size else "")
            table.add_row(" ".join(filter(None, (row, str(learner)))), *cells)
    return table
