"""Methods of a perfect hash, one table: a method is one file, and one line here.

sharded       a trained policy for every 32 keys
seeds         a few 16-bit seeds for every 40 keys, found by search
network       the study's network for all keys, trained by the policy gradient
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Int32, UInt32

from jaxhash.hashing.perfect import network, seeds, sharded
from jaxhash.hashing.perfect.network import Network, NetworkMethodConfig
from jaxhash.hashing.perfect.seeds import Seeds, SeedsConfig
from jaxhash.hashing.perfect.sharded import Sharded, ShardedConfig
from jaxhash.hashing.perfect.workers import Learner, Task

Policy = Sharded | Seeds | Network
Config = ShardedConfig | SeedsConfig | NetworkMethodConfig


class Method(NamedTuple):
    """How a policy, a NamedTuple of arrays, is learned, checked and read."""

    policy: type[Policy]
    learn: Callable[[Any, Task, Learner], Policy]
    """(configuration of the method, task, learner) -> policy."""
    check: Callable[[Any, int, int], None]
    """(policy of unknown origin, keys, slots): raises ValueError if it is no such policy; on the host."""
    lookup: Callable[[Any, int], Any]
    """(policy, slots) -> a pytree laid out for fast reading; on the host."""
    slots: Callable[[Any, UInt32[Array, "n 2"]], Int32[Array, " n"]]
    """(that pytree, fingerprints) -> a slot each; pure, jitted."""


def _learn_network(config: NetworkMethodConfig, task: Task, learner: Learner) -> Network:
    # Who only hashes keys need not wait for the training libraries.
    from jaxhash.hashing.perfect import network_training

    return network_training.learn(config, task, learner)


METHODS = {
    "sharded": Method(Sharded, sharded.learn, sharded.check, sharded.lookup, sharded.slots),
    "seeds": Method(Seeds, seeds.learn, seeds.check, seeds.lookup, seeds.slots),
    "network": Method(Network, _learn_network, network.check, network.lookup, network.slots),
}
