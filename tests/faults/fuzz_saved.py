"""Readers of what jaxhash itself has saved, for the fuzzer (`fuzz_readers.py`)."""

import contextlib
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.faults.fuzz_reader import Reader, zipped


def codes(folder: Path) -> Reader:
    """Codes in a file: their description, or their words."""
    from jaxhash.codes import files
    from jaxhash.codes.code import Layer
    from jaxhash.storage.checkpoint import CheckpointError

    layers = (Layer("a", 0, 30, (5, 6), "relu"), Layer("b", 30, 10, (10,), "relu"))
    with files.writing(folder / "whole.npy", 3, 40, layers) as append:
        append(np.arange(6, dtype=np.uint32).reshape(3, 2))
    seeds = [(folder / f"whole.{suffix}").read_bytes() for suffix in ("json", "npy")]

    def read(kind: int, content: bytes) -> None:
        for at, suffix in enumerate(("json", "npy")):
            (folder / f"x.{suffix}").write_bytes(content if at == kind else seeds[at])
        with contextlib.suppress(CheckpointError):
            found = files.load(folder / "x.npy")
            assert found.rows(slice(None)).shape == (found.n, found.num_words)

    return Reader(seeds, read, text=True)


def checkpoint(folder: Path) -> Reader:
    """What describes a checkpoint: as it is, or with a digest that fits, as a forger's would."""
    from jaxhash.storage.checkpoint import CheckpointError, describe

    (folder / "arrays").mkdir()
    (folder / "arrays" / "d").write_bytes(b"x")
    meta = {
        "format": 1,
        "arrays": {"['a']": "[2] float32"},
        "files": {"arrays/d": hashlib.sha256(b"x").hexdigest()},
        "description": {"step": 1},
    }

    def read(kind: int, content: bytes) -> None:
        (folder / "meta.json").write_bytes(_signed(content) if kind else content)
        with contextlib.suppress(CheckpointError):
            assert isinstance(describe(folder), dict)

    return Reader([_signed(json.dumps(meta).encode()), json.dumps(meta).encode()], read, text=True)


def hasher(folder: Path) -> Reader:
    """What describes a saved hasher, with a digest that fits. Orbax reads the arrays once: they are what was saved."""
    from jaxhash.hashing.perfect.hasher import load_hasher
    from jaxhash.storage import checkpoint
    from jaxhash.storage.checkpoint import CheckpointError

    _fitted().save(folder / "x")
    meta = json.loads((folder / "x" / "meta.json").read_text())
    whole = load_hasher(folder / "x").policy._asdict()
    checkpoint.ocp = SimpleNamespace(load=lambda path, like: whole)  # type: ignore[assignment]

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):
            lie = meta | {"description": json.loads(content)}
            (folder / "x" / "meta.json").write_bytes(_signed(json.dumps(lie).encode()))
            with contextlib.suppress(CheckpointError):
                assert load_hasher(folder / "x")([b"a"]).shape == (1,)

    return Reader([json.dumps(meta["description"]).encode()], read, text=True)


def hasher_arrays(folder: Path) -> Reader:
    """A file of a saved hasher's arrays, of which the description has the digest: what Orbax makes of it."""
    from jaxhash.hashing.perfect.hasher import load_hasher
    from jaxhash.storage.checkpoint import CheckpointError

    whole, forged = folder / "whole", folder / "forged"
    _fitted().save(whole)
    shutil.copytree(whole, forged)
    meta = json.loads((whole / "meta.json").read_text())
    names = sorted(meta["files"])
    files = [(whole / name).read_bytes() for name in names]

    def read(kind: int, content: bytes) -> None:
        (forged / names[kind]).write_bytes(content)
        lie = meta | {"files": meta["files"] | {names[kind]: hashlib.sha256(content).hexdigest()}}
        (forged / "meta.json").write_bytes(_signed(json.dumps(lie).encode()))
        try:
            with contextlib.suppress(CheckpointError, OSError):  # Orbax does not tell a disk from a file that is wrong
                load_hasher(forged)
        finally:
            (forged / names[kind]).write_bytes(files[kind])

    return Reader(files, read, text=True)


