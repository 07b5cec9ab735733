"""Programs of models of one's own: how the members of a task are trained side by side, and looked at.

Members of a task are trained in one of four ways. Which is fastest depends on the model, the device and the compiler,
so each kind of model is timed on its first steps, and what was fastest is noted in `execution.json`:

    vmap    all members in one array program
    map     a program that takes some of them after the other, a few in one array program each
    scan    a program for one member, all steps of an epoch in it, called for each member
    loop    a program for one step of one member, called for each
"""

import dataclasses
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxhash.codes import files
from jaxhash.codes.batched import fit_in_one_program
from jaxhash.codes.code import Code
from jaxhash.codes.files import CodeFile
from jaxhash.codes.properties import words_measured
from jaxhash.data import Dataset
from jaxhash.runtime.devices import worker_count
from jaxhash.storage import checked_read, checkpoint
from jaxhash.sweeps import models
from jaxhash.sweeps.grid import SweepConfig, Value
from jaxhash.sweeps.inputs import OnDevice
from jaxhash.sweeps.programs import Evaluated, FirstCalls, Hyper, Labels, Work, rows_to_measure
from jaxhash.sweeps.tasks import Task, label
from jaxhash.training.trainable import Trainable, seen
from jaxhash.training.vmapped import State, make_trainable

EXECUTION = "execution.json"
"""In the folder of a run: how each kind of model is trained, and what was timed."""
MODES = ("loop", "vmap", "scan", "map")
"""In the order in which they are timed."""
_MOST_TRIALS = 90.0
"""Seconds, compiling included, after which no further way is tried."""
_TRIAL_SECONDS = 0.2
"""Of a mode: steps are doubled until they take as long."""
_CHUNKS = 4
"""Parts into which `map` cuts the members of a task."""
_MEMORY_SHARE = 0.5
"""Of the memory that all members in one program may take, on all workers together."""
BYTES_IN_MEMORY = 2**27
"""Codes of one model that take more are written to a file."""


def trainable_of(config: SweepConfig, shared: Mapping[str, Value], data: Dataset) -> Trainable:
    """What trains models of one's own that have these coordinates in common."""
    assert config.network is not None
    return make_trainable(config.network, config.train, shared, data.shape, data.num_classes)


def all_programs(config: SweepConfig, tasks: list[Task], data: Dataset, out: Path) -> dict[Task, "AnyPrograms"]:
    """What trains and evaluates each task; tasks of a kind share it."""
    notes = Notes(out)
    of_kind = {
        task.shared: AnyPrograms(config, trainable_of(config, dict(task.shared), data), data, task, notes)
        for task in tasks
    }
    return {task: of_kind[task.shared] for task in tasks}


