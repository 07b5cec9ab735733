"""Whatever a text names is there: modules, functions, commands, options, files, links and headings."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from jaxhash.hashing.perfect.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "bench/README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
FOLDERS = ("jaxhash", "experiments", "bench", "tests")
PYTHON = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
COMMAND = re.compile(
    r"(?:python -m (?:experiments|bench)\.\w+|jaxhash (?:fit|hash|info|export|status|sweep)\b)[^`#|\n]*"
)

PLACE = re.compile(r"(?<![\w./-])(?:jaxhash|experiments|bench|tests|docs)/[\w./-]*\w")
DOTTED = re.compile(r"\bjaxhash(?:\.[A-Za-z]\w*)+")


@cache
def code() -> str:
    return "\n".join(path.read_text() for path in PYTHON)


def text_of(page: str) -> str:
    return re.sub(r"\\\n\s*", " ", (ROOT / page).read_text())


def in_code(name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", code()) is not None


def is_there(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / f"{path}.py").exists()


@cache
def resolve(dotted: str) -> object:
    """What a dotted name stands for; raises ImportError or AttributeError if it is nothing."""
    found: object = importlib.import_module(dotted.partition(".")[0])
    for i, name in enumerate(names := dotted.split("."), start=1):
        if i == 1:
            continue
        try:
            found = importlib.import_module(".".join(names[:i]))
        except ModuleNotFoundError:
            found = getattr(found, name)
    return found


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in heading_anchors(path), target


@pytest.mark.parametrize("page", PAGES)
def test_dotted_names_are_there(page):
    for dotted in sorted(set(DOTTED.findall(text_of(page)))):
        if not dotted.endswith((".git", ".hash")):
            resolve(dotted)


@pytest.mark.parametrize("page", PAGES)
def test_imports_in_examples_work(page):
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        lines = [line.removeprefix(">>> ") for line in block.split("\n") if not re.match(r"(\.\.\.|>>>) *$", line)]
        for line in lines:
            if not re.match(r"(from|import) (jaxhash|experiments|bench)", line):
                continue
            for statement in ast.parse(line.strip()).body:
                if isinstance(statement, ast.ImportFrom):
                    for alias in statement.names:
                        resolve(f"{statement.module}.{alias.name}")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_are_there(page):
    text = text_of(page)
    for module in re.findall(r"python -m ((?:experiments|bench)[\w.]*)", text):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module
    options = {option for command in COMMAND.findall(text) for option in re.findall(r"--[a-z][\w.-]*", command)}
    options |= set(re.findall(r"`(--[a-z][\w.-]*)", text))
    for option in sorted(options):
        name = option[2:].rpartition(".")[2].removeprefix("no-").replace("-", "_")
        assert in_code(name), f"{page}: {option} is an option of no command"
    for method in re.findall(r"--method (\w+)", text):
        assert method in METHODS, f"{page}: --method {method}"
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    for target in re.findall(r"\bmake (\w+)(?= *(?:#|`|$))", text, re.M):
        assert target in targets, target


@pytest.mark.parametrize("page", PAGES)
def test_names_in_backticks_are_in_the_code(page):
    for name in sorted(set(re.findall(r"`([A-Za-z]\w*_\w*)(?:\(\))?`", text_of(page)))):
        assert in_code(name) or list(ROOT.glob(f"*/**/{name}.py")), f"{page}: `{name}` is in no file"


@pytest.mark.parametrize("page", PAGES)
def test_files_are_there(page):
    missing = [path for path in PLACE.findall(text_of(page)) if not is_there(path)]
    assert not missing, f"{page}: {missing} are not there"


def test_what_the_code_names_is_there():
    """Modules and files in docstrings, comments and messages."""
    wrong = []
    for path in PYTHON:
        text = path.read_text()
        wrong += [(path.name, place) for place in PLACE.findall(text) if not is_there(place)]
        known = {path.name for path in PYTHON} | {path.name for path in path.parent.iterdir()}
        wrong += [(path.name, file) for file in re.findall(r"`(?:[\w.]+/)*(\w+\.py)`", text) if file not in known]
        for dotted in set(DOTTED.findall(text)):
            try:
                resolve(dotted)
            except (ImportError, AttributeError):
                wrong.append((path.name, dotted))
    assert not wrong
