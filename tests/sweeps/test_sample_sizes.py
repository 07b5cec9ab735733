"""Sweeps over sample sizes and snapshots: one training of many models, and the programs that serve every count."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import KNeighborsClassifier

import jaxhash
from jaxhash.codes import cluster_accuracy
from jaxhash.codes.lloyd import kmeans_words as kmeans
from jaxhash.codes.logistic import fit, predict
from jaxhash.codes.nearest_words import knn_words
from jaxhash.runtime.devices import places
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import inputs, programs
from jaxhash.sweeps.grid import METRICS, SweepConfig
from jaxhash.sweeps.models import block_of_description
from jaxhash.sweeps.task import Interrupted
from jaxhash.sweeps.tasks import Task
from jaxhash.training.mlp import epoch_order
from jaxhash.training.population import init_block, split

SIZES, SNAPSHOTS = (1150, 5, 100), (0, 3, 8)


@pytest.fixture(scope="module")
def grid(trained, tmp_path_factory):
    """The sweep of `trained`, its first repeat, on three sample sizes, looked at three times."""
    config = dataclasses.replace(trained.config, repeats=1, sample_sizes=SIZES, snapshots=SNAPSHOTS, random_inputs=True)
    out = tmp_path_factory.mktemp("grid") / "run"
    return config, out, sweep.run(config, out)


def assert_same_models(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)


def test_results_have_the_dimensions_of_the_grid(grid):
    _, out, results = grid
    assert results.sizes == {"repeat": 1, "width": 3, "examples": 3, "epoch": 3}
    assert results["examples"].values.tolist() == [5, 100, 1150]
    assert set(results.data_vars) == {*METRICS, "random_redundancy", "epochs", "diverged"}
    missing = results.isnull()
    assert missing["train_kmeans_accuracy"].sel(examples=5).all()  # fewer examples than clusters
    missing = missing.drop_vars("train_kmeans_accuracy").assign(rest=missing["train_kmeans_accuracy"].sel(examples=100))
    assert not any(missing[name].any() for name in missing)
    assert (results["epochs"] == results["epoch"]).all()
    with xr.open_dataset(out / "results.nc") as stored:
        xr.testing.assert_identical(stored.load(), results)


def test_the_whole_training_set_as_a_sample_is_the_sweep_without_sample_sizes(grid, trained):
    _, out, results = grid
    for width in (3, 40):
        assert_same_models(jaxhash.load(out, width=width, repeat=0), trained.model(width))
    last = results.sel(examples=1150, epoch=8, repeat=0)
    for name in METRICS:
        np.testing.assert_allclose(last[name], trained.results[name].sel(repeat=0), rtol=1e-6, err_msg=name)


def test_the_untrained_snapshot_is_the_initialisation(grid):
    config, out, _ = grid
    description = sweep.folder.read_description(out)
    (block,) = {block_of_description(description, task) for task in sweep.folder.tasks_of(description)}
    params, stats = jax.jit(init_block, static_argnums=0)(block, config.repeat_key(0))
    for width, variables in zip(block.widths, split(block, params, stats), strict=True):
        for size in SIZES:
            model = jaxhash.load(out, width=width, repeat=0, examples=size, epoch=0)
            jax.tree.map(np.testing.assert_array_equal, model.variables, variables)


def test_a_sample_size_trains_alike_whoever_trains_beside_it(grid, tmp_path):
    config, out, _ = grid
    alone = dataclasses.replace(config, sample_sizes=(100,), snapshots=(), random_inputs=False)
    sweep.run(alone, tmp_path / "x")
    assert_same_models(
        jaxhash.load(tmp_path / "x", width=20, repeat=0), jaxhash.load(out, width=20, repeat=0, examples=100)
    )


@pytest.mark.parametrize(("size", "epoch"), [(5, 3), (100, 0), (100, 8)])
def test_numbers_of_a_sample_are_those_of_its_codes_by_numpy_and_scikit_learn(grid, trained, size, epoch):
    config, out, results = grid
    found = results.sel(repeat=0, width=20, examples=size, epoch=epoch)
    model = jaxhash.load(out, width=20, repeat=0, examples=size, epoch=epoch)
    x, y, test_y = trained.data.x_train[:size], trained.data.y_train[:size], trained.data.y_test
    train, test, random = (
        np.asarray(model.codes(some).unpack())
        for some in (x, trained.data.x_test, inputs.random_inputs(config, trained.data))
    )
    for name, codes in (("train", train), ("test", test), ("random", random)):
        assert found[f"{name}_redundancy"] == (len(codes) - len(np.unique(codes, axis=0))) / len(codes)
    logits = np.asarray(model.apply(x), np.float64)
    assert found["train_accuracy"] == pytest.approx((logits.argmax(1) == y).mean())
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(size), y]
    np.testing.assert_allclose(found["train_loss"], loss.mean(), rtol=1e-4, atol=1e-6)

    k = min(9, size)
    distances = np.abs(test[:, None].astype(int) - train[None]).sum(-1)
    votes = KNeighborsClassifier(k, metric="manhattan", algorithm="brute").fit(train, y).predict(test)
    tied = 0.0
    if size > k:
        ordered = np.sort(distances, 1)
        tied = (ordered[:, k - 1] == ordered[:, k]).mean()
    assert abs(found["knn_accuracy"].item() - (votes == test_y).mean()) <= tied + 1e-6


def test_a_sweep_stopped_between_snapshots_ends_bit_for_bit_the_same_and_states_its_cost(grid, tmp_path):
    config, _, whole = grid
    config = dataclasses.replace(config, sample_sizes=(1150, 100), snapshots=(3, 8))
    stop, costs = threading.Event(), []

    def stop_after_a_snapshot(progress):
        if progress.models and progress.epoch == 3:
            stop.set()

    with pytest.raises(Interrupted):
        sweep.run(config, tmp_path / "x", callback=stop_after_a_snapshot, stop=stop)
    there = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "x" / "tasks").iterdir()}
    assert 1 <= len(there) <= 2
    assert all(name.endswith("_epoch-3") for name in there)
    found = sweep.run(config, tmp_path / "x", announce=costs.append)
    xr.testing.assert_equal(found, whole.sel(examples=[100, 1150], epoch=[3, 8]))
    for name, written in there.items():
        assert (tmp_path / "x" / "tasks" / name).stat().st_mtime_ns == written
    (cost,) = costs
    assert (cost.models, cost.measurings, cost.model_steps) == (6, 12, 6 * 8 * (1150 // 32))
    assert cost.seconds > 0
    assert cost.epochs_a_measuring > 0
    sweep.run(config, tmp_path / "x", announce=costs.append)
    assert len(costs) == 1  # nothing was to do


def test_models_that_are_not_there_are_named(grid, trained):
    _, out, _ = grid
    with pytest.raises(KeyError, match=r"examples=7 .* examples 5, 100, 1150"):
        jaxhash.load(out, width=20, repeat=0, examples=7)
    with pytest.raises(KeyError, match="epoch=4"):
        jaxhash.load(out, width=20, repeat=0, epoch=4)
    with pytest.raises(KeyError, match=r"examples=5 in .*: repeats 0 to 1, width 3, 20, 40"):
        jaxhash.load(trained.out, width=20, repeat=0, examples=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sample_sizes": (10, 10)}, "sample size 10 is given more than once"),
        ({"sample_sizes": (10, 0)}, "sample size 0 is less than 1"),
        ({"snapshots": (0, 200, 0)}, "snapshot 0 is given more than once"),
        ({"snapshots": (-1, 200)}, "snapshots -1 to 200 do not fit epochs=200"),
        ({"snapshots": (0, 100)}, "the last of them 200, or --epochs 100"),
        ({"snapshots": (0, 300)}, "snapshots 0 to 300 do not fit epochs=200"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**wrong)


def test_a_sample_larger_than_the_data_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="sample size 2000 is more than the 1,150 training examples of digits"):
        sweep.run(SweepConfig(sample_sizes=(10, 2000)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_epoch_of_a_sample_is_a_shuffle_of_its_copies():
    key = jax.random.key(5)
    whole = epoch_order(key, 2, 320, 32)
    np.testing.assert_array_equal(epoch_order(key, 2, 320, 32, 320), whole)
    fourfold = epoch_order(key, 2, 320, 32, 80)
    assert fourfold.shape == whole.shape
    assert (np.bincount(fourfold.ravel()) == 4).all()
    assert not np.array_equal(fourfold, epoch_order(key, 3, 320, 32, 80))
    more = []
    for epoch in (0, 1):
        times = np.bincount(epoch_order(key, epoch, 320, 32, 100).ravel())
        assert sorted(set(times.tolist())) == [3, 4]
        more.append(np.flatnonzero(times == 4))
        assert len(more[-1]) == 20
    assert not np.array_equal(*more)


def test_one_program_measures_every_count_as_if_the_rest_were_not_there():
    rng = np.random.default_rng(1)
    words = jnp.asarray(rng.integers(0, 2**12, (200, 2)), jnp.uint32)
    labels = jnp.asarray(rng.integers(0, 3, 200), jnp.int32)
    queries = words[::-3] ^ 5
    before = knn_words._cache_size()
    for n in (9, 70):
        some, own = words[:n], labels[:n]
        np.testing.assert_array_equal(
            knn_words(words, labels, queries, k=9, num_classes=3, count=n),
            knn_words(some, own, queries, k=9, num_classes=3),
        )
    assert knn_words._cache_size() == before + 1 + 2  # one with a count, and one each cut
    full, cut = fit(words, labels, num_classes=3, count=n), fit(some, own, num_classes=3)
    np.testing.assert_array_equal(full.present, cut.present)
    np.testing.assert_array_equal(predict(full, queries), predict(cut, queries))
    key = jax.random.key(n)
    full, cut = kmeans(key, words, 3, count=n), kmeans(key, some, 3)
    np.testing.assert_allclose(full.inertia, cut.inertia, rtol=1e-5)
    np.testing.assert_array_equal(full.labels[:n], cut.labels)
    pairs = np.zeros((3, 3), int)
    np.add.at(pairs, (np.asarray(cut.labels), np.asarray(own)), 1)
    best = pairs[linear_sum_assignment(-pairs)].sum() / n
    assert float(cluster_accuracy(full.labels, labels, 3, count=n)) == pytest.approx(best)


def test_codes_are_measured_in_few_array_sizes():
    sizes = (10, 30, 60, 100, 300, 600, 1000, 2000, 3000, 6000, 10_000, 20_000, 30_000, 40_000, 48_000)
    rows = [programs.rows_to_measure(size, 48_000) for size in sizes]
    assert sorted(set(rows)) == [750, 6000, 48_000]
    assert all(size <= row for size, row in zip(sizes, rows, strict=True))
    assert {programs.rows_to_measure(size, 1150) for size in (5, 1150)} == {1150}


def test_sizes_side_by_side_are_the_same_as_alone(grid):
    """On an accelerator sizes are one batch: a task with two of them, against the two tasks it stands for."""
    config, _, _ = grid
    data = inputs.put_on_device(config, sweep.prepare(config), places("none")[0])
    widths = sweep.plan(config, data.host)[0].widths
    together, *alone = (Task.of(widths, (0,) * len(n), n) for n in ((100, 1150), (100,), (1150,)))
    of_block = programs.programs_for(config, together, data.host)
    looked = []
    for task in (together, *alone):
        keys = inputs.repeat_keys(config, task)
        order = inputs.orders(config, task, keys, 0, len(data.x))
        y = np.stack([data.host.y_train] * len(task.repeats))
        state, _ = of_block.epoch(of_block.init(keys), keys, order, data.x, y, {})
        looked.append(programs.evaluate(task, of_block, state, data, y))
    for i, one in enumerate(looked[1:]):
        loss, accuracy = "train_loss", "test_accuracy"
        np.testing.assert_allclose(looked[0].metrics[loss][i], one.metrics[loss][0], rtol=1e-3)
        np.testing.assert_allclose(looked[0].metrics[accuracy][i], one.metrics[accuracy][0], atol=0.006)