class Notes:
    """`execution.json` of a run: how each kind of model is trained."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._lock = threading.Lock()

    def of(self, kind: str) -> dict[str, Any] | None:
        """What is noted of a kind; None if nothing is."""
        try:
            found = checked_read.read_json(self.out / EXECUTION).get(kind)
        except (FileNotFoundError, AttributeError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("mode") in MODES else None

    def note(self, kind: str, said: dict[str, Any]) -> None:
        """Add it."""
        with self._lock:
            try:
                there = checked_read.read_json(self.out / EXECUTION)
            except (FileNotFoundError, ValueError):
                there = {}
            checkpoint.write_text(self.out / EXECUTION, json.dumps({**there, kind: said}, indent=1))


class AnyPrograms:
    """The programs of a kind of model, compiled when first used."""

    def __init__(self, config: SweepConfig, trainable: Trainable, data: Dataset, task: Task, notes: Notes) -> None:
        self._config, self._trainable, self._kind, self._notes = config, trainable, label(task.shared) or "all", notes
        self._mode: str | None = None
        self._together = -(-len(task.members) // _CHUNKS)
        self._lock, self._first_calls = threading.Lock(), FirstCalls()
        advance, init = trainable.advance, trainable.init
        axes = (0, 0, 0, None, 0, 0, None, None)
        self._init = jax.jit(jax.vmap(init, (0, 0, None)))
        self._vmap = jax.jit(jax.vmap(advance, axes))
        self._compiled: dict[Any, Any] = {}
        self._map = jax.jit(self._in_chunks)
        self._scan = jax.jit(advance)
        self._step = jax.jit(trainable.step)
        self._look = jax.jit(trainable.look)
        network = config.network
        assert network is not None
        self._metrics = {
            name: jax.jit(lambda outputs, y, of=of: jnp.mean(of(outputs, y)))
            for name, of in network.metrics_of(data.num_classes).items()
        }

    def start(self, keys: Array, hyper: Hyper, data: OnDevice) -> State:
        """Freshly initialised models."""
        return self._init(keys, hyper, data.x[:1])

    def train(
        self, state: State, work: Work, order: Array | np.ndarray, data: OnDevice, go_on: Callable[[], None]
    ) -> tuple[State, Float[Array, " members"]]:
        """Train for an epoch; also the losses. The state given stays as it is, `go_on` may raise in between."""
        if self._mode is None:
            with self._lock:
                if self._mode is None:
                    self._mode = self._chosen(state, work, order, data)
        state = self._advance(self._mode, state, work, order, data, order.shape[1], go_on)
        return state, state.loss

    def _advance(
        self,
        mode: str,
        state: State,
        work: Work,
        order: Array | np.ndarray,
        data: OnDevice,
        steps: int,
        go_on: Callable[[], None],
    ) -> State:
        """The first steps of an epoch."""
        first, last = np.int32(0), np.int32(steps)
        if mode in ("vmap", "map"):
            arguments = state, work.keys, order, data.x, work.y, work.hyper, first, last
            with self._first_calls.of((mode, order.shape, data.place)):
                return (self._vmapped(arguments, data) if mode == "vmap" else self._map)(*arguments)
        members = []
        for i in range(len(order)):
            own, key, rows, y, hyper = jax.tree.map(lambda a, i=i: a[i], (state, work.keys, order, work.y, work.hyper))
            go_on()
            with self._first_calls.of((mode, order.shape, data.place)):
                if mode == "scan":
                    own = self._scan(own, key, rows, data.x, y, hyper, first, last)
                else:
                    for number in range(steps):
                        own = self._step(own, key, rows, data.x, y, hyper, np.int32(number))
                        # A step under way is waited for, so that Ctrl-C is heard.
                        if number % 8 == 7:
                            jax.block_until_ready(own.step)
                            go_on()
            members.append(own)
        return jax.tree.map(lambda *a: jnp.stack(a), *members)

    def _vmapped(self, arguments: tuple[Any, ...], data: OnDevice) -> Any:
        """The program of all members, compiled once for so many of them."""
        key = arguments[2].shape, data.place
        if key not in self._compiled:
            self._compiled[key] = self._vmap.lower(*arguments).compile()
        return self._compiled[key]

    def _in_chunks(
        self, state: State, keys: Array, order: Array, x: Array, y: Array, hyper: Hyper, first: Array, last: Array
    ) -> State:
        def one(of: tuple[Any, ...]) -> State:
            state, key, order, y, hyper = of
            return self._trainable.advance(state, key, order, x, y, hyper, first, last)

        found: State = jax.lax.map(one, (state, keys, order, y, hyper), batch_size=self._together)
        return found

    def _chosen(self, state: State, work: Work, order: Array | np.ndarray, data: OnDevice) -> str:
        """The mode that is set, noted, or the fastest on the first steps."""
        if self._config.execution != "auto":
            return self._config.execution
        noted = self._notes.of(self._kind)
        if noted is not None:
            return str(noted["mode"])
        seconds: dict[str, float] = {}
        needs, began = 0, time.monotonic()
        for mode in MODES if len(order) > 1 else ("loop", "scan"):
            if seconds and time.monotonic() - began > _MOST_TRIALS:
                break
            if mode == "vmap":
                needs = self._bytes(state, work, order, data)
                if needs > _memory(data) * _MEMORY_SHARE / worker_count():
                    continue
            seconds[mode] = self._timed(mode, state, work, order, data)
        mode = min(seconds, key=lambda mode: seconds[mode])
        each = {mode: round(1e6 * value, 1) for mode, value in seconds.items()}
        self._notes.note(
            self._kind,
            {"mode": mode, "members": len(order), "microseconds of a step of a model": each, "bytes of vmap": needs},
        )
        return mode

    def _timed(self, mode: str, state: State, work: Work, order: Array | np.ndarray, data: OnDevice) -> float:
        """Seconds of a step of a model."""
        members, most = order.shape[:2]
        run = partial(self._advance, mode, state, work, order, data, go_on=lambda: None)
        # The second step may compile anew: what the first gives is committed to a device.
        jax.block_until_ready(run(min(2, most)))
        steps = 1
        while True:
            start = time.perf_counter()
            jax.block_until_ready(run(steps))
            seconds = time.perf_counter() - start
            if seconds > _TRIAL_SECONDS or steps == most:
                return seconds / (steps * members)
            steps = min(2 * steps, most)

    def _bytes(self, state: State, work: Work, order: Array | np.ndarray, data: OnDevice) -> int:
        """What all members in one program take, as XLA plans it."""
        arguments = state, work.keys, order, data.x, work.y, work.hyper, np.int32(0), np.int32(0)
        needs = self._vmapped(arguments, data).memory_analysis()
        return int(needs.output_size_in_bytes + needs.temp_size_in_bytes) if needs is not None else 0

    def trained(self, state: State) -> Any:
        """What is saved of trained models: arrays by name."""
        params, rest = self._trainable.trained_of(state)
        return models.by_path({"params": params, "state": rest})

    def looked_at(self, task: Task, state: State, data: OnDevice, y: Labels, folder: Path) -> Iterator[Evaluated]:
        """What the models make of the data: all at once, or one after the other where codes are long."""
        hyper = {name: jnp.asarray(values) for name, values in task.hyper().items()}
        trained = [
            jax.tree.map(lambda a, i=i: a[i], (self._trainable.trained_of(state), hyper))
            for i in range(len(task.members))
        ]
        _, code = seen(self._trainable.look, *trained[0], data.x[:2])
        arrays = dict(zip(("params", "state"), jax.eval_shape(lambda: trained[0][0]), strict=True))
        models.save_program(self._notes.out, task, self._look_by_name, arrays, tuple(hyper), data.host.shape, code)
        n = len(data.x)
        counts = task.examples or (n,) * len(task.members)
        rows = rows_to_measure(max(counts), n)
        words = words_measured(rows, code.num_words)
        coded = bool(self._config.properties or self._config.random_inputs)
        if not coded or fit_in_one_program(rows, words):
            found = [
                self._seen_by(one, data, y[i, :count], max(rows, count), code if coded else None)
                for i, (one, count) in enumerate(zip(trained, counts, strict=True))
            ]
            codes = {
                name: jnp.asarray(np.stack([_padded(of[1][name], words) for of in found])[:, None])
                for name in found[0][1]
            }
            codes |= {"train": codes["train"][:, :, :rows]} if coded else {}
            yield _evaluated(task, state, data, y, code.num_bits, [numbers for numbers, _ in found], codes)
            return
        for i, count in enumerate(counts):
            own = dataclasses.replace(task, members=task.members[i : i + 1])
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="codes-", dir=folder) as place:
                numbers, of_one = self._seen_by(trained[i], data, y[i, :count], count, code, Path(place))
                alone = {
                    name: of if isinstance(of, CodeFile) else jnp.asarray(of)[None, None] for name, of in of_one.items()
                }
                state_of_one = jax.tree.map(lambda a, i=i: a[i : i + 1], state)
                yield _evaluated(own, state_of_one, data, y[i : i + 1], code.num_bits, [numbers], alone)

    def _look_by_name(self, trained: dict[str, Any], hyper: Hyper, x: Array) -> tuple[Array, Code]:
        return self._trainable.look((trained["params"], trained["state"]), hyper, x)

    def _chunks(self, trained: Any, x: Array, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Outputs and words of some examples after the other; one program serves all."""
        size = models.at_once(bits)
        for start in range(0, len(x), size):
            some = x[start : start + size]
            filled = jnp.concatenate([some, jnp.zeros((min(size, len(x)) - len(some), x.shape[1]), x.dtype)])
            outputs, code = self._look(*trained, filled)
            yield np.asarray(outputs)[: len(some)], np.asarray(code.words)[: len(some)]

    def _seen_by(
        self, trained: Any, data: OnDevice, y: np.ndarray, rows: int, code: Code | None, folder: Path | None = None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """What a model makes of the data: metrics, and words of codes, or files of them in the folder if they are long.

        Args:
            trained: the model.
            data: the data.
            y: labels of the training examples that it was trained on, the first ones.
            rows: so many training examples are coded.
            code: what its codes are; None: they are not wanted.
            folder: None keeps all codes in memory.
        """
        numbers: dict[str, float] = {}
        codes: dict[str, Any] = {}
        sides = {"train": (data.x[:rows], y), "test": (data.test_x, data.host.y_test)}
        if data.random_x is not None:
            sides["random"] = data.random_x, y[:0]
        for name, (x, labels) in sides.items():
            outputs: list[np.ndarray] = []
            words: list[np.ndarray] = []
            with ExitStack() as stack:
                keep: Callable[[np.ndarray], None] = words.append
                path = None
                if code is not None and folder is not None and len(x) * code.num_words * 4 > BYTES_IN_MEMORY:
                    path = folder / f"{name}.npy"
                    keep = stack.enter_context(files.writing(path, len(x), code.num_bits, code.layers, code.skipped))
                for some, of_some in self._chunks(trained, x, 0 if code is None else code.num_bits):
                    outputs.append(some)
                    keep(of_some)
            if code is not None:
                codes[name] = np.concatenate(words) if path is None else files.load(path)
            if len(labels):
                made = np.concatenate(outputs)[: len(labels)]
                numbers |= {f"{name}_{of}": float(metric(made, labels)) for of, metric in self._metrics.items()}
        return numbers, codes


def _evaluated(
    task: Task,
    state: State,
    data: OnDevice,
    y: Labels,
    bits: int,
    numbers: list[dict[str, float]],
    codes: dict[str, Any],
) -> Evaluated:
    return Evaluated(
        task,
        data,
        (bits,),
        {name: np.array([[one[name]] for one in numbers]) for name in numbers[0]},
        codes.get("train"),
        codes.get("test"),
        codes.get("random"),
        np.asarray(state.diverged)[:, None],
        np.asarray(state.epochs)[:, None],
        # 0 of examples that have no classes.
        y if data.host.num_classes else np.zeros(y.shape[:2], np.int32),
    )


def _padded(words: np.ndarray, wanted: int) -> np.ndarray:
    return np.pad(words, ((0, 0), (0, wanted - words.shape[1])))


def _memory(data: OnDevice) -> int:
    """Of the device, in bytes."""
    if data.place.on_cpu:
        return checked_read.memory_bytes()
    return int((data.place.devices[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30))
