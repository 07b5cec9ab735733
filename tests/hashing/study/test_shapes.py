"""Losses refuse arrays that would be broadcast to a wrong answer, for users too, whose annotations are not checked."""

import jax.numpy as jnp
import pytest

from jaxhash.hashing.study import actor_critic, reinforce, soft_actor_critic

N, BINS = 4, 3
LOGITS, FLAT, INDEX = jnp.zeros((N, BINS)), jnp.zeros(N), jnp.zeros(N, jnp.int32)
ONE, Q = jnp.zeros(1), jnp.zeros((2, N, BINS))

# What beartype would refuse in the tests is called unchecked, as users call it.
WRONG = {
    "policy gradient": lambda: reinforce.policy_gradient_loss.__wrapped__(LOGITS, INDEX[None], FLAT),
    "targets": lambda: actor_critic.td_targets.__wrapped__(FLAT, ONE, 0.9),
    "critic": lambda: actor_critic.critic_loss.__wrapped__(FLAT, FLAT[:, None]),
    "soft targets": lambda: soft_actor_critic.soft_targets.__wrapped__(FLAT, ONE, LOGITS, Q, 1.0, 0.9),
    "soft critic": lambda: soft_actor_critic.critic_loss.__wrapped__(Q, INDEX, ONE),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_shape_that_would_be_broadcast_is_refused(name):
    with pytest.raises(AssertionError, match="shape"):
        WRONG[name]()
