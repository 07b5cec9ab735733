"""kill -9 at random moments: what had been saved stands, nothing wrong can be loaded, the same command goes on."""

import random
import time

import jax
import numpy as np
import pytest

from jaxhash.hashing.perfect.hasher import load_hasher
from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import is_draft
from jaxhash.sweeps import status
from tests.faults.conftest import SEEDS, ended, since_start, wait_until

WORDS = [f"word{i}" for i in range(3000)]


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
    """The keys' file, their bins, and how long it takes to learn them once there is something to save."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "words").write_text("\n".join(WORDS))
    process = processes.fit(folder / "words", "--out", folder / "whole")
    wait_until(process, lambda: (folder / "whole.unfinished" / "step-1").exists())
    began = time.monotonic()
    assert ended(process)[0] == 0
    bins = np.asarray(load_hasher(folder / "whole")(WORDS))
    assert sorted(bins.tolist()) == list(range(len(WORDS)))
    return folder / "words", bins, time.monotonic() - began


def saved(kept):
    """How often was saved in a folder."""
    return max((int(path.name.removeprefix("step-")) for path in kept.glob("step-*")), default=0)


def trained(kept):
    """Shards learned, by the newest state in a folder."""
    path, buckets = kept / f"step-{saved(kept)}", -(-len(WORDS) // 32)
    shapes = {"attempts": (buckets,), "collisions": (buckets,), "trained": (buckets,), "weights": (buckets, 12, 6)}
    types = ("uint8", "int32", "bool", "int8")
    like = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in zip(shapes.values(), types, strict=True)]
    return int(checkpoint.restore(path, like)[list(shapes).index("trained")].sum())


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fit(fitted, processes, tmp_path, seed):
    words, bins, seconds = fitted
    out, kept = tmp_path / "my.hash", tmp_path / "my.hash.unfinished"
    draw, before = random.Random(seed), (0, 0)
    for _ in range(2):
        process = processes.fit(words, "--out", out)
        wait_until(process, lambda before=before: saved(kept) > before[0])
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        ended(process)
        if out.exists():
            break
        # What had been saved is there, and the next one goes on from it.
        now = saved(kept), trained(kept)
        assert now[0] > before[0]
        assert before[1] <= now[1] <= len(WORDS) / 32 + 1
        before = now
    if not out.exists():
        assert ended(processes.fit(words, "--out", out))[0] == 0
    np.testing.assert_array_equal(load_hasher(out)(WORDS), bins)
    assert not [path for path in tmp_path.iterdir() if path.name != "my.hash" and not is_draft(path) and path != kept]
