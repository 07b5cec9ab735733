"""`--compile-cache`: what one process compiles, the next one finds."""

import subprocess
import sys

import numpy as np
import pytest

from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect.fitting import fit


@pytest.mark.slow
def test_the_next_process_compiles_nothing_new(tmp_path):
    keys = load_keys("english", count=50)
    hasher = fit(keys)
    hasher.save(tmp_path / "saved")
    cache = tmp_path / "below" / "cache"
    command = [sys.executable, "-m", "jaxhash.cli", "hash", str(tmp_path / "saved"), "--compile-cache", str(cache)]
    kept = []
    for _ in range(2):
        done = subprocess.run(command, input=b"\n".join(keys), capture_output=True, check=True)
        assert done.stdout.split() == [b"%d" % b for b in np.asarray(hasher(keys)).tolist()]
        kept.append(sorted(f.name for f in cache.iterdir() if not f.name.endswith("-atime")))
    assert kept[0] == kept[1] != []
    (tmp_path / "file").touch()
    refused = subprocess.run([*command[:-1], str(tmp_path / "file")], input=b"", capture_output=True, text=False)
    assert refused.returncode == 1
    assert refused.stderr.count(b"\n") == 1
    assert b"exists" in refused.stderr
