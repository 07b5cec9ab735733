"""A sweep here and on the CPU of the same machine: do its results stay within the bounds of docs/cluster.md?

python -m bench.accelerator.against_cpu FILE [--quick]    # trains, and writes what it saw: what the part asks of
                                                          # a process whose only device is the CPU
"""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from bench import harness, rounding
from bench.accelerator.inputs import FEW_EXAMPLES
from bench.accelerator.part import Setting, figure
from jaxhash.runtime.devices import Place

ROOT = Path(__file__).parents[2]
LONGEST = 600
"""Seconds that the CPU may take."""


def run(setting: Setting) -> dict[str, Any]:
    """The largest differences by property, and which are beyond their bound."""
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen"
        command = [sys.executable, "-m", "bench.accelerator.against_cpu", str(seen), *["--quick"] * setting.quick]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        with (Path(folder) / "said").open("w+") as said:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
            try:
                here = rounding.trained(sweep(setting.quick), Place(tuple(jax.devices()[:1])))
                harness.say("waiting for the CPU")
                if process.wait(LONGEST):
                    said.seek(0)
                    raise RuntimeError(f"the process on the CPU ended with {process.returncode}: {said.read()[-1000:]}")
            finally:
                process.kill()
                process.wait()
        there = pickle.loads(seen.read_bytes())
    found, bounds = rounding.apart(there, here), rounding.BOUNDS[precision()]
    beyond = rounding.beyond(found, bounds)
    largest = {name: max(row[name] for row in found if row["epoch"]) for name in bounds if name != "first step"}
    return {
        "figures": [
            figure("differences beyond their bound", len(beyond), 0, at_most=True),
            figure("weights after one step", found[0]["weights"], bounds["first step"], at_most=True),
            *(figure(name, largest[name], bounds[name], at_most=True) for name in largest),
        ],
        "precision": precision(),
        "apart": found,
        "beyond": beyond,
    }


def sweep(quick: bool) -> rounding.Config:
    """The models that are compared."""
    if quick:
        return rounding.Config(widths=(4,), repeats=1, epochs=(1,), examples=FEW_EXAMPLES, batch_size=FEW_EXAMPLES)
    return rounding.Config()


def precision() -> str:
    """Whose bounds hold: of float32, or of TF32, in which a GPU multiplies unless it is told otherwise."""
    exact = jax.config.jax_default_matmul_precision in ("highest", "float32")  # type: ignore[attr-defined]
    return "float32" if exact or jax.default_backend() == "cpu" else "TF32"


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.write_bytes(pickle.dumps(rounding.trained(sweep("--quick" in sys.argv), Place(tuple(jax.devices()[:1])))))
