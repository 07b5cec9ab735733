"""Run folder of a sweep: its configuration and tasks, and `load` of a trained model.

    runs/x/config.json    the sweep's configuration, how it was cut into tasks, digest of the data, versions
    runs/x/tasks/<name>/  a finished task, or a snapshot of one: its models (Orbax) and their ten numbers
    runs/x/partial/       where unfinished tasks stand; empty at the end
    runs/x/results.nc     all numbers, labelled by repeat, width, and what else the grid has; results.csv: the same,
                          one model a line
    runs/x/log.jsonl      what happened when (jaxhash/sweeps/log.py), added to line by line
    runs/x/.lock          who works in it now (jaxhash/storage/locks.py)

All but the last two are written whole or not at all.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxhash.codes.code import Code
from jaxhash.encoding import encode_with_output
from jaxhash.models.mlp import MLP, ModelConfig, build
from jaxhash.storage import checked_read, checkpoint, locks
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.training.evaluate import EXAMPLES_AT_A_TIME
from jaxhash.training.population import Block, Variables, init_block, split

CONFIG, TASKS, PARTIAL, RESULTS, TABLE = "config.json", "tasks", "partial", "results.nc", "results.csv"

_MOST = 2**31 - 1
"""Of anything that a configuration counts."""


class RunError(ValueError):
    """A run folder that cannot be used for what was asked."""


@dataclass(frozen=True)
class Task:
    """The models trained by one call: some repeats of the models of one block, on some sample sizes."""

    block: Block
    repeats: tuple[int, ...]
    examples: tuple[int, ...] = ()
    """The sample size of each of `repeats`, which names a repeat once for each; empty: all examples."""

    @property
    def name(self) -> str:
        """Name of the task's folder."""
        widths, repeats = self.block.widths, self.repeats
        name = f"repeats-{repeats[0]}-{repeats[-1]}_widths-{widths[0]}-{widths[-1]}"
        return f"{name}_examples-{self.examples[0]}-{self.examples[-1]}" if self.examples else name

    def folder(self, out: Path, epoch: int | None) -> Path:
        """Where its models are saved: at the end of training (None), or at the snapshot after some epoch."""
        return out / TASKS / (self.name if epoch is None else f"{self.name}_epoch-{epoch}")


@contextmanager
def opened(out: Path, description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Create the folder of a run, or continue it, alone: a second process that opens it is refused.

    Args:
        out: the folder.
        description: `config` and `data` say whose run this is and have to agree with what the folder holds; the
            rest is noted when the run begins, and given back as noted when it continues.

    Raises:
        RunError: if the folder belongs to something else. Nothing is overwritten.
        InUse: if another process works in it.
    """
    path = out / CONFIG
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give a folder as --out")
    if (
        out.is_dir()
        and not path.exists()
        and any(f.name not in locks.FILES and not checkpoint.is_draft(f) for f in out.iterdir())
    ):
        raise RunError(f"{out} holds files that are not a sweep's; give a new or empty folder as --out")
    out.mkdir(parents=True, exist_ok=True)
    with locks.held(out):
        if path.exists():
            description = noted(out, description)
            checkpoint.remove_drafts(out)
        else:
            checkpoint.write_text(path, json.dumps(description, indent=1))
        yield description


def noted(out: Path, description: dict[str, Any]) -> dict[str, Any]:
    """What a run noted when it began, once it was found to be the one described; arguments as of `opened`.

    Raises:
        RunError: if it is another.
    """
    there = read_description(out)
    differing = _differences(there, description, ("config", "data", "features", "classes"))
    if differing:
        raise RunError(
            f"{out} belongs to another configuration ({'; '.join(differing)}); nothing was changed. "
            "Give another --out, or delete the folder"
        )
    return there


def read_description(out: Path) -> dict[str, Any]:
    """What `config.json` says.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    try:
        description = checked_read.read_json(out / CONFIG)
        _ = description["config"], description["features"], description["classes"], description["tasks"]
    except FileNotFoundError:
        raise CheckpointError(f"{out / CONFIG}: missing; {out} is not the folder of a sweep") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 240, placeholder=" ...")
        raise CheckpointError(f"{out / CONFIG}: cannot be read ({reason}); restore it from a copy") from None
    return description


