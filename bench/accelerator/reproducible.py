"""Two epochs of the study's MNIST figure, in processes of their own: do the bits repeat, and what does that cost?

python -m bench.accelerator.reproducible [--quick]    # one process: prints a fingerprint of its models, and seconds
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bench import harness
from bench.accelerator.figure_properties import in_training
from bench.accelerator.part import Setting, figure
from jaxhash.runtime.devices import REPRODUCIBLE

ROOT = Path(__file__).parents[2]
LONGEST = 300
"""Seconds that a process may take."""


def run(setting: Setting) -> dict[str, Any]:
    """Whether two processes agree with the switch and without it, and how much longer an epoch takes with it."""
    found: dict[str, list[dict[str, Any]]] = {"with": [], "without": []}
    for _ in range(2):
        for name, processes in found.items():
            harness.say(f"an epoch in a process {name} the switch")
            processes.append(_process(setting, REPRODUCIBLE if name == "with" else ""))
    same = {name: len({one["fingerprint"] for one in processes}) == 1 for name, processes in found.items()}
    took = {name: min(one["seconds"] for one in processes) for name, processes in found.items()}
    return {
        "figures": [
            figure("runs agree with the switch", same["with"], 1),
            figure("runs agree without it", same["without"]),
            figure("x as long with the switch", took["with"] / took["without"]),
        ],
        "processes": found,
    }


def _process(setting: Setting, flag: str) -> dict[str, Any]:
    """What a process says; it shares the device's memory with this one, and takes it as it needs it."""
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    if setting.data_dir is not None:
        environment["JAXHASH_DATA_DIR"] = str(setting.data_dir)
    command = [sys.executable, "-m", "bench.accelerator.reproducible", *["--quick"] * setting.quick]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST)
    if done.returncode:
        raise RuntimeError(f"the process ended with {done.returncode}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _epochs(quick: bool) -> dict[str, Any]:
    epoch = in_training(Setting(quick=quick))[0][0].epoch
    epoch()
    took, state = harness.timed(epoch)
    found = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(jax.device_get(state.params)):
        found.update(np.ascontiguousarray(leaf).data)
    return {"fingerprint": found.hexdigest(), "seconds": took}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_epochs("--quick" in sys.argv)) + "\n")
