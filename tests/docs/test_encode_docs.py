"""The examples of docs/encode.md run, and its table of rules is the one of the code."""

import re
from pathlib import Path

import jax
import pytest

from jaxhash.encoding import unit_rules

TEXT = (Path(__file__).parents[2] / "docs" / "encode.md").read_text()


def test_the_table_of_rules_is_the_codes_own():
    rules = unit_rules.__doc__.split("\n\n", 1)[1]
    assert rules.strip() in TEXT


@pytest.fixture
def compiled_in_haste():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
def test_the_examples_run(compiled_in_haste):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 7
    names = {}
    for block in blocks:
        if "import equinox" in block:
            pytest.importorskip("equinox")
        if "import haiku" in block:
            pytest.importorskip("haiku")
        exec(block, names)
