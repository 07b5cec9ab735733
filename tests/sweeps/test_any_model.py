"""Sweeps of models of one's own: each beside a plain Flax and Optax loop on the same keys; resumed, loaded, refused."""

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from flax import nnx

import jaxhash
from jaxhash.codes import Property
from jaxhash.data import Dataset
from jaxhash.runtime.streams import Stream, stream_key
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import any_model, engine
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Interrupted
from jaxhash.training.mlp import epoch_order
from jaxhash.training.vmapped import RECIPE, ModelSpec
from tests.sweeps.own_models import (
    BATCH,
    DATA,
    IMAGES,
    Conv,
    OfEquinox,
    OfNnx,
    Residual,
    Transformer,
    momentum,
    of_haiku,
    pair,
    without_units,
)

ROOT = Path(__file__).parents[2]
RATES, REPEATS, EPOCHS = (1e-3, 1e-2), 2, 3
TIMED = {"repeats": REPEATS, "epochs": EPOCHS, "batch_size": BATCH}
TOLD = TIMED | {"execution": "vmap"}
REDUNDANCY = {"properties": ("redundancy",)}


def plain_loop(module, arrays, learning_rate, repeat, told):
    """What one would write for one model: Flax and Optax, step by step."""
    data = Dataset.from_arrays(*arrays)
    x, y = jnp.asarray(data.x_train.reshape(-1, *arrays[0].shape[1:])), jnp.asarray(data.y_train)
    key = jax.random.fold_in(jax.random.key(0), repeat)
    init = stream_key(key, Stream.INIT)
    variables = module.init({"params": init, "dropout": init}, x[:1], **told(False))
    params, stats = variables["params"], variables.get("batch_stats")
    optimizer = momentum(learning_rate)
    state, step = optimizer.init(params), 0

    @jax.jit
    def train_step(params, stats, state, step, batch):
        def loss(params):
            given = {"params": params} | ({} if stats is None else {"batch_stats": stats})
            rngs = {"dropout": stream_key(key, Stream.DROPOUT, step)}
            logits, updated = module.apply(given, x[batch], rngs=rngs, mutable=["batch_stats"], **told(True))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y[batch])
            return losses.mean(), updated.get("batch_stats")

        (_, new), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), new, state

    for epoch in range(EPOCHS):
        for batch in epoch_order(key, epoch, len(x), BATCH):
            params, stats, state = train_step(params, stats, state, step, batch)
            step += 1
    given = {"params": params} | ({} if stats is None else {"batch_stats": stats})
    return params, lambda x: module.apply(given, x, **told(False))


def deterministic(train):
    return {"deterministic": not train}


def train_flag(train):
    return {"train": train}


def nothing(train):
    return {}


CASES = {
    "residual": (Residual, DATA, deterministic),
    "conv": (Conv, IMAGES, train_flag),
    "transformer": (Transformer, DATA, nothing),
}


