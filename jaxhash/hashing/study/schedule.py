"""Key schedule: which keys an iteration of a learner sees, other ones each time or the same again."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

KeyBatches = Callable[[Key[Array, ""], Int[Array, ""], int, int], Int[Array, " batch"]]
"""(key, iteration, keys there are, keys an iteration) -> the keys of that iteration, by index, no key twice."""


def fresh(key: Key[Array, ""], iteration: Int[Array, ""], num_keys: int, batch: int) -> Int[Array, " batch"]:
    """Other words every time, what a learner that has to generalise meets: neighbours from a place drawn at random.

    So keys should be in random order. To draw them one by one would sort all keys in every iteration.
    """
    start = jax.random.randint(jax.random.fold_in(key, iteration), (), 0, num_keys)
    return (start + jnp.arange(batch)) % num_keys


def in_turn(key: Key[Array, ""], iteration: Int[Array, ""], num_keys: int, batch: int) -> Int[Array, " batch"]:
    """The same words again and again, in the same groups, one group an iteration (all at once if batch = keys)."""
    groups = num_keys // batch
    return (iteration % groups) * batch + jnp.arange(batch)


KEY_BATCHES: dict[str, KeyBatches] = {"fresh": fresh, "in_turn": in_turn}


def check_batches(batches: str, num_keys: int, batch: int) -> None:
    """Whether so many keys can be handed out so.

    Raises:
        ValueError: if there are too few keys, or groups of different sizes.
    """
    if num_keys < batch:
        raise ValueError(f"batch_size={batch} is more than the {num_keys} keys; give {num_keys} or less")
    if batches == "in_turn" and num_keys % batch:
        raise ValueError(
            f"batch_size={batch} does not divide the {num_keys} keys into equal groups; "
            f"give a divisor, or {num_keys - num_keys % batch} keys"
        )
