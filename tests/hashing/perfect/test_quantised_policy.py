import jax
import numpy as np
import pytest

from jaxhash.hashing.keys.tokens import load_keys
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.hasher import load_hasher
from jaxhash.hashing.perfect.quantised_policy import pack, unpack
from jaxhash.hashing.perfect.sharded import ShardedConfig
from jaxhash.hashing.perfect.sharded_lookup import Sharded


@pytest.mark.parametrize(("weight_bits", "values"), [(4, range(-8, 8)), (1, (-1, 1))])
def test_packing_keeps_the_policy(weight_bits, values):
    rng = np.random.default_rng(0)
    weights = rng.choice(np.array(values, np.int8), (7, 5, 3))
    others = rng.integers(0, 256, 7).astype(np.uint8), np.arange(7, dtype=np.uint32), np.full(7, 4, np.uint8)
    policy = Sharded(weights, *others)
    packed = pack(policy, weight_bits)
    assert packed.weights.shape == (7, -(-15 * weight_bits // 8))
    jax.tree.map(np.testing.assert_array_equal, unpack(packed), policy)
    # Bit i of a shard is that of number i // bits, counted from the least weight.
    numbers = (weights.reshape(7, 15).astype(int) - min(values)) // (2 if weight_bits == 1 else 1)
    total = [sum(int(v) << (weight_bits * i) for i, v in enumerate(row)) for row in numbers]
    assert [int.from_bytes(row.tobytes(), "little") for row in packed.weights] == total


def test_weights_that_do_not_fit_are_refused():
    policy = Sharded(np.full((1, 2, 3), 8, np.int8), *(np.zeros(1, t) for t in (np.uint8, np.uint32, np.uint8)))
    with pytest.raises(ValueError, match=r"weights 8 ... 8 do not fit weight_bits=4"):
        pack(policy, 4)


def test_a_perfect_hash_with_binary_weights(tmp_path):
    keys = load_keys("english", count=600)
    config = ShardedConfig(keys_per_shard=8, inputs=16, outputs=4, weight_bits=1, initial_weight=10)
    hasher = fit(keys, FitConfig(sharded=config))
    np.testing.assert_array_equal(np.sort(hasher(keys)), np.arange(600))
    hasher.save(tmp_path / "saved")
    loaded = load_hasher(tmp_path / "saved")
    jax.tree.map(np.testing.assert_array_equal, loaded.policy, hasher.policy)
    # 75 shards of 8 keys: a bit a weight, 8 bits of the attempt, 32 of the threshold, 8 of the size.
    assert hasher.bits == 75 * (16 * 4 + 8 + 32 + 8) + 24 + 96
    assert set(np.unique(unpack(hasher.policy).weights)) == {-1, 1}
