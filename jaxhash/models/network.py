"""Model of any library as two pure functions, `init` and `apply`: Flax Linen and NNX, Equinox, Haiku, or a pair.

A model comes as a function that makes it (a class, mostly). What is made says which library it is of:

    function names `rngs`    Flax NNX: called with `rngs=nnx.Rngs(key)`
    function names `key`     Equinox: called with `key=key`; the model is of one example
    a `flax.linen.Module`    Flax Linen
    a pair                   init(key, x) -> params, apply(params, x) or apply(params, key, x) -> outputs (Haiku)

Whether it trains is told to what asks for it: by an argument `train`, `training` or `is_training`, or the opposite by
`deterministic` or `inference`; NNX and Equinox have methods of their own for it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxhash.runtime.streams import Stream, stream_key

_TRAINING, _NOT_TRAINING = ("train", "training", "is_training"), ("deterministic", "inference", "use_running_average")


class Network(NamedTuple):
    """A model as pure functions. `params` are what an optimiser changes, `state` is what else changes in training."""

    init: Callable[[Key[Array, ""], Float[Array, "n ..."]], tuple[Any, Any]]
    """init(key, x) -> (params, state); of x only the shape matters."""
    apply: Callable[[Any, Any, Float[Array, "n ..."], Key[Array, ""] | None], tuple[Array, Any]]
    """apply(params, state, x, key) -> (outputs, state): in training with a key, else (None) as it is used later."""


def network(make: Callable[..., Any], values: Mapping[str, Any]) -> Network:
    """The model that `make(**values)` makes.

    Args:
        make: see above.
        values: its arguments; numbers among them may be traced.

    Raises:
        ValueError: if it makes no model of a kind that is known.
    """
    asked = names_of(make)
    if "rngs" in asked:
        return _of_nnx(make, values)
    if "key" in asked:
        return _of_equinox(make, values)
    model = make(**values)
    if isinstance(model, nn.Module):
        return _of_linen(model)
    pair: Any = (getattr(model, "init", None), getattr(model, "apply", None))
    if isinstance(model, tuple) and len(model) == 2:
        pair = model
    if not all(map(callable, pair)):
        raise ValueError(
            f"{getattr(make, '__name__', make)} makes a {type(model).__name__}, which is no model: give a Flax Linen "
            "module, a pair (init, apply), or let it take rngs (Flax NNX) or key (Equinox)"
        )
    return _of_pair(*pair)


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the arguments of a function or class that can be given by name."""
    # The metaclass of an NNX module hides what its class takes.
    called = function.__init__ if inspect.isclass(function) else function
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # some built-in ones have no signature
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self")


def _training(function: Callable[..., Any], train: bool) -> dict[str, Any]:
    """How a function is told whether it trains, if it asks."""
    asked = names_of(function)
    return {name: train for name in _TRAINING if name in asked} | {
        name: not train for name in _NOT_TRAINING if name in asked
    }


def _outputs(returned: Any) -> Array:
    """The first of what a model returns, if it returns more."""
    while isinstance(returned, tuple | list) and returned:
        returned = returned[0]
    return jnp.asarray(returned)


def _keys(key: Array) -> dict[str, Array]:
    """Keys for a Linen module: `params` stands in for any name but `dropout`, as Flax has it."""
    return {"dropout": key, "params": stream_key(key, Stream.AUGMENT)}


def _of_linen(module: nn.Module) -> Network:
    call = type(module).__call__

    def init(key: Array, x: Array) -> tuple[Any, Any]:
        variables: Any = module.init({"params": key, "dropout": key}, x, **_training(call, False))
        state = {name: value for name, value in variables.items() if name not in ("params", "intermediates")}
        return variables.get("params", {}), state

    def apply(params: Any, state: Any, x: Array, key: Array | None) -> tuple[Array, Any]:
        variables = {"params": params, **state}
        if key is None:
            return _outputs(module.apply(variables, x, **_training(call, False))), state
        returned, updated = module.apply(variables, x, rngs=_keys(key), mutable=list(state), **_training(call, True))
        return _outputs(returned), {**state, **updated}

    return Network(init, apply)


def _of_nnx(make: Callable[..., Any], values: Mapping[str, Any]) -> Network:
    # Keys are given anew in each step: those that the model holds are no part of what is saved.
    kinds: Any = (nnx.Param, nnx.RngState, ...)

    def split(key: Array) -> Any:
        return nnx.split(make(**values, rngs=nnx.Rngs(key)), *kinds)

    def init(key: Array, x: Array) -> tuple[Any, Any]:
        _, params, _, state = split(key)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

    def apply(params: Any, state: Any, x: Array, key: Array | None) -> tuple[Array, Any]:
        kept: list[Any] = []

        def abstract(key: Array) -> None:
            kept.extend(split(key))

        jax.eval_shape(abstract, jax.random.key(0))
        graph, own_params, own_keys, own_state = kept
        nnx.replace_by_pure_dict(own_params, params)
        nnx.replace_by_pure_dict(own_state, state)
        model = nnx.merge(graph, own_params, jax.tree.map(_empty, own_keys), own_state)
        if key is None:
            model.eval()
            return _outputs(model(x)), state
        model.train()
        nnx.reseed(model, default=key, dropout=key)
        outputs = _outputs(model(x))
        split_again: Any = nnx.split(model, *kinds)
        return outputs, nnx.to_pure_dict(split_again[3])

    return Network(init, apply)


def _empty(of: Any) -> Array:
    """An array, or keys, of this shape and type."""
    if jnp.issubdtype(of.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), of.shape)
    return jnp.zeros(of.shape, of.dtype)


def _of_equinox(make: Callable[..., Any], values: Mapping[str, Any]) -> Network:
    import equinox as eqx

    def arrays(key: Array) -> tuple[Any, Any, Any]:
        params, rest = eqx.partition(make(**values, key=key), eqx.is_inexact_array)
        state, static = eqx.partition(rest, eqx.is_array)
        return params, state, static

    def init(key: Array, x: Array) -> tuple[Any, Any]:
        return arrays(key)[:2]

    def apply(params: Any, state: Any, x: Array, key: Array | None) -> tuple[Array, Any]:
        kept: list[Any] = []

        def abstract(key: Array) -> None:
            kept.append(arrays(key)[2])

        jax.eval_shape(abstract, jax.random.key(0))
        model = eqx.nn.inference_mode(eqx.combine(params, state, kept[0]), value=key is None)
        if key is None or "key" not in names_of(model):
            return _outputs(jax.vmap(model)(x)), state
        return _outputs(jax.vmap(lambda one, own: model(one, key=own))(x, jax.random.split(key, len(x)))), state

    return Network(init, apply)


def _of_pair(init_pair: Callable[..., Any], apply_pair: Callable[..., Any]) -> Network:
    told = {train: _training(apply_pair, train) for train in (False, True)}
    takes_key = len([name for name in names_of(apply_pair) if name not in told[True]]) > 2

    def init(key: Array, x: Array) -> tuple[Any, Any]:
        return init_pair(key, x), {}

    def apply(params: Any, state: Any, x: Array, key: Array | None) -> tuple[Array, Any]:
        train = key is not None
        between = (key,) if takes_key else ()
        return _outputs(apply_pair(params, *between, x, **told[train])), state

    return Network(init, apply)
