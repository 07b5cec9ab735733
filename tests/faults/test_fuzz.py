"""Files from strangers, once more: made up by a fuzzer that sees which lines they reach (atheris, where it installs).

`FUZZ_SECONDS` in the environment gives each reader longer than the few seconds of every run, `FAULT_SEEDS` other files.
"""

import gzip
import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.seeds import SeedsConfig
from tests.faults.conftest import CIFAR_BATCH, SEEDS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "2"))
HARNESS = Path(__file__).with_name("fuzz_harness.py")


def corpus(target, folder):
    """Whole files of the kind that a target reads, to begin with."""
    match target:
        case "idx":
            return [gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 3, 2, 2) + bytes(range(12)), mtime=0)]
        case "cifar":
            return [CIFAR_BATCH]
        case "keys":
            return [b"a\nb\r\n\nc", gzip.compress(b"a\nb\n", mtime=0)]
        case "hasher":
            config = FitConfig(method="seeds", seeds=SeedsConfig(6, 3))
            fit(load_keys("english", count=60), config).save(folder / "hasher")
            names = sorted(json.loads((folder / "hasher" / "meta.json").read_text())["files"])
            files = [(folder / "hasher" / name).read_bytes() for name in names]
            return [bytes([which]) + content for which, content in enumerate([*files, b"{}"])]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris does not install here")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", ["idx", "cifar", "keys", "hasher"])
def test_a_reader(tmp_path, target, seed):
    (tmp_path / "corpus").mkdir()
    for number, content in enumerate(corpus(target, tmp_path)):
        (tmp_path / "corpus" / str(number)).write_bytes(content)
    command = [sys.executable, str(HARNESS), target, str(SECONDS), str(seed), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Done " in done.stderr  # libFuzzer's last line: so many runs in so many seconds
