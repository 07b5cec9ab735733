"""What is saved stays when the power fails: on the disk before it has its name, and the name before anyone is told."""

import errno
import os
import stat

import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.codes import files
from jaxhash.codes.files import Layer
from jaxhash.storage import checkpoint


@pytest.fixture
def disk(monkeypatch):
    """What was asked of the disk, in order: inodes synced, with the time of their last change, and names given."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        stat = os.fstat(descriptor)
        calls.append((stat.st_ino, stat.st_mtime_ns))
        fsync(descriptor)

    def record_replace(draft, path):
        replace(draft, path)
        calls.append(str(path))

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    return calls


def save_checkpoint(path):
    checkpoint.save(path, {"a": jnp.ones(3)}, {"b": 1})


def save_text(path):
    checkpoint.write_text(path, "text")


def save_codes(path):
    with files.writing(path, 2, 5, [Layer("relu", 0, 5, (5,))]) as append:
        append(np.ones((2, 1), np.uint32))


@pytest.mark.parametrize("save", [save_checkpoint, save_text, save_codes])
def test_all_of_it_is_synced_before_it_has_its_name_and_the_name_afterwards(tmp_path, disk, save):
    path = tmp_path / "x.npy"
    save(path)
    named = disk.index(str(path))
    before, after = disk[:named], disk[named + 1 :]
    for part in (path, *path.rglob("*")):
        stat = part.stat()
        assert (stat.st_ino, stat.st_mtime_ns) in before, part
    assert tmp_path.stat().st_ino in {call[0] for call in after}


def test_folders_made_for_it_are_named_for_good_too(tmp_path, disk):
    save_checkpoint(tmp_path / "a" / "b" / "x")
    after = {call[0] for call in disk[disk.index(str(tmp_path / "a" / "b" / "x")) + 1 :]}
    assert {folder.stat().st_ino for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")} <= after


def test_a_disk_that_turns_out_full_or_broken_when_it_is_synced(tmp_path, monkeypatch):
    """File systems that reserve no room for what was written find out then."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for save in (save_checkpoint, save_text, save_codes):
        with pytest.raises(OSError, match=r"No space left on device: '.*x"):
            save(tmp_path / "x")
        assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_does_not_sync_folders(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    save_text(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "text"


@pytest.mark.parametrize(("refused", "told"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_folder_that_cannot_be_synced_is_told_unless_its_file_system_syncs_none(tmp_path, monkeypatch, refused, told):
    """Else a name that the power takes away would pass for saved."""
    fsync = os.fsync

    def of_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(refused, os.strerror(refused))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_only)
    if told:
        with pytest.raises(OSError, match=os.strerror(refused)):
            checkpoint.write_text(tmp_path / "a", "one")
    else:
        checkpoint.write_text(tmp_path / "a", "one")
        assert (tmp_path / "a").read_text() == "one"
