"""Words and images of the parts: read once in a process; a few words, and digits, for small sizes."""

from functools import cache

from bench import data
from bench.accelerator.part import Setting
from jaxhash.data import Dataset, load, subset

FEW_EXAMPLES, FEW_WORDS = 128, 2_000
"""Of small sizes."""


@cache
def words(quick: bool) -> tuple[tuple[str, ...], str]:
    """The study's dictionary and what to call it; where it cannot be had, as many derived words."""
    if quick:
        return tuple(data.derived(FEW_WORDS)), "a few words"
    found, source = data.dictionary()
    return tuple(found), source


def mnist(setting: Setting) -> tuple[Dataset, str]:
    """MNIST and its name; where it cannot be had, random pixels of the same shape."""
    return (subset(load("digits"), FEW_EXAMPLES), "digits") if setting.quick else _mnist(setting.data_dir)


@cache
def _mnist(data_dir: str | None) -> tuple[Dataset, str]:
    return data.mnist(data_dir)
