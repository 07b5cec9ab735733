"""Models of a sweep, loaded by their coordinates: `load`.

Of the study's MLPs a model is a Flax module and its variables. A model of one's own is run by the compiled function
that the sweep has saved beside it: no code of anybody is imported.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxhash.codes.code import Code
from jaxhash.codes.files import described, description_of
from jaxhash.encoding import encode_with_output
from jaxhash.models.mlp import MLP, build
from jaxhash.storage import checked_read, checkpoint, program
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import folder
from jaxhash.sweeps.grid import Coordinates, Value
from jaxhash.sweeps.tasks import Task, label
from jaxhash.training.evaluate import EXAMPLES_AT_A_TIME
from jaxhash.training.population import Block, Variables, init_block, split

FUNCTION, META = "stablehlo", "json"
"""Endings of the files of a compiled function."""
_MOST_ACTIVATION_BYTES = 2**28

Run = Callable[[Float[Array, "n ..."]], tuple[Float[Array, "n ..."], Code]]
"""Examples, at most `at_once` of them, to outputs and codes."""


@dataclass(frozen=True)
class Model:
    """A trained network, taken out of a run."""

    module: MLP | None
    """The Flax module: `module.apply(variables, x)` gives logits and pre-activations. None of a model of one's own."""
    variables: Variables
    """Of MLPs Flax variables. Else `params` and `state`, nested dictionaries by the names that the model has."""
    shape: tuple[int, ...]
    """Of an example."""
    run: Run
    at_once: int = EXAMPLES_AT_A_TIME

    @property
    def features(self) -> int:
        """Numbers of an example."""
        return math.prod(self.shape)

    def apply(self, x: np.ndarray | Array) -> Float[Array, "n classes"]:
        """Outputs of examples `[n, ...]` (as rows, or in their own shape), in inference mode."""
        return jnp.concatenate([logits for logits, _ in self.stream(x)])

    def codes(self, x: np.ndarray | Array) -> Code:
        """Neural codes of examples `[n, ...]` (as rows, or in their own shape), packed."""
        parts = [code for _, code in self.stream(x)]
        return parts[0].replace(words=jnp.concatenate([code.words for code in parts]))

    def stream(self, x: np.ndarray | Array) -> Iterator[tuple[Array, Code]]:
        """Outputs and codes of some examples after the other.

        Raises:
            ValueError: if they are not of the size that the model was trained on.
        """
        x = np.asarray(x, np.float32)
        if math.prod(x.shape[1:]) != self.features:
            raise ValueError(
                f"x has {math.prod(x.shape[1:])} features an example, but this model was trained on {self.features}"
            )
        x = x.reshape(len(x), *self.shape)
        for start in range(0, max(len(x), 1), self.at_once):
            yield self.run(jnp.asarray(x[start : start + self.at_once]))


def load(run: str | Path, *, epoch: int | None = None, **coordinates: Value) -> Model:
    """One model of a sweep, by its coordinates.

    Args:
        run: the folder of the sweep, finished or not.
        epoch: snapshot; by default the last.
        coordinates: its place on each axis of the grid: `repeat`, `width`, what else the sweep has. An axis of one
            value can be left out; so can `examples`, which is then the largest sample size.

    Raises:
        CheckpointError: if the run or the model's checkpoint is missing or damaged.
        KeyError: if the sweep has no such model; the message names those it has.

    Cost: reads all models that were trained in one task with it.
    """
    out = Path(run)
    description = folder.read_description(out)
    tasks, axes = folder.tasks_of(description), folder.axes_of(description)
    snapshots = tuple(sorted(description["config"]["snapshots"]))
    asked = _asked(out, coordinates, axes)
    epoch = snapshots[-1] if epoch is None and snapshots else epoch
    if epoch is not None and epoch not in snapshots:
        raise KeyError(f"no model of epoch={epoch} in {out}: epochs {snapshots or 'the last'}")
    places = ((task, i, m) for task in tasks for i in range(len(task.members)) for m in range(task.columns))
    task, i, m = next(place for place in places if place[0].coordinates(*place[1:]) == asked)
    path = task.folder(out, epoch)
    if not path.exists():
        raise CheckpointError(f"{path}: not trained yet; run the sweep's command again to continue it")
    folder.describe_task(out, task, path, epoch)
    if description["config"]["network"] is not None:
        return _of_program(out, task, path, i)
    block = block_of_description(description, task)
    params, stats = jax.tree.map(lambda a: a[i], checkpoint.restore(path, abstract_models(block, len(task.members))))
    variables = split(block, params, stats)[m]
    module = build(block.model, task.widths[m], block.classes)
    return Model(module, variables, (block.features,), partial(_logits_and_code, module, variables))


