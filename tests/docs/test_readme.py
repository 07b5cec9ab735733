"""What the README names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "bench/README.md", "docs/neural-codes.md", "docs/hash-study.md", "docs/encode.md"]


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_are_there(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    for link in links:
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_make_targets_in_commands_are_there(page):
    text = (ROOT / page).read_text()
    for module in re.findall(r"python -m ((?:experiments|bench)[\w.]*)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    for target in re.findall(r"\bmake (\w+)(?= *(?:#|`|$))", text, re.M):
        assert target in targets, target
