"""Many small problems solved side by side: dealt out to all devices, and on a CPU to all cores.

A part is a share of the problems with a state of its own; a program takes it some steps further. Which problems stand
in which part, and how many steps a call takes, does not change what is found.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Int

MIN_PROBLEMS = 2**10
FEWEST_PROBLEMS = 2**8
"""Not worth another part."""
SECONDS_BETWEEN_LOOKS = 0.2
WORK_PER_LOOK = 10.0
"""Time spent working for each that is spent looking, at least."""
MAX_STEPS = 2**20

T = TypeVar("T")


def shares(problems: int, devices: Sequence[jax.Device]) -> int:
    """How many parts so many problems are cut into: one a device, or a core of a CPU, unless problems are too few."""
    cores = len(os.sched_getaffinity(0)) if devices[0].platform == "cpu" else 1
    return max(min(max(cores, len(devices)), -(-problems // FEWEST_PROBLEMS)), 1)


def deal(problems: Int[np.ndarray, " problems"], parts: int) -> list[Int[np.ndarray, " share"]]:
    """The problems of each part, dealt out like cards."""
    return [problems[part::parts] for part in range(parts)]


def padded(problems: int) -> int:
    """Room for so many: parts of about the same size share a compiled program."""
    return max(2 ** (problems - 1).bit_length(), MIN_PROBLEMS)


def take(arrays: T, some: Int[np.ndarray, " some"], room: int) -> T:
    """Some columns of arrays, a problem a column, and zeros behind them up to so many in all; on the host.

    Scalars are left as they are.
    """

    def of(array: Any) -> Any:
        if not array.ndim:
            return array
        taken = np.zeros((*array.shape[:-1], room), array.dtype)
        taken[..., : len(some)] = np.asarray(array)[..., some]
        return taken

    return jax.tree.map(of, arrays)


def work(
    step: Callable[[Any, Any, np.int32], Any],
    parts: Sequence[tuple[Any, Any]],
    devices: Sequence[jax.Device],
    steps_at_least: int,
    look: Callable[[list[Any], int], bool],
) -> list[Any]:
    """Take all parts further until `look` says that they are done.

    Args:
        step: a jitted program, `step(state, problems, steps) -> state`, which stops early where nothing is left to do.
        parts: state and problems of each, all of the same shapes.
        devices: dealt out to the parts.
        steps_at_least: of a call; more where they are quick, so that looking costs little and Ctrl-C never waits long.
        look: at all states, on their devices, after so many steps; called about five times a second.

    Returns:
        The states in the end.
    """
    placed = [jax.device_put(part, devices[i % len(devices)]) for i, part in enumerate(parts)]
    states, problems = [state for state, _ in placed], [problems for _, problems in placed]

    def some(part: int, steps: int) -> None:
        states[part] = jax.block_until_ready(step(states[part], problems[part], np.int32(steps)))

    with ThreadPoolExecutor(len(parts)) as pool:
        # No steps: each device compiles the program once, instead of once for each of its parts.
        list(pool.map(lambda part: some(part, 0), range(min(len(parts), len(devices)))))
        steps, made = steps_at_least, 0
        while True:
            began = time.monotonic()
            if look(states, made):
                return states
            looked = time.monotonic()
            list(pool.map(lambda part, steps=steps: some(part, steps), range(len(parts))))
            made += steps
            # Of very many problems a look takes its time too.
            enough = max(SECONDS_BETWEEN_LOOKS, WORK_PER_LOOK * (looked - began))
            quick = time.monotonic() - looked < enough
            steps = min(2 * steps, MAX_STEPS) if quick else max(steps // 2, steps_at_least)