def tasks_of(description: dict[str, Any]) -> list[Task]:
    """The tasks that a run was cut into when it began.

    Raises:
        CheckpointError: if they are not the grid's, each model in one of them.
    """
    try:
        config = description["config"]
        _check_types(description, config)
        model = ModelConfig(**config["model"])
        tasks = [
            Task(
                Block(tuple(task["widths"]), model, description["features"], description["classes"]),
                tuple(task["repeats"]),
                tuple(task.get("examples", ())),
            )
            for task in description["tasks"]
        ]
        cut = [
            (repeat, size, width)
            for task in tasks
            for repeat, size in zip(task.repeats, task.examples or (None,) * len(task.repeats), strict=True)
            for width in task.block.widths
        ]
        sizes, widths = config["sample_sizes"] or [None], config["widths"]
        # Counted first: a grid may claim to be endless.
        if config["repeats"] * len(sizes) * len(widths) != len(cut) or Counter(cut) != Counter(
            itertools.product(range(config["repeats"]), sizes, widths)
        ):
            raise ValueError("the tasks are not the grid's")
        for width in widths:
            model.units(width)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{CONFIG}: does not describe a sweep ({error!r}); restore it from a copy") from None
    return tasks


def _check_types(description: dict[str, Any], config: dict[str, Any]) -> None:
    """Whether what is read of a description has the types that it was written with.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if not.
    """
    tasks = description["tasks"]
    lists = [config["widths"], config["sample_sizes"], config["snapshots"]]
    lists += [task[name] for task in tasks for name in ("widths", "repeats")] + [t.get("examples", []) for t in tasks]
    if not all(isinstance(numbers, list) for numbers in lists):
        raise TypeError("a list of numbers is none")
    counts = [description["features"], description["classes"], config["repeats"], config["train"]["epochs"]]
    counts += [*itertools.chain(*lists), config["model"]["depth"]]
    if wrong := [count for count in counts if type(count) is not int or not 0 <= count <= _MOST]:
        raise ValueError(f"{wrong[0]!r:.40} is no number of something")
    if type(config["model"]["batch_norm"]) is not bool or type(config["model"]["dropout"]) not in (int, float):
        raise TypeError("the model is none")


def identity(out: Path, task: Task, epoch: int | None) -> dict[str, Any]:
    """What a checkpoint says it is of, so that none is taken for another: the run, its models, and the snapshot.

    Raises:
        CheckpointError: as `read_description`.
    """
    changed = (out / CONFIG).stat().st_mtime_ns if (out / CONFIG).exists() else 0
    return {"run": _run_digest(out, changed), "task": task_as_json(task), "epoch": epoch}


def describe_task(out: Path, task: Task, path: Path, epoch: int | None) -> dict[str, Any]:
    """The description saved with a checkpoint of a task, once it was found to be that; `epoch` as of `identity`.

    Raises:
        CheckpointError: if it is missing, damaged, or of another run, task or snapshot.
    """
    description, expected = checkpoint.describe(path), identity(out, task, epoch)
    said = description.get("of")
    if said != expected:
        found = said if isinstance(said, dict) else {}
        differing = ", ".join(name for name in expected if found.get(name) != expected[name])
        raise CheckpointError(
            f"{path}: holds models of something else (another {differing}); "
            "delete this folder and run the same command again, or restore it from a copy"
        )
    return description


def task_as_json(task: Task) -> dict[str, Any]:
    """What `config.json` keeps of a task."""
    names = {"widths": list(task.block.widths), "repeats": list(task.repeats)}
    return names | ({"examples": list(task.examples)} if task.examples else {})


@dataclass(frozen=True)
class Model:
    """A trained network, taken out of a run."""

    module: MLP
    variables: Variables
    """Flax variables: `module.apply(variables, x)` gives logits and pre-activations."""
    features: int

    def apply(self, x: np.ndarray | Array) -> Float[Array, "n classes"]:
        """Logits of inputs `[n, features]` (or images, which are flattened), in inference mode."""
        return jnp.concatenate([logits for logits, _ in self._stream(x)])

    def codes(self, x: np.ndarray | Array) -> Code:
        """Neural codes of inputs `[n, features]` (or images, which are flattened), packed."""
        parts = [code for _, code in self._stream(x)]
        return parts[0].replace(words=jnp.concatenate([code.words for code in parts]))

    def _stream(self, x: np.ndarray | Array) -> Iterator[tuple[Array, Code]]:
        x = np.asarray(x, np.float32)
        x = x.reshape(len(x), math.prod(x.shape[1:]))
        if x.shape[1] != self.features:
            raise ValueError(f"x has {x.shape[1]} features an example, but this model was trained on {self.features}")
        for start in range(0, max(len(x), 1), EXAMPLES_AT_A_TIME):
            yield _logits_and_code(self.module, self.variables, jnp.asarray(x[start : start + EXAMPLES_AT_A_TIME]))


