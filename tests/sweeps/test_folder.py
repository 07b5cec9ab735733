import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import jaxhash
from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.sweeps import status
from jaxhash.sweeps.folder import RunError, opened
from jaxhash.sweeps.results import collect
from jaxhash.sweeps.tasks import TASKS

MINE = {"config": {"seed": 1, "model": {"depth": 1}}, "data": "d", "features": 4, "classes": 2, "tasks": []}


def test_a_model_is_loaded_in_a_fresh_process(trained):
    """Only the folder and coordinates are needed; the flattened images of a data set serve as they are."""
    program = """
import sys, numpy as np, jaxhash
model = jaxhash.load(sys.argv[1], width=20, repeat=1)
x = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 8, 8)
logits, code = model.apply(x), model.codes(x)
print(np.asarray(logits).astype(float).tolist(), code.num_bits, np.asarray(code.words).tolist(), sep="|")
"""
    done = subprocess.run([sys.executable, "-c", program, trained.out], capture_output=True, text=True, check=True)
    logits, num_bits, words = (json.loads(part) for part in done.stdout.split("|"))
    model = trained.model(20, 1)
    x = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
    np.testing.assert_allclose(model.apply(x), logits, rtol=1e-5, atol=1e-5)
    assert num_bits == 20
    np.testing.assert_array_equal(model.codes(x).words, words)


def test_models_that_are_not_there_are_named(trained, tmp_path):
    with pytest.raises(KeyError, match=r"no model of width=21, repeat=0 .* repeats 0 to 1, width 3, 20, 40"):
        jaxhash.load(trained.out, width=21, repeat=0)
    with pytest.raises(KeyError, match="repeat=2"):
        jaxhash.load(trained.out, width=20, repeat=2)
    with pytest.raises(CheckpointError, match=r"config\.json: missing; .* is not the folder of a sweep"):
        jaxhash.load(tmp_path, width=20, repeat=0)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        jaxhash.load(tmp_path, width=20, repeat=0)


def test_inputs_of_another_size_are_refused(trained):
    with pytest.raises(ValueError, match="x has 63 features an example, but this model was trained on 64"):
        trained.model(20).apply(np.zeros((2, 63)))


def test_a_model_of_no_inputs_gives_no_outputs(trained):
    assert trained.model(20).apply(np.zeros((0, 64))).shape == (0, 10)
    assert trained.model(20).codes(np.zeros((0, 64))).words.shape == (0, 1)


def test_a_run_not_trained_yet_says_so(trained, tmp_path):
    description = (trained.out / "config.json").read_text()
    (tmp_path / "config.json").write_text(description)
    with pytest.raises(CheckpointError, match="not trained yet; run the sweep's command again"):
        jaxhash.load(tmp_path, width=20, repeat=0)


def test_a_run_is_continued_and_its_first_description_kept(tmp_path):
    out = tmp_path / "a" / "b"
    with opened(out, MINE | {"device": "x"}) as noted:
        assert noted["device"] == "x"
    with opened(out, MINE | {"device": "y"}) as noted:
        assert noted["device"] == "x"


def test_a_run_of_another_configuration_is_refused_and_untouched(tmp_path):
    with opened(tmp_path / "x", MINE):
        pass
    before = (tmp_path / "x" / "config.json").read_bytes()
    other = MINE | {"config": {"seed": 2, "model": {"depth": 3}}}
    with (
        pytest.raises(RunError, match=r"model\.depth: 1 there, 3 here; seed: 1 there, 2 here\); nothing was changed"),
        opened(tmp_path / "x", other),
    ):
        pass
    assert (tmp_path / "x" / "config.json").read_bytes() == before
    with pytest.raises(RunError, match="data: d there, e here"), opened(tmp_path / "x", MINE | {"data": "e"}):
        pass


def test_folders_of_something_else_are_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="holds files that are not a sweep's"), opened(tmp_path, MINE):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="is a file; give a folder"), opened(tmp_path / "thesis.tex", MINE):
        pass


