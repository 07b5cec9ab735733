"""Encoding properties of many models, measured in one program: all models of a task of a sweep.

The functions are those of `properties.py`, traced for one model after the other, or for several side by side.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from jaxhash.codes.code import WORD, Code
from jaxhash.codes.kmeans import UNPACKED_BYTES
from jaxhash.codes.nearest_words import in_one_program
from jaxhash.codes.properties import PROPERTIES, SAMPLED_BITS, Assignment, CodedData, Property


class Models(NamedTuple):
    """Codes and labels of many models: of some repeats, each with as many models, of which the last may be filling."""

    train: UInt32[Array, "repeats models n words"]
    train_labels: Int[Array, "repeats n"]
    counts: Int[Array, " repeats"] | None
    """The training examples of a repeat are the first so many; all of them if None."""
    test: UInt32[Array, "repeats models m words"]
    test_labels: Int[Array, " m"]
    random: UInt32[Array, "repeats models r words"] | None
    """Codes of random inputs, if there are."""
    keys: Key[Array, "repeats models"]
    """As `measure` takes them."""


def measure_models(
    models: Models,
    number: Int[Array, ""] | int,
    *,
    num_classes: int,
    capacity: int,
    assignment: Assignment = "optimal",
    properties: Mapping[str, Property] = PROPERTIES,
    together: int = 1,
) -> dict[str, Any]:
    """`measure` of many models, to be jitted with `SOON_COMPILED`: one program for all of them.

    Args:
        models: their codes, which `fit_in_one_program`.
        number: models of each repeat; those beyond are filling. One program serves every number.
        num_classes: number of classes, and of clusters.
        capacity: training examples that the largest class of any repeat has at most.
        assignment: how clusters get their labels.
        properties: what to measure, by functions that JAX can trace.
        together: models that are measured side by side, the others one after the other. On an accelerator many are as
            quick as one; on a CPU all would wait for the slowest.

    Returns:
        What the properties give (`Share`s of `PROPERTIES`), arrays [repeats * models]: the first number * repeats
        entries are those of the first repeat's models, the second's, and so on.
    """
    repeats, most, n, _ = models.train.shape

    def one(index: Int[Array, ""]) -> dict[str, Any]:
        repeat, model = index // number, index % number
        words = jax.tree.map(lambda of: of[repeat, model], (models.train, models.test, models.random))
        found: dict[str, Any] = {}
        for name, of in properties.items():
            train, test, random = jax.tree.map(lambda of: Code(of, of.shape[1] * WORD), words)
            data = CodedData(
                train,
                models.train_labels[repeat],
                test,
                models.test_labels,
                num_classes,
                models.keys[repeat, model],
                assignment,
                n if models.counts is None else models.counts[repeat],
                capacity=capacity,
                random=random,
            )
            found[name] = jax.tree.map(jnp.asarray, of.function(data))
            # One after the other: side by side they would need the memory of all.
            words, found[name] = jax.lax.optimization_barrier((words, found[name]))
        return found

    def some(step: Int[Array, ""], found: dict[str, Any]) -> dict[str, Any]:
        first = step * together
        if together == 1:
            new = jax.tree.map(lambda leaf: leaf[None], one(first))
        else:
            new = jax.vmap(one)(jnp.minimum(first + jnp.arange(together), repeats * number - 1))
        return jax.tree.map(
            lambda all_of, leaf: jax.lax.dynamic_update_slice_in_dim(all_of, leaf, first, 0), found, new
        )

    room = -(-repeats * most // together) * together
    shapes = jax.eval_shape(one, jax.ShapeDtypeStruct((), jnp.int32))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(room, leaf.dtype), shapes)
    found = jax.lax.fori_loop(0, (repeats * number + together - 1) // together, some, nothing)
    return jax.tree.map(lambda leaf: leaf[: repeats * most], found)


def fit_in_one_program(n: int, num_words: int) -> bool:
    """Whether n training codes of so many words are for `measure_models`: of others `measure` samples bits or codes."""
    bits = num_words * WORD
    within = bits <= SAMPLED_BITS and n * bits * 4 <= UNPACKED_BYTES
    return within and in_one_program(n, num_words)
