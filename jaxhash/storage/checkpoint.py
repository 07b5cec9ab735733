"""Arrays and their description saved whole or not at all, with Orbax; checked before they are believed."""

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from jaxhash.storage import atomic, checked_read

FORMAT = 1
"""Raised whenever what is saved changes its meaning."""

OVERHEAD_BYTES = 2**17
"""Of a checkpoint, beyond its arrays: some ten small files and folders, a block of the disk each."""

_DTYPES = (
    *("bool", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")

# Orbax counts its steps and keeps its event loops for the whole process: a save fails now and then while another thread
# of the process saves or loads.
_one_call_of_orbax_at_a_time = threading.Lock()


T = TypeVar("T")


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or not one of ours."""


def save(path: Path, arrays: Any, description: dict[str, Any]) -> None:
    """Write a pytree of arrays and a JSON-able description to the new folder `path`.

    It is written under a temporary name and renamed at the end: `path` exists whole, or not at all. Once this returns,
    it is on the disk, and stays there when the power fails.

    Raises:
        OSError: if it cannot be written (a full disk, no permission, `path` exists); nothing is left behind.
    """
    made = atomic.make_folder(path.parent)
    # Known beforehand, a full disk gets one line; TensorStore's threads would print tracebacks of their own.
    wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + OVERHEAD_BYTES
    if (free := shutil.disk_usage(path.parent).free) < wanted:
        reason = f"{os.strerror(errno.ENOSPC)} ({free:,} bytes are free, {wanted:,} are needed)"
        raise OSError(errno.ENOSPC, reason, str(path.parent))
    draft = _draft_of(path)
    try:
        _by_orbax("arrays cannot be written", lambda: _save_arrays(draft / "arrays", arrays))
        files = {str(f.relative_to(draft)): checked_read.sha256(f) for f in sorted(draft.rglob("*")) if f.is_file()}
        meta = {"format": FORMAT, "files": files, "arrays": _shapes(arrays), "description": description}
        (draft / "meta.json").write_text(json.dumps({**meta, "sha256": _digest(meta)}, indent=1))
        atomic.rename(draft, path, made=made)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def describe(path: Path) -> dict[str, Any]:
    """The description saved with a checkpoint, once every file of it was found undamaged.

    Raises:
        CheckpointError: if the checkpoint is missing, damaged, or of another format.
    """
    return _read_meta(path)["description"]


def abstract(shape: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    """An array of a shape and type that a description tells.

    Raises:
        ValueError, TypeError: if it tells something else. NumPy would read a type as Python's source.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"{dtype!r:.40} is no type of an array")
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))


