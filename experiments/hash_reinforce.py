"""The study's figure 2: Policy Gradient, 1,000 words in 1,000 bins.

Figure 2 of A. Museth, "Neural Hash Functions" (CS285): the policy gets better at first and worse later, as more and
more words fall into few bins. Two ways to credit a draw stand side by side: the return of the whole episode, as plain
Policy Gradient has it, and the key's own reward less what the same key earned in seven other tables. Measured, 3
seeds, 200 iterations (chance: 368 collisions): the first goes from 368 collisions to 817 +- 232, fullest bin 544 (one
seed ends with all words in one bin, 999 collisions); the second stays at 369 +- 1. Neither is perfect by then.

    python -m experiments.hash_reinforce                          # 51 s on 2 cores
    python -m experiments.hash_reinforce --iterations 1000        # the study's longer run, about 4 min
    python -m experiments.hash_reinforce --reader embedding       # a policy that embeds characters
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import reinforce
from jaxhash.hashing.study.reinforce import ReinforceConfig, Tuning
from jaxhash.plots.hashing import Panel
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.hashing import Common

NAME = "hash_reinforce"


@dataclass(frozen=True)
class Config:
    """Policy Gradient by two ways of giving credit."""

    common: Common = field(default_factory=Common)
    iterations: int = 200
    """Episodes, and optimiser steps; the study shows 100 and 1,000."""
    words: int = 1000
    """Words an iteration, other ones each time."""
    bins: int = 1000
    learning_rate: float = 5e-3
    """Adam's step size; 5e-3 is the default of the study's course."""
    reader: Literal["one_hot", "embedding"] = "one_hot"
    """How the policy reads characters."""


def body(config: Config) -> None:
    """Train, save, draw."""
    tokens = tokenize(hashing.words(config.common))
    study = ReinforceConfig(
        num_bins=config.bins,
        iterations=config.iterations,
        batch_size=config.words,
        tuning=Tuning(config.learning_rate),
        network=hashing.network(tokens, reader=config.reader),
    )
    learners = {
        "whole return": study,
        "own reward, baseline": replace(
            study, credit="own", episodes=8, tuning=Tuning(config.learning_rate, baseline=1.0)
        ),
    }
    histories = {
        name: hashing.train(name, reinforce.make_train, learner, config.common, tokens)[1]
        for name, learner in learners.items()
    }
    panels = [Panel("largest_bin", "keys in the fullest bin", log=True), Panel("mean_reward", "mean reward a key")]
    hashing.show_episodes(NAME, "REINFORCE", config.common, config.words, config.bins, histories, panels)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
