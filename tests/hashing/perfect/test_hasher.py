import json
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.keys.batches import padded_length
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect import hasher as hashers
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.hasher import floor_bits_per_key, load_hasher
from jaxhash.hashing.perfect.network import NetworkMethodConfig
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError

KEYS = load_keys("english", count=400)
UNSEEN = [b"", b"\0", b"a\0", b"\xff\xfe", b"not a word", b"x" * 3000, "жук".encode()]


CONFIGS = {
    "sharded": FitConfig(),
    "network": FitConfig(method="network", network=NetworkMethodConfig(hidden=128)),
    "seeds": FitConfig(method="seeds", seeds=SeedsConfig(keys_per_leaf=6, leaves=3)),
}


@pytest.fixture(scope="module", params=CONFIGS)
def hasher(request):
    found = fit(KEYS, CONFIGS[request.param])
    assert found.method == request.param
    return found


@pytest.fixture(scope="module")
def saved(hasher, tmp_path_factory):
    path = tmp_path_factory.mktemp("hasher") / "saved"
    hasher.save(path)
    return path


def test_a_key_has_the_same_bin_in_any_batch_and_order(hasher):
    keys = [*KEYS, *UNSEEN]
    bins = dict(zip(keys, np.asarray(hasher(keys)).tolist(), strict=True))
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 17, 64, 65, 300):
        some = [keys[i] for i in rng.integers(0, len(keys), size)]
        found = hasher(some)
        assert found.dtype == jnp.int32
        assert found.shape == (size,)
        assert np.asarray(found).tolist() == [bins[key] for key in some]
    assert np.asarray(hasher(key.decode() for key in KEYS)).tolist() == [bins[key] for key in KEYS]


def test_tokens_with_and_without_jit_and_on_device(hasher):
    expected = np.asarray(hasher(KEYS))
    narrow, wide = tokenize(KEYS), tokenize(KEYS, 77)
    on_device = Tokens(*map(jnp.asarray, wide))
    for found in (hasher(narrow), hasher(wide), hasher(on_device), hasher.apply(narrow), jax.jit(hasher.apply)(wide)):
        np.testing.assert_array_equal(found, expected)
    with jax.disable_jit():
        np.testing.assert_array_equal(hasher.apply(Tokens(*(a[:5] for a in narrow))), expected[:5])


def test_new_batch_sizes_are_not_compiled_again(hasher, monkeypatch):
    # 16, 64, 256 and 1,024 rows.
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(hashers._bins, 4))
    monkeypatch.setattr(hashers, "_jitted", traced)
    for size in (*range(1, 30), 100, 200, 256, 400):
        hasher((KEYS * 2)[:size])
    assert padded_length(64) == 64


def test_round_trip(hasher, saved):
    loaded = load_hasher(saved)
    jax.tree.map(np.testing.assert_array_equal, loaded.policy, hasher.policy)
    np.testing.assert_array_equal(loaded(KEYS + UNSEEN), hasher(KEYS + UNSEEN))
    for name in ("num_keys", "num_bins", "seed", "config", "collisions", "examples", "bits"):
        assert getattr(loaded, name) == getattr(hasher, name), name


def test_another_process_gives_the_same_bins(hasher, saved):
    program = (
        "import sys, json, numpy as np; from jaxhash import load_hasher;"
        "from jaxhash.hashing.keys.words import load_keys;"
        "keys = load_keys('english', count=400)[::-1];"
        "print(json.dumps(np.asarray(load_hasher(sys.argv[1])(keys)).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(saved)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[::-1] == np.asarray(hasher(KEYS)).tolist()


def test_size_is_that_of_the_arrays(hasher):
    assert hasher.bits == 8 * sum(np.asarray(a).nbytes for a in hasher.policy) + 96
    assert hasher.bits_per_key == hasher.bits / 400


def test_an_existing_folder_is_left_alone(hasher, saved):
    with pytest.raises(FileExistsError, match="exists; give another folder"):
        hasher.save(saved)
    load_hasher(saved)


def test_damage_is_one_clear_error(saved, tmp_path):
    for file in [f for f in sorted(saved.rglob("*")) if f.is_file()]:
        copy = tmp_path / "copy"
        shutil.copytree(saved, copy)
        target = copy / file.relative_to(saved)
        target.write_bytes(target.read_bytes()[:-1] + b"?")
        with pytest.raises(CheckpointError, match=str(copy)):
            load_hasher(copy)
        shutil.rmtree(copy)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        load_hasher(tmp_path / "missing")


def rewritten(saved, path, **changes):
    """The same arrays, saved with another description."""
    description = checkpoint.describe(saved) | changes
    like = {k: jax.ShapeDtypeStruct(s, np.dtype(t)) for k, (s, t) in checkpoint.describe(saved)["arrays"].items()}
    checkpoint.save(path, checkpoint.restore(saved, like), {k: v for k, v in description.items() if v is not None})
    return path


def test_foreign_checkpoints_and_other_formats_are_refused(saved, tmp_path):
    checkpoint.save(tmp_path / "foreign", {"a": jnp.zeros(3)}, {"epoch": 3})
    with pytest.raises(CheckpointError, match="holds no hasher"):
        load_hasher(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="hasher format 99"):
        load_hasher(rewritten(saved, tmp_path / "format", hasher_format=99))
    with pytest.raises(CheckpointError, match="not complete"):
        load_hasher(rewritten(saved, tmp_path / "lacking", num_bins=None))
    arrays = checkpoint.describe(saved)["arrays"]
    first = next(iter(arrays))
    wrong = arrays | {first: [[1, *arrays[first][0][1:]], arrays[first][1]]}
    with pytest.raises(CheckpointError, match="shape"):
        load_hasher(rewritten(saved, tmp_path / "shape", arrays=wrong))


def test_a_device_that_computes_other_bins_is_noticed(saved, tmp_path):
    golden = checkpoint.describe(saved)["golden"]
    golden[-1][1] += 1
    with pytest.raises(CheckpointError, match=r"1 of .* keys get other bins here"):
        load_hasher(rewritten(saved, tmp_path / "golden", golden=golden))


def test_floor_is_the_entropy_bound():
    """log2 of (number of ways to choose keys) / (ways that a random function is perfect), for large n."""
    from scipy.special import gammaln

    for share in (0.5, 0.8, 0.99, 1.0):
        m = 10**8
        n = round(share * m)
        bound = (n * np.log(m) - (gammaln(m + 1) - gammaln(m - n + 1))) / np.log(2) / n
        assert floor_bits_per_key(n / m) == pytest.approx(bound, abs=1e-4)
    with pytest.raises(ValueError, match="load=0"):
        floor_bits_per_key(0.0)