def test_two_processes_do_not_share_a_run(tmp_path):
    program = """
import sys, json
from pathlib import Path
from jaxhash.sweeps.folder import opened
try:
    with opened(Path(sys.argv[1]), json.loads(sys.argv[2])):
        print("opened")
except ValueError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, tmp_path / "x", json.dumps(MINE)]
    with opened(tmp_path / "x", MINE):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "in use by another process" in done.stdout
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "opened\n"


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    with opened(tmp_path, MINE):
        pass
    half = tmp_path / TASKS / f".task.{'0123456789abcdef' * 2}"
    (half / "arrays").mkdir(parents=True)
    (tmp_path / f".results.nc.{'0' * 32}").write_text("half")
    keep = tmp_path / TASKS / ".mine.txt"
    keep.write_text("not ours")
    checkpoint.save(tmp_path / TASKS / "whole", {"a": np.zeros(3)}, {})
    with opened(tmp_path, MINE):
        pass
    assert sorted(p.name for p in (tmp_path / TASKS).iterdir()) == [".mine.txt", "whole"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "config.json", "tasks"]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("config", "model", "batch_norm"), {}),
        (("config", "model", "depth"), 1.5),
        (("config", "model", "depth"), 4),
        (("config", "model", "dropout"), None),
        (("config", "repeats"), 2**31 - 1),  # a grid that would take hours to count
        (("config", "repeats"), 10**30),
        (("config", "repeats"), True),
        (("config", "widths"), "3"),
        (("config", "sample_sizes"), {}),
        (("config", "snapshots"), ["../x"]),
        (("config", "train", "epochs"), "8"),
        (("config",), []),
        (("features",), 0.5),
        (("config", "grid"), []),
        (("config", "grid"), {"depth": [[1]]}),
        (("tasks",), [{"widths": [3], "repeats": None}]),
        (("tasks",), []),
        (("tasks", 0, "members"), []),
        (("tasks", 0, "members"), [{"width": 3}]),
        (("tasks", 0, "widths"), []),
        (("tasks", 0, "widths", 0), [3]),
        (("tasks", 0, "shared"), {"depth": None}),
        (("tasks", 0, "shared"), {"depth": 2}),
    ],
)
def test_a_configuration_whose_parts_are_something_else_is_one_error(trained, tmp_path, where, value):
    """Found by the fuzzer, most of them."""
    made = json.loads((trained.out / "config.json").read_text())
    *above, name = where
    part = made
    for key in above:
        part = part[key]
    part[name] = value
    (tmp_path / "config.json").write_text(json.dumps(made))
    for read in (status.status, collect, lambda out: jaxhash.load(out, width=3, repeat=0)):
        with pytest.raises(CheckpointError, match=r"config\.json: does not describe a sweep"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["metrics", "seed", "versions", "properties"])
def test_results_of_a_configuration_that_lacks_something_are_one_error(trained, tmp_path, name):
    made = json.loads((trained.out / "config.json").read_text())
    if name == "properties":
        made["properties"] = {"width": "a name that is taken"}
    else:
        del (made["config"] if name in made["config"] else made)[name]
    (tmp_path / "config.json").write_text(json.dumps(made))
    with pytest.raises(CheckpointError, match=rf"config\.json: damaged .*{name}"):
        collect(tmp_path)


def test_numbers_of_a_task_that_no_float_holds_are_one_error(trained, tmp_path):
    out = shutil.copytree(trained.out, tmp_path / "x")
    (meta,) = (path for path in out.glob("tasks/*/meta.json") if "repeats-0-0" in str(path))
    said = json.loads(meta.read_text())
    said["description"]["models"][0]["train_loss"] = 10**400
    del said["sha256"]
    meta.write_text(json.dumps(said | {"sha256": checkpoint._digest(said)}))
    with pytest.raises(CheckpointError, match="does not have the metrics of its models"):
        collect(out)
