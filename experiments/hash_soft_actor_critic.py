"""The study's figure 4: Soft Actor-Critic, 1,000 words in 1,000 bins.

Figure 4 of A. Museth, "Neural Hash Functions" (CS285): similar to Actor-Critic. Here with two critics, a replay
buffer, and a temperature that is tuned to hold the entropy at 98 % of its maximum (arXiv 1910.07207). Measured, 3
seeds, 100 episodes: collisions rise from chance (368) to 555 +- 4, fullest bin from 6 to 12, until the temperature,
which had fallen, rises again.

    python -m experiments.hash_soft_actor_critic                      # 72 s on 2 cores
    python -m experiments.hash_soft_actor_critic --iterations 1000    # the study's longer run
"""

from dataclasses import dataclass, field

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import soft_actor_critic
from jaxhash.hashing.study.soft_actor_critic import SoftActorCriticConfig
from jaxhash.plots.hashing import Panel
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.hashing import Common

NAME = "hash_soft_actor_critic"


@dataclass(frozen=True)
class Config:
    """Soft actor-critic, other words every iteration."""

    common: Common = field(default_factory=Common)
    iterations: int = 100
    """Episodes; the study shows 100 and 1,000."""
    words: int = 1000
    """Words an episode, other ones each time."""
    bins: int = 1000
    learning_rate: float = 3e-4
    """Adam's step size of actor, critics and temperature."""
    target_entropy: float = 0.98
    """The entropy to hold, as a share of log(bins)."""
    updates: int = 4
    """Optimiser steps an episode, each on 256 placements from the replay buffer."""


def body(config: Config) -> None:
    """Train, save, draw."""
    tokens = tokenize(hashing.words(config.common))
    learner = SoftActorCriticConfig(
        num_bins=config.bins,
        iterations=config.iterations,
        batch_size=config.words,
        updates=config.updates,
        learning_rate=config.learning_rate,
        target_entropy=config.target_entropy,
        network=hashing.network(tokens),
    )
    history = hashing.train("soft actor-critic", soft_actor_critic.make_train, learner, config.common, tokens)[1]
    panels = [Panel("largest_bin", "keys in the fullest bin"), Panel("temperature", "temperature of the entropy")]
    hashing.show_episodes(
        NAME, "Soft actor-critic", config.common, config.words, config.bins, {"soft actor-critic": history}, panels
    )


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
