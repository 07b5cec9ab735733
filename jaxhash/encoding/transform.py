"""`encode` and `encode_with_output`: the neural code of any JAX function, as a function transformation.

    code = jax.jit(jaxhash.encode(model))(x)      # x: [n, ...] -> Code: words uint32[n, words], layers, skipped

`encode` traces the function, finds its ReLU-like units (the table in `jaxhash.encoding.unit_rules` says which), and
evaluates what they need: nothing is rewritten, registered or returned by the model. The neural code is that of arXiv
2101.05490, section 3, for any architecture. docs/encode.md shows it on Flax, Equinox and Haiku models.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool

from jaxhash.codes.code import Code, Layer, active, pack
from jaxhash.encoding.example_axis import ONE_BY_ONE, Layout, locate
from jaxhash.encoding.interpret import run
from jaxhash.encoding.jaxpr_graph import Known, build
from jaxhash.encoding.reductions import Reduction
from jaxhash.encoding.unit_rules import Rule
from jaxhash.encoding.units import Unit, find, innermost

By = Literal["units", "sign"]


def encode(
    fn: Callable[..., Any],
    *,
    by: By = "units",
    winners: bool = False,
    layers: str | Sequence[str] = "*",
    reduce: Reduction | Mapping[str, Reduction] = active,
    batch_axis: int | Sequence[int] | None = 0,
    argnums: int | Sequence[int] = -1,
    rules: Sequence[Rule] = (),
) -> Callable[..., Code]:
    """The function that returns the neural code of what `fn` computes.

    Like `jax.grad`, it takes the arguments of `fn`, is pure, and composes with `jit`, `vmap` and sharding; called
    outside `jit` it is traced anew each time. XLA computes only what the units need, and where `fn` itself is called
    in the same program, the layers of both are computed once; units in loops (scan, while) are the exception, for
    which `encode_with_output` is there.

    Args:
        fn: any traceable function: `model`, `partial(model.apply, variables)`, `jax.vmap(model)`.
        by: "units" takes units with a corner; "sign" takes smooth activations too, by the sign of their input.
        winners: take the largest or smallest of several values too (max pooling, maxout), by which of them it is.
        layers: patterns of the names of the layers to take (`fnmatch`: `*` is anything), such as `"*Block_3*"`.
        reduce: how the pre-activations of a layer become bits (`jaxhash.encoding.reductions`); by default one bit a
            unit. A mapping gives a reduction for each pattern of names, the first that fits; others keep one bit a
            unit.
        batch_axis: the axis of the example arguments that numbers examples, or one for each of `argnums`. None: the
            arguments are one example.
        argnums: which positional arguments hold the examples, counted from the end if negative. The others are
            parameters; leaves of arguments that are no arrays (flags, functions) are passed on as they are.
        rules: rules of your own, asked before the library's of every operation that depends on the examples: each
            takes an `Op` and returns a `Match` or None (`jaxhash.encoding.unit_rules`; docs/encode.md has an example).

    Returns:
        encode(*args, **kwargs) -> Code: words uint32 [n, ceil(bits / 32)], or [ceil(bits / 32)] with batch_axis=None.
        `Code.layers` names the place of every bit, by the model's scopes or else by its line; `Code.skipped` lists
        the activations that gave no bits, and why.

    Raises:
        ValueError: when called, if no layer has a name that fits, or if it cannot be said which entries of a layer
            belong to which example.
    """
    options = _Options(by, winners, layers, reduce, batch_axis, argnums, tuple(rules))

    def encoded(*args: Any, **kwargs: Any) -> Code:
        return _encode(fn, options, args, kwargs, outputs=False)[1]

    return encoded


def encode_with_output(
    fn: Callable[..., Any],
    *,
    by: By = "units",
    winners: bool = False,
    layers: str | Sequence[str] = "*",
    reduce: Reduction | Mapping[str, Reduction] = active,
    batch_axis: int | Sequence[int] | None = 0,
    argnums: int | Sequence[int] = -1,
    rules: Sequence[Rule] = (),
) -> Callable[..., tuple[Any, Code]]:
    """The function that returns what `fn` returns, and its neural code, from one evaluation.

    As `jax.value_and_grad` is to `jax.grad`; the arguments are those of `encode`. The output can be differentiated.
    """
    options = _Options(by, winners, layers, reduce, batch_axis, argnums, tuple(rules))

    def encoded(*args: Any, **kwargs: Any) -> tuple[Any, Code]:
        return _encode(fn, options, args, kwargs, outputs=True)

    return encoded


@dataclass(frozen=True)
class _Options:
    """The arguments of `encode`, checked."""

    by: str
    winners: bool
    layers: str | Sequence[str]
    reduce: Reduction | Mapping[str, Reduction]
    batch_axis: int | Sequence[int] | None
    argnums: int | Sequence[int]
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if self.by not in ("units", "sign"):
            raise ValueError(f'by={self.by!r} is not valid: by must be "units", or "sign" for smooth activations too')

    def takes(self, name: str) -> bool:
        """A layer of this name is part of the code."""
        patterns = [self.layers] if isinstance(self.layers, str) else self.layers
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    def reduction(self, name: str) -> Reduction:
        """How the layer of this name becomes bits."""
        if not isinstance(self.reduce, Mapping):
            return self.reduce
        return next((how for pattern, how in self.reduce.items() if fnmatchcase(name, pattern)), active)


def _encode(
    fn: Callable[..., Any], options: _Options, args: tuple[Any, ...], kwargs: dict[str, Any], *, outputs: bool
) -> tuple[Any, Code]:
    given = _Arguments(args, kwargs, options.argnums, options.batch_axis)
    n = None if options.batch_axis is None else given.num_examples()
    traced, output_tree = given.trace(fn, twice=False)
    known = [Known(depends=flag) for flag in given.is_example]
    graph = build(traced, known)
    every, skipped = find(graph, by=options.by, winners=options.winners, rules=options.rules)
    names = _names(every)
    places = [i for i, name in enumerate(names) if options.takes(name)]
    if not places and options.layers != "*":
        raise ValueError(f"layers={options.layers!r} fits none of the layers, which are {', '.join(names) or 'none'}")
    units, names = [every[i] for i in places], [names[i] for i in places]
    layouts: list[Layout | None] = [None] * len(units)
    if n is not None and units:
        twice, _ = given.trace(fn, twice=True)
        others, _ = find(build(twice, known), by=options.by, winners=options.winners, rules=options.rules)
        if len(others) != len(every):
            raise ValueError(
                f"fn has {len(every)} layers of units for {n} examples and {len(others)} for {2 * n}; {ONE_BY_ONE}"
            )
        layouts = [locate(name, unit, others[i], n) for i, name, unit in zip(places, names, units, strict=True)]
    reductions = [options.reduction(name) for name in names]
    plain = {innermost(unit) for unit, how in zip(units, reductions, strict=True) if how is active}

    def emit(unit: Unit, pre_activation: Array) -> Array:
        # Bits at once where bits are all that is asked for: loops then stack bits, not numbers.
        return active(pre_activation) if unit in plain else pre_activation

    results, arrays = run(graph, given.arrays, units, emit, outputs=outputs)
    placed = [array[None] if at is None else at.place(array) for array, at in zip(arrays, layouts, strict=True)]
    bits = [array if how is active else how(array) for array, how in zip(placed, reductions, strict=True)]
    code = _code(bits, names, units, tuple(skipped), 1 if n is None else n)
    if n is None:
        code = code.replace(words=code.words[0])
    return jax.tree.unflatten(output_tree, results) if outputs else None, code


class _Arguments:
    """The arguments of a call: the arrays among their leaves, and how to call with others in their place."""

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: int | Sequence[int],
        batch_axis: int | Sequence[int] | None,
    ) -> None:
        numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        if not all(-len(args) <= number < len(args) for number in numbers):
            raise ValueError(
                f"argnums={argnums} names an argument that is not there: fn was called with {len(args)} positional "
                "arguments; give the number of the one that holds the examples"
            )
        axes = list(batch_axis) if isinstance(batch_axis, Sequence) else [batch_axis or 0] * len(numbers)
        if len(axes) != len(numbers):
            raise ValueError(f"batch_axis={batch_axis} gives {len(axes)} axes for argnums={argnums}; give one for each")
        chosen = {number % len(args): axis for number, axis in zip(numbers, axes, strict=True)}
        self._leaves, self._tree = jax.tree.flatten((args, kwargs))
        owners = [number for number, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
        owners += [-1] * (len(self._leaves) - len(owners))
        self._traced = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in self._leaves]
        self.arrays = [jnp.asarray(leaf) for leaf, yes in zip(self._leaves, self._traced, strict=True) if yes]
        self.is_example = [owner in chosen for owner, yes in zip(owners, self._traced, strict=True) if yes]
        self._axes = [chosen.get(owner, 0) for owner, yes in zip(owners, self._traced, strict=True) if yes]
        if not any(self.is_example):
            raise ValueError(f"argnums={argnums}: no array there; give the number of the argument with the examples")

    def num_examples(self) -> int:
        """The size of the examples' axis of every example array."""
        found = [(array.shape, self._axes[i]) for i, array in enumerate(self.arrays) if self.is_example[i]]
        sizes = {shape[axis] if -len(shape) <= axis < len(shape) else None for shape, axis in found}
        (size, *others) = sizes
        if others or size is None:
            shapes, axes = [shape for shape, _ in found], sorted({axis for _, axis in found})
            raise ValueError(
                f"the example arguments have shapes {shapes}: each needs the same number of examples on its "
                f"batch_axis ({', '.join(map(str, axes))}); batch_axis=None takes the arguments as one example"
            )
        return size

    def trace(self, fn: Callable[..., Any], *, twice: bool) -> tuple[ClosedJaxpr, Any]:
        """The jaxpr of `fn` in its arrays, and the structure of its output.

        Args:
            fn: the function.
            twice: trace it for twice as many examples.
        """

        def call(*arrays: Any) -> Any:
            replacing = iter(arrays)
            leaves = [next(replacing) if yes else leaf for leaf, yes in zip(self._leaves, self._traced, strict=True)]
            args, kwargs = jax.tree.unflatten(self._tree, leaves)
            return fn(*args, **kwargs)

        avals = [jax.typeof(array) for array in self.arrays]
        if not twice:
            jaxpr, out = jax.make_jaxpr(call, return_shape=True)(*avals)
            return jaxpr, jax.tree.structure(out)
        avals = [
            _doubled(aval, axis) if yes else aval
            for aval, axis, yes in zip(avals, self._axes, self.is_example, strict=True)
        ]
        try:
            return jax.make_jaxpr(call)(*avals), None
        except Exception as error:
            first = self.is_example.index(True)
            raise ValueError(
                f"fn cannot be traced for {avals[first].shape[self._axes[first]]} examples, twice as many as given, so "
                f"it cannot be said which entries belong to which example: where another argument has an entry an "
                f"example too (a state), name it in argnums; else {ONE_BY_ONE}"
            ) from error


