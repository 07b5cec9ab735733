"""The study's figure 3: Actor-Critic, 1,000 words in 1,000 bins.

Figure 3 of A. Museth, "Neural Hash Functions" (CS285): similar to Policy Gradient, or worse. The critic reads a word
and cannot know the table, so what it expects is nearly the same for every word. Measured, 3 seeds, 200 iterations:
collisions stay at chance (368; 373 +- 1 at the end), fullest bin 5 to 7.

    python -m experiments.hash_actor_critic                       # 54 s on 2 cores
    python -m experiments.hash_actor_critic --iterations 1000     # the study's longer run
"""

from dataclasses import dataclass, field

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import actor_critic
from jaxhash.hashing.study.actor_critic import ActorCriticConfig
from jaxhash.plots.hashing import Panel
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.hashing import Common

NAME = "hash_actor_critic"


@dataclass(frozen=True)
class Config:
    """Actor-critic, other words every iteration."""

    common: Common = field(default_factory=Common)
    iterations: int = 200
    """Episodes; the study shows 100 and 1,000."""
    words: int = 1000
    """Words an episode, other ones each time."""
    bins: int = 1000
    actor_learning_rate: float = 5e-3
    """Adam's step size of the actor; 5e-3 is the default of the study's course."""
    critic_learning_rate: float = 5e-3
    discount: float = 0.99
    """What a reward of the next word is worth now."""


def body(config: Config) -> None:
    """Train, save, draw."""
    tokens = tokenize(hashing.words(config.common))
    learner = ActorCriticConfig(
        num_bins=config.bins,
        iterations=config.iterations,
        batch_size=config.words,
        discount=config.discount,
        actor_learning_rate=config.actor_learning_rate,
        critic_learning_rate=config.critic_learning_rate,
        network=hashing.network(tokens),
    )
    history = hashing.train("actor-critic", actor_critic.make_train, learner, config.common, tokens)[1]
    panels = [Panel("largest_bin", "keys in the fullest bin"), Panel("loss", "critic's mean squared error")]
    hashing.show_episodes(
        NAME, "Actor-critic", config.common, config.words, config.bins, {"actor-critic": history}, panels
    )


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
