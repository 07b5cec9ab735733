"""kill -9 at random moments: what had been saved stands, nothing wrong can be loaded, the same command goes on."""

import random
import time

import numpy as np
import pytest
from conftest import SEEDS, ended, since_start, wait_until

from jaxhash import status
from jaxhash.checkpoint import is_draft
from jaxhash.hashing.hasher import load_hasher

WORDS = [f"word{i}" for i in range(300)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_sweep(whole, processes, tmp_path, seed):
    draw, out = random.Random(seed), tmp_path / "run"
    for _ in range(2):
        process = processes.sweep(out)
        wait_until(process, lambda process=process: since_start(process, out))
        time.sleep(draw.uniform(0, whole.seconds))
        process.kill()
        ended(process)
        whole.assert_nothing_wrong(out)
        stands = status.status(out)
        assert (stands.ended, stands.holder) == ("done" if stands.finished else "killed", None)
    assert ended(processes.sweep(out))[0] == 0
    whole.assert_ended_the_same(out)


@pytest.fixture(scope="module")
def fitted(processes, tmp_path_factory):
    """The keys' file, their bins, and how long it takes to learn them, with compiling."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "words").write_text("\n".join(WORDS))
    began = time.monotonic()
    assert ended(processes.fit(folder / "words", "--out", folder / "whole"))[0] == 0
    bins = np.asarray(load_hasher(folder / "whole")(WORDS))
    assert sorted(bins.tolist()) == list(range(len(WORDS)))
    return folder / "words", bins, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fit(fitted, processes, tmp_path, seed):
    words, bins, seconds = fitted
    out = tmp_path / "my.hash"
    process = processes.fit(words, "--out", out)
    time.sleep(random.Random(seed).uniform(0.1, 1) * seconds)
    process.kill()
    ended(process)
    if out.exists():
        np.testing.assert_array_equal(load_hasher(out)(WORDS), bins)
    else:
        assert all(is_draft(path) for path in tmp_path.iterdir())
        assert ended(processes.fit(words, "--out", out))[0] == 0
        np.testing.assert_array_equal(load_hasher(out)(WORDS), bins)