def load(run: str | Path, *, width: int, repeat: int, examples: int | None = None, epoch: int | None = None) -> Model:
    """One model of a sweep, by its coordinates.

    Args:
        run: the folder of the sweep, finished or not.
        width: total number of hidden units.
        repeat: number of the repeat, from 0.
        examples: sample size it was trained on; by default the largest of the sweep.
        epoch: snapshot; by default the last.

    Raises:
        CheckpointError: if the run or the model's checkpoint is missing or damaged.
        KeyError: if the sweep has no such model; the message names those it has.
    """
    out = Path(run)
    description = read_description(out)
    tasks = tasks_of(description)
    sizes = sorted({size for task in tasks for size in task.examples})
    snapshots = sorted(description["config"]["snapshots"])
    examples = sizes[-1] if examples is None and sizes else examples
    epoch = snapshots[-1] if epoch is None and snapshots else epoch
    for task in tasks:
        members = list(zip(task.repeats, task.examples or (None,) * len(task.repeats), strict=True))
        if width in task.block.widths and (repeat, examples) in members and (epoch is None or epoch in snapshots):
            break
    else:
        asked = {"width": width, "repeat": repeat, "examples": examples, "epoch": epoch}
        there = [
            f"widths {sorted({w for t in tasks for w in t.block.widths})}",
            f"repeats 0 to {max(r for t in tasks for r in t.repeats)}",
            f"examples {sizes or 'all'}",
            f"epochs {snapshots or 'the last'}",
        ]
        wanted = ", ".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        raise KeyError(f"no model of {wanted} in {out}: {', '.join(there)}")
    path = task.folder(out, epoch)
    if not path.exists():
        raise CheckpointError(f"{path}: not trained yet; run the sweep's command again to continue it")
    describe_task(out, task, path, epoch)
    at = members.index((repeat, examples))
    params, stats = jax.tree.map(lambda a: a[at], checkpoint.restore(path, abstract_models(task)))
    variables = split(task.block, params, stats)[task.block.widths.index(width)]
    return Model(build(task.block.model, width, task.block.classes), variables, task.block.features)


def abstract_models(task: Task) -> Any:
    """Shapes and dtypes of what a finished task saves: parameters and statistics, repeats first."""
    one = jax.eval_shape(partial(init_block, task.block), jax.eval_shape(lambda: jax.random.key(0)))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((len(task.repeats), *a.shape), a.dtype), one)


@lru_cache(maxsize=8)  # every task asks, and a configuration names all tasks
def _run_digest(out: Path, changed: int) -> str:
    """Of whose run this is; `changed` is when that was written."""
    description = read_description(out)
    run = {name: description.get(name) for name in ("config", "data")}
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


@partial(jax.jit, static_argnums=0)
def _logits_and_code(
    module: MLP, variables: Variables, x: Float[Array, "n features"]
) -> tuple[Float[Array, "n classes"], Code]:
    def logits(x: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        result: Any = module.apply(variables, x)
        return result[0]

    return encode_with_output(logits)(x)


def _differences(noted: dict[str, Any], wanted: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    """The entries in which two descriptions differ, each as text."""
    found = []
    for key in keys:
        a, b = _flat(key, noted.get(key)), _flat(key, json.loads(json.dumps(wanted.get(key))))
        found += [f"{k}: {a.get(k)} there, {b.get(k)} here" for k in sorted(a | b) if a.get(k) != b.get(k)]
    return [text.removeprefix("config.") for text in found]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in _flat(f"{prefix}.{key}", inner).items()}


def as_json(config: Any) -> dict[str, Any]:
    """A configuration (nested frozen dataclasses) as plain JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
