"""The words of the hash benchmarks, as `str` objects whose hash no one has asked for yet."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from jaxhash.data.download import DataError
from jaxhash.hashing.keys.tokens import load_keys

STUDY_WORDS = 466_551
"""Words of the study's dictionary; as many are derived where it cannot be had."""


@dataclass(frozen=True)
class Fresh:
    """What a list of new `str` objects is made from again and again."""

    sequential: str
    """The words in order, one a line."""
    scattered: str
    """The words in another order, one a line."""
    places: tuple[int, ...]
    """Where each word stands in `scattered`."""


def dictionary() -> tuple[list[str], str]:
    """The study's words and what to call them; without the file and without a network, derived ones."""
    try:
        return [word.decode() for word in load_keys("dwyl")], "dwyl dictionary"
    except DataError:
        return derived(STUDY_WORDS), "pairs of the embedded words"


def derived(count: int) -> list[str]:
    """So many different words: the embedded ones, then two of them at a time with a hyphen between."""
    base = [word.decode() for word in load_keys("english")]
    words, step = list(base), 1
    while len(words) < count:
        words += [f"{base[i]}-{base[(i + step) % len(base)]}" for i in range(len(base))]
        step += 1
    return words[:count]


def fresh(words: Sequence[str], seed: int = 0) -> Fresh:
    """The source of lists of these words; no word holds a line end."""
    order = list(range(len(words)))
    random.Random(seed).shuffle(order)
    places = [0] * len(words)
    for place, word in enumerate(order):
        places[word] = place
    return Fresh("\n".join(words), "\n".join([words[i] for i in order]), tuple(places))


def in_order(source: Fresh) -> list[str]:
    """New `str` objects, made one after another: neighbours in the list mostly are neighbours in memory."""
    return source.sequential.split("\n")


def at_random(source: Fresh) -> list[str]:
    """The same words as new `str` objects that lie in memory in an order of their own, as in a list long in use."""
    made = source.scattered.split("\n")
    return [made[place] for place in source.places]
