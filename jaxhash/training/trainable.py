"""Trainable: what a sweep knows of the models it trains, as pure functions of a state, a key and hyper-parameters.

`population` makes what trains the study's MLPs of many widths side by side; `vmapped` makes one of any model and any
optimiser. Every array of a state, of hyper-parameters and of keys can have a leading axis of its own (`jax.vmap`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxhash.codes.code import WORD, Code


def seen(look: Callable[..., tuple[Array, Code]], *arguments: Any) -> tuple[jax.ShapeDtypeStruct, Code]:
    """Shape of the outputs of `Trainable.look`, and what its codes are: a code of no examples."""
    kept: list[tuple[Any, ...]] = []

    def traced(*arguments: Any) -> Array:
        outputs, code = look(*arguments)
        kept.append((code.num_bits, code.layers, code.skipped))
        return outputs

    outputs = jax.eval_shape(traced, *arguments)
    (num_bits, layers, skipped) = kept[0]
    return outputs, Code(jnp.zeros((0, -(-num_bits // WORD)), jnp.uint32), num_bits, layers, skipped)


S = TypeVar("S", bound=Any)
"""A state: a named tuple that has, beside what it trains with, `active` (it trains on), `diverged` (its loss left the
finite numbers), `best_loss`, `stale` (epochs since) and `epochs` (trained so far), each an array [*models]."""


class Trainable(NamedTuple):
    """A model that can be trained and looked at."""

    init: Callable[[Array, Mapping[str, Array], Array], Any]
    """init(key, hyper, x) -> state, freshly initialised; of x only the shape matters."""
    advance: Callable[..., Any]
    """advance(state, key, order, x, y, hyper, start, stop) -> state: steps start ... stop - 1 of an epoch. Row i of
    order, int32 [steps, batch], has the examples of step i; an epoch ends with its last row."""
    step: Callable[..., Any]
    """The same of one step, without a loop in the program: step(state, key, order, x, y, hyper, start)."""
    look: Callable[[Any, Mapping[str, Any], Float[Array, "n ..."]], tuple[Array, Code]]
    """look(trained, hyper, x) -> outputs, codes, in inference mode; `trained` is what `trained_of` takes of a state."""
    trained_of: Callable[[Any], Any]


def stop_early(state: S, loss: Float[Array, " *models"], patience: int) -> S:
    """A state after an epoch of this loss, as Keras' EarlyStopping(monitor="loss") leaves it.

    A model stops when its loss has not improved for `patience` epochs (0: never), and when its loss is not finite.
    """
    finite, improved = jnp.isfinite(loss), loss < state.best_loss
    stale = jnp.where(improved, 0, state.stale + 1)
    keep = finite & ((stale < patience) | (patience == 0))
    return state._replace(
        active=state.active & keep,
        diverged=state.diverged | (state.active & ~finite),
        best_loss=jnp.where(state.active & improved, loss, state.best_loss),
        stale=jnp.where(state.active, stale, state.stale),
        epochs=state.epochs + state.active,
    )
