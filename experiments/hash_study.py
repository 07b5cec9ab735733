"""The figures of "Neural Hash Functions" (A. Museth, CS285), one command: a policy reads a word and chooses a bin.

Every figure is a line of the table `FIGURES`: words, bins, iterations and learners of its own size, and what the study
reports. What a policy does as a hash function are its most probable bins: the collisions and the fullest bin are of
these, and those of drawn bins stand beside them in the results.

    python -m experiments.hash_study --figure 2                              # a figure at its own size
    python -m experiments.hash_study --figure 6 --words 300 --learner reinforce
    python -m experiments.hash_study --figure all --quick                    # all of them, small, within a minute

Each figure leaves `results.nc` [learner, repeat, iteration] and a picture in its folder. Figures 6 and 7, which
place the same words again and again, leave the policies too: in `policy-LEARNER.npz` are the words, their most probable
bins, the letters that have an input each, and the weights of every repeat.
"""

import io
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from rich.console import Console

from jaxhash.hashing.keys.python_hash import python_bins
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.study import (
    actor_critic,
    expected_return,
    guided,
    imitation,
    reinforce,
    soft_actor_critic,
    table_reinforce,
)
from jaxhash.hashing.study.actor_critic import ActorCriticConfig
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig
from jaxhash.hashing.study.guided import GuidedConfig
from jaxhash.hashing.study.imitation import ImitateConfig
from jaxhash.hashing.study.networks import NetworkConfig, Params, make_network, output_layer
from jaxhash.hashing.study.reinforce import ReinforceConfig, Tuning
from jaxhash.hashing.study.soft_actor_critic import SoftActorCriticConfig
from jaxhash.hashing.study.table import expected_collisions
from jaxhash.hashing.study.table_reinforce import TableReinforceConfig
from jaxhash.hashing.study.whitened import sharp_deviation
from jaxhash.plots import hashing as plots
from jaxhash.plots.hashing import Panel
from jaxhash.runtime.devices import cores
from jaxhash.storage import checkpoint
from jaxhash.terminal import hashing
from jaxhash.terminal.command import command
from jaxhash.terminal.files import save
from jaxhash.terminal.hashing import Common

NAME = "hash_study"
SIDE_BY_SIDE = 4_000_000
"""Words placed times bins up to which seeds train side by side; beyond, products fill the machine, and its memory."""
QUICK_KEYS = 1000
"""Words that `--quick` draws from."""
SALT = 1
"""PYTHONHASHSEED of the hash that figure 1 imitates."""


@dataclass(frozen=True)
class Size:
    """How much a learner of a figure sees."""

    words: int
    """Words of the figure: of figures 2 to 5 in each iteration, other ones each time; of figures 6 and 7 in all."""
    bins: int
    iterations: int
    an_iteration: int | None = None
    """Words placed in an iteration of figures 6 and 7; all of them if None."""

    @property
    def placed(self) -> int:
        """Words placed in an iteration."""
        return min(self.an_iteration or self.words, self.words)


@dataclass(frozen=True)
class Figure:
    """A figure of the study."""

    title: str
    reported: str
    """What the study says."""
    size: Size
    learners: tuple[str, ...]
    fixed: bool = False
    """The same words in every iteration, or every few."""


