"""A part of the benchmark of accelerators: a question, a function that answers it, and how long that takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Setting:
    """What every part is told."""

    quick: bool = False
    """Small sizes, so that a CPU is through within a minute. The figures then say nothing about speed."""
    data_dir: str | None = None
    """Where mnist/ and cifar10/ are looked up (default: JAXHASH_DATA_DIR); without them, random pixels of the same
    shape serve, and the result says so."""
    peers: bool = True
    """Measure PyTorch too, where it is installed."""


class Part(NamedTuple):
    """A line of the table."""

    name: str
    question: str
    run: Callable[[Setting], dict[str, Any]]
    """Gives what goes to JSON; under "figures" those of `figure`, which are printed."""
    seconds_expected: float
    """On a GPU, compiling included. With less time left, the part is not started."""


def figure(what: str, value: float, goal: float | None = None, *, at_most: bool = False) -> dict[str, Any]:
    """A figure of a part, its goal if it has one, and whether that is met.

    Args:
        what: with its unit.
        value: measured.
        goal: at least so much.
        at_most: the goal is at most so much.

    >>> figure("s", 2.0, 1.0, at_most=True)["met"], figure("GB/s", 2.0, 1.0)["met"], figure("keys", 2.0)["met"]
    (False, True, None)
    """
    met = None if goal is None else value <= goal if at_most else value >= goal
    return {"what": what, "value": value, "goal": goal, "at_most": at_most, "met": met}
