"""A sweep on 1, 2, 4 and 8 devices: the same bits, ragged counts included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bench import rounding
from jaxhash.runtime.devices import Place, gather, places

SMALL = rounding.Config(widths=(20,), repeats=2, epochs=(2,))
COUNTS = (1, 2, 4, 8)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# Five repeats: no count but 1 divides them.
SCRIPT = """
import hashlib, json, shutil, sys, threading
from pathlib import Path
import jax, numpy as np
from bench import rounding
from jaxhash.storage import checkpoint
from jaxhash.runtime import devices
from jaxhash.sweeps import folder as runs
from jaxhash.sweeps import engine as sweep
from jaxhash.sweeps import inputs, measuring, programs
from jaxhash.sweeps import task as tasks
from jaxhash.sweeps.models import abstract_models
from jaxhash.sweeps.tasks import Task
from jaxhash.training.mlp import TrainConfig
from tests.sweeps.stand_in import PROPERTIES

measuring.PROPERTIES = PROPERTIES
folder = Path(sys.argv[1])
config = sweep.SweepConfig(
    dataset=str(folder / "data.npz"), widths=(3, 5), repeats=5, train=TrainConfig(epochs=3, batch_size=8)
)
dealt, split, collectives = {}, {}, []
for count in (1, 2, 4, 8):
    out = folder / f"dealt-{count}"
    sweep.run(config, out, mesh=str(count))
    dealt[count] = hashlib.sha256((out / "results.nc").read_bytes()).hexdigest()
data = sweep.prepare(config)
# Five on four devices: two each, three of them copies.
task = Task.of(config.widths, range(5))
of_block = programs.programs_for(config, task, data)
for count in (1, 4):
    place = devices.Place(tuple(jax.devices()[:count]))
    there = inputs.put_on_device(config, data, place)
    out = folder / f"split-{count}"
    out.mkdir()
    shutil.copy(folder / "dealt-1" / runs.CONFIG, out)
    tasks.work(tasks.Sweep(config, out, {}, lambda progress: None, threading.Event()), task, of_block, there)
    saved = task.folder(out, None)
    leaves = jax.tree.leaves(checkpoint.restore(saved, abstract_models(of_block.block, 5)))
    np.savez(folder / f"split-{count}.npz", *map(np.asarray, leaves))
    split[count] = checkpoint.describe(saved)["models"]
    keys = inputs.repeat_keys(config, task)
    order = inputs.orders(config, task, keys, 0, len(data.x_train))
    y = np.stack([data.y_train] * 5)
    state, keys, order, y = place.spread((of_block.init(keys), keys, order, y))
    text = of_block.epoch.lower(state, keys, order, there.x, y, {}).compile().as_text()
    collectives.append(text)
