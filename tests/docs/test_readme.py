"""README.md: its examples run, its tables and those of other pages are those of the results, and it is short."""

import doctest
import re
from pathlib import Path

import pytest

from bench import tables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FRACTION = re.compile(r"\d+\.\d+")


class Near(doctest.OutputChecker):
    """Fractions may differ by 0.1, as training amplifies how a processor rounds; all else is equal."""

    def check_output(self, want, got, flags):
        pairs = list(zip(FRACTION.findall(want), FRACTION.findall(got), strict=False))
        same = super().check_output(FRACTION.sub("#", want), FRACTION.sub("#", got), flags)
        return same and all(abs(float(a) - float(b)) <= 0.1 for a, b in pairs)


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.parent.name)
def test_tables_are_those_of_the_results(page):
    text = page.read_text()
    assert tables.MARKED.search(text)
    assert tables.rewritten(text) == text, "a result has changed: python -m bench.tables writes the tables anew"


def test_it_is_short():
    assert len(README.encode()) <= 10_000


@pytest.mark.slow
def test_its_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(README.replace("```\n", "\n"), {}, "README.md", "README.md", 0)
    assert len(examples.examples) == README.count(">>> ") >= 12
    failures = []
    doctest.DocTestRunner(Near(), optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=failures.append)
    assert not failures, "".join(failures)
