"""Tables of README.md, bench/README.md and pages in docs/, written from the files in bench/results and docs/data.

To be run after a benchmark was run with `--record cpu-epyc-2-cores`, after the `results.nc` of a figure of
`experiments.hash_study` was copied into docs/data/hash-study or `fuzz.json` of `tests.faults.fuzz` into docs/data,
after `tests.faults.system_calls` or `tests.faults.memory` was run with `--record` of its file in docs/data/faults, or
after `tests.branch_coverage`:

    python -m bench.tables
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import xarray as xr

from bench.harness import RESULTS
from bench.hash_throughput import INTO_NUMPY, PYTHON, ratios
from jaxhash.hashing.study.table import expected_collisions

MACHINE = "cpu-epyc-2-cores"
ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "bench" / "README.md", ROOT / "docs" / "hash-study.md", ROOT / "docs" / "sweeps.md")
DATA = ROOT / "docs" / "data"
STUDY, FAULTS = DATA / "hash-study", DATA / "faults"
LAST = 10
"""Iterations at the end of a training whose mean is its result."""
ERRORS = ("EIO", "ENOSPC", "EINTR")
WENT_WRONG = "went wrong"
"""What a record of faults calls trials after which something was lost or not right."""
MEMORY_FAULTS = {
    "limit": "the address space ends (`ulimit -v`)",
    "lines": "an allocation at a line (`MemoryError`)",
    "command": "the address space of `jaxhash fit` as a process",
}
MARKED = re.compile(r"(<!-- table: (\w+)(?: ([\w-]+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """A text with the table between each `<!-- table: name machine -->` and `<!-- end -->` as the files say today."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]](found[3] or MACHINE) + found[4], text)


def main() -> None:
    """Write the tables into all texts."""
    for page in PAGES:
        page.write_text(rewritten(page.read_text()))


def summary(machine: str) -> str:
    """The six rows of README.md."""
    training, properties, codes = (
        _result("sweep_training", machine),
        _result("properties", machine),
        _result("codes", machine),
    )
    hashing, hasher = _result("hash_throughput", machine), "jaxhash seeds, dictionary"
    cores = hashing["cores_used"]
    orders, to_map, to_loop = (
        [of[hasher][form] for form in ("in order", "at random")]
        for of in (hashing["ns_per_word"], hashing["ratios_to_numpy_map"], hashing["ratios_to_python_hash"])
    )
    by_default = (row for row in _result("perfect_hash", machine)["results"] if row["method"] == "sharded")
    dictionary = max(by_default, key=lambda row: row["words"])
    large = next(row for row in _keys(machine) if row["method"] == "sharded" and row["size"] == 10**7)
    rows = [
        (
            "training the study's 23 widths of MNIST",
            f"{training['model_steps_per_second']:,.0f} model-steps a second",
            f"{training['ratio_vs_torch_fused']:.1f}x a PyTorch loop with fused Adam",
        ),
        (
            "all properties of one model, 58,000 codes of 100 bits",
            f"{median(properties['seconds']['jaxhash all together']):.1f} s",
            f"{properties['ratio_vs_sklearn']:.0f}x scikit-learn",
        ),
        (
            "10 nearest of 4,096 codes among a million of 1,024 bits",
            f"{codes['median_seconds']['jaxhash 10-NN']:.1f} s",
            f"{codes['knn_vs_faiss']['10']:.1f}x FAISS",
        ),
        (
            "300,000 words hashed, list in, array out",
            f"{orders[0]:.0f} ns a word in order, {orders[1]:.0f} at random",
            f"{to_map[0]:.1f}x and {to_map[1]:.1f}x Python's own hash mapped into NumPy, modulo included (equal work); "
            f"{to_loop[0]:.1f}x and {to_loop[1]:.1f}x a Python loop; on {_range(cores[hasher].values())} cores, "
            f"Python on {_range(cores[INTO_NUMPY].values())}",
        ),
        (
            f"minimal perfect hash of {dictionary['words']:,} words, whole command",
            f"{median(dictionary['seconds']):.1f} s",
            f"{dictionary['bits_per_key']:.1f} bits a key",
        ),
        (
            "minimal perfect hash of 10,000,000 keys in a file",
            f"{large['seconds']:.0f} s",
            f"{large['peak_bytes'] / 1e9:.1f} GB of memory",
        ),
    ]
    return _table(("what", "measured", "beside"), rows)


