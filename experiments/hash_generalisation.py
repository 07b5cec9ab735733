r"""Words that a trained function has not seen: does it spread them as well as Python's `hash` does?

"Neural Hash Functions" (A. Museth, CS285) says so in a sentence: on unseen words the trained function leaves about as
many collisions as Python's. Here functions are trained until each training word has a bin of its own; then draws of as
many unseen words, no word in two draws, are hashed by it and by Python under ten fresh salts, and the difference is
tested (Student's paired t-test). Beside it stand the evenness over bins (chi-square) and the avalanche (how often one
flipped bit of a word changes its bin).

    characters   the study's network: reads one-hot characters, 2 x 300 hidden; a policy gradient (expected_return.py)
    network      the same network over a fingerprint of the word, in small integers (network.py)
    sharded      a tiny policy for every 32 words, over the fingerprint (sharded.py)
    python       Python's hash itself under one salt: what the tests say of a function that is as good as chance

Measured (docs/data/hash-generalisation.csv): none of them is as good as Python's hash on words it has not seen; only
what it was trained on is spread without a collision. Of 1,000 unseen words in 1,000 bins, where chance and Python's
hash leave 368, collide: characters 441, network 589, sharded 419. The study's network also hears less of a changed
letter: 59 % of the flipped bits change the bin, and nearly all of the others' do.

    python -m experiments.hash_generalisation
    python -m experiments.hash_generalisation --keys dwyl --words 10000 --draws 5 --repeats 2 \
        --methods network sharded python
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy import stats

from jaxhash.hashing.keys.python_hash import python_bins
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect, fit
from jaxhash.hashing.quality import (
    Avalanche,
    Comparison,
    Evenness,
    HashFunction,
    avalanche,
    checked_bins,
    compare_with_python,
    evenness,
    pooled,
)
from jaxhash.hashing.study import expected_return
from jaxhash.hashing.study.expected_return import ExpectedReturnConfig
from jaxhash.hashing.study.networks import NetworkConfig, alphabet_of, make_network
from jaxhash.hashing.study.table import collision_deviation, expected_collisions
from jaxhash.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE
from jaxhash.terminal.command import command, in_background
from jaxhash.terminal.files import save

Method = Literal["characters", "network", "sharded", "python"]
STYLES = {"characters": (ORANGE, "s"), "network": (GREEN, "^"), "sharded": (BLUE, "o"), "python": (PURPLE, "D")}
AVALANCHE_KEYS = 1000
"""Unseen words whose bits are flipped."""
AVALANCHE_BYTES = 6
"""Of each word, from its beginning."""
BATCH = 2048
"""Words that the study's network hashes at a time."""


@dataclass(frozen=True)
class Config:
    """Collisions of unseen words under trained functions, beside Python's hash."""

    methods: tuple[Method, ...] = ("characters", "network", "sharded", "python")
    """Functions to look at."""
    keys: str = "english"
    """english, dwyl (the study's dictionary), or a file of one key a line."""
    words: int = 1000
    """Words trained on, bins, and unseen words in a draw."""
    draws: int = 40
    """Draws of unseen words a training at most; fewer if there are not so many unseen words."""
    repeats: int = 3
    """Trainings, each on other words from another seed."""
    iterations: int = 100
    """Of the study's network, passes over its words; more words need more."""
    seed: int = 0
    """Of the words drawn, the trainings and Python's salts."""
    out: Path = Path("runs/hash_generalisation")
    """Folder of the numbers and the figure."""

    def __post_init__(self) -> None:
        if self.words < 2 or self.repeats < 1 or self.draws < 2 or not self.methods:
            raise ValueError("give 2 or more --words, 1 or more --repeats, 2 or more --draws and one or more --methods")


class Measured(NamedTuple):
    """What was found of one trained function."""

    seen_collisions: int
    comparison: Comparison
    evenness: Evenness
    avalanche: Avalanche


