"""A process that feeds made-up files to one reader of `fuzz_readers.py`.

    python -m tests.faults.fuzz_harness READER INPUTS SECONDS SEED FOLDER

Atheris (libFuzzer) makes them up, guided by which lines of jaxhash they reach, until there were so many or the time is
up (0: no limit). Whatever a file says, the answer is a value or the one documented error: anything else, a file that
takes over 20 seconds, or half a GB of memory, ends the process with a traceback and another status than 0, and the file
stands in FOLDER, which has to be empty.
"""

import json
import random
import resource
import sys
from pathlib import Path
from typing import Any

import atheris

from tests.faults.fuzz_readers import READERS

MOST_BYTES = 2**29
"""Beyond what the process has taken by then."""
MOST_SECONDS = 20
# What a field may be in a file of somebody who means harm, or none at all.
VALUES = (
    None,
    True,
    0,
    1,
    -1,
    2,
    0.5,
    1e308,
    float("nan"),
    2**31,
    2**63,
    10**30,
    "",
    "0",
    "a",
    "\ud800",
    [],
    [0],
    {},
    {"a": 0},
)


def changed(text: bytes, most: int, seed: int) -> bytes:
    """An input in which a value was replaced or left out where it is JSON; else some of its bytes differ."""
    draw = random.Random(seed)
    kind, lines = text[:1], text[1:].splitlines(keepends=True)
    if lines and draw.random() < 0.5:
        at = draw.randrange(len(lines))
        try:
            whole = json.loads(lines[at])
        except (ValueError, RecursionError):
            return atheris.Mutate(text, most)
        lines[at] = json.dumps(_replaced(whole, draw)).encode() + b"\n"
        made = kind + b"".join(lines)
        return made if len(made) <= most else text
    return atheris.Mutate(text, most)


def _replaced(value: Any, draw: random.Random) -> Any:
    """The same with one value in it, however deep, replaced or left out."""
    if isinstance(value, dict | list) and value and draw.random() < 0.9:
        at = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        if draw.random() < 0.1:
            del value[at]
        else:
            value[at] = _replaced(value[at], draw)
        return value
    return draw.choice(VALUES)


if __name__ == "__main__":
    name, inputs, seconds, seed, folder = sys.argv[1:]
    for part in ("corpus", "files"):
        Path(folder, part).mkdir()
    with atheris.instrument_imports(include=["jaxhash"]):
        reader = READERS[name](Path(folder, "files"))
    for kind, content in enumerate(reader.seeds):
        Path(folder, "corpus", str(kind)).write_bytes(bytes([kind]) + content)
    # Not by libFuzzer: it counts what the process that started this one has taken, too.
    data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    options = [f"-runs={inputs}", f"-max_total_time={seconds}", f"-seed={int(seed) + 1}", f"-timeout={MOST_SECONDS}"]
    atheris.Setup(
        [sys.argv[0], *options, "-rss_limit_mb=0", "-keep_seed=1", f"-artifact_prefix={folder}/", f"{folder}/corpus"],
        lambda content: reader.read(content[0] % len(reader.seeds), content[1:]) if content else None,
        **({"custom_mutator": changed} if reader.text else {}),
    )
    atheris.Fuzz()
