"""Sweeps of models of one's own: what is checked before, which axes share a program, and how members are trained.

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
from jaxhash.models.network import names_of
from jaxhash.runtime.devices import worker_count
from jaxhash.storage import checked_read, checkpoint
from jaxhash.sweeps import models
from jaxhash.sweeps.grid import NOISE, TAKEN, Coordinates, SweepConfig, Value
from jaxhash.sweeps.inputs import OnDevice
from jaxhash.sweeps.programs import Evaluated, FirstCalls, Hyper, Labels, Work, rows_to_measure
from jaxhash.sweeps.tasks import Task, cut_any, kinds, label
from jaxhash.training.mlp import TRACED
from jaxhash.training.trainable import Trainable, seen
from jaxhash.training.vmapped import OF_DATA, State, make_trainable

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


def plan(config: SweepConfig, data: Dataset) -> list[Task]:
    """Cut a grid into tasks, once every kind of model in it was traced.

    Raises:
        ValueError: if an axis is none that model, optimiser or recipe know; or a model cannot be made, traced, trained
            or looked at on this data.
    """
    check_axes(config)
    traced = [name for name, values in config.grid.items() if _may_be_traced(config, data, name, values)]
    for shared, members in kinds(config.grid, (*traced, NOISE)):
        check_model(config, shared, members[0], data)
    return cut_any(config, traced, worker_count())


def check_axes(config: SweepConfig) -> None:
    """Refuse axes that nobody knows.

    Raises:
        ValueError: naming those that there are.
    """
    network = config.network
    assert network is not None
    for name in config.grid:
        if name in (NOISE, *TAKEN) and name != "width":
            continue
        if name in OF_DATA or not network.takes(name):
            own = [*names_of(network.make), *(names_of(network.optimizer) if network.optimizer else ())]
            known = [one for one in own if one not in (*OF_DATA, "rngs", "key", "parent", "name")]
            recipe = [f.name for f in dataclasses.fields(config.train) if network.takes(f.name)]
            raise ValueError(
                f"grid: {name} is no argument of the model ({', '.join(known) or 'it has none'}) or its optimiser, and "
                f"not of the recipe ({', '.join(dict.fromkeys([NOISE, 'examples', *recipe]))})"
            )


def check_model(config: SweepConfig, shared: Mapping[str, Value], member: Mapping[str, Value], data: Dataset) -> None:
    """Trace a kind of model from its start to its codes.

    Raises:
        ValueError: if that fails, in a line that says where.
    """
    network = config.network
    assert network is not None
    at = ", ".join(f"{name}={value}" for name, value in {**shared, **member}.items())
    named = f"{network.name}({at})"
    hyper = {name: jax.ShapeDtypeStruct((2,), np.float32) for name in member if name != NOISE}
    trainable = _trainable(config, shared, data)
    batch = config.recipe(shared).batch_size
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    x = jax.ShapeDtypeStruct((2 * batch, data.features), np.float32)
    y = jax.ShapeDtypeStruct((2, 2 * batch, *data.y_train.shape[1:]), data.y_train.dtype)
    order, number = jax.ShapeDtypeStruct((2, 1, batch), np.int32), jax.ShapeDtypeStruct((), np.int32)

    def traced(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # whatever the user's code trips over
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ValueError(f"{named} {what} ({reason})") from error

    begin = jax.vmap(trainable.init, (0, 0, None))
    state = traced("cannot be initialised", partial(jax.eval_shape, begin), keys, hyper, x)
    trained = jax.eval_shape(trainable.trained_of, state)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (trained, hyper))
    outputs, code = traced("cannot be traced", partial(seen, trainable.look), *one, x)
    n, classes = 2 * batch, data.num_classes
    wanted = (n, classes) if classes else (n, *outputs.shape[1:])
    if outputs.shape != wanted:
        mend = f"return a logit for each of the {classes} classes" if classes else "return an output for each example"
        raise ValueError(f"{named} returns {list(outputs.shape)} for {n} examples of shape {list(data.shape)}; {mend}")
    if code.num_bits == 0 and (config.properties or config.random_inputs):
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in code.skipped) or "it has no ReLU-like activations"
        raise ValueError(f"{named} has no units to code ({reasons}); train it with properties=() all the same")
    train = jax.vmap(trainable.advance, (0, 0, 0, None, 0, 0, None, None))
    after = traced("cannot be trained", partial(jax.eval_shape, train), state, keys, order, x, y, hyper, number, number)
    if jax.tree.map(lambda a: (a.shape, a.dtype), after) != jax.tree.map(lambda a: (a.shape, a.dtype), state):
        raise ValueError(f"{named}: a training step changes the shapes or types of parameters or state")
    for name, metric in network.metrics_of(classes).items():
        of = jax.ShapeDtypeStruct(outputs.shape, outputs.dtype), jax.ShapeDtypeStruct(y.shape[1:], y.dtype)
        found = traced(f"has a metric {name} that fails", partial(jax.eval_shape, metric), *of)
        if not hasattr(found, "shape"):
            raise ValueError(f"{named}: metric {name} returns a {type(found).__name__}; return an array")


def _may_be_traced(config: SweepConfig, data: Dataset, name: str, values: tuple[Value, ...]) -> bool:
    """Whether a program can take values of an axis as an argument: found out by trying."""
    if name == NOISE or not isinstance(values[0], float):
        return False
    others: Coordinates = {axis: some[0] for axis, some in config.grid.items() if axis not in (name, NOISE)}
    if not (config.network and name in names_of(config.network.make)) and name in TRACED:
        return True
    try:
        check_model(config, others, {name: next((value for value in values if value != 0), values[0])}, data)
    except ValueError:
        return False
    return True


def _trainable(config: SweepConfig, shared: Mapping[str, Value], data: Dataset) -> Trainable:
    assert config.network is not None
    return make_trainable(config.network, config.train, shared, data.shape, data.num_classes)


def all_programs(config: SweepConfig, tasks: list[Task], data: Dataset, out: Path) -> dict[Task, "AnyPrograms"]:
    """What trains and evaluates each task; tasks of a kind share it."""
    notes = Notes(out)
    of_kind = {
        task.shared: AnyPrograms(config, _trainable(config, dict(task.shared), data), data, task, notes)
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
        jax.block_until_ready(run(1))
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
        n, coded = len(data.x), bool(self._config.properties or self._config.random_inputs)
        rows = rows_to_measure(max(task.examples, default=n), n)
        words = words_measured(rows, code.num_words)
        if not coded or fit_in_one_program(rows, words):
            yield self._together_evaluated(task, state, data, y, trained, rows, words if coded else 0, code.num_bits)
            return
        for i in range(len(task.members)):
            own = dataclasses.replace(task, members=task.members[i : i + 1])
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="codes-", dir=folder) as place:
                count = task.examples[i] if task.examples else n
                one = jax.tree.map(lambda a, i=i: a[i : i + 1], state)
                yield self._one_evaluated(own, one, data, y[i : i + 1], trained[i], count, code, Path(place))

    def _look_by_name(self, trained: dict[str, Any], hyper: Hyper, x: Array) -> tuple[Array, Code]:
        return self._trainable.look((trained["params"], trained["state"]), hyper, x)

    def _chunks(self, trained: Any, x: Array, bits: int, coded: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Outputs and words of some examples after the other; one program serves all."""
        size = models.at_once(bits)
        for start in range(0, len(x), size):
            some = x[start : start + size]
            filled = jnp.concatenate([some, jnp.zeros((min(size, len(x)) - len(some), x.shape[1]), x.dtype)])
            outputs, code = self._look(*trained, filled)
            yield np.asarray(outputs)[: len(some)], np.asarray(code.words)[: len(some)] if coded else np.zeros(0)

    def _numbers(self, side: str, outputs: np.ndarray, y: np.ndarray) -> dict[str, float]:
        return {f"{side}_{name}": float(metric(outputs, y)) for name, metric in self._metrics.items()}

    def _together_evaluated(
        self,
        task: Task,
        state: State,
        data: OnDevice,
        y: Labels,
        trained: list[Any],
        rows: int,
        words: int,
        bits: int,
    ) -> Evaluated:
        numbers: list[dict[str, float]] = []
        coded: dict[str, list[np.ndarray]] = {"train": [], "test": [], "random": []}
        host = data.host
        for i, one in enumerate(trained):
            count = task.examples[i] if task.examples else len(data.x)
            train = list(self._chunks(one, data.x[: max(rows, count)], bits, words > 0))
            test = list(self._chunks(one, data.test_x, bits, words > 0))
            numbers.append(
                self._numbers("train", _joined(train, 0)[:count], y[i, :count])
                | self._numbers("test", _joined(test, 0), host.y_test)
            )
            if words:
                coded["train"].append(_padded(_joined(train, 1)[:rows], words))
                coded["test"].append(_padded(_joined(test, 1), words))
                if data.random_x is not None:
                    random = list(self._chunks(one, data.random_x, bits, True))
                    coded["random"].append(_padded(_joined(random, 1), words))
        arrays = {name: jnp.asarray(np.stack(of)[:, None]) if of else None for name, of in coded.items()}
        return Evaluated(
            task,
            data,
            (bits,),
            {name: np.array([[one[name]] for one in numbers]) for name in numbers[0]},
            arrays["train"],
            arrays["test"],
            arrays["random"],
            np.asarray(state.diverged)[:, None],
            np.asarray(state.epochs)[:, None],
            _labels(y, host),
        )

    def _one_evaluated(
        self, task: Task, state: State, data: OnDevice, y: Labels, trained: Any, count: int, code: Code, place: Path
    ) -> Evaluated:
        found: dict[str, CodeFile | Array | None] = {"random": None}
        numbers: dict[str, float] = {}
        sides: dict[str, tuple[Array, np.ndarray | None]] = {
            "train": (data.x[:count], y[0, :count]),
            "test": (data.test_x, data.host.y_test),
        }
        if data.random_x is not None:
            sides["random"] = data.random_x, None
        for name, (x, labels) in sides.items():
            outputs = []
            in_file = len(x) * code.num_words * 4 > BYTES_IN_MEMORY
            kept: list[np.ndarray] = []
            path = place / f"{name}.npy"
            if in_file:
                with files.writing(path, len(x), code.num_bits, code.layers, code.skipped) as append:
                    for some, words in self._chunks(trained, x, code.num_bits, True):
                        append(words)
                        outputs.append(some)
                found[name] = files.load(path)
            else:
                for some, words in self._chunks(trained, x, code.num_bits, True):
                    kept.append(words)
                    outputs.append(some)
                found[name] = jnp.asarray(np.concatenate(kept)[None, None])
            if labels is not None:
                numbers |= self._numbers(name, np.concatenate(outputs), labels)
        return Evaluated(
            task,
            data,
            (code.num_bits,),
            {name: np.array([[value]]) for name, value in numbers.items()},
            found["train"],
            found["test"],
            found["random"],
            np.asarray(state.diverged)[:, None],
            np.asarray(state.epochs)[:, None],
            _labels(y, data.host),
        )


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], which: int) -> np.ndarray:
    return np.concatenate([part[which] for part in parts])


def _padded(words: np.ndarray, wanted: int) -> np.ndarray:
    return np.pad(words, ((0, 0), (0, wanted - words.shape[1])))


def _labels(y: Labels, data: Dataset) -> np.ndarray:
    """Classes; 0 of examples that have none."""
    return y if data.num_classes else np.zeros(y.shape[:2], np.int32)


def _memory(data: OnDevice) -> int:
    """Of the device, in bytes."""
    if data.place.on_cpu:
        return checked_read.memory_bytes()
    return int((data.place.devices[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30))