def training(machine: str) -> str:
    """Model-steps a second of a sweep, ours and the peers'."""
    found = _result("sweep_training", machine)
    ours, peers = found["model_steps_per_second"], found["peers_model_steps_per_second"]
    rows = [("jaxhash", f"{ours:,.0f}", ""), *((name, f"{x:,.0f}", f"{ours / x:.1f}x") for name, x in peers.items())]
    share = f"{found['fraction_of_matmul_peak']:.0%} of {found['matmul_peak_gflops']:.0f} GFLOP/s"
    rows.append(("share of the machine's own rate of 2,048 x 2,048 float32 products", share, ""))
    return _table(("", "model-steps a second", "jaxhash is"), rows)


def properties(machine: str) -> str:
    """Seconds of each encoding property, ours and the peers'."""
    seconds = {name: median(times) for name, times in _result("properties", machine)["seconds"].items()}
    rows = []
    for name, ours in seconds.items():
        library, _, question = name.partition(" ")
        peers = [(peer, seconds.get(f"{peer} {question}")) for peer in ("scikit-learn", "FAISS")]
        for peer, theirs in peers if library == "jaxhash" else ():
            if theirs is not None:
                rows.append((question, f"{ours:.3f}", f"{theirs:.2f} {peer}", f"{theirs / ours:.1f}x"))
    all_ours, ratio = seconds["jaxhash all together"], _result("properties", machine)["ratio_vs_sklearn"]
    rows.append(("all together", f"{all_ours:.3f}", f"{all_ours * ratio:.1f} scikit-learn", f"{ratio:.0f}x"))
    return _table(("seconds", "jaxhash", "peer", "jaxhash is"), rows)


def figure(machine: str) -> str:
    """Seconds of all properties of the models of a figure, by one program a task and model by model."""
    found = _result("figure_properties", machine)
    rows = [
        (name, f"{took:.0f}", f"{1e3 * took / found['models']:.0f}") for name, took in found["median_seconds"].items()
    ]
    return _table((f"{found['models']} models", "seconds", "milliseconds a model"), rows)


def step(machine: str) -> str:
    """Where the time of a training step goes."""
    found = _result("training_step", machine)
    rows = []
    for name, took in found["microseconds"].items():
        rate = f"{found['gflops'][name]:.0f}" if name in found["gflops"] else ""
        rows.append((name, f"{took:,.0f}", rate, f"{found['shares'][name]:.0%}" if rate else ""))
    return _table(("on one core", "microseconds", "GFLOP/s", "of the last row"), rows)


def codes(machine: str) -> str:
    """Seconds of each question about a million codes, ours and the peers'."""
    found = _result("codes", machine)
    seconds = found["median_seconds"]
    rows = []
    for name in [name.removeprefix("jaxhash ") for name in seconds if name.startswith("jaxhash ")]:
        ours = seconds[f"jaxhash {name}"]
        peers = {peer: seconds.get(f"{peer} {name}") for peer in ("NumPy", "NumPy, groups too", "FAISS")}
        if name == "10-NN":
            peers["scikit-learn, scaled"] = found["sklearn_seconds_scaled"]
        known = [(f"{x:,.1f} {peer}", f"{x / ours:.1f}x") for peer, x in peers.items() if x is not None]
        rows += [(name, f"{ours:.2f}", *peer) for peer in known or [("", "")]]
    return _table(("seconds", "jaxhash", "peer", "jaxhash is"), rows)


def throughput(machine: str) -> str:
    """Nanoseconds a word of each hash function, by how the words lie in memory."""
    found = _result("hash_throughput", machine)
    columns = {
        "in order": "new `str`, in order",
        "at random": "new `str`, at random",
        "cached": "hash cached",
        "tokens": "from tokens",
        "device": "tokens on the device",
    }
    to_map, to_loop = (ratios(found["ns_per_word"], to) for to in (INTO_NUMPY, PYTHON))
    cores = found.get("cores_used")  # counted since the last day of November 2026
    rows = []
    for name, times in found["ns_per_word"].items():
        both = {column: [to[name][column] for to in (to_map, to_loop) if column in to[name]] for column in times}
        cells = [_beside(times[column], both[column]) if column in times else "" for column in columns]
        rows.append((_name(name), *cells, *([_range(cores[name].values())] if cores else [])))
    return _table(("ns a word", *columns.values(), *(["cores"] if cores else [])), rows)