def restore(path: Path, like: Any) -> Any:
    """The arrays of a checkpoint, shaped like the abstract pytree `like`, on the default device.

    Raises:
        CheckpointError: if the checkpoint is damaged, or does not hold such arrays.
        OSError: if the arrays cannot be read.
    """
    there, wanted = _read_meta(path)["arrays"], _shapes(like)
    if there != wanted:
        name = next(name for name in {**there, **wanted} if there.get(name) != wanted.get(name))
        raise CheckpointError(
            f"{path}: holds other arrays than expected ({name}: shape and type "
            f"{there.get(name, 'missing')} there, {wanted.get(name, 'missing')} expected)"
        )
    # Compressed, arrays of zeros take no room in a file: what a stranger's file claims is bounded before it is read.
    claimed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    if claimed > checked_read.MEMORY_SHARE * (memory := checked_read.memory_bytes()):
        raise CheckpointError(
            f"{path}: claims {claimed / 1e9:,.0f} GB of arrays, and this machine has {memory / 1e9:,.0f} GB of memory; "
            "load it on a larger one, if you trust it"
        )
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), like)
    return _by_orbax(f"{path}: arrays cannot be read", lambda: ocp.load(str((path / "arrays").absolute()), abstract))


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all, as `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; once this returns, it is on the disk."""
    draft = _draft_of(path)
    try:
        draft.write_bytes(data)
        atomic.rename(draft, path, made=[])
    finally:
        draft.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Whether a file or folder is one that was being written when its process was killed."""
    return _DRAFT.fullmatch(path.name) is not None


def remove_drafts(folder: Path) -> None:
    """Delete what killed processes left half written, in a folder and those below."""
    for path in [path for path in folder.rglob(".*") if is_draft(path)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _read_meta(path: Path) -> dict[str, Any]:
    mend = "delete this folder and run the same command again, or restore it from a copy"
    try:
        meta = checked_read.read_json(path / "meta.json")
        claimed = meta.pop("sha256")
        found, files, arrays, described = (meta[name] for name in ("format", "files", "arrays", "description"))
        for name, part in (("files", files), ("arrays", arrays), ("description", described)):
            if not isinstance(part, dict):
                raise TypeError(f"{name} is {part!r}")
        if not all(isinstance(text, str) for text in (*files.values(), *arrays.values())):
            raise TypeError("files and arrays are not described by text")
        if outside := [name for name in files if Path(name).is_absolute() or ".." in Path(name).parts]:
            raise ValueError(f"{outside[0]} is not in the folder")  # it may be a file of the system's without an end
    except FileNotFoundError:
        # Nobody is told to delete a folder that is none of ours.
        mend = mend if (path / "arrays").is_dir() else "give the folder of one"
        raise CheckpointError(f"{path}: no checkpoint here (meta.json is missing); {mend}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}/meta.json: cannot be read ({error}); {mend}") from None
    if found != FORMAT:
        raise CheckpointError(
            f"{path}: format {found}, but this jaxhash reads format {FORMAT}; use the one that wrote it"
        )
    if claimed != _digest(meta):
        raise CheckpointError(f"{path}/meta.json: damaged (its contents do not match their sha256); {mend}")
    for name, digest in files.items():
        file = path / name
        if _sha256(file) != digest:
            raise CheckpointError(f"{file}: missing or damaged (its sha256 is not {digest[:12]}...); {mend}")
    return meta


def _shapes(arrays: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path): f"{list(leaf.shape)} {leaf.dtype}" for path, leaf in leaves}


def _save_arrays(path: Path, arrays: Any) -> None:
    ocp.save(str(path.absolute()), arrays)
    # Orbax ends well and leaves a checkpoint without arrays where the folder that it has written cannot be listed (too
    # many open files, an interrupted call): it looks for its files by a glob, which takes such an error for no files.
    found = jax.tree.leaves(ocp.metadata(str(path.absolute())).metadata)
    there, saved = (sorted(f"{list(a.shape)} {a.dtype}" for a in some) for some in (found, jax.tree.leaves(arrays)))
    if there != saved:
        raise OSError(errno.EIO, f"{len(there)} of {len(saved)} arrays are found again; try once more")


def _by_orbax(what: str, work: Callable[[], T]) -> T:
    """What Orbax does; whatever it meets is raised as one OSError, with what it was as its cause.

    It works in a daemon thread, for the threads that it starts are of the same kind: after a save that failed, one of
    them waits many minutes for what does not come, and would keep the process from ending.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            with _one_call_of_orbax_at_a_time, _silent():
                done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join()
        if not done.done():
            raise MemoryError("a thread could not begin")
        return done.result()
    except Exception as error:
        # What the system refuses inside TensorStore arrives as ValueError or RuntimeError, its reason in the text.
        # (Its timeouts go by the wall clock: one set forward during a save ends it so.)
        told = isinstance(error, OSError) and error.strerror
        line = (str(error).splitlines() or [type(error).__name__])[0]
        reason = told or line.split(": ")[-1].partition(" [")[0].strip()
        raise OSError(f"{what}: {reason}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Orbax logs the traceback of each of its threads before it raises what they met; the one error is enough."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str | None:
    """Of a regular file that can be read; None if it is none."""
    try:
        return checked_read.sha256(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
