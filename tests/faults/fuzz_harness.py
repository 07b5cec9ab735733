"""A process that feeds made-up files to one reader until time is up.

    python fuzz_harness.py TARGET SECONDS SEED FOLDER

Atheris (libFuzzer) makes them up, guided by which lines of the readers they reach. Whatever a file says, the answer is
a value or the one documented error: anything else, a file that takes over 20 seconds, or over 3 GB of memory, ends the
process with a traceback and another status than 0, and the file stands in FOLDER.
"""

import contextlib
import hashlib
import io
import json
import resource
import shutil
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jaxhash.data.image_formats", "jaxhash.hashing.keys.lines"]):
    from jaxhash.data.image_formats import parse_cifar_pickle, parse_idx
    from jaxhash.hashing.keys.words import read_keys
from jaxhash.data.download import DataError
from jaxhash.hashing.perfect.hasher import load_hasher
from jaxhash.storage.checkpoint import CheckpointError


def idx(content: bytes, _: Path) -> None:
    with contextlib.suppress(DataError):
        assert parse_idx(content, Path("images"), 3).size <= 1032 * len(content)


def cifar(content: bytes, _: Path) -> None:
    with contextlib.suppress(DataError):
        pixels, labels = parse_cifar_pickle(content, Path("batch"))
        assert pixels.shape == (len(labels), 3072)


def keys(content: bytes, _: Path) -> None:
    with contextlib.suppress(DataError):
        found = read_keys(io.BytesIO(content), drop_duplicates=True)
        assert len(set(found)) == len(found)


def hasher(content: bytes, folder: Path) -> None:
    """The first byte chooses a file of a saved hasher, the rest stands in it; digests fit, as a forger's would."""
    forged = folder / "forged"
    shutil.rmtree(forged, ignore_errors=True)
    shutil.copytree(folder / "hasher", forged)
    meta = json.loads((forged / "meta.json").read_text())
    names = sorted(meta["files"])
    which = content[0] % (len(names) + 1) if content else 0
    if which < len(names):
        (forged / names[which]).write_bytes(content[1:])
        meta["files"][names[which]] = hashlib.sha256(content[1:]).hexdigest()
    else:
        with contextlib.suppress(ValueError, RecursionError):
            meta["description"] = json.loads(content[1:])
    del meta["sha256"]
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (forged / "meta.json").write_text(json.dumps({**meta, "sha256": digest}))
    with contextlib.suppress(CheckpointError):
        load_hasher(forged)


MOST_BYTES = 3 * 2**30
TARGETS = {target.__name__: target for target in (idx, cifar, keys, hasher)}

if __name__ == "__main__":
    name, seconds, seed, folder = sys.argv[1:]
    # Not by libFuzzer: it counts what the process that started this one has taken, too.
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    options = [f"-max_total_time={seconds}", f"-seed={int(seed) + 1}", "-timeout=20", "-rss_limit_mb=0"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={folder}/", f"{folder}/corpus"],
        lambda content: TARGETS[name](content, Path(folder)),
    )
    atheris.Fuzz()
