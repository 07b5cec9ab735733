"""Keep how much of the code the last run of the tests with `--cov` reached, in docs/data/coverage.json.

    PYTEST_ADDOPTS=--cov make test
    python -m tests.branch_coverage
    python -m bench.tables                  # which writes the sentence in README.md

A branch is a way on from a line with an `if`, a loop or the like. pyproject.toml says which packages are looked at.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "data" / "coverage.json"
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def by_package(files: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Counts of coverage's report, added up over the files of each package."""
    packages: dict[str, dict[str, int]] = {}
    for name, found in sorted(files.items()):
        counts = packages.setdefault(str(Path(name).parent), dict.fromkeys(COUNTS, 0))
        for count in COUNTS:
            counts[count] += found["summary"][count]
    return packages


def main() -> None:
    """Read the run's data, which stand in the folder where it ran, and keep the counts."""
    import coverage  # here, because pytest imports this file to look for doctests

    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        measured.json_report(outfile=str(Path(folder) / "all.json"))
        report = json.loads((Path(folder) / "all.json").read_text())
    kept = {
        "packages": by_package(report["files"]),
        "python": platform.python_version(),
        "coverage": coverage.__version__,
        "until": report["meta"]["timestamp"],
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    sys.stdout.write(f"{KEPT.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
