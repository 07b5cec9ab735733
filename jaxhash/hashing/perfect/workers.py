"""Workers of a fit: many small problems solved at once, on all devices, and on a CPU on all its cores.

A part is a share of the problems with a state of its own; a program takes it some steps further. Which problems stand
in which part, and how many steps a call takes, does not change what is found.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Int, UInt64

from jaxhash.runtime.devices import worker_count

MIN_PROBLEMS = 2**10
FEWEST_PROBLEMS = 2**8
"""Not worth another part."""
AT_ONCE_ON_ACCELERATORS = 2**14
"""Problems of a part that are worked on at once; a processor's cache holds fewer of them."""
SECONDS_BETWEEN_LOOKS = 0.2
WORK_PER_LOOK = 10.0
"""Time spent working for each that is spent looking, at least."""
MAX_STEPS = 2**20

Learned = dict[str, np.ndarray]
"""What has been learned so far, as arrays by name: enough to go on from."""
T = TypeVar("T")


class Task(NamedTuple):
    """What a method learns."""

    numbers: UInt64[np.ndarray, " n"]
    """Fingerprints in ascending order, all different."""
    num_slots: int
    """Slots, one a key at least."""
    seed: int
    """Of what is drawn."""


class Learner(NamedTuple):
    """How a method learns."""

    devices: Sequence[jax.Device]
    watch: Callable[[int, int, Callable[[], Learned]], None]
    """Called about five times a second and at the end, with steps made, collisions left, and what tells all that has
    been learned so far, until it is called again; may raise, to stop."""
    compile_hasher: Callable[[Any], None]
    """Called once with a policy of the final shapes; compiles its hasher beside the learning."""
    begin: Callable[[Learned], Learned]
    """Where to go on, or what it was given to begin with, if nothing was saved: arrays of the same shapes, to be
    written to."""


def check_ranges(config: Any, **ranges: tuple[int, int]) -> None:
    """Whether the options of a method, by name, are within their least and most values.

    Raises:
        ValueError: if one is not.
    """
    for name, (least, most) in ranges.items():
        if not least <= getattr(config, name) <= most:
            raise ValueError(f"{name}={getattr(config, name)} is not valid: {name} must be {least:,} to {most:,}")


class Room(NamedTuple):
    """How problems are cut into parts."""

    devices: Sequence[jax.Device]
    parts: int
    """One a device, or a core of a CPU, unless problems are too few."""
    problems: int
    """Of a part, with padding: parts of about the same size share a compiled program."""

    @classmethod
    def of(cls, problems: int, devices: Sequence[jax.Device]) -> "Room":
        """Room for so many problems."""
        parts = max(min(max(worker_count(), len(devices)), -(-problems // FEWEST_PROBLEMS)), 1)
        return cls(devices, parts, max(2 ** (-(-problems // parts) - 1).bit_length(), MIN_PROBLEMS))


def at_once(devices: Sequence[jax.Device], on_cpu: int, problems: int) -> int:
    """How many problems of a part are worked on at once."""
    return min(on_cpu if devices[0].platform == "cpu" else AT_ONCE_ON_ACCELERATORS, problems)


def take(arrays: T, some: Int[np.ndarray, " some"], room: int) -> T:
    """Some columns of arrays, a problem a column, and zeros behind them up to so many in all; on the host."""

    def of(array: Any) -> Any:
        taken = np.zeros((*array.shape[:-1], room), array.dtype)
        taken[..., : len(some)] = np.asarray(array)[..., some]
        return taken

    return jax.tree.map(of, arrays)


def solve(
    step: Callable[[Any, Any, np.int32], Any],
    start: Callable[[Any], Any],
    arrays: Any,
    unsolved: Int[np.ndarray, " unsolved"],
    room: Room,
    steps_at_least: int,
    look: Callable[[list[Any], list[np.ndarray], int], bool],
) -> tuple[list[Any], list[np.ndarray]]:
    """Work on all unsolved problems until `look` says that they are done.

    Args:
        step: a jitted program, `step(state, problems, steps) -> state`, which stops early where nothing is left to do.
        start: the first state of a part, on the host.
        arrays: of all problems, a problem a column.
        unsolved: columns to work on.
        room: for as many problems or more.
        steps_at_least: of a call; more where they are quick, so that looking costs little and Ctrl-C never waits long.
        look: at the states of all parts, on their devices, and the columns of each, after so many steps; called about
            five times a second.

    Returns:
        The last states, and the columns of each.
    """
    columns = [unsolved[part :: room.parts] for part in range(room.parts)]
    given = [take(arrays, some, room.problems) for some in columns]
    placed = [jax.device_put((start(part), part), room.devices[i % len(room.devices)]) for i, part in enumerate(given)]
    states, problems = [state for state, _ in placed], [part for _, part in placed]

    def advance(part: int, steps: int) -> None:
        states[part] = jax.block_until_ready(step(states[part], problems[part], np.int32(steps)))

    with ThreadPoolExecutor(room.parts) as pool:
        # No steps: each device compiles the program once, instead of once for each of its parts.
        list(pool.map(lambda part: advance(part, 0), range(min(room.parts, len(room.devices)))))
        steps, made = steps_at_least, 0
        while True:
            began = time.monotonic()
            if look(states, columns, made):
                return states, columns
            looked = time.monotonic()
            list(pool.map(lambda part, steps=steps: advance(part, steps), range(room.parts)))
            made += steps
            # Of very many problems a look takes its time too.
            enough = max(SECONDS_BETWEEN_LOOKS, WORK_PER_LOOK * (looked - began))
            quick = time.monotonic() - looked < enough
            steps = min(2 * steps, MAX_STEPS) if quick else max(steps // 2, steps_at_least)