def by_characters(config: Config, longest: int, letters: tuple[int, ...]) -> Callable[[list[bytes], int], HashFunction]:
    """The study's network: trains on words, with a seed, to a function; compiled once for all trainings."""
    learner = ExpectedReturnConfig(
        num_bins=config.words,
        iterations=config.iterations,
        network=NetworkConfig(alphabet=letters),
    )
    train = jax.jit(expected_return.make_train(learner))
    network = make_network(learner.network, config.words)
    choose = jax.jit(lambda params, tokens: jnp.argmax(network.apply(params, tokens), -1))

    def trained(words: list[bytes], seed: int) -> HashFunction:
        state, _ = train(jax.random.key(seed), _on_device(tokenize(words, longest)))

        def hashed(keys: Sequence[bytes]) -> np.ndarray:
            parts = []
            for start in range(0, len(keys), BATCH):
                part = list(keys[start : start + BATCH])
                full = tokenize(part + [b""] * (BATCH - len(part)), longest)
                parts.append(np.asarray(choose(state.params, _on_device(full)))[: len(part)])
            return np.concatenate(parts) if parts else np.zeros(0, np.int32)

        return hashed

    return trained


def by_fit(method: Literal["network", "sharded"], config: Config) -> Callable[[list[bytes], int], HashFunction]:
    """The perfect-hash learner, or the best it found."""

    def trained(words: list[bytes], seed: int) -> HashFunction:
        try:
            return fit(words, FitConfig(num_bins=config.words, method=method, seed=seed))
        except NotPerfect as error:
            return error.hasher

    return trained


