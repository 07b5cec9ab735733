"""Goals of the benchmarks: each figure that is to be reached, what was measured, whether it is met, and its spread.

python -m bench.goals                # of the kept results (cpu-epyc-2-cores)
python -m bench.goals here           # of what `make bench` has recorded
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, NamedTuple

import tyro

from bench import harness
from bench.tables import MACHINE

Seconds = Sequence[float]


class Measured(NamedTuple):
    """A figure, and what it was made of."""

    figure: float
    """A ratio of speeds; of the share of a ceiling, the share."""
    theirs: Seconds
    """Of the peer (or the ceiling), round by round."""
    ours: Seconds

    @property
    def spread(self) -> float:
        """How far apart the largest and the smallest ratio of a round are, over the median ratio."""
        ratios = [theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=False)]
        return (max(ratios) - min(ratios)) / median(ratios)


class Goal(NamedTuple):
    """A figure to be reached."""

    what: str
    benchmark: str
    least: float
    measured: Callable[[dict[str, Any]], Measured]


def _training(peer: str, figure: str) -> Callable[[dict[str, Any]], Measured]:
    return lambda found: Measured(found[figure], found["seconds"][peer], found["seconds"]["jaxhash"])


def _property(name: str, peer: str) -> Callable[[dict[str, Any]], Measured]:
    def measured(found: dict[str, Any]) -> Measured:
        theirs, ours = (found["seconds"][f"{who} {name}"] for who in (peer, "jaxhash"))
        return Measured(median(theirs) / median(ours), theirs, ours)

    return measured


def _hashing(peer: str, order: str, form: str) -> Callable[[dict[str, Any]], Measured]:
    def measured(found: dict[str, Any]) -> Measured:
        theirs, ours = found["seconds"][peer][order], found["seconds"]["jaxhash seeds, dictionary"][form]
        return Measured(median(theirs) / median(ours), theirs, ours)

    return measured


LOOP, MAP = "Python's hash", "Python's hash, map into NumPy"
GOALS = (
    Goal("training, x a PyTorch loop", "sweep_training", 12, _training("PyTorch", "ratio_vs_torch")),
    Goal(
        "training, x the same with fused Adam",
        "sweep_training",
        10,
        _training("PyTorch, fused Adam", "ratio_vs_torch_fused"),
    ),
    Goal(
        "training, x the same in a process a core",
        "sweep_training",
        5,
        _training("PyTorch, fused Adam, a process a core", "ratio_vs_torch_processes"),
    ),
    Goal("training, x Keras", "sweep_training", 25, _training("Keras fit", "ratio_vs_keras")),
    Goal(
        "training, share of the product rate",
        "sweep_training",
        0.7,
        _training("matrix products", "fraction_of_matmul_peak"),
    ),
    Goal("9-NN of 48,000 codes, x FAISS", "properties", 1, _property("9-NN", "FAISS")),
    Goal("10-NN of a million codes, x FAISS", "codes", 1, _property("10-NN", "FAISS")),
    Goal("words in order, x Python's loop", "hash_throughput", 2, _hashing(LOOP, "in order", "in order")),
    Goal("words at random, x Python's loop", "hash_throughput", 2, _hashing(LOOP, "at random", "at random")),
    Goal("words in order, x the map into NumPy", "hash_throughput", 1.3, _hashing(MAP, "in order", "in order")),
    Goal("words at random, x the map into NumPy", "hash_throughput", 1.3, _hashing(MAP, "at random", "at random")),
    Goal("tokens, x Python's loop over words in order", "hash_throughput", 6, _hashing(LOOP, "in order", "tokens")),
)
"""What the benchmarks of `make bench` are to reach on 2 cores."""


@dataclass(frozen=True)
class Config:
    """Show the goals, and whether the results of a machine meet them."""

    machine: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = MACHINE
    """The name that a benchmark's --record was given."""


def main(config: Config) -> None:
    """Print the table."""
    rows = []
    for goal in GOALS:
        path = harness.RESULTS / f"{goal.benchmark}-{config.machine}.json"
        if not path.exists():
            rows.append((goal.what, f"{goal.least:g}", "-", "-", f"no {path.name}"))
            continue
        found = goal.measured(json.loads(path.read_text()))
        met = "yes" if found.figure >= goal.least else f"no, {found.figure / goal.least:.0%} of it"
        rows.append((goal.what, f"{goal.least:g}", f"{found.figure:.2f}", f"{found.spread:.0%}", met))
    harness.show(f"Goals, {config.machine}", ("", "goal", "measured", "spread", "met"), rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