def exported(folder: Path) -> Reader:
    """An exported hash function: the archive, or its description. JAX reads the function in it once.

    The function itself is not fuzzed: it is a program, which may run for as long as it likes.
    """
    from jaxhash.hashing.perfect import export
    from jaxhash.storage import program

    path = folder / "x.zip"
    _fitted().export(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    jax_export, functions = program.jax_export, dict[bytes, Any]()

    def deserialize(content: bytearray) -> Any:
        if (known := bytes(content)) not in functions:
            function = jax_export.deserialize(content)
            text, call, platforms = function.mlir_module(), function.call, function.platforms
            functions.clear()
            functions[known] = SimpleNamespace(mlir_module=lambda: text, call=call, platforms=platforms)
        return functions[known]

    program.jax_export = SimpleNamespace(  # type: ignore[assignment]
        deserialize=deserialize, default_export_platform=jax_export.default_export_platform
    )

    def read(kind: int, content: bytes) -> None:
        path.write_bytes(zipped(parts | {export.META: content}) if kind else content)
        with contextlib.suppress(export.ExportError):
            export.load(path)

    return Reader([whole, parts[export.META]], read, text=True)


def run_config(folder: Path) -> Reader:
    """`config.json` of a run: its status, its results, what continuing it says."""
    from jaxhash.storage.checkpoint import CheckpointError
    from jaxhash.sweeps import folder as runs
    from jaxhash.sweeps import status
    from jaxhash.sweeps.results import collect

    description = _run(folder)

    def read(_: int, content: bytes) -> None:
        (folder / runs.CONFIG).write_bytes(content)
        with contextlib.suppress(CheckpointError):
            status.table(folder, status.status(folder))
        with contextlib.suppress(CheckpointError):
            collect(folder)
        with contextlib.suppress(CheckpointError, runs.RunError):
            runs.noted(folder, description)

    return Reader([json.dumps(description).encode()], read, text=True)


def run_log(folder: Path) -> Reader:
    """The log of a run, and of a fit that was interrupted."""
    from jaxhash.hashing.perfect import resume
    from jaxhash.storage.event_log import LOG
    from jaxhash.sweeps import status

    _run(folder)
    sign = {"time": "2026-11-01T00:00:00.000+00:00", "pid": 1, "seconds": 1.0}
    task = "repeats-0-0_widths-3-3"
    epoch = {"task": task, "epoch": 1, "active": 1, "loss_mean": 0.5, "model_steps": 9, "model_steps_per_second": 9.0}
    of_run = [
        {"event": "start", "host": "a", "processes": 1, "steps_per_epoch": 9},
        {"event": "epoch", **epoch},
        {"event": "failed", "error": "no space"},
    ]
    of_fit = [
        {"event": "start", "host": "a", "method": "seeds"},
        {"event": "fit", "stage": "fitting", "keys": 9, "steps": 9, "collisions": 1},
        {"event": "stopped"},
    ]

    def read(kind: int, content: bytes) -> None:
        (folder / LOG).write_bytes(content)
        if kind == 0:
            found = status.status(folder)
            assert (found.models, found.measured) == (1, 0)
            status.table(folder, found)
        else:
            with contextlib.suppress(ValueError):
                resume.table(folder)

    return Reader(
        [b"".join(json.dumps(line | sign).encode() + b"\n" for line in lines) for lines in (of_run, of_fit)],
        read,
        text=True,
    )


def run_task(folder: Path) -> Reader:
    """What describes a finished task of a run, with a digest that fits."""
    from jaxhash.storage.checkpoint import CheckpointError
    from jaxhash.sweeps import folder as runs
    from jaxhash.sweeps.grid import METRICS
    from jaxhash.sweeps.results import collect

    (task,) = runs.tasks_of(_run(folder))
    path = task.folder(folder, None)
    path.mkdir(parents=True)
    metrics = dict.fromkeys(METRICS, 0.5) | {"repeat": 0, "width": 3, "epochs": 1, "diverged": 0}
    said = {"of": runs.identity(folder, task, None), "models": [metrics]}

    def read(_: int, content: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):
            meta = {"format": 1, "arrays": {}, "files": {}, "description": json.loads(content)}
            (path / "meta.json").write_bytes(_signed(json.dumps(meta).encode()))
            with contextlib.suppress(CheckpointError):
                assert collect(folder).sizes == {"repeat": 1, "width": 1}

    return Reader([json.dumps(said).encode()], read, text=True)


def run_program(folder: Path) -> Reader:
    """What describes the compiled function of a run, and that function. JAX and Orbax read whole ones once."""
    import jax.numpy as jnp

    import jaxhash
    from jaxhash.storage import checkpoint, program
    from jaxhash.storage.checkpoint import CheckpointError
    from jaxhash.sweeps import folder as runs

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40, dtype=np.int32) % 2

    def make() -> Any:
        return (lambda key, x: {"a": jnp.ones((3, 2))}), lambda params, x: jnp.maximum(x @ params["a"], 0)

    jaxhash.sweep(make, (x, y, x, y), out=folder, repeats=1, epochs=1, batch_size=8, properties=("redundancy",))
    paths = [folder / runs.PROGRAMS / name for name in ("all.json", "all.stablehlo")]
    seeds = [path.read_bytes() for path in paths]
    whole = {"params/a": jnp.ones((1, 3, 2))}
    checkpoint.ocp = SimpleNamespace(load=lambda path, like: whole)  # type: ignore[assignment]
    deserialize = program.jax_export.deserialize
    known = deserialize(bytearray(seeds[1]))
    program.jax_export = SimpleNamespace(  # type: ignore[assignment]
        deserialize=lambda content: known if bytes(content) == seeds[1] else deserialize(content),
        default_export_platform=program.jax_export.default_export_platform,
    )

    def read(kind: int, content: bytes) -> None:
        paths[kind].write_bytes(content)
        try:
            with contextlib.suppress(CheckpointError):
                jaxhash.load(folder)
        finally:
            paths[kind].write_bytes(seeds[kind])

    return Reader(seeds, read, text=True)


