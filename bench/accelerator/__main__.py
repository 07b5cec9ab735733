"""How fast is everything on an accelerator, and are the results right? One command, part by part.

    python -m bench.accelerator --out bench/results/              # within 20 minutes on a GPU
    python -m bench.accelerator --out runs/ --minutes 14 --parts training all-pairs
    python -m bench.accelerator --quick                           # small sizes: does it work? On a CPU too

Each part is saved as soon as it is through, in `accelerator-<device>.json`. The same command goes on with the parts
that are missing there, or that failed. A part that fails is noted with its traceback, and the next one goes on; the
exit status is then 1. With several devices, the last part compares one with all.
"""

import gc
import json
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from bench import harness
from bench.accelerator.part import Part, Setting
from bench.accelerator.parts import PARTS
from jaxhash.storage import atomic, checkpoint

SHARE_OF_QUICK = 0.1
"""Of a part's expected seconds that it may take with --quick."""
PACKAGES = ("numpy", "torch", "faiss-cpu", "flax", "optax")


@dataclass(frozen=True)
class Config(Setting):
    """Measure everything on the device that JAX finds, in order of worth."""

    out: Path | None = None
    """Folder of the results: each part is saved there, and what is there is not measured again."""
    minutes: float = 20.0
    """No part is started that is expected to take longer than what is left of these."""
    parts: tuple[str, ...] = ()
    """Only these parts, by name (default: all)."""


Results = dict[str, dict[str, Any]]


def main(config: Config, parts: Sequence[Part] = PARTS) -> int:
    """Run the parts that are missing, save each, print a table; the exit status."""
    ends = harness.clock() + 60 * config.minutes
    wanted, path = chosen(config.parts, parts), file_of(config)
    results, late = read(path), []
    for part in wanted:
        if part.name in results and "error" not in results[part.name]:
            continue
        if ends - harness.clock() < part.seconds_expected * (SHARE_OF_QUICK if config.quick else 1):
            late.append(part.name)
            continue
        harness.say(f"{part.name}: {part.question}")
        results[part.name] = measured(part, config)
        save(path, results, parts)
    show(config, wanted, results, late)
    return int(any("error" in results.get(part.name, {}) for part in wanted))


def chosen(names: Sequence[str], parts: Sequence[Part]) -> list[Part]:
    """The parts of these names, in order of worth."""
    known = [part.name for part in parts]
    if unknown := set(names) - set(known):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; give some of {', '.join(known)}")
    return [part for part in parts if not names or part.name in names]


def file_of(config: Config) -> Path | None:
    """Where the results of this device stand: of small sizes, and of several devices, in files of their own."""
    if config.out is None:
        return None
    count, kind = len(jax.devices()), jax.devices()[0].device_kind
    words = ["accelerator", *[str(count)] * (count > 1), kind, *["quick"] * config.quick]
    return config.out / (re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") + ".json")


def read(path: Path | None) -> Results:
    """What was measured before."""
    return json.loads(path.read_text())["parts"] if path is not None and path.exists() else {}


def save(path: Path | None, results: Results, parts: Sequence[Part]) -> None:
    """Write all results whole or not at all, in order of worth."""
    if path is None:
        return
    atomic.make_folder(path.parent)
    order = {part.name: i for i, part in enumerate(parts)}
    ordered = dict(sorted(results.items(), key=lambda item: order.get(item[0], len(order))))
    checkpoint.write_text(path, json.dumps({"parts": ordered}, indent=1) + "\n")


def measured(part: Part, setting: Setting) -> dict[str, Any]:
    """What a part gives, or its traceback; with its seconds, the most memory so far, and the machine."""
    start = harness.clock()
    try:
        found = part.run(setting)
    except (Exception, SystemExit):  # wrong answers end a benchmark by SystemExit
        found = {"figures": [], "error": traceback.format_exc()}
    gc.collect()
    memory = jax.devices()[0].memory_stats() or {}
    return {
        "question": part.question,
        **found,
        "seconds": harness.clock() - start,
        "peak_gb_so_far": harness.peak_bytes() / 1e9,
        "device_peak_gb_so_far": memory.get("peak_bytes_in_use", 0) / 1e9,
        "quick": setting.quick,
        "devices": len(jax.devices()),
        "machine": harness.describe(*PACKAGES),
    }


def show(config: Config, parts: Sequence[Part], results: Results, late: Sequence[str]) -> None:
    """A row for each figure of each part."""
    rows = []
    for part in parts:
        found = results.get(part.name)
        if found is None:
            continue
        first = (part.name, f"{found['seconds']:.1f}")
        if "error" in found:
            rows.append((part.name, found["error"].strip().splitlines()[-1][:60], "", "", "failed", first[1]))
        elif not found["figures"]:
            rows.append((part.name, found.get("left_out", ""), "", "", "", first[1]))
        for i, one in enumerate(found["figures"]):
            goal = "" if one["goal"] is None else f"{'at most ' * one['at_most']}{one['goal']:g}"
            met = "" if one["met"] is None else "yes" if one["met"] else "no"
            name, took = ("", "") if i else first
            rows.append((name, one["what"], f"{one['value']:,.4g}", goal, met, took))
    notes = [f"{name}: left out, for the time left is too short" for name in late]
    if late:
        notes.append("the same command goes on with them" if config.out else "give --out, and run the command again")
    if (path := file_of(config)) is not None:
        notes.append(f"results: {path}")
    what = f"{jax.devices()[0].device_kind}{', small sizes' * config.quick}"
    columns = ("part", "figure", "", "goal", "met", "seconds")
    harness.show(what, columns, rows, *notes)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
