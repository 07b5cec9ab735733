"""Where files come from: a folder, the cache, or a stand-in for pooch's downloads."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pooch
import pytest
import requests

from jaxhash.data import download
from jaxhash.data.download import DataError, DataFile, fetch, fetch_members, find_folder


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def web(monkeypatch):
    """URL -> what pooch downloads from there; of any other it gets no answer."""
    published = {}

    def download(url, path, pooch):
        if url not in published:
            raise requests.exceptions.ConnectionError("no network in tests")
        Path(path).write_bytes(published[url])

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar: download)
    return published


@pytest.fixture
def cache(tmp_path, monkeypatch, web):
    """An empty cache."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("JAXHASH_DATA_DIR", raising=False)
    return tmp_path / "cache" / "jaxhash"


CONTENT = b"what the publisher published"
FILE = DataFile("set/file.gz", sha256(CONTENT), "https://example.org/files/file.gz")


def put(folder, path, content):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def test_a_file_in_the_given_folder_comes_first(tmp_path, cache):
    put(tmp_path, FILE.path, CONTENT)
    put(cache, FILE.path, CONTENT)
    assert fetch(FILE, tmp_path) == (tmp_path / FILE.path, CONTENT)


def test_the_cache_comes_second(tmp_path, cache):
    put(cache, FILE.path, CONTENT)
    assert fetch(FILE, tmp_path) == (cache / FILE.path, CONTENT)
    assert fetch(FILE, None) == (cache / FILE.path, CONTENT)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_another_checksum_is_refused(tmp_path, cache, algorithm):
    file = DataFile(FILE.path, f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}", FILE.url)
    put(tmp_path, file.path, CONTENT)
    assert fetch(file, tmp_path)[1] == CONTENT
    put(tmp_path, file.path, CONTENT + b"!")
    with pytest.raises(DataError, match=f"{tmp_path / FILE.path}: damaged, .*{algorithm} is not .*; delete it"):
        fetch(file, tmp_path)


def test_a_gzipped_copy_serves_and_is_verified_unpacked(tmp_path, cache):
    put(tmp_path, f"{FILE.path}.gz", gzip.compress(CONTENT))
    assert fetch(FILE, tmp_path) == (tmp_path / f"{FILE.path}.gz", CONTENT)
    put(tmp_path, f"{FILE.path}.gz", gzip.compress(CONTENT + b"!"))
    with pytest.raises(DataError, match=rf"{tmp_path / FILE.path}\.gz: damaged, .*sha256 is not"):
        fetch(FILE, tmp_path)
    put(tmp_path, f"{FILE.path}.gz", gzip.compress(CONTENT)[:-4])
    with pytest.raises(DataError, match=rf"{FILE.path}\.gz: not a whole gzip file .*; get it again"):
        fetch(FILE, tmp_path)
    put(tmp_path, FILE.path, CONTENT)
    assert fetch(FILE, tmp_path) == (tmp_path / FILE.path, CONTENT)


def test_a_gzipped_copy_is_not_unpacked_beyond_its_limit(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(download, "MAX_UNPACKED_BYTES", len(CONTENT) - 1)
    put(tmp_path, f"{FILE.path}.gz", gzip.compress(CONTENT))
    with pytest.raises(DataError, match=f"more than {len(CONTENT) - 1} bytes unpacked"):
        fetch(FILE, tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, cache):
    (tmp_path / FILE.path).mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        fetch(FILE, tmp_path)


@pytest.mark.parametrize("in_cache", [None, b"damaged"])
def test_a_missing_file_without_network_is_one_clear_error(tmp_path, cache, in_cache):
    if in_cache is not None:
        put(cache, FILE.path, in_cache)
    with pytest.raises(DataError) as caught:
        fetch(FILE, tmp_path)
    message = str(caught.value)
    for part in (FILE.path, str(tmp_path), str(cache), FILE.url, "no network in tests", "set JAXHASH_DATA_DIR="):
        assert part in message
    assert "\n" not in message


def test_a_missing_file_is_downloaded_into_the_cache_unless_it_is_another_one(tmp_path, cache, web):
    web[FILE.url] = CONTENT + b"!"
    with pytest.raises(DataError, match="does not match the known hash"):
        fetch(FILE, tmp_path)
    assert not (cache / FILE.path).exists()
    web[FILE.url] = CONTENT
    assert fetch(FILE, tmp_path) == (cache / FILE.path, CONTENT)
    web.clear()
    assert fetch(FILE, tmp_path) == (cache / FILE.path, CONTENT)


def tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_only_the_asked_for_members_of_a_verified_archive_are_unpacked(cache, web):
    content = tar({"inside/one": b"1", "inside/two": b"2", "inside/../../evil": b"!", "/one": b"!", "x/one": b"!"})
    archive = DataFile("set/a.tar.gz", sha256(content), "https://example.org/a.tar.gz")
    web[archive.url] = content + b"!"
    with pytest.raises(DataError, match="does not match the known hash"):
        fetch_members(archive, ("inside/one",), None)
    assert not list(cache.rglob("one"))
    web[archive.url] = content
    (path,) = fetch_members(archive, ("inside/one",), None)
    assert path.read_bytes() == b"1"
    assert sorted(p.name for p in cache.parent.rglob("*") if p.is_file()) == ["a.tar.gz", "one"]


def test_the_folder_is_the_argument_else_the_environment_else_none(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXHASH_DATA_DIR", "/from/environment")
    assert find_folder(tmp_path) == tmp_path
    assert find_folder(None) == Path("/from/environment")
    monkeypatch.setenv("JAXHASH_DATA_DIR", "")
    assert find_folder(None) is None
    monkeypatch.delenv("JAXHASH_DATA_DIR")
    assert find_folder(None) is None


def test_a_data_dir_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", str(tmp_path / "file")):
        with pytest.raises(DataError, match="data_dir is not a folder; create it"):
            find_folder(folder)