def lock(folder: Path) -> Reader:
    """What a process that works in a folder noted there."""
    from jaxhash.storage import locks

    names = (locks.SOFT, locks.NOTE)
    seeds = [b"1\nhost\n", b'{"pid": 1, "host": "a", "since": "2026-11-01T00:00:00+00:00"}']

    def read(kind: int, content: bytes) -> None:
        for at, name in enumerate(names):
            (folder / name).write_bytes(content if at == kind else seeds[at])
        str(locks.holder(folder))

    return Reader(seeds, read, text=True)


def report(folder: Path) -> Reader:
    """Pictures, tables and numbers of a run, as the report page shows them."""
    import xarray as xr
    from PIL import Image

    from jaxhash.terminal.report import page, read_run

    Image.new("L", (2, 2)).save(picture := io.BytesIO(), "PNG")
    data = xr.Dataset({"a": (("repeat", "width"), np.ones((2, 2)))}, attrs={"config": '{"b": 1}', "versions": "{}"})
    config = {"config": {"dataset": "digits"}, "versions": {"jax": "1"}, "device": "cpu", "tasks": [1]}
    seeds = {
        "x.png": picture.getvalue(),
        "x.csv": b"a,b\n1,x\n2.5,y\n",
        "x.json": b'{"a": 1, "b": {"c": [1, 2], "d": [3, 4]}}',
        "config.json": json.dumps(config).encode(),
        "x.nc": bytes(data.to_netcdf(engine="scipy")),
    }

    def read(kind: int, content: bytes) -> None:
        path = folder / list(seeds)[kind]
        path.write_bytes(content)
        run = read_run(folder)
        path.unlink()
        assert run.pictures or run.tables or run.configuration or run.versions or run.remarks or content
        # The page itself takes ten times as long.
        if len(content) % 16 == 0:
            page([run], "Runs")

    return Reader(list(seeds.values()), read, text=True)


def _fitted() -> Any:
    """A hasher of 60 words."""
    from jaxhash.hashing.keys.words import load_keys
    from jaxhash.hashing.perfect.fitting import FitConfig, fit
    from jaxhash.hashing.perfect.seeds import SeedsConfig

    return fit(load_keys("english", count=60), FitConfig(method="seeds", seeds=SeedsConfig(6, 3)))


def _signed(content: bytes) -> bytes:
    """The description of a checkpoint with a digest that fits; what is no description stays as it is."""
    with contextlib.suppress(ValueError, RecursionError):
        meta: Any = json.loads(content)
        if isinstance(meta, dict):
            meta.pop("sha256", None)
            meta["sha256"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
            return json.dumps(meta).encode()
    return content


def _run(folder: Path) -> dict[str, Any]:
    """Begin the folder of a run of one model; its description."""
    from jaxhash.sweeps import folder as runs
    from jaxhash.sweeps.grid import SweepConfig
    from jaxhash.sweeps.tasks import Task, as_json
    from jaxhash.training.mlp import TrainConfig

    config = SweepConfig(widths=(3,), repeats=1, train=TrainConfig(epochs=2))
    description = {
        "config": runs.plain(config),
        "metrics": config.metrics(2),
        "features": 4,
        "classes": 2,
        "tasks": [as_json(Task.of((3,), (0,)))],
        "data": "d",
        "versions": {"jax": "1"},
        "device": "cpu",
    }
    (folder / runs.CONFIG).write_text(json.dumps(description))
    return description
