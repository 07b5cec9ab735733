"""Learners of "Neural Hash Functions" (A. Museth, CS285): a policy reads a key and chooses a bin of a hash table.

In: a frozen config and tokens of n keys. Out: `make_train(config) -> train(key, tokens) -> (state, history)`, a pure
function to be jitted, and mapped over seeds; a history holds collisions and the largest bin of every iteration.

table                                     bins, rewards (+10 for an empty bin, -10 for an occupied one), collisions
networks, schedule, loop                  policies; which keys an iteration sees; the loop of the learners
reinforce, table_reinforce                REINFORCE; the same with a policy that sees which bins are occupied
expected_return, occupancy                the policy gradient without sampling; occupied bins in closed form
whitened                                  a start for reinforce and expected_return: spread, sharp, decorrelated
actor_critic, soft_actor_critic           with learned values of the words to come
imitation, guided                         supervised: of Python's hash; of good bins shown
reptile                                   meta-learning
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "actor_critic",
        "expected_return",
        "guided",
        "imitation",
        "loop",
        "networks",
        "occupancy",
        "reinforce",
        "reptile",
        "schedule",
        "soft_actor_critic",
        "table",
        "table_reinforce",
        "whitened",
    ],
)
