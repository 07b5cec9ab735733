import errno
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.errors import JaxRuntimeError

from jaxhash.runtime.memory import OutOfMemory, explained
from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError


class State(NamedTuple):
    weights: jax.Array
    counts: dict[str, jax.Array]
    nothing: None


STATE = State(jnp.arange(12.0).reshape(3, 4), {"a": jnp.array([1, 2], jnp.int32), "b": jnp.array([True])}, None)

# A thread that Orbax leaves after a save that failed may find its event loop closed, in whatever test that is.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "x", STATE, {"epoch": 3, "loss": 0.1})
    return tmp_path / "x"


def test_round_trip(saved):
    restored = checkpoint.restore(saved, jax.eval_shape(lambda: STATE))
    assert isinstance(restored, State)
    jax.tree.map(np.testing.assert_array_equal, restored, STATE)
    assert checkpoint.describe(saved) == {"epoch": 3, "loss": 0.1}
    assert [p.name for p in saved.parent.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("met", "told"),
    [
        (
            ValueError("UNAVAILABLE: Error opening \"zarr3\" driver: Interrupted system call [os_error_code='4']"),
            "Interr",
        ),
        (RuntimeError("random_device: device not available"), "device not available"),
        (AssertionError(), "AssertionError"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_what_orbax_meets_is_one_line(saved, monkeypatch, met, told):
    def meet(*_):
        raise met

    monkeypatch.setattr(checkpoint.ocp, "load", meet)
    monkeypatch.setattr(checkpoint.ocp, "save", meet)
    with pytest.raises(OSError, match=rf"^{saved}: arrays cannot be read: {told}[^\[\n]*$"):
        checkpoint.restore(saved, jax.eval_shape(lambda: STATE))
    with pytest.raises(OSError, match=rf"^arrays cannot be written: {told}[^\[\n]*$"):
        checkpoint.save(saved.with_name("y"), STATE, {})
    assert [p.name for p in saved.parent.iterdir()] == ["x"]


def test_arrays_that_orbax_leaves_out_are_missed(saved, monkeypatch):
    """A glob takes a folder that cannot be listed for an empty one."""
    monkeypatch.setattr(type(epath.Path("x")), "glob", lambda *_: iter(()))
    with pytest.raises(OSError, match=r"^arrays cannot be written: 0 of 3 arrays are found again"):
        checkpoint.save(saved.with_name("y"), STATE, {})
    assert [p.name for p in saved.parent.iterdir()] == ["x"]


def test_a_thread_that_has_no_memory_to_begin_is_not_waited_for(saved, monkeypatch):
    monkeypatch.setattr(threading.Thread, "run", lambda self: None)
    with pytest.raises(OSError, match=r"^arrays cannot be written: a thread could not begin$") as met:
        checkpoint.save(saved.with_name("y"), STATE, {})
    assert isinstance(met.value.__cause__, MemoryError)


def test_a_thread_that_waits_for_a_failed_save_does_not_keep_the_process(saved, monkeypatch):
    """Orbax leaves one now and then."""
    over, left = threading.Event(), threading.Thread

    def fail(*_):
        nonlocal left
        left = threading.Thread(target=over.wait)
        left.start()
        raise ValueError("no")

    monkeypatch.setattr(checkpoint.ocp, "save", fail)
    with pytest.raises(OSError, match=r"no$"):
        checkpoint.save(saved.with_name("y"), STATE, {})
    over.set()
    left.join()
    assert left.daemon


@pytest.mark.parametrize(
    "met", [MemoryError(), RuntimeError("can't start new thread"), JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_a_want_of_memory_can_be_explained(saved, monkeypatch, met):
    def meet(*_):
        raise met

    monkeypatch.setattr(checkpoint.ocp, "load", meet)
    monkeypatch.setattr(checkpoint.ocp, "save", meet)
    with pytest.raises(OutOfMemory, match=r"Buy memory$"), explained("Buy memory"):
        checkpoint.restore(saved, jax.eval_shape(lambda: STATE))
    with pytest.raises(OutOfMemory, match=r"Buy memory$"), explained("Buy memory"):
        checkpoint.save(saved.with_name("y"), STATE, {})
    assert [p.name for p in saved.parent.iterdir()] == ["x"]


def test_threads_save_and_load_at_the_same_time(saved):
    """As the workers of a sweep do that continues: without a lock, one save of Orbax in 16 failed."""
    like, done = jax.eval_shape(lambda: STATE), []

    def load_until_done():
        while not done:
            checkpoint.restore(saved, like)

    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load_until_done)
        try:
            for number in range(80):
                checkpoint.save(saved.parent / str(number), STATE, {})
        finally:
            done.append(True)
        loading.result()


def test_every_damaged_file_is_noticed(saved):
    files = [f for f in sorted(saved.rglob("*")) if f.is_file()]
    assert len(files) > 5
    for file in files:
        good = file.read_bytes()
        for bad in (good[: len(good) // 2], good[:-1] + bytes([(good[-1] ^ 0xFF) if good else 0]), b"x" + good):
            if bad == good:
                continue
            file.write_bytes(bad)
            with pytest.raises(CheckpointError):
                checkpoint.restore(saved, jax.eval_shape(lambda: STATE))
        file.unlink()
        with pytest.raises(CheckpointError):
            checkpoint.restore(saved, jax.eval_shape(lambda: STATE))
        file.write_bytes(good)
    checkpoint.restore(saved, jax.eval_shape(lambda: STATE))


def test_a_changed_number_in_the_description_is_noticed(saved):
    meta = json.loads((saved / "meta.json").read_text())
    meta["description"]["loss"] = 0.2
    (saved / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match=r"meta\.json: damaged"):
        checkpoint.describe(saved)


@pytest.mark.parametrize("name", ["../outside", "{folder}/outside"])
def test_files_out_of_the_folder_are_not_read(saved, name):
    """They may be without an end, like some of the system's; their digests fit here."""
    (saved.parent / "outside").write_bytes(b"")
    meta = json.loads((saved / "meta.json").read_text())
    del meta["sha256"]
    meta["files"][name.format(folder=saved.parent)] = hashlib.sha256(b"").hexdigest()
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (saved / "meta.json").write_text(json.dumps(meta | {"sha256": digest}))
    with pytest.raises(CheckpointError, match="outside is not in the folder"):
        checkpoint.describe(saved)


def test_other_shapes_and_other_formats_are_refused(saved, monkeypatch):
    other = STATE._replace(weights=jnp.zeros((4, 4)))
    with pytest.raises(
        CheckpointError, match=r"weights: shape and type \[3, 4\] float32 there, \[4, 4\] float32 expected"
    ):
        checkpoint.restore(saved, jax.eval_shape(lambda: other))
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 1"):
        checkpoint.describe(saved)
    for missing in (saved.parent, saved.parent / "missing"):
        with pytest.raises(CheckpointError, match=r"no checkpoint here .*; give the folder of one"):
            checkpoint.describe(missing)
    (saved / "meta.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint here .*; delete this folder"):
        checkpoint.describe(saved)


def test_an_existing_checkpoint_is_not_overwritten(saved):
    with pytest.raises(OSError, match=r"not empty|exists"):
        checkpoint.save(saved, STATE, {"epoch": 4})
    assert checkpoint.describe(saved)["epoch"] == 3


def test_a_full_disk_is_known_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
    with pytest.raises(OSError, match=r"No space left on device \(5,000 bytes are free, 131,\d\d\d are needed\)"):
        checkpoint.save(tmp_path / "x", STATE, {})
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_whole(tmp_path):
    checkpoint.write_text(tmp_path / "a", "one")
    checkpoint.write_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert len(list(tmp_path.iterdir())) == 1


def test_types_of_arrays_are_no_source_of_python():
    """NumPy evaluates what stands before a comma."""
    assert checkpoint.abstract([2, 3], "uint16") == jax.ShapeDtypeStruct((2, 3), np.uint16)
    for odd in (",uint16", "2,uint16", "object", "S5", None, [], "V8"):
        with pytest.raises((ValueError, TypeError)):
            checkpoint.abstract([2], odd)
