"""Any model: 8 repeats trained by a sweep against a loop of jitted steps, and the ways that were timed."""

from typing import Any

from bench import any_model
from bench.accelerator.part import Setting, figure


def run(setting: Setting) -> dict[str, Any]:
    """Ratios of `bench.any_model`."""
    steps, rounds = (2, 1) if setting.quick else (100, 3)
    names = list(any_model.MODELS)[: 1 if setting.quick else None]
    found = any_model.compared(names, steps, rounds)
    return {
        "figures": [figure(f"x the loop, {name}", ratio) for name, ratio in found["ratio_vs_loop"].items()],
        **found,
    }