def _asked(out: Path, given: Mapping[str, Value], axes: Mapping[str, Sequence[Value]]) -> Coordinates:
    """All coordinates of a model, once there is one of these."""
    asked: Coordinates = {}
    there = ", ".join(
        f"{name}s 0 to {values[-1]}" if name == "repeat" else f"{name} {', '.join(map(str, values))}"
        for name, values in axes.items()
    )
    for name, values in axes.items():
        if name in given:
            asked[name] = given[name]
        elif len(values) == 1 or name == "examples":
            asked[name] = values[-1]
        else:
            raise KeyError(f"no {name} given; {out} has {there}")
    wanted = ", ".join(f"{name}={value}" for name, value in given.items())
    if not given.keys() <= axes.keys() or any(asked[name] not in values for name, values in axes.items()):
        raise KeyError(f"no model of {wanted} in {out}: {there}")
    return asked


def block_of_description(description: dict[str, Any], task: Task) -> Block:
    """The MLPs of a task of a run."""
    model = folder.model_config(description, task)
    return Block(task.widths, model, description["features"], description["classes"])


def abstract_models(block: Block, members: int) -> Any:
    """Shapes and dtypes of what a finished task of MLPs saves: parameters and statistics, members first."""
    one = jax.eval_shape(partial(init_block, block), jax.eval_shape(lambda: jax.random.key(0)))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((members, *a.shape), a.dtype), one)


@partial(jax.jit, static_argnums=0)
def _logits_and_code(
    module: MLP, variables: Variables, x: Float[Array, "n features"]
) -> tuple[Float[Array, "n classes"], Code]:
    def logits(x: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        result: Any = module.apply(variables, x)
        return result[0]

    return encode_with_output(logits)(x)


def at_once(bits: int) -> int:
    """How many examples are looked at together: their pre-activations take a bounded memory."""
    return max(min(EXAMPLES_AT_A_TIME, _MOST_ACTIVATION_BYTES // (4 * max(bits, 1))), 1)


def by_path(trained: Any) -> dict[str, Any]:
    """The arrays of a pytree by the names that lead to them, "/" between; as a checkpoint has them."""
    leaves = jax.tree_util.tree_leaves_with_path(trained)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def save_program(
    out: Path,
    task: Task,
    look: Callable[..., tuple[Array, Code]],
    trained: Any,
    hyper: tuple[str, ...],
    shape: tuple[int, ...],
    code: Code,
) -> None:
    """Save what runs models of one's own, of which `trained` are abstract arrays, and `code` is an abstract code.

    Raises:
        OSError: if it cannot be written.
    """
    if _program(out, task, META).exists():
        return
    arrays = by_path(trained)
    leaves, tree = jax.tree.flatten(trained)
    n = at_once(code.num_bits)

    def function(leaves: list[Array], hyper: dict[str, Array], x: Array) -> tuple[Array, Array]:
        outputs, found = look(jax.tree.unflatten(tree, leaves), hyper, x)
        return outputs, found.words

    shapes = (
        leaves,
        {name: jax.ShapeDtypeStruct((), np.float32) for name in hyper},
        jax.ShapeDtypeStruct((n, *shape), np.float32),
    )
    try:
        content = program.write(function, *shapes)
    except Exception:  # something in it is made for this machine only
        content = program.write(function, *shapes, platforms=(jax.default_backend(),))
    paths = jax.tree_util.tree_leaves_with_path(trained)
    meta = {
        "arrays": [[name, list(leaf.shape), str(leaf.dtype)] for name, leaf in arrays.items()],
        "keys": [[jax.tree_util.keystr((key,), simple=True) for key in path] for path, _ in paths],
        "hyper": list(hyper),
        "shape": list(shape),
        "examples": n,
        "code": description_of(code),
    }
    (out / folder.PROGRAMS).mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(_program(out, task, FUNCTION), content)
    checkpoint.write_text(_program(out, task, META), json.dumps(meta, indent=1))


def _program(out: Path, task: Task, ending: str) -> Path:
    return out / folder.PROGRAMS / f"{label(task.shared) or 'all'}.{ending}"


def _of_program(out: Path, task: Task, path: Path, i: int) -> Model:
    """A model of one's own."""
    file = _program(out, task, META)
    try:
        meta = checked_read.read_json(file)
        n, shape = int(meta["examples"]), tuple(meta["shape"])
        members = len(task.members)
        like = {name: checkpoint.abstract((members, *size), kind) for name, size, kind in meta["arrays"]}
        code = described(meta["code"])
        hyper = {name: jnp.float32(dict(task.members[i])[name]) for name in meta["hyper"]}
        content = checked_read.read(_program(out, task, FUNCTION), checked_read.most_bytes_of_json())
        function = jax.jit(program.read(content))
        arrays = checkpoint.restore(path, like)
        leaves = [arrays[name][i] for name in like]
        variables = _nested(meta["keys"], leaves)
    except CheckpointError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CheckpointError(f"{file}: cannot be read ({reason}); run the sweep's command again") from None

    def run(x: Array) -> tuple[Array, Code]:
        filled = jnp.concatenate([x, jnp.zeros((n - len(x), *shape), x.dtype)])
        outputs, words = function(leaves, hyper, filled)
        return outputs[: len(x)], code.replace(words=words[: len(x)])

    return Model(None, variables, shape, run, n)


def _nested(paths: list[list[str]], leaves: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        at = found
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = leaf
    return found