def measure(config: Config) -> dict[str, list[Measured]]:
    """Train and test every method `repeats` times.

    Raises:
        ValueError: if there are too few unseen words.
    """
    every = load_keys(config.keys)
    draws = min(config.draws, len(every) // config.words - 1)
    if draws < 2:
        raise ValueError(
            f"--words {config.words} leaves {max(len(every) - config.words, 0):,} of the {len(every):,} keys of "
            f"{config.keys} unseen, less than two draws; give --words {len(every) // 3} or fewer, or more --keys"
        )
    tokens = tokenize(every)
    letters = alphabet_of(tokens)
    makers: dict[str, Callable[[list[bytes], int], HashFunction]] = {}
    for name in config.methods:
        if name == "characters":
            makers[name] = by_characters(config, tokens.characters.shape[1], letters)
        elif name == "python":
            makers[name] = lambda _, seed: partial(python_bins, num_bins=config.words, salt=seed + 1)
        else:
            makers[name] = by_fit(name, config)

    console = Console(stderr=True)
    found: dict[str, list[Measured]] = {method: [] for method in makers}
    for repeat in range(config.repeats):
        order = np.random.default_rng([config.seed, repeat]).permutation(len(every))
        seen = [every[i] for i in order[: config.words]]
        unseen = [every[i] for i in order[config.words :]]
        seed = config.seed + repeat
        for method, maker in makers.items():
            console.print(f"training {repeat + 1} of {config.repeats}: {method}")
            function = in_background(partial(maker, seen, seed))
            found[method].append(in_background(partial(_look, function, seen, unseen, config, draws, seed)))
    return found


def _look(
    function: HashFunction, seen: list[bytes], unseen: list[bytes], config: Config, draws: int, seed: int
) -> Measured:
    bins = checked_bins(function, seen, config.words)
    return Measured(
        config.words - len(np.unique(bins)),
        compare_with_python(function, unseen, config.words, config.words, draws, seed),
        evenness(checked_bins(function, unseen[: draws * config.words], config.words), config.words),
        avalanche(function, unseen[:AVALANCHE_KEYS], config.words, AVALANCHE_BYTES),
    )


def summarise(found: dict[str, list[Measured]]) -> list[dict[str, object]]:
    """A row for each training, and one (repeat: all) for a method's draws taken together."""
    rows: list[dict[str, object]] = []
    for method, repeats in found.items():
        series = [(str(i), [measured]) for i, measured in enumerate(repeats)] + [("all", repeats)]
        for name, some in series:
            both = pooled([measured.comparison for measured in some])
            rows.append(
                {"method": method, "repeat": name, "draws": len(both.collisions)}
                | {"seen_collisions": np.mean([measured.seen_collisions for measured in some])}
                | {"unseen_collisions": both.collisions.mean(), "python_collisions": both.python.mean()}
                | {"by_chance": both.expected, "excess": both.excess, "low": both.low, "high": both.high}
                | {"p_value": both.p_value}
                | {"chi_square_ratio": np.mean([m.evenness.statistic / m.evenness.degrees for m in some])}
                | {"chi_square_p": some[0].evenness.p_value if len(some) == 1 else ""}
                | {"bin_changes": np.mean([np.nanmean(m.avalanche.changed) for m in some])}
                | {"bin_changes_least": np.min([np.nanmin(m.avalanche.changed) for m in some])}
                | {"bin_changes_by_chance": some[0].avalanche.changed_by_chance}
            )
    return rows


def draw_rows(found: dict[str, list[Measured]]) -> list[dict[str, object]]:
    """A row a draw."""
    return [
        {"method": method, "repeat": repeat, "draw": i, "collisions": int(ours), "python": theirs}
        for method, repeats in found.items()
        for repeat, measured in enumerate(repeats)
        for i, (ours, theirs) in enumerate(zip(measured.comparison.collisions, measured.comparison.python, strict=True))
    ]


def avalanche_rows(found: dict[str, list[Measured]]) -> list[dict[str, object]]:
    """A row for each flipped bit: share of words whose bin changes, and of each of the bin's bits that flips."""
    return [
        {"method": method, "repeat": repeat, "byte": byte, "bit": bit, "words": int(measured.avalanche.keys[byte])}
        | {"bin_changes": measured.avalanche.changed[byte, bit]}
        | {f"output_bit_{i}": share for i, share in enumerate(measured.avalanche.flips[byte, bit])}
        for method, repeats in found.items()
        for repeat, measured in enumerate(repeats)
        for byte in range(AVALANCHE_BYTES)
        for bit in range(8)
    ]


def show(summary: list[dict[str, object]], config: Config) -> Table:
    """The methods for a terminal."""
    table = Table(
        title=f"{config.words:,} unseen words in {config.words:,} bins ({config.keys}, {config.repeats} trainings)",
        caption=f"Collisions: mean; on unseen words also the trainings' least and most; {summary[0]['by_chance']:,.1f} "
        "by chance. Excess: over Python's hash on the same words, for all draws of these trainings, with its 95 % "
        "interval and p-value. Chi-square over degrees of freedom: 1 by chance, more is less even. Avalanche: share "
        f"of words whose bin one flipped bit changes, mean and least; {summary[0]['bin_changes_by_chance']:.1%} by "
        "chance",
    )
    for name in ("", "seen", "unseen", "excess", "p", "chi-sq.", "avalanche"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in summary:
        if row["repeat"] == "all":
            means = [part["unseen_collisions"] for part in summary if part["method"] == row["method"]]
            p_value = float(str(row["p_value"]))
            table.add_row(
                str(row["method"]),
                f"{row['seen_collisions']:,.1f}",
                f"{row['unseen_collisions']:,.1f}\n{min(means):,.0f}-{max(means):,.0f}",  # type: ignore[type-var]
                f"{row['excess']:+,.1f}\n{row['low']:+,.1f} {row['high']:+,.1f}",
                f"{p_value:.2f}" if p_value >= 0.01 else f"{p_value:.0e}",
                f"{row['chi_square_ratio']:,.2f}",
                f"{row['bin_changes']:.1%}\n{row['bin_changes_least']:.1%}",
            )
    return table


def draw_figure(found: dict[str, list[Measured]], config: Config) -> Figure:
    """Collisions a draw, chi-square a training, and avalanche by the byte that is flipped."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    panels = figure.subplots(1, 3)
    _draw_collisions(panels[0], found, config)
    _draw_evenness(panels[1], found)
    _draw_avalanche(panels[2], found)
    for panel in panels[:2]:
        panel.set_xticks(range(len(found)), list(found))
        panel.set_xlim(-0.6, len(found) - 0.4)
    figure.suptitle(
        f"Words that were not trained on: {config.words:,} bins, functions trained on {config.words:,} words "
        f"({config.keys}, {config.repeats} trainings)"
    )
    return figure


def _draw_collisions(panel: Axes, found: dict[str, list[Measured]], config: Config) -> None:
    expected = expected_collisions(config.words, config.words)
    deviation = collision_deviation(config.words, config.words)
    panel.axhspan(expected - deviation, expected + deviation, color=GREY, alpha=0.15, linewidth=0)
    panel.axhline(expected, color=GREY, linestyle="--", label=f"chance, {expected:,.0f} ± {deviation:.0f}")
    for x, (method, repeats) in enumerate(found.items()):
        colour, marker = STYLES[method]
        places = x + 0.7 * ((np.arange(len(repeats)) + 0.5) / len(repeats) - 0.5)
        for place, measured in zip(places, repeats, strict=True):
            ours = measured.comparison.collisions
            half = stats.t.ppf(0.975, len(ours) - 1) * ours.std(ddof=1) / np.sqrt(len(ours))
            panel.plot(np.full(len(ours), place), ours, marker, color=colour, alpha=0.3, markersize=3)
            panel.errorbar(place, ours.mean(), half, color="black", fmt="_", markersize=7, capsize=3)
    panel.set(title="Collisions of the draws, by training", ylabel=f"collisions of {config.words:,} unseen words")
    panel.errorbar([], [], [], color="black", fmt="_", capsize=3, label="mean of a training, 95 % interval")
    panel.legend(frameon=False, fontsize=8, loc="upper right")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.2 * (high - low))


def _draw_evenness(panel: Axes, found: dict[str, list[Measured]]) -> None:
    degrees = next(iter(found.values()))[0].evenness.degrees
    band = 1.96 * np.sqrt(2 / degrees)
    panel.axhspan(1 - band, 1 + band, color=GREY, alpha=0.15, linewidth=0, label="95 % of what chance gives")
    panel.axhline(1, color=GREY, linestyle="--")
    for x, (method, repeats) in enumerate(found.items()):
        colour, marker = STYLES[method]
        ratios = [measured.evenness.statistic / measured.evenness.degrees for measured in repeats]
        panel.plot(x + np.linspace(-0.1, 0.1, len(ratios)), ratios, marker, color=colour, markersize=7)
    panel.set(title="Unevenness over the bins, a training", ylabel="chi-square / degrees of freedom", yscale="log")
    panel.legend(frameon=False, fontsize=8)


def _draw_avalanche(panel: Axes, found: dict[str, list[Measured]]) -> None:
    chance = next(iter(found.values()))[0].avalanche.changed_by_chance
    panel.axhline(chance, color=GREY, linestyle="--", label="chance")
    for i, (method, repeats) in enumerate(found.items()):
        colour, marker = STYLES[method]
        changed = np.stack([measured.avalanche.changed for measured in repeats])
        position = np.arange(1, AVALANCHE_BYTES + 1) + 0.08 * (i - (len(found) - 1) / 2)
        panel.plot(position, np.nanmean(changed, (0, 2)), marker + "-", color=colour, label=method)
        lowest, highest = np.nanmin(changed, (0, 2)), np.nanmax(changed, (0, 2))
        panel.fill_between(position, lowest, highest, color=colour, alpha=0.15, linewidth=0)
    panel.set(title="Avalanche: one bit of a word flipped", xlabel="byte flipped (band: its eight bits)")
    panel.set(ylabel="share of words whose bin changes", ylim=(-0.03, 1.05))
    panel.legend(frameon=False, fontsize=8, loc="lower left")


def _on_device(tokens: Tokens) -> Tokens:
    return Tokens(jnp.asarray(tokens.characters), jnp.asarray(tokens.lengths))


def body(config: Config) -> None:
    """Train, test, save, draw."""
    found = measure(config)
    summary = summarise(found)
    Console().print(show(summary, config))
    tables = {"summary": summary, "draws": draw_rows(found), "avalanche": avalanche_rows(found)}
    save(config.out, {"hash_generalisation": draw_figure(found, config)}, tables)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command(Config, __doc__, body, arguments)


if __name__ == "__main__":
    main()