def _doubled(aval: Any, axis: int) -> Any:
    shape = list(aval.shape)
    shape[axis] = 2 * shape[axis] or 1
    return aval.update(shape=tuple(shape))


def _names(units: Sequence[Unit]) -> list[str]:
    """Scope (or else line) and kind of each unit; those that share it are numbered from the second on."""
    names = []
    count: dict[str, int] = {}
    for unit in units:
        name = f"{unit.path or unit.source or 'function'}/{unit.kind}"
        seen = count[name] = count.get(name, 0) + 1
        names.append(name if seen == 1 else f"{name}_{seen - 1}")
    return names


def _code(
    bits: Sequence[Bool[Array, "n ..."]], names: Sequence[str], units: Sequence[Unit], skipped: Any, n: int
) -> Code:
    layers = []
    start = 0
    for array, name, unit in zip(bits, names, units, strict=True):
        size = math.prod(array.shape[1:])
        layers.append(Layer(name, start, size, array.shape[1:], unit.source))
        start += size
    flat = [_whole(array).reshape(n, math.prod(array.shape[1:])) for array in bits]
    every = jnp.concatenate(flat, 1) if flat else jnp.zeros((n, 0), bool)
    return Code(pack(every), start, tuple(layers), skipped)


def _whole(bits: Bool[Array, "n *shape"]) -> Bool[Array, "n *shape"]:
    """On a mesh with explicit axes: each example's bits on one device, for layers sharded differently to be joined."""
    spec = jax.typeof(bits).sharding.spec
    return jax.reshard(bits, PartitionSpec(spec[0])) if any(part is not None for part in spec[1:]) else bits
