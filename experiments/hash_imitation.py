"""The study's figure 1: a network taught Python's `hash`, modulo 1,000.

Figure 1 of A. Museth, "Neural Hash Functions" (CS285): two hidden layers of 200 and 300, 1,000 classes, all 466,550
words; the loss oscillates about log(1,000) = 6.907 nats, which is guessing. What is imitated is CPython's salted
SipHash-1-3 with PYTHONHASHSEED=<salt>, so that the figure is the same in every process. Two more lines: the loss on
words that are never trained on, and the same learner on a thousand words only, which it learns by heart (and still
guesses on words held out): the learner works, there is nothing to generalise. Measured, 3 seeds, last 100 of 600 steps:
6.902 nats on the words trained on, 6.912 on words held out; the thousand words are all known after 200 steps.

    python -m experiments.hash_imitation                      # 56 s on 2 cores
    python -m experiments.hash_imitation --keys english       # without a download: 10,902 words, which it starts to
                                                              # learn by heart after some epochs
"""

import math
from dataclasses import dataclass, field, replace

from rich.console import Console

from jaxhash.hashing.keys.python_hash import python_bins
from jaxhash.hashing.keys.tokens import tokenize
from jaxhash.hashing.study import imitation
from jaxhash.hashing.study.imitation import ImitateConfig
from jaxhash.plots import hashing as hash_plots
from jaxhash.plots.hashing import Panel
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_imitation"


@dataclass(frozen=True)
class Config:
    """Supervised imitation of Python's hash."""

    common: Common = field(default_factory=lambda: Common(keys="dwyl"))
    iterations: int = 600
    """Optimiser steps."""
    batch_size: int = 256
    """Words a step, drawn at random."""
    bins: int = 1000
    """Classes: hash modulo this."""
    salt: int = 1
    """PYTHONHASHSEED of the hash that is imitated."""
    few: int = 1000
    """Words in the small key set."""
    few_iterations: int = 200
    """Optimiser steps on the small key set."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    hidden: tuple[int, ...] = (200, 300)
    """Units of each hidden layer."""


def body(config: Config) -> None:
    """Train, save, draw."""
    words = hashing.words(config.common)
    tokens = tokenize(words)
    bins = python_bins(words, config.bins, config.salt)
    learner = ImitateConfig(
        num_bins=config.bins,
        iterations=config.iterations,
        batch_size=config.batch_size,
        held_out=min(1000, len(words) // 10),
        learning_rate=config.learning_rate,
        network=hashing.network(tokens, config.hidden),
    )
    some = words[: config.few]
    many = f"{len(words):,} words"
    histories = {
        many: hashing.train(many, imitation.make_train, learner, config.common, tokens, bins)[1],
        f"{len(some):,} words": hashing.train(
            f"{len(some):,} words",
            imitation.make_train,
            replace(learner, iterations=config.few_iterations, held_out=max(1, len(some) // 10)),
            config.common,
            tokenize(some, tokens.characters.shape[1]),
            bins[: len(some)],
        )[1],
    }
    results = hashing.variants(histories)
    guess = math.log(config.bins)
    panels = [
        Panel("loss", "cross-entropy, words trained on (nats)", guess, f"guessing: {guess:.3f}"),
        Panel("held_out_loss", "cross-entropy, words held out (nats)", guess, "guessing"),
        Panel("accuracy", "accuracy, words trained on", 1 / config.bins, "guessing"),
    ]
    title = f"Imitating Python's hash modulo {config.bins:,}, {config.common.seeds} seeds"
    rows = [(name, results.sel(variant=[name])) for name in histories]
    figure = hash_plots.curves(rows, [panels] * len(rows), title)
    save(config.common.folder(NAME), {NAME: figure}, datasets={"results": results})
    columns = {"loss": "loss (nats)", "held_out_loss": "held out", "accuracy": "accuracy"}
    Console().print(hashing.summary(f"{title}; guessing: {guess:.3f} nats", [("", results)], columns, last=100))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
