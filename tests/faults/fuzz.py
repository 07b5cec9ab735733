"""Feed made-up files to every reader of files from strangers, so many each, in processes side by side, one a core.

    python -m tests.faults.fuzz                                # a million each: about two hours on two cores
    python -m tests.faults.fuzz --inputs 10000                 # a minute or two
    python -m tests.faults.fuzz --readers npz keys --seed 1    # two readers, other files

A fuzzer (atheris) makes the files up out of small whole ones. It sees which lines of jaxhash each reaches, and goes on
from those that reach new ones. A reader has a finding if a file gets another answer than a value or the one documented
error, or takes 20 seconds or half a GB; then its turn ends, and the file is kept in <out>/<reader>.

What was found is in <out>/fuzz.json, a row a reader: inputs, features (of the code reached, as libFuzzer counts them),
seconds, seed, finding. It is written whenever a reader is done, and a reader that was not asked for keeps its row:
after Ctrl-C, ask for those that are missing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.harness import describe, show
from jaxhash.runtime import worker_count
from jaxhash.storage import checkpoint
from jaxhash.terminal.command import command
from jaxhash.terminal.progress import progress
from tests.faults.fuzz_readers import READERS

HARNESS = "tests.faults.fuzz_harness"
FILE = "fuzz.json"
INPUTS_OF_A_PROCESS = {"hasher_arrays": 5000}
_TOLD = re.compile(r"#(\d+)\t.*? ft: (\d+)")
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_EXCEPTION = "=== Uncaught Python exception: ==="
_CRASH = re.compile(r"==\d+== ERROR: libFuzzer: (.*)")


@dataclass(frozen=True)
class Config:
    """How much is fuzzed."""

    inputs: int = 1_000_000
    """Files for each reader."""
    readers: tuple[str, ...] = tuple(READERS)
    """Which: names in `tests/faults/fuzz_readers.py`."""
    minutes: float = 25.0
    """Longest for one reader; a slow one gets fewer files, and its row says how many."""
    seed: int = 0
    """Of what is made up. The same seed makes the same files, as long as the time suffices."""
    out: Path = Path("runs/fuzz")
    """Folder of fuzz.json and of files that were findings."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.readers) - set(READERS)):
            raise ValueError(f"there is no reader {', '.join(unknown)}; give some of {', '.join(READERS)}")
        if self.inputs < 1 or self.minutes <= 0:
            raise ValueError(f"inputs={self.inputs}, minutes={self.minutes}: give more than 0 of both")


class Fuzzing:
    """A reader that is fuzzed in processes of its own, one after the other: libraries leak memory in millions of reads,
    and Orbax in thousands.
    """

    def __init__(self, name: str, config: Config, folder: Path) -> None:
        self.name, self.config, self.folder = name, config, folder
        self.inputs, self.features = 0, 0
        """So far."""
        self.process: subprocess.Popen[str] | None = None

    def row(self) -> dict[str, Any]:
        """What was found, once it has ended."""
        began, wrong, number = time.monotonic(), None, 0
        most, seconds = INPUTS_OF_A_PROCESS.get(self.name, 250_000), 60 * self.config.minutes
        while wrong is None and (missing := self.config.inputs - self.inputs) > 0:
            left = round(seconds - (time.monotonic() - began))
            if left < 1:
                break
            wrong = self._one_process(min(missing, most), left, 1000 * self.config.seed + number)
            number += 1
        return {
            "reader": self.name,
            "inputs": self.inputs,
            "features": self.features,
            "seconds": round(time.monotonic() - began),
            "seed": self.config.seed,
            "finding": wrong,
        }

    def _one_process(self, inputs: int, seconds: int, seed: int) -> str | None:
        """What was wrong, if anything was; the folder has the file then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        arguments = (sys.executable, "-m", HARNESS, self.name, inputs, seconds, seed, self.folder)
        settings = {
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            env=os.environ | settings,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        last, before, done = deque[str](maxlen=200), self.inputs, False
        wrong: str | None = None
        with self.process as process:
            for line in process.stdout or ():
                if last and _EXCEPTION in last[-1]:
                    wrong = line.strip()
                last.append(line)
                if told := _TOLD.match(line):
                    self.inputs, self.features = before + int(told[1]), max(self.features, int(told[2]))
                elif ended := _DONE.match(line):
                    self.inputs, done = before + int(ended[1]), True
                elif (crash := _CRASH.match(line)) and wrong is None:
                    wrong = crash[1].strip()
        if process.returncode == 0 and done:
            return None
        (self.folder / "log").write_text("".join(last))
        return wrong or f"ended with status {process.returncode}"


def fuzz(config: Config) -> int:
    """Fuzz the readers; 1 if there is a finding."""
    path, asked = config.out / FILE, dict.fromkeys(config.readers)
    config.out.mkdir(parents=True, exist_ok=True)
    rows = {row["reader"]: row for row in json.loads(path.read_text())["readers"]} if path.exists() else {}
    running: dict[str, Fuzzing] = {}
    ended: set[str] = set()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None

    def one(name: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=memory))
        try:
            running[name] = Fuzzing(name, config, folder)
            row = running[name].row()
            shutil.rmtree(config.out / name, ignore_errors=True)
            if row["finding"]:
                kept = [found for found in folder.iterdir() if found.is_file()]
                (config.out / name).mkdir()
                for found in kept:
                    shutil.copy(found, config.out / name)
            rows[name] = row
            ended.add(name)
            ordered = [rows[known] for known in READERS if known in rows]
            checkpoint.write_text(path, json.dumps({"readers": ordered, "machine": machine}, indent=1) + "\n")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    machine = describe("numpy", "atheris")
    pool = ThreadPoolExecutor(worker_count())
    with progress("inputs", config.inputs * len(asked)) as told:
        try:
            work = [pool.submit(one, name) for name in asked]
            while not all(future.done() for future in work):
                counts = {name: each.inputs for name, each in running.items() if name not in ended}
                done = sum(each.inputs for each in running.values())
                told(done, ", ".join(f"{name} {count:,}" for name, count in counts.items()))
                time.sleep(0.5)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for each in running.values():
                if each.process is not None:
                    each.process.kill()
    for future in work:
        future.result()
    columns = ("reader", "inputs", "features", "seconds", "finding")
    show(
        f"Fuzzed, seed {config.seed}",
        columns,
        [[rows[n]["finding"] or "none" if c == "finding" else f"{rows[n][c]}" for c in columns] for n in asked],
    )
    Console().print(f"Numbers: {path}", highlight=False)
    return int(any(rows[name]["finding"] for name in asked))


if __name__ == "__main__":
    command(Config, __doc__, fuzz, None, kept="The rows of the readers that were done are kept.")
