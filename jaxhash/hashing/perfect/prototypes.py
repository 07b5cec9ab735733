"""Prototypes method: one network for all keys, with random hidden layers and a learned prototype for each slot.

The network of "Neural Hash Functions" (A. Museth, CS285), Figure 6, two hidden layers of 300 and a logit a slot. Here
the inputs are the 64 bits of a key's fingerprint as signs, hidden units are signs of sums, weights are small integers.
Only the output layer learns, by competitive learning: every key is shown a good action, its own slot if it came first
to it, else the empty slot that the policy likes best (conflicts settled in rounds). The weights of that slot, its
prototype, move towards the key unless they stand well apart already; those of a slot that it shared move away from it
if that is not enough.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int8, Int32, UInt32

from jaxhash.hashing.keys.fingerprint import mix
from jaxhash.hashing.perfect.workers import Learner, Task

FINGERPRINT_BITS = 64
LOGITS_AT_A_TIME = 2**22
"""Logits in memory at once, 4 bytes each."""
MAX_WEIGHTS = 2**28
"""Weights of the output layer at most: they are trained in 4 bytes each."""
ROWS_WHERE_OPEN = 2**6
"""Keys at a time in a function that is exported for any number of keys: a few keys cost as much as these."""


@dataclass(frozen=True)
class PrototypesConfig:
    """How wide the network is, and how long it is trained."""

    hidden: int = 300
    """Units of each of the two hidden layers, 1 to 10,000."""
    iterations: int = 30
    """Times that all keys are shown a slot, at most."""

    def __post_init__(self) -> None:
        if not 1 <= self.hidden <= 10_000:
            raise ValueError(f"hidden={self.hidden} is not valid: hidden must be 1 to 10,000")
        if self.iterations < 0:
            raise ValueError(f"iterations={self.iterations} is not valid: iterations must be 0 or more")


class Prototypes(NamedTuple):
    """The network."""

    first: Int8[Array | np.ndarray, "bits hidden"]
    second: Int8[Array | np.ndarray, "hidden hidden"]
    output: Int8[Array | np.ndarray, "hidden slots"]


def learn(config: PrototypesConfig, task: Task, learner: Learner) -> Prototypes:
    """Train one network for all keys, on the first device, from where it was left.

    Raises:
        ValueError: if it would be too large.
    """
    weights = task.num_slots * config.hidden
    if weights > MAX_WEIGHTS:
        raise ValueError(
            f"prototypes of {task.num_slots:,} slots have {weights:,} weights, more than {MAX_WEIGHTS:,}; use "
            "method='sharded', or fewer hidden units"
        )
    n = len(task.numbers)
    policy = start(config, task.num_slots, task.seed)
    if n == 0:
        return policy
    fresh = {
        "output": np.asarray(policy.output),
        "best": np.asarray(policy.output),
        "fewest": np.array([n], np.int32),
        "iteration": np.zeros(1, np.int32),
    }
    learned = learner.begin(fresh)
    policy, best = (policy._replace(output=learned[name]) for name in ("output", "best"))
    fewest, begin = int(learned["fewest"][0]), int(learned["iteration"][0])
    prints = np.stack([task.numbers >> np.uint64(32), task.numbers], 1).astype(np.uint32)
    units = jax.jit(hidden_units)(policy, prints)
    most_likely_slot, train_once = jax.jit(most_likely), jax.jit(train)
    for iteration in range(begin, config.iterations + 1):
        chosen = most_likely_slot(policy, units)
        collisions = n - len(np.unique(np.asarray(chosen)))
        if collisions < fewest:
            best, fewest = policy, collisions
        now = {"output": policy.output, "best": best.output}
        now |= {"fewest": np.array([fewest], np.int32), "iteration": np.array([iteration], np.int32)}
        learner.watch(iteration, fewest, partial(jax.tree.map, np.asarray, now))
        if collisions == 0 or iteration == config.iterations:
            break
        policy = train_once(policy, units, chosen)
    return best


def check(policy: Prototypes, num_keys: int, num_slots: int) -> None:
    """Whether arrays of unknown origin are such a policy for so many slots; on the host.

    Raises:
        ValueError: if they are not.
    """
    first, second, output = (np.asarray(a) for a in policy)
    hidden = first.shape[-1] if first.ndim else 0
    shapes = ((FINGERPRINT_BITS, hidden), (hidden, hidden), (hidden, num_slots))
    for array, shape in zip((first, second, output), shapes, strict=True):
        if array.dtype != np.int8 or array.shape != shape:
            raise ValueError(f"weights {array.dtype}{array.shape} where int8{shape} are expected")


def start(config: PrototypesConfig, num_slots: int, seed: int) -> Prototypes:
    """The untrained network: weights -1 or 1."""

    return _draw(jnp.uint32(seed), config.hidden, num_slots)


def hidden_units(policy: Prototypes, prints: UInt32[Array, "n 2"]) -> Int8[Array, "n hidden"]:
    """The second hidden layer, -1 or 1."""
    bits = (prints[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    units = (bits.reshape(-1, FINGERPRINT_BITS).astype(jnp.int8) * 2 - 1).astype(jnp.int8)
    for weights in (policy.first, policy.second):
        # Every other unit takes a sum of 0 for positive, so that units are as often 1 as -1.
        sums = _product(units, jnp.asarray(weights)) + jnp.arange(weights.shape[1], dtype=jnp.int32) % 2
        units = jnp.where(sums > 0, 1, -1).astype(jnp.int8)
    return units


def most_likely(policy: Prototypes, units: Int8[Array, "n hidden"]) -> Int32[Array, " n"]:
    """The slot with the highest logit, the first of equals. Cost a key: hidden * slots additions."""
    output = jnp.asarray(policy.output)
    n, hidden = units.shape
    at_most = n if isinstance(n, int) else ROWS_WHERE_OPEN
    rows = max(min(LOGITS_AT_A_TIME // max(output.shape[1], 1), at_most), 1)
    blocks = -(-n // rows)
    padded = jnp.pad(units, [(0, blocks * rows - n), (0, 0)]).reshape(blocks, rows, hidden)
    chosen = jax.lax.map(lambda some: jnp.argmax(_product(some, output), axis=1).astype(jnp.int32), padded)
    return chosen.reshape(blocks * rows)[:n]


def slots(policy: Prototypes, prints: UInt32[Array, "n 2"]) -> Int32[Array, " n"]:
    """The slot of each fingerprint."""
    return most_likely(policy, hidden_units(policy, prints))


def train(policy: Prototypes, units: Int8[Array, "n hidden"], chosen: Int32[Array, " n"]) -> Prototypes:
    """One iteration: every key is shown one slot. There are at least as many slots as keys.

    Args:
        policy: the network.
        units: of its second hidden layer, for each key.
        chosen: the most likely slot of each key.
    """
    output = jnp.asarray(policy.output)
    n, num_slots = len(chosen), output.shape[1]
    order = jnp.arange(n, dtype=jnp.int32)
    owner = jnp.full(num_slots, n, jnp.int32).at[chosen].min(order)
    settled = owner[chosen] == order
    shown = settle(output, units, jnp.where(settled, chosen, num_slots))
    weights = output.astype(jnp.int32).T
    units = units.astype(jnp.int32)
    liked, worth = ((weights[b] * units).sum(1, dtype=jnp.int32) for b in (chosen, shown))
    # Columns stay short, for a long one draws keys from everywhere: only what one step towards the key does not mend
    # is pushed away, and a key that is well apart from the others is left as it is.
    one_step = units.shape[1]
    towards = jnp.where(~settled | (worth < one_step), shown, num_slots)
    away = jnp.where(~settled & (worth + one_step <= liked), chosen, num_slots)
    weights = weights.at[towards].add(units, mode="drop").at[away].add(-units, mode="drop")
    return policy._replace(output=jnp.clip(weights, -127, 127).T.astype(jnp.int8))


def settle(
    output: Int8[Array, "hidden slots"], units: Int8[Array, "n hidden"], chosen: Int32[Array, " n"]
) -> Int32[Array, " n"]:
    """Keys without a slot (`chosen` = slots) each get the empty slot with the highest logit, in rounds.

    In a round, some of these keys ask for the empty slot that they like best; of those that ask for the same one the
    first gets it. At least one key is settled in a round.
    """
    n, num_slots = len(chosen), output.shape[1]
    rows = max(min(LOGITS_AT_A_TIME // (4 * max(num_slots, 1)), n), 1)

    def waiting(chosen: Array) -> Bool[Array, ""]:
        return (chosen == num_slots).any()

    def settle_some(chosen: Array) -> Array:
        (asking,) = jnp.nonzero(chosen == num_slots, size=rows, fill_value=n)
        asking = asking.astype(jnp.int32)
        full = jnp.zeros(num_slots, bool).at[chosen].set(True, mode="drop")
        logits = _product(units.at[asking].get(mode="clip"), output)
        liked = jnp.argmax(jnp.where(full, jnp.iinfo(jnp.int32).min, logits), axis=1).astype(jnp.int32)
        first = jnp.full(num_slots, n, jnp.int32).at[liked].min(asking)
        served = jnp.where(first[liked] == asking, asking, n)
        return chosen.at[served].set(liked, mode="drop")

    return jax.lax.while_loop(waiting, settle_some, chosen)


@partial(jax.jit, static_argnums=(1, 2))
def _draw(seed: UInt32[Array, ""], hidden: int, num_slots: int) -> Prototypes:
    shapes = ((FINGERPRINT_BITS, hidden), (hidden, hidden), (hidden, num_slots))
    layers = []
    for layer, (rows, columns) in enumerate(shapes, 1):
        stream = mix(seed ^ mix(jnp.uint32(layer)))
        words = mix(jnp.arange(1, rows * columns + 1, dtype=jnp.uint32) + stream)
        layers.append(((words >> 31).astype(jnp.int8) * 2 - 1).astype(jnp.int8).reshape(rows, columns))
    return Prototypes(*layers)


def _product(a: Int8[Array, "n k"], b: Int8[Array, "k m"]) -> Int32[Array, "n m"]:
    return jax.lax.dot(a, b, preferred_element_type=jnp.int32)
