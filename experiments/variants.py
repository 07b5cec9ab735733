"""What the commands that run variants of a sweep share: one progress bar over all of them, Ctrl-C, and errors."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import xarray as xr
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import variants
from jaxhash.sweeps.engine import SweepConfig
from jaxhash.terminal.command import interruptible, progress_bar
from jaxhash.terminal.machines import ONE_PROCESS, Machines


def run_variants(
    configs: Mapping[str, SweepConfig],
    out: Path,
    data_dir: Path | None,
    machines: Machines = ONE_PROCESS,
    *,
    dimension: str = "variant",
    coordinate: Sequence[Any] | None = None,
) -> xr.Dataset:
    """`variants.run` for a person at a terminal; exits as `interruptible` does.

    Several processes train one variant after the other together; the first returns, the others end here.
    """
    sweep.one_thread_a_worker()
    console = Console(stderr=True)
    epochs = {name: _epochs(config) for name, config in configs.items()}
    console.print(
        f"To do: {len(configs)} variants, {sum(map(_models, configs.values())):,} models, {sum(epochs.values()):,} "
        "epochs of single models, less what is finished and where models stop early.",
        highlight=False,
    )
    bar = progress_bar(console)
    everything = bar.add_task("preparing", total=sum(epochs.values()))

    with interruptible(out, console) as stop, machines.joined() as group, bar, _compiled_once():
        if group is not None and group.index > 0:
            for name, config in configs.items():
                sweep.run(config, out / name, data_dir=data_dir, mesh=machines.mesh, group=group, stop=stop)
            console.print(f"Process {group.index} is done; process 0 has the results.")
            sys.exit(0)

        def run_one(config: SweepConfig, folder: Path) -> xr.Dataset:
            number = list(configs).index(folder.name)
            before = sum(list(epochs.values())[:number])
            trained: dict[str, int] = {}

            def report(progress: sweep.Progress) -> None:
                models = len(progress.task.repeats) * len(progress.task.block.widths)
                trained[progress.task.name] = models * progress.epoch
                bar.update(everything, completed=before + sum(trained.values()))

            name = f"{folder.name} ({number + 1} of {len(configs)})"
            bar.update(everything, description=name)
            if not console.is_terminal:
                console.print(name, highlight=False)
            return sweep.run(
                config, folder, data_dir=data_dir, mesh=machines.mesh, group=group, callback=report, stop=stop
            )

        return variants.run(configs, out, dimension=dimension, coordinate=coordinate, run_sweep=run_one)


@contextmanager
def _compiled_once() -> Iterator[None]:
    """Programs that several variants share (all but the training step, often) are compiled for the first of them."""
    if jax.config.values["jax_compilation_cache_dir"]:
        yield  # the user's own cache serves as well
        return
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: jax.config.values[name] for name in names}
    with TemporaryDirectory(prefix="jaxhash-") as folder:
        try:
            for name, value in zip(names, (folder, 0, -1), strict=True):
                jax.config.update(name, value)
            compilation_cache.reset_cache()
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


def _models(config: SweepConfig) -> int:
    return len(config.widths) * config.repeats * max(len(config.sample_sizes), 1)


def _epochs(config: SweepConfig) -> int:
    return _models(config) * config.train.epochs
