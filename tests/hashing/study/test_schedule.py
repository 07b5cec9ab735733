"""How keys come to iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.hashing.study.schedule import check_batches, fresh, in_turn


def test_fresh_batches_hold_no_key_twice_and_differ():
    key = jax.random.key(0)
    batches = [np.asarray(fresh(key, jnp.asarray(i), 50, 20)) for i in range(4)]
    for batch in batches:
        assert len(set(batch.tolist())) == 20
        assert batch.min() >= 0
        assert batch.max() < 50
    assert len({tuple(batch.tolist()) for batch in batches}) == 4


def test_keys_in_turn_are_the_same_groups_again_and_again():
    key = jax.random.key(0)
    groups = [np.asarray(in_turn(key, jnp.asarray(i), 6, 2)).tolist() for i in range(5)]
    assert groups == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]


def test_keys_that_do_not_fill_batches_are_refused():
    with pytest.raises(ValueError, match="batch_size=20 is more than the 6 keys"):
        check_batches("fresh", 6, 20)
    with pytest.raises(ValueError, match="give a divisor, or 4 keys"):
        check_batches("in_turn", 6, 4)
    check_batches("fresh", 6, 4)
