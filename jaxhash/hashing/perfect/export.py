"""Export of a hash function as one file that needs only JAX and NumPy: StableHLO with the weights inside.

The file is a zip of three:

    function.stablehlo   what `jax.export.deserialize` reads: characters uint8 [n, length], lengths int32 [n], both as
                         `keys.tokenize` makes them -> bins int32 [n]; n and length are free, 1 or more
    meta.json            the format, the number of keys and of bins, a digest, some keys with their bins
    README.txt           how to call it where there is only JAX

No key is too long: `length` is that of the longest key of the call, and another length is another compilation.
JAX promises to read such files for six months after they were written, and does so for longer as a rule.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Int32

from jaxhash.hashing.keys.batches import batches, count
from jaxhash.hashing.keys.lines import Flat
from jaxhash.hashing.keys.tokens import Tokens, flatten
from jaxhash.storage import checked_read, checkpoint, program

FORMAT = 1
"""Raised whenever such a file changes its meaning."""
KIND = "jaxhash export"
FUNCTION, META, README = "function.stablehlo", "meta.json", "README.txt"

# Deflate makes a half to an eighth of ours: a file that would fill a hundred times its size is none of them.
_MOST_BYTES_PER_PACKED_BYTE = 100

_README = """A hash function of keys onto bins, exported by jaxhash. It needs JAX and NumPy only:

    import zipfile, jax, numpy as np
    function = jax.export.deserialize(bytearray(zipfile.ZipFile("{name}").read("function.stablehlo")))
    hash_tokens = jax.jit(function.call)
    keys = [b"some", b"keys"]                                   # bytes; of text its UTF-8 form
    length = max(1, *map(len, keys))                            # round up, to compile for few shapes
    characters = np.array(keys, f"S{{length}}").view(np.uint8).reshape(len(keys), length)
    print(hash_tokens(characters, np.array([*map(len, keys)], np.int32)))