FIGURES = {
    "1": Figure(
        "imitation of Python's hash",
        "the loss oscillates, nothing is learned",
        Size(466_550, 1000, 600),
        ("imitation",),
    ),
    "2": Figure(
        "Policy Gradient", "first better, then words cluster", Size(1000, 1000, 1000), ("whole_return", "own_reward")
    ),
    "3": Figure("Actor-Critic", "similar to figure 2 or worse", Size(1000, 1000, 1000), ("actor_critic",)),
    "4": Figure("Soft Actor-Critic", "similar to figure 3", Size(1000, 1000, 1000), ("soft_actor_critic",)),
    "5": Figure(
        "Policy Gradient that sees the table (no hash function)",
        "falls clearly",
        Size(100, 100, 1000),
        ("sees_table", "sees_table_return"),
    ),
    "5b": Figure(
        "Policy Gradient that sees the table (no hash function)",
        "falls, more slowly",
        Size(1000, 1000, 1000),
        ("sees_table", "sees_table_return"),
    ),
    "6": Figure(
        "the same words again and again",
        "a perfect hash of 10,000 words in 5 h 40 min",
        Size(10_000, 10_000, 100),
        ("expected_return",),
        fixed=True,
    ),
    "7": Figure(
        "the same words, a third in each iteration",
        "a perfect hash in each iteration",
        Size(3000, 1000, 600, 1000),
        ("expected_return", "reinforce"),
        fixed=True,
    ),
}


def _reinforce(credit: Literal["return", "own"], episodes: int) -> Callable[[Size, NetworkConfig], Any]:
    """The study's figure 2: other words every time, 5e-3 as in its course."""

    def config(size: Size, network: NetworkConfig) -> ReinforceConfig:
        tuning = Tuning(5e-3, baseline=float(episodes > 1))
        return ReinforceConfig(
            size.bins, size.iterations, size.placed, episodes=episodes, credit=credit, tuning=tuning, network=network
        )

    return config


LEARNERS: dict[str, tuple[Any, Callable[[Size, NetworkConfig], Any]]] = {
    "whole_return": (reinforce, _reinforce("return", 1)),
    "own_reward": (reinforce, _reinforce("own", 8)),
    "actor_critic": (
        actor_critic,
        lambda size, network: ActorCriticConfig(size.bins, size.iterations, size.placed, network=network),
    ),
    "soft_actor_critic": (
        soft_actor_critic,
        lambda size, network: SoftActorCriticConfig(size.bins, size.iterations, size.placed, network=network),
    ),
    "sees_table": (
        table_reinforce,
        lambda size, network: TableReinforceConfig(
            size.bins,
            size.iterations,
            size.placed,
            episodes=4 if size.placed <= 300 else 8,
            network=network,
        ),
    ),
    "sees_table_return": (
        table_reinforce,
        lambda size, network: TableReinforceConfig(
            size.bins, size.iterations, size.placed, episodes=1, credit="return", learning_rate=3e-4, network=network
        ),
    ),
    "reinforce": (
        reinforce,
        lambda size, network: ReinforceConfig(
            size.bins,
            size.iterations,
            size.placed,
            "in_turn",
            episodes=16,
            credit="difference",
            deviation=sharp_deviation(size.bins),
            tuning=Tuning(1e-3 * math.sqrt(size.placed / 1000), entropy=1.0, baseline=1.0),
            network=network,
        ),
    ),
    "expected_return": (
        expected_return,
        lambda size, network: ExpectedReturnConfig(
            size.bins, size.iterations, size.placed, blocks=expected_return.blocks_for(size.placed), network=network
        ),
    ),
    "shown_bins": (
        guided,
        lambda size, network: GuidedConfig(
            num_bins=size.bins, iterations=size.iterations, batch_size=size.placed, network=network
        ),
    ),
}
"""Of figures 2 to 7: the module of the learner, and its configuration for a size."""

Learner = Literal[
    "whole_return",
    "own_reward",
    "actor_critic",
    "soft_actor_critic",
    "sees_table",
    "sees_table_return",
    "reinforce",
    "expected_return",
    "shown_bins",
]


@dataclass(frozen=True)
class Config:
    """The study of hash functions, figure by figure."""

    figure: Literal["1", "2", "3", "4", "5", "5b", "6", "7", "all"] = "all"
    """Which figure; 5 has 100 words in 100 bins, 5b 1,000 in 1,000."""
    common: Common = field(default_factory=lambda: Common(keys="dwyl"))
    words: int | None = None
    """Words (and bins, if these are not given); the figure's own by default."""
    bins: int | None = None
    iterations: int | None = None
    hidden: int = 300
    """Units of each of the policy's two hidden layers."""
    learner: tuple[Learner, ...] = ()
    """Learners of figures 2 to 7, instead of the figure's own."""
    quick: bool = False
    """100 words out of a thousand, 60 iterations, 2 seeds; under a minute for all figures."""

    def __post_init__(self) -> None:
        for name in ("words", "bins", "iterations", "hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} is less than 1; give 1 or more")


