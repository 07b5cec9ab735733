"""Training of the network method: by the expected return, until no key collides and the weights can be rounded.

No bucket is cut, no slot is shown to a key, and none is drawn (`study/expected_return.py`). It is float arithmetic, on
one device; what comes out are integers.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from jaxhash.hashing.keys.tokens import Tokens
from jaxhash.hashing.perfect.network import (
    FINGERPRINT_BYTES,
    WEIGHT_BITS,
    Network,
    NetworkMethodConfig,
    lookup,
    of_no_key,
    rounded,
    slots,
)
from jaxhash.hashing.perfect.workers import Learner, Task
from jaxhash.hashing.study import expected_return
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig, Training
from jaxhash.hashing.study.loop import Record
from jaxhash.hashing.study.networks import NetworkConfig
from jaxhash.hashing.study.whitened import folded
from jaxhash.runtime.streams import Stream, stream_key

MAX_KEYS = 50_000
"""The cost of an iteration grows with the square of the keys: that of so many takes most of a minute on 2 cores."""


def learn(config: NetworkMethodConfig, task: Task, learner: Learner) -> Network:
    """Train the network on the first device, from where it was left, until no key collides and it can be rounded.

    Raises:
        ValueError: if there are too many keys.
    """
    n = len(task.numbers)
    if n == 0:
        return of_no_key(config.hidden)
    if n > MAX_KEYS:
        raise ValueError(
            f"one network for {n:,} keys is too slow to train: method='network' takes {MAX_KEYS:,} keys at most; use "
            "method='sharded'"
        )
    prints = np.stack([task.numbers >> np.uint64(32), task.numbers], 1).astype(np.uint32)
    tokens = as_tokens(prints)
    key = jax.random.key(task.seed)
    study = study_config(config, n)
    begun = expected_return.start(study, expected_return.draw(study, stream_key(key, Stream.INIT), tokens), tokens)
    leaves, structure = jax.tree.flatten(begun)
    learned = learner.begin(_gather(begun, begun, n, 0))

    def restored(name: str) -> Training:
        saved = [jnp.asarray(learned[f"{name} {i}"]).reshape(leaf.shape) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, saved)

    now, best, fewest = restored("now"), restored("best"), int(learned["fewest"][0])
    iteration, draws = _iteration(study), stream_key(key, Stream.DRAWS)
    for number in range(int(learned["iteration"][0]), config.iterations + 1):
        before = now
        now, record = iteration(before, jax.random.fold_in(draws, number), jnp.asarray(number), tokens)
        collisions = int(record.collisions)
        if collisions < fewest:
            best, fewest = before, collisions
        learner.watch(number, fewest, partial(_gather, before, best, fewest, number))
        if collisions == 0 and (found := rounded_to_fewest_bits(config, before, prints)) is not None:
            return found
    return rounded(folded(best.policy), WEIGHT_BITS[-1], prints)


def study_config(config: NetworkMethodConfig, num_keys: int) -> ExpectedReturnConfig:
    """The study's learner for so many keys."""
    return ExpectedReturnConfig(
        num_bins=max(num_keys, 1),
        iterations=config.iterations,
        blocks=expected_return.blocks_for(num_keys),
        network=NetworkConfig((config.hidden, config.hidden), "bits"),
    )


def as_tokens(prints: UInt32[np.ndarray, "n 2"]) -> Tokens:
    """Fingerprints as keys of 8 characters."""
    characters = np.ascontiguousarray(prints.astype("<u4")).view(np.uint8).reshape(len(prints), FINGERPRINT_BYTES)
    return Tokens(jnp.asarray(characters), jnp.full(len(prints), FINGERPRINT_BYTES, jnp.int32))


def rounded_to_fewest_bits(
    config: NetworkMethodConfig, state: Training, prints: UInt32[np.ndarray, "n 2"]
) -> Network | None:
    """The network in integers of the fewest bits that leave every key its slot; None if none does."""
    wanted = np.asarray(_most_probable(study_config(config, len(prints)), state, as_tokens(prints)))
    for bits in WEIGHT_BITS:
        policy = rounded(folded(state.policy), bits, prints)
        if np.array_equal(slots(lookup(policy, len(prints)), jnp.asarray(prints)), wanted):
            return policy
    return None


def _arrays(name: str, state: Training) -> dict[str, np.ndarray]:
    return {f"{name} {i}": np.atleast_1d(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _gather(now: Training, best: Training, fewest: int, number: int) -> dict[str, np.ndarray]:
    arrays = _arrays("now", now) | _arrays("best", best)
    return arrays | {"fewest": np.array([fewest], np.int32), "iteration": np.array([number], np.int32)}


@cache
def _iteration(study: ExpectedReturnConfig) -> Callable[..., tuple[Training, Record]]:
    return jax.jit(expected_return.make_iteration(study))


@partial(jax.jit, static_argnums=0)
def _most_probable(config: ExpectedReturnConfig, state: Training, tokens: Tokens) -> Int32[Array, " n"]:
    blocks = expected_return.in_blocks(tokens, config.blocks)
    rank = jax.lax.map(
        lambda some: jnp.argmax(expected_return.logits(config.network, state.policy, some.tokens), 1), blocks
    )
    return rank.reshape(-1)[: tokens.lengths.shape[0]].astype(jnp.int32)