def sizes(machine: str) -> str:
    """Bits a key of the perfect hashes of the dictionary, and the seconds it took to find them."""
    found = _result("hash_throughput", machine)
    seconds = found["build_seconds"]
    rows = [
        (name, f"{bits:.2f}", f"{seconds[name]:.1f}")
        for name, bits in found["bits_per_key"].items()
        if "bins" not in name
    ]
    return _table(("", "bits a key", "seconds to build"), rows)


def fits(machine: str) -> str:
    """Seconds, cores, memory and size of each whole `jaxhash fit` command."""
    rows = []
    for found in _result("perfect_hash", machine)["results"]:
        seconds, cores, peak = median(found["seconds"]), median(found["cores_used"]), max(found["peak_bytes"])
        cells = f"{seconds:.1f}", f"{cores:.1f}", f"{peak / 2**30:.2f}", f"{found['bits_per_key']:,.1f}"
        rows.append((f"`{found['method']}`", f"{found['words']:,}", *cells))
    return _table(("`--method`", "words", "seconds", "cores", "peak, GiB", "bits a key"), rows)


def calls(machine: str) -> str:
    """Microseconds a call, by how many keys it hashes."""
    latency = _result("hash_throughput", machine)["latency_seconds"]
    sizes = list(next(iter(latency.values())))
    rows = [(name, *(f"{1e6 * times[size]:,.1f}" for size in sizes)) for name, times in latency.items()]
    return _table(("microseconds a call", *(f"{int(size):,} key{'s' * (size != '1')}" for size in sizes)), rows)


def scaling(machine: str) -> str:
    """Seconds and memory by number of models, width, devices, processes and keys."""
    rows = []
    for row in _result("scaling", machine)["results"]:
        fixed = next(
            (f"{row[name]} models each" for name in ("models_a_device", "models_a_process") if row.get(name)), ""
        )
        kind = f"{row['kind']}, {_name(row['method'])}" if row["kind"] == "keys" else row["kind"]
        done = row.get("model_steps", row["size"])
        unit = "model-steps/s" if "model_steps" in row else "keys/s"
        size = f"{row['size']:,}" + (f" ({fixed})" if fixed else "")
        rate = f"{done / row['seconds']:,.0f} {unit}"
        rows.append((kind, size, f"{row['seconds']:.2f}", rate, f"{row['peak_bytes'] / 2**30:.2f}"))
    return _table(("", "size", "seconds", "rate", "peak, GiB"), rows)


def compiling(machine: str) -> str:
    """Seconds to compile and to run each program of a sweep, with JAX's options and with ours."""
    rows = []
    for name, found in _result("compile", machine)["seconds"].items():
        plain, ours = found["JAX's options"], found["jaxhash's options"]
        rows.append((name, f"{plain['compile']:.1f}", f"{ours['compile']:.1f}", f"{1e3 * ours['run']:,.1f}"))
    return _table(("", "compiling, s", "with jaxhash's options, s", "a run, ms"), rows)


def hash_study(_: str) -> str:
    """Collisions of the hash study's learners, figure by figure, by their most probable bins."""
    rows = []
    for path in sorted(STUDY.glob("*.nc")):
        with xr.open_dataset(path, engine="scipy") as found:
            if "collisions" in found:
                learners = [found.sel(learner=name).dropna("iteration", how="all") for name in found["learner"].values]
                rows += [_of_learner(found.attrs, history) for history in learners]
    heads = ("figure", "learner", "words, bins", "iterations", "collisions at first", "at the end", "chance")
    return _table((*heads, "fullest bin", "drawn", "perfect", "seconds a seed"), rows)


def faults(_: str) -> str:
    """How operations end when a system call or an allocation fails, by what fails."""
    calls = json.loads((FAULTS / "system-calls.json").read_text())
    possible, ends = 0, Counter[str]()
    for of_call in (one for of_operation in calls.values() for one in of_operation.values()):
        by_error = {error: counts for error, counts in of_call.items() if error != "calls"}
        possible += len(ERRORS) * of_call["calls"]
        ends.update(sum(map(Counter, by_error.values()), Counter()))
    rows = [_ended("a system call", list(calls), ends, f" of {possible:,}")]
    memory = json.loads((FAULTS / "memory.json").read_text())
    for fault, what in MEMORY_FAULTS.items():
        found = {name: Counter(of_fault[fault]) for name, of_fault in memory.items() if fault in of_fault}
        rows.append(_ended(what, list(found), sum(found.values(), Counter()), ""))
    return _table(
        ("what fails", "in", "trials", "goes on", "one line", "a library breaks off or waits", "lost or wrong"), rows
    )