small = rounding.Config(dataset=config.dataset, widths=config.widths, repeats=5, epochs=(1, 3), batch_size=8)
one, four = (rounding.trained(small, devices.Place(tuple(jax.devices()[:count]))) for count in (1, 4))
(folder / "programs.txt").write_text("\\n".join(collectives))
print(json.dumps({"dealt": dealt, "split": split, "apart": rounding.apart(one, four)}))
"""


@pytest.fixture(scope="module")
def on_many(tmp_path_factory: pytest.TempPathFactory):
    """What a process with eight devices found, and its folder."""
    folder = tmp_path_factory.mktemp("mesh")
    rng = np.random.default_rng(0)
    x = rng.random((90, 6), np.float32)
    y = (3 * x[:, 0]).astype(np.int32)
    np.savez(folder / "data.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder


@pytest.mark.slow
def test_tasks_dealt_out_to_devices_give_the_same_bits(on_many):
    found, folder = on_many
    assert set(found["dealt"]) == {str(count) for count in COUNTS}
    assert len(set(found["dealt"].values())) == 1
    assert len({(folder / f"dealt-{count}" / "config.json").read_bytes() for count in COUNTS}) == 1


@pytest.mark.slow
def test_a_task_split_between_devices_gives_the_same_bits_on_cpu(on_many):
    found, folder = on_many
    alone = np.load(folder / "split-1.npz")
    split = np.load(folder / "split-4.npz")
    for name in alone.files:
        np.testing.assert_array_equal(split[name], alone[name], strict=True)
    ours, theirs = found["split"]["4"], found["split"]["1"]
    assert [(m["repeat"], m["width"]) for m in ours] == [(r, w) for r in range(5) for w in (3, 5)]
    assert ours == theirs
    assert [row["epoch"] for row in found["apart"]] == [0, 1, 3]
    different = [(what, value) for row in found["apart"] for what, value in row.items() if what != "epoch" and value]
    assert different == []


@pytest.mark.slow
@pytest.mark.skipif(len(jax.devices()) < 2 or jax.devices()[0].platform == "cpu", reason="needs two accelerators")
def test_a_task_split_between_accelerators_gives_models_as_near_as_is_said():
    one, all_of_them = (rounding.trained(SMALL, Place(tuple(jax.devices()[:count]))) for count in (1, None))
    assert rounding.beyond(rounding.apart(one, all_of_them), rounding.BOUNDS["TF32"]) == []


@pytest.mark.slow
def test_models_that_differ_by_rounding_stay_as_near_as_is_said():
    """Weights moved by a unit in the last place stand for the other kernels of an accelerator."""
    place = Place(tuple(jax.devices()[:1]))
    alone = rounding.trained(SMALL, place)
    for name, relative in rounding.ROUNDING.items():
        found = rounding.apart(alone, rounding.trained(SMALL, place, relative))
        assert rounding.beyond(found, rounding.BOUNDS[name]) == []
        assert all(row["weights"] > relative / 10 for row in found)  # they are moved at all
    # What must not be taken for the same: models of another seed, and those of coarser rounding for those of finer.
    others = rounding.apart(alone, [seen.next_repeat() for seen in alone])
    for bounds in rounding.BOUNDS.values():
        assert len(rounding.beyond(others, bounds)) > len(others)
    assert rounding.beyond(found, rounding.BOUNDS["float32"])


def test_the_documentation_says_how_near_models_stay():
    lines = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text().splitlines()
    for name, bounds in rounding.BOUNDS.items():
        (row,) = [line for line in lines if line.startswith(f"| {name}, at most |")]
        assert [float(cell) for cell in row.strip("| ").split("|")[1:]] == list(bounds.values())


@pytest.mark.slow
def test_devices_that_share_a_task_do_not_talk_while_they_train(on_many):
    programs = (on_many[1] / "programs.txt").read_text()
    assert "num_partitions=4" in programs
    assert not [name for name in COLLECTIVES if name in programs]


def test_what_was_spread_is_gathered_again():
    place = Place((jax.devices()[0],))
    numbers = np.arange(12).reshape(3, 4)
    spread = place.spread({"a": numbers})
    np.testing.assert_array_equal(gather(spread, 2)["a"], numbers[:2])


@pytest.mark.parametrize("mesh", ["all", "0", "-1", "1.5", ""])
def test_a_mesh_that_is_none_is_refused(mesh):
    with pytest.raises(ValueError, match="give auto, none, or a number"):
        places(mesh)


def test_more_devices_than_there_are_are_refused():
    on_cpu = jax.devices()[0].platform == "cpu"
    with pytest.raises(ValueError, match="xla_force_host_platform_device_count=99" if on_cpu else "give at most"):
        places("99")
    assert [place.devices for place in places("none")] == [(jax.local_devices()[0],)]


FITS = """
import sys
import jax, numpy as np
from jaxhash.hashing.perfect import fitting
from jaxhash.hashing.perfect import workers
from jaxhash.hashing.perfect.seeds import SeedsConfig
from jaxhash.hashing.perfect.sharded import ShardedConfig

# Few problems side by side: all devices get some of the few there are. Small programs: they are compiled for each.
workers.FEWEST_PROBLEMS = 8
small = {"sharded": ShardedConfig(8, 8, 3), "seeds": SeedsConfig(4, 2)}
for method, config in small.items():
    for count in (1, 4, 8):
        told = fitting.FitConfig(method=method, **{method: config})
        found = fitting.fit([f"key{i}" for i in range(601)], told, mesh=str(count))
        np.savez(f"{sys.argv[1]}/{method}-{count}.npz", *found.policy)
"""


@pytest.mark.slow
def test_a_hash_learned_on_many_devices_is_the_same(tmp_path):
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # integers, for the most part: compiling takes longest
    done = subprocess.run(
        [sys.executable, "-c", FITS, str(tmp_path)],
        env=os.environ | env,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for method in ("sharded", "seeds"):
        one, *others = (np.load(tmp_path / f"{method}-{count}.npz") for count in (1, 4, 8))
        assert len(one.files) > 3
        for many in others:
            for name in one.files:
                np.testing.assert_array_equal(many[name], one[name], strict=True)