def body(config: Config) -> None:
    """Train, save, draw, one figure after the other."""
    console = Console(stderr=True)
    keys = hashing.drawn(hashing.listed(config.common.keys, console), config.common)
    if config.quick:
        # Of a thousand words the longest is half as long as of the whole dictionary, and a network half as wide.
        keys = keys[: max(QUICK_KEYS, config.words or 0)]
    every = [name for name in FIGURES if not (config.quick and name == "5b")]  # 5b is figure 5 at that size
    for name in every if config.figure == "all" else (config.figure,):
        figure = FIGURES[name]
        size = size_of(config, figure)
        folder = config.common.folder(NAME) / name if config.figure == "all" else config.common.folder(NAME)
        if name == "1":
            imitate(config, figure, size, keys, folder)
        else:
            place(config, name, size, keys, folder)


def size_of(config: Config, figure: Figure) -> Size:
    """The size of a figure, with what the options change."""
    size = figure.size
    if config.quick:
        third = 100 if size.an_iteration else None
        size = Size(300 if third else 100, 100, min(size.iterations, 60), third)
    words = config.words or size.words
    # As many bins as words placed, as in the study, unless they are given.
    an_iteration = size.an_iteration and (max(words // 3, 1) if config.words else size.an_iteration)
    bins = config.bins or ((an_iteration or words) if config.words else size.bins)
    return Size(words, bins, config.iterations or size.iterations, an_iteration)


def place(config: Config, name: str, size: Size, keys: list[bytes], folder: Path) -> None:
    """Figures 2 to 7: words are placed in bins."""
    figure = FIGURES[name]
    common = replace(config.common, seeds=min(config.common.seeds, 2)) if config.quick else config.common
    if size.words > len(keys):
        raise ValueError(f"{size.words:,} words wanted, but {common.keys} has {len(keys):,}; give a larger --keys")
    tokens = tokenize(keys[: size.words] if figure.fixed else keys)
    network = hashing.network(tokens, (config.hidden, config.hidden))
    histories, seconds, settings, policies = {}, [], [], {}
    for learner in config.learner or figure.learners:
        module, make_config = LEARNERS[learner]
        learner_config = make_config(size, network)
        start = time.perf_counter()
        states, histories[learner] = hashing.train(
            f"figure {name}, {learner}",
            module.make_train,
            learner_config,
            common,
            tokens,
            side_by_side=size.placed * size.bins <= SIDE_BY_SIDE,
        )
        seconds.append(time.perf_counter() - start)
        settings.append(str(learner_config))
        if figure.fixed:
            policies[f"policy-{learner}.npz"] = policy_file(network, states.params, tokens, keys[: size.words])
    results = hashing.learners(histories)
    results["seconds"] = "learner", seconds  # of all repeats, compiling included
    results["settings"] = "learner", settings
    results.attrs = {"figure": name, "keys": common.keys, "words": size.words, "placed": size.placed, "bins": size.bins}
    results.attrs |= machine()
    chance = expected_collisions(size.placed, size.bins)
    title = f"Figure {name}: {figure.title}, {size.placed:,} words in {size.bins:,} bins, {common.seeds} seeds"
    panels = [
        Panel("collisions", "collisions, most probable bins", chance, "chance"),
        Panel("largest_bin", "keys in the fullest bin, most probable bins", log=True),
        Panel("mean_reward", "mean reward a key, bins drawn"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in policies.items():
        checkpoint.write_bytes(folder / file, content)
    save(
        folder,
        {NAME: plots.curves([("", results)], [panels], title)},
        datasets={"results": results},
        others=list(policies),
    )
    columns = {"collisions": "collisions", "largest_bin": "fullest bin", "drawn_collisions": "collisions, drawn"}
    Console().print(hashing.summary(f"{title}\nreported: {figure.reported}", [("", results)], columns))
    for learner in results["learner"].values:
        Console().print(perfect(results.sel(learner=learner)), highlight=False, soft_wrap=True)


def policy_file(network: NetworkConfig, params: Params, tokens: Tokens, words: list[bytes]) -> bytes:
    """The policies of all repeats as an .npz file, with the words and their most probable bins [repeat, words]."""
    outputs = output_layer(params)[1]["bias"].shape[-1]
    choose = jax.jit(lambda params: jnp.argmax(make_network(network, outputs).apply(params, tokens), -1))
    arrays: dict[str, Any] = {
        "words": np.array(words),
        "bins": np.asarray(jax.lax.map(choose, params)).astype(np.int32),
        "letters": np.array(network.alphabet, np.uint8),
    }
    for layer, of_layer in params["params"].items():
        arrays |= {f"{layer}/{name}": np.asarray(array) for name, array in of_layer.items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def machine() -> dict[str, str | int | float]:
    """Where results come from, and the most memory that was used."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    device = jax.devices()[0].device_kind
    # netCDF has no integers of 64 bits, and a large training takes more than 2 GB.
    return {"device": device, "cores": cores(), "jax": jax.__version__, "peak_bytes": float(memory)}


def perfect(history: xr.Dataset) -> str:
    """On how many seeds a learner's most probable bins came to be a perfect hash, after how many iterations."""
    none_left = history["collisions"].values == 0
    first = [int(seed.argmax()) + 1 for seed in none_left if seed.any()]
    after = f", first after {', '.join(map(str, first))} iterations" if first else ""
    return (
        f"{history['learner'].item()}: no collision left on {len(first)} of {len(none_left)} seeds{after}; "
        f"{float(history['seconds']):.1f} s for all of them, compiling included"
    )


def imitate(config: Config, figure: Figure, size: Size, keys: list[bytes], folder: Path) -> None:
    """Figure 1: a network is taught Python's hash of all words, and of a thousand of them."""
    common = replace(config.common, seeds=min(config.common.seeds, 2)) if config.quick else config.common
    every = keys[: size.words]
    tokens, bins = tokenize(every), python_bins(every, size.bins, SALT)
    histories = {}
    for words in {len(every), min(1000, len(every))}:
        learner = ImitateConfig(
            num_bins=size.bins,
            iterations=size.iterations,
            batch_size=min(256, max(words // 2, 1)),
            held_out=max(words // 10, 1),
            network=hashing.network(tokens, (200, 300)),
        )
        some = Tokens(tokens.characters[:words], tokens.lengths[:words])
        name = f"{words:,} words"
        histories[name] = hashing.train(
            f"figure 1, {name}", imitation.make_train, learner, common, some, np.asarray(bins[:words])
        )[1]
    results = hashing.learners(histories)
    results.attrs = {"figure": "1", "words": size.words, "bins": size.bins} | machine()
    guess = math.log(size.bins)
    panels = [
        Panel("loss", "cross-entropy, words trained on (nats)", guess, f"guessing: {guess:.3f}"),
        Panel("held_out_loss", "cross-entropy, words held out (nats)", guess, "guessing"),
        Panel("accuracy", "accuracy, words trained on", 1 / size.bins, "guessing"),
    ]
    title = f"Figure 1: {figure.title} modulo {size.bins:,}, {common.seeds} seeds"
    save(folder, {NAME: plots.curves([("", results)], [panels], title)}, datasets={"results": results})
    columns = {"loss": "loss (nats)", "held_out_loss": "held out", "accuracy": "accuracy"}
    Console().print(hashing.summary(f"{title}\nreported: {figure.reported}", [("", results)], columns, last=100))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
