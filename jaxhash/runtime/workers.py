"""How much work a machine does side by side."""

import os

import jax


def lanes() -> int:
    """How many tasks are worked on side by side: one a core on CPU, one on an accelerator."""
    return len(os.sched_getaffinity(0)) if jax.devices()[0].platform == "cpu" else 1