def _ended(what: str, operations: list[str], ends: "Counter[str]", possible: str) -> tuple[str, ...]:
    counted = [ends[status] for status in ("done", "refused", WENT_WRONG)]
    goes_on, one_line, wrong = (f"{count:,}" for count in counted)
    by_library = f"{ends.total() - sum(counted):,}"
    return what, ", ".join(operations), f"{ends.total():,}{possible}", goes_on, one_line, by_library, wrong


def _of_learner(attributes: dict[str, Any], history: xr.Dataset) -> tuple[str, ...]:
    chance = expected_collisions(int(attributes["placed"]), int(attributes["bins"]))
    ended = (
        history[["collisions", "largest_bin", "drawn_collisions"]].isel(iteration=slice(-LAST, None)).mean("iteration")
    )
    left, fullest, drawn = ended["collisions"], ended["largest_bin"], ended["drawn_collisions"]
    none_left = history["collisions"].values == 0
    first = [int(seed.argmax()) + 1 for seed in none_left if seed.any()]
    after = ", after " + " to ".join(f"{number:,}" for number in sorted({min(first), max(first)})) if first else ""
    each = f" of {attributes['words']:,}" if attributes["words"] != attributes["placed"] else ""
    return (
        attributes["figure"],
        f"`{history['learner'].item()}`",
        f"{attributes['placed']:,}{each}, {attributes['bins']:,}",
        f"{history['iteration'].size:,}",
        f"{float(history['collisions'][:, 0].mean()):,.0f}",
        f"{float(left.mean()):,.1f} ± {float(left.std()):,.1f}",
        f"{chance:,.0f}",
        f"{float(fullest.mean()):,.1f}",
        f"{float(drawn.mean()):,.1f}",
        f"{len(first)} of {len(none_left)}{after}",
        f"{float(history['seconds']) / len(none_left):,.1f}",
    )


def coverage(_: str) -> str:
    """A sentence on how much of the code the tests reach."""
    found = json.loads((DATA / "coverage.json").read_text())["packages"]
    branches, lines = (
        sum(package[reached] for package in found.values()) / sum(package[all_] for package in found.values())
        for reached, all_ in (("covered_branches", "num_branches"), ("covered_lines", "num_statements"))
    )
    names = [f"`{name.removeprefix('jaxhash/').replace('/', '.')}`" for name in found]
    return (
        f"The tests take {_rounded_down(branches)} of the branches of {', '.join(names[:-1])} and {names[-1]}, and "
        f"reach {_rounded_down(lines)} of their lines.\n"
    )


def fuzz(_: str) -> str:
    """How many made-up files each reader was given."""
    rows = json.loads((DATA / "fuzz.json").read_text())["readers"]
    cells = [(f"`{r['reader']}`", f"{r['inputs']:,}", f"{r['seconds']:,}", r["finding"] or "none") for r in rows]
    return _table(("reader", "files", "seconds", "finding"), cells)


_WRITERS = (
    summary,
    training,
    step,
    properties,
    figure,
    codes,
    throughput,
    sizes,
    calls,
    fits,
    scaling,
    compiling,
    hash_study,
    faults,
    coverage,
    fuzz,
)
TABLES: dict[str, Callable[[str], str]] = {table.__name__: table for table in _WRITERS}


def _result(benchmark: str, machine: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{benchmark}-{machine}.json").read_text())


def _keys(machine: str) -> list[dict[str, Any]]:
    return [row for row in _result("scaling", machine)["results"] if row["kind"] == "keys"]


def _name(name: str) -> str:
    return name.replace("latent", "seeds")  # as the files of before November 2026 call it


def _beside(nanoseconds: float, times_as_fast: Sequence[float]) -> str:
    time = f"{nanoseconds:,.0f}" if nanoseconds >= 10 else f"{nanoseconds:.1f}"
    return f"{time} ({', '.join(f'{x:.1f}x' if x >= 1 else f'1/{1 / x:.1f}' for x in times_as_fast)})"


def _range(some: Collection[float]) -> str:
    return " to ".join(dict.fromkeys(f"{end(some):.1f}" for end in (min, max)))


def _rounded_down(share: float) -> str:
    return f"{math.floor(100 * share)}%"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