meta.json holds keys, in hexadecimal, with the bins that they must get.
"""


class ExportError(ValueError):
    """An exported function is missing, damaged, or none of ours."""


@dataclass(frozen=True)
class Exported:
    """A hash function that was read back."""

    function: Callable[[Array | np.ndarray, Array | np.ndarray], Int32[Array, " n"]]
    """Characters and lengths to bins; compiled once a shape."""
    num_keys: int
    num_bins: int

    def __call__(self, keys: Iterable[str | bytes] | Flat) -> Int32[np.ndarray, " n"]:
        """The bin of each of n keys; n may be 0.

        Raises:
            TypeError, ValueError: as `keys.encode_keys`.
        """
        flat = keys if isinstance(keys, Flat) else flatten(keys)
        # No batch is waited for until all are under way.
        found = [(places, self.function(*tokens)) for places, tokens in batches(flat)]
        bins = np.empty(len(flat.lengths), np.int32)
        for places, some in found:
            bins[places] = np.asarray(some)[: count(places)]
        return bins


def save(
    path: str | Path,
    function: Callable[[Tokens], Int32[Array, " n"]],
    num_keys: int,
    num_bins: int,
    golden: Sequence[tuple[bytes, int]],
) -> None:
    """Write a function of tokens to the new file `path`, whole or not at all.

    Args:
        path: where to.
        function: pure; arrays that it closes over go into the file.
        num_keys: of its key set.
        num_bins: bins are 0 ... num_bins - 1.
        golden: keys with their bins, checked when the file is loaded.

    Raises:
        OSError: if it cannot be written, or `path` exists; what is there is left alone.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; give another file, or delete it first")

    def of_arrays(characters: Array, lengths: Array) -> Array:
        return function(Tokens(characters, lengths))

    n, length = jax_export.symbolic_shape("n, length")
    shapes = jax.ShapeDtypeStruct((n, length), np.uint8), jax.ShapeDtypeStruct((n,), np.int32)
    lowered = program.write(of_arrays, *shapes)
    meta = {
        "kind": KIND,
        "format": FORMAT,
        "num_keys": num_keys,
        "num_bins": num_bins,
        "platforms": program.PLATFORMS,
        "jax": jax.__version__,
        "sha256": hashlib.sha256(lowered).hexdigest(),
        "golden": [[key.hex(), b] for key, b in golden],
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in (
            (README, _README.format(name=path.name).encode()),
            (META, json.dumps(meta, indent=1).encode()),
            (FUNCTION, lowered),
        ):
            # A date of its own would make two exports of one function differ.
            archive.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(path, content.getvalue())


def load(path: str | Path) -> Exported:
    """The function in a file, once it was found undamaged and to give the same bins as where it was written.

    The function is a program (`jaxhash.storage.program`), and is run on a few keys: load those of people you trust.

    Raises:
        ExportError: if it is missing, damaged, of another format, not one of ours, or gives other bins here.
    """
    path = Path(path)
    meta, lowered = _read(path)
    if (found := meta.get("format")) != FORMAT:
        raise ExportError(
            f"{path}: exported in format {found}, but this jaxhash reads {FORMAT}; use the one that wrote"
        )
    if meta.get("sha256") != hashlib.sha256(lowered).hexdigest():
        raise ExportError(f"{path}: damaged (its digest does not match); export it again")
    platform, platforms = jax_export.default_export_platform(), meta.get("platforms")
    if not isinstance(platforms, list) or platform not in platforms:
        named = ", ".join(map(str, platforms)) if isinstance(platforms, list) else platforms
        raise ExportError(f"{path}: exported for {named}, not for {platform}; set JAX_PLATFORMS")
    try:
        function = program.read(lowered)
    except program.ForeignCode as error:
        raise _not_ours(path, str(error)) from None
    except program.ProgramError as error:
        raise ExportError(f"{path}: written by JAX {meta.get('jax')}; {error}") from error
    try:
        exported = Exported(jax.jit(function), int(meta["num_keys"]), int(meta["num_bins"]))
        golden = {bytes.fromhex(key): b for key, b in meta["golden"]}
        bins = exported(list(golden)).tolist()
    except Exception as error:  # of another function than ours, whatever JAX trips over
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ExportError(f"{path}: the description of the function is not complete, or not true ({reason})") from error
    for (key, expected), b in zip(golden.items(), bins, strict=True):
        if b != expected:
            raise ExportError(
                f"{path}: {key[:60]!r} gets bin {b} here instead of {expected}; this device or JAX does not compute "
                "integers correctly"
            )
    return exported


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """The description and the function, as they stand in the file."""
    try:
        with checked_read.opened(path) as file, zipfile.ZipFile(file) as archive:
            names, claimed = archive.namelist(), sum(part.file_size for part in archive.infolist())
            if not set(names) <= {README, META, FUNCTION} or len(set(names)) < len(names):
                raise zipfile.BadZipFile("it holds other files")
            if claimed > _MOST_BYTES_PER_PACKED_BYTE * os.fstat(file.fileno()).st_size:
                raise zipfile.BadZipFile(f"it claims {claimed:,} bytes, far more than a function of its size")
            damaged = archive.testzip()
            meta, lowered = json.loads(archive.read(META)), archive.read(FUNCTION)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: no such file; give what `export` has written") from error
    except Exception as error:  # whatever a damaged archive leads to: zlib's, struct's and other errors
        raise _not_ours(path, str(error) or repr(error)) from error
    if damaged is not None:
        raise _not_ours(path, f"{damaged} in it does not match its checksum")
    if not isinstance(meta, dict) or meta.get("kind") != KIND:
        raise _not_ours(path, "it does not say that it is one")
    return meta, lowered


def _not_ours(path: Path, reason: str) -> ExportError:
    return ExportError(f"{path}: damaged, or no exported hash function ({reason}); export it again")