@pytest.mark.parametrize("mode", ["vmap", "map", "scan", "loop"])
@pytest.mark.parametrize("name", CASES)
def test_each_model_is_that_of_a_plain_loop(tmp_path, name, mode):
    make, arrays, told = CASES[name]
    if name == "transformer" and mode in ("map", "scan"):
        pytest.skip("two ways are enough")
    grid = {"learning_rate": RATES}
    results = jaxhash.sweep(
        make, arrays, grid=grid, optimizer=momentum, out=tmp_path / "x", **TIMED, execution=mode, **REDUNDANCY
    )
    assert results["test_accuracy"].dims == ("repeat", "learning_rate")
    assert results["test_accuracy"].mean() > 0.4
    x_test, y_test = arrays[2], arrays[3]
    for rate in RATES:
        params, apply = plain_loop(make(), arrays, rate, 1, told)
        model = jaxhash.load(tmp_path / "x", learning_rate=rate, repeat=1)
        for ours, theirs in zip(jax.tree.leaves(model.variables["params"]), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(model.apply(x_test), apply(x_test), rtol=1e-3, atol=1e-4)
        hits = (np.asarray(apply(x_test)).argmax(1) == y_test).mean()
        assert abs(float(results["test_accuracy"].sel(learning_rate=rate, repeat=1)) - hits) <= 0.02
        code = jaxhash.encode(apply)(x_test)
        ours = model.codes(x_test)
        assert (ours.num_bits, [layer.name for layer in ours.layers]) == (
            code.num_bits,
            [layer.name for layer in code.layers],
        )
        apart = np.bitwise_count(np.asarray(ours.words) ^ np.asarray(code.words)).sum() / (len(x_test) * code.num_bits)
        assert apart < 0.005  # signs of what is 0 up to rounding
        distinct = len(np.unique(np.asarray(ours.words), axis=0))
        assert float(results["test_redundancy"].sel(learning_rate=rate, repeat=1)) == pytest.approx(1 - distinct / 100)


@pytest.mark.parametrize("make", [OfNnx, OfEquinox, of_haiku, pair], ids=lambda make: make.__name__)
def test_models_of_other_libraries(tmp_path, make):
    results = jaxhash.sweep(make, DATA, grid={"width": (4, 8)}, out=tmp_path, learning_rate=0.01, **TOLD, **REDUNDANCY)
    assert results["test_accuracy"].mean() > 0.6
    model = jaxhash.load(tmp_path, width=8, repeat=0)
    hits = (np.asarray(model.apply(DATA[2])).argmax(1) == DATA[3]).mean()
    assert hits == pytest.approx(float(results["test_accuracy"].sel(width=8, repeat=0)), abs=1e-6)
    assert model.codes(DATA[2]).num_bits == 8


def test_a_model_of_nnx_is_that_of_its_own_loop(tmp_path):
    """Without dropout, whose keys are ours: parameters and running means after a step."""

    class Plain(nnx.Module):
        def __init__(self, *, rngs):
            self.first = nnx.Linear(12, 6, rngs=rngs)
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.last = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.norm(self.first(x))))

    jaxhash.sweep(
        Plain,
        DATA,
        out=tmp_path,
        optimizer=lambda: optax.sgd(0.1),
        repeats=1,
        epochs=1,
        batch_size=240,
        execution="scan",
        **REDUNDANCY,
    )
    ours = jaxhash.load(tmp_path)
    key = jax.random.fold_in(jax.random.key(0), 0)
    model = Plain(rngs=nnx.Rngs(stream_key(key, Stream.INIT)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    batch = epoch_order(key, 0, 240, 240)[0]
    x, y = DATA[0][:240][batch], DATA[1][:240][batch]
    gradient = nnx.grad(lambda m: optax.softmax_cross_entropy_with_integer_labels(m(x), y).mean())(model)
    optimizer.update(model, gradient)
    np.testing.assert_allclose(
        ours.variables["params"]["first"]["kernel"], model.first.kernel[...], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(ours.variables["state"]["norm"]["mean"], model.norm.mean[...], rtol=1e-4, atol=1e-6)


def test_shapes_make_programs_and_numbers_share_one(tmp_path):
    grid = {"width": (4, 8), "learning_rate": RATES, "label_noise": (0.0, 1.0)}
    jaxhash.sweep(Residual, DATA, grid=grid, optimizer=momentum, out=tmp_path, **TIMED, **REDUNDANCY)
    assert sorted(path.name for path in (tmp_path / "programs").glob("*.json")) == ["width-4.json", "width-8.json"]
    noted = json.loads((tmp_path / "execution.json").read_text())
    assert set(noted) == {"width-4", "width-8"}
    for kind in noted.values():
        times = kind["microseconds of a step of a model"]
        assert kind["mode"] == min(times, key=times.get)
        assert set(times) == set(any_model.MODES)
        assert kind["bytes of vmap"] > 0
    with xr.open_dataset(tmp_path / "results.nc") as results:
        assert results.sizes == {"repeat": 2, "width": 2, "learning_rate": 2, "label_noise": 2}
        learned = results["train_accuracy"].sel(learning_rate=1e-2).mean(("repeat", "width"))
        assert learned.sel(label_noise=0.0) > 0.6 > learned.sel(label_noise=1.0)


def test_a_number_that_cannot_be_traced_is_a_program_of_its_own(tmp_path):
    """Flax' Dropout asks whether its rate is 0."""
    jaxhash.sweep(Residual, DATA, grid={"rate": (0.1, 0.5)}, out=tmp_path, **TOLD, **REDUNDANCY)
    assert len(list((tmp_path / "programs").glob("*.json"))) == 2


@pytest.mark.parametrize("mode", ["vmap", "loop"])
def test_interrupted_and_continued_it_is_the_same_bit_for_bit(tmp_path, mode):
    config = SweepConfig(
        DATA,
        repeats=2,
        grid={"learning_rate": RATES},
        snapshots=(0, 4),
        train=dataclasses.replace(RECIPE, epochs=4, batch_size=BATCH),
        network=ModelSpec(Residual, momentum),
        properties=("redundancy",),
        execution=mode,
    )
    whole = engine.run(config, tmp_path / "whole")
    stop, epochs = threading.Event(), []

    def after(progress):
        if progress.losses.size:
            epochs.append(progress.epoch)
            if len(epochs) % 3 == 0:
                stop.set()

    for _ in range(20):
        stop.clear()
        try:
            parts = engine.run(config, tmp_path / "parts", callback=after, stop=stop)
            break
        except Interrupted:
            assert not (tmp_path / "parts" / "results.nc").exists()
    xr.testing.assert_identical(parts, whole)
    for rate in RATES:
        ours, theirs = (jaxhash.load(tmp_path / run, learning_rate=rate, repeat=1) for run in ("parts", "whole"))
        jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    assert not (tmp_path / "parts" / "partial").exists()


def test_the_choice_is_kept_when_a_run_continues(tmp_path, monkeypatch):
    def stopped(*_):
        raise Interrupted

    monkeypatch.setattr(any_model.AnyPrograms, "looked_at", stopped)
    shared = {"grid": {"learning_rate": RATES}, "optimizer": momentum, "out": tmp_path, **TIMED, **REDUNDANCY}
    with pytest.raises(Interrupted):
        jaxhash.sweep(Residual, DATA, **shared)
    monkeypatch.undo()
    path = tmp_path / "execution.json"
    noted = json.loads(path.read_text())
    noted["all"]["mode"] = "map"
    path.write_text(json.dumps(noted))
    monkeypatch.setattr(any_model.AnyPrograms, "_timed", stopped)
    jaxhash.sweep(Residual, DATA, **shared)
    assert json.loads(path.read_text())["all"]["mode"] == "map"


def test_long_codes_go_through_files(tmp_path, monkeypatch):
    shared = {"grid": {"learning_rate": RATES}, "optimizer": momentum, "properties": ("redundancy", "knn"), **TOLD}
    together = jaxhash.sweep(Residual, DATA, out=tmp_path / "together", **shared)
    monkeypatch.setattr(any_model, "fit_in_one_program", lambda *_: False)
    alone = jaxhash.sweep(Residual, DATA, out=tmp_path / "alone", **shared)
    monkeypatch.setattr(any_model, "BYTES_IN_MEMORY", 0)
    filed = jaxhash.sweep(Residual, DATA, out=tmp_path / "filed", **shared)
    for other in (alone, filed):
        for name in ("train_loss", "test_accuracy", "train_redundancy", "test_redundancy", "knn_accuracy"):
            np.testing.assert_allclose(other[name], together[name], rtol=1e-6, err_msg=name)


def test_sample_sizes_are_as_if_alone(tmp_path):
    shared = {"optimizer": lambda: optax.adam(0.01), **TOLD, **REDUNDANCY}
    both = jaxhash.sweep(Residual, DATA, grid={"examples": (40, 240)}, out=tmp_path / "both", **shared)
    whole = jaxhash.sweep(Residual, DATA, out=tmp_path / "whole", **shared)
    xr.testing.assert_allclose(both.sel(examples=240, drop=True), whole, rtol=1e-4)
    few = jaxhash.load(tmp_path / "both", examples=40, repeat=0)
    found = few.codes(DATA[0][:40])
    distinct = len(np.unique(np.asarray(found.words), axis=0))
    assert float(both["train_redundancy"].sel(examples=40, repeat=0)) == pytest.approx(1 - distinct / 40)


def test_targets_that_are_no_classes(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    y = np.maximum(x[:, :2], 0).sum(1, keepdims=True)
    arrays = x[:200], y[:200], x[200:], y[200:]

    def regress(width):
        return Residual(width, 0.0, classes=1)

    results = jaxhash.sweep(
        regress,
        arrays,
        grid={"width": (16,)},
        metrics={"largest": lambda outputs, y: jnp.abs(outputs - y).max()},
        learning_rate=0.01,
        out=tmp_path,
        repeats=1,
        epochs=30,
        batch_size=20,
        execution="scan",
    )
    names = {"train_loss", "test_loss", "train_largest", "test_largest", "train_redundancy", "test_redundancy"}
    assert set(results.data_vars) == names | {"epochs", "diverged"}
    outputs = np.asarray(jaxhash.load(tmp_path).apply(arrays[2]))
    assert float(results["test_loss"].item()) == pytest.approx(np.square(outputs - arrays[3]).mean(), rel=1e-4)
    assert float(results["test_largest"].item()) == pytest.approx(np.abs(outputs - arrays[3]).max(), rel=1e-4)
    assert results["test_loss"].item() < 0.3 * np.var(arrays[3])
    with pytest.raises(ValueError, match="are no classes but floating-point"):
        jaxhash.sweep(None, arrays, out=tmp_path / "mlp", grid={"width": (4,)})


def test_a_loss_a_metric_and_a_property_of_ones_own(tmp_path):
    def smoothed(logits, y):
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(y, 3), 0.1))

    results = jaxhash.sweep(
        Residual,
        DATA,
        loss=smoothed,
        metrics={"top2": lambda logits, y: (jax.lax.top_k(logits, 2)[1] == y[:, None]).any(1)},
        own_properties={"bits": Property("bits of a code", lambda data: float(data.train.num_bits))},
        learning_rate=0.01,
        out=tmp_path,
        **TOLD,
        **REDUNDANCY,
    )
    model = jaxhash.load(tmp_path, repeat=1)
    logits = model.apply(DATA[2])
    assert float(results["test_loss"].sel(repeat=1)) == pytest.approx(float(smoothed(logits, DATA[3]).mean()), rel=1e-4)
    assert (results["bits"] == 24).all()
    top2 = np.mean([y in row for y, row in zip(DATA[3], np.argsort(logits)[:, 1:], strict=True)])
    assert float(results["test_top2"].sel(repeat=1)) == pytest.approx(top2, abs=1e-6)


def test_one_of_many_that_diverges_is_marked(tmp_path):
    results = jaxhash.sweep(
        Residual,
        DATA,
        grid={"learning_rate": (1e-2, 1e30)},
        optimizer=lambda learning_rate: optax.sgd(learning_rate),
        out=tmp_path,
        **TOLD,
        **REDUNDANCY,
    )
    assert results["diverged"].sel(learning_rate=1e30).all()
    assert not results["diverged"].sel(learning_rate=1e-2).any()
    assert np.isnan(results["test_accuracy"].sel(learning_rate=1e30)).all()
    assert np.isfinite(results["test_accuracy"].sel(learning_rate=1e-2)).all()


def test_without_codes_all_the_same(tmp_path):
    results = jaxhash.sweep(without_units, DATA, out=tmp_path, properties=(), **TOLD)
    assert set(results.data_vars) == {
        f"{side}_{name}" for side in ("train", "test") for name in ("loss", "accuracy")
    } | {"epochs", "diverged"}


@pytest.mark.parametrize("damage", ["program", "description", "missing"])
def test_a_damaged_program_is_told(tmp_path, damage):
    jaxhash.sweep(Residual, DATA, out=tmp_path, repeats=1, epochs=1, batch_size=BATCH, execution="scan", **REDUNDANCY)
    path = tmp_path / "programs" / ("all.json" if damage == "description" else "all.stablehlo")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"x" + path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        jaxhash.load(tmp_path)


def test_a_model_is_loaded_where_its_code_is_not(tmp_path):
    results = jaxhash.sweep(
        Residual, DATA, out=tmp_path / "x", repeats=1, epochs=1, batch_size=BATCH, execution="scan", **REDUNDANCY
    )
    np.save(tmp_path / "test.npy", DATA[2])
    code = (
        "import sys, numpy as np, jaxhash; model = jaxhash.load(sys.argv[1] + '/x');"
        "print(np.asarray(model.apply(np.load(sys.argv[1] + '/test.npy'))).argmax(1).tolist());"
        "assert not any(name in sys.modules for name in ('tests', 'haiku', 'equinox'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    hits = (np.array(json.loads(done.stdout)) == DATA[3]).mean()
    assert hits == pytest.approx(float(results["test_accuracy"].item()), abs=1e-6)


ON_MANY = """
import sys
import jax, optax
import jaxhash
from tests.sweeps.own_models import DATA, Residual
assert len(jax.devices()) == 4
for mesh in ("1", "4"):
    jaxhash.sweep(Residual, DATA, grid={"width": (4, 8), "learning_rate": (1e-3, 1e-2)}, execution="vmap",
        optimizer=lambda learning_rate: optax.adam(learning_rate), repeats=2, epochs=2, batch_size=32,
        properties=("redundancy",), out=f"{sys.argv[1]}/{mesh}", mesh=mesh)
"""


def test_on_one_and_on_four_devices_it_is_the_same(tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", ON_MANY, str(tmp_path)], check=True, cwd=ROOT, timeout=240, env={**flags, "PATH": ""}
    )
    one, four = (xr.load_dataset(tmp_path / mesh / "results.nc") for mesh in ("1", "4"))
    xr.testing.assert_equal(one, four)
