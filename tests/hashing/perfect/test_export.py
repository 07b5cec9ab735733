"""Exported functions, run by a process that knows JAX and NumPy only."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from jaxhash import cli
from jaxhash.hashing.keys.words import load_keys
from jaxhash.hashing.perfect import export
from jaxhash.hashing.perfect.export import FUNCTION, META, README, ExportError
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.network import NetworkMethodConfig
from tests.commands import status_of

KEYS = load_keys("english", count=300)
rng = np.random.default_rng(0)
BYTES = [b"", b"\0", b"\0\0", *(rng.bytes(int(length)) for length in rng.integers(0, 150, 200)), b"x" * 3000]

ELSEWHERE = """
import json, sys, zipfile
import jax, numpy as np
function = jax.export.deserialize(bytearray(zipfile.ZipFile(sys.argv[1]).read("function.stablehlo")))
keys = [bytes.fromhex(key) for key in json.load(sys.stdin)]
length = max(1, *map(len, keys))
characters = np.array(keys, f"S{length}").view(np.uint8).reshape(len(keys), length)
bins = jax.jit(function.call)(characters, np.array([*map(len, keys)], np.int32))
print(json.dumps([np.asarray(bins).tolist(), sorted(m for m in sys.modules if m.partition(".")[0] == "jaxhash")]))
"""


@pytest.fixture(scope="module", params=["sharded", "network"])
def hasher(request):
    return fit(KEYS, FitConfig(method=request.param, network=NetworkMethodConfig(hidden=128)))


@pytest.fixture(scope="module")
def exported(hasher, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "function.zip"
    hasher.export(path)
    return path


def test_a_process_with_jax_only_gives_the_same_bins(hasher, exported):
    keys = [*KEYS, *BYTES]
    given = json.dumps([key.hex() for key in keys])
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, str(exported)], input=given, capture_output=True, text=True, check=True
    )
    bins, ours = json.loads(done.stdout)
    assert ours == []
    assert bins == np.asarray(hasher(keys)).tolist()
    assert len(set(bins[: len(KEYS)])) == len(KEYS)


def test_read_back_it_takes_any_number_of_keys_of_any_length(hasher, exported):
    function = export.load(exported)
    assert (function.num_keys, function.num_bins) == (300, 300)
    for keys in ([], KEYS[:1], [*BYTES, *KEYS], [key.decode() for key in KEYS]):
        bins = function(keys)
        assert bins.dtype == np.int32
        np.testing.assert_array_equal(bins, hasher(keys))
    with pytest.raises(TypeError, match="keys is one str"):
        function("word")


def test_the_file_says_what_it_is_and_how_to_use_it(hasher, exported):
    with zipfile.ZipFile(exported) as archive:
        meta, readme = json.loads(archive.read(META)), archive.read(README).decode()
        function = jax.export.deserialize(bytearray(archive.read(FUNCTION)))
    assert (meta["num_keys"], meta["num_bins"], meta["format"]) == (300, 300, export.FORMAT)
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}
    example = readme.partition("\n\n")[2].partition("\n\nmeta.json")[0]
    lines = [line.removeprefix("    ") for line in example.splitlines()]
    folder = exported.parent
    done = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(lines)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(np.asarray(hasher(["some", "keys"])))


def test_an_existing_file_is_left_alone(hasher, exported):
    before = exported.read_bytes()
    with pytest.raises(FileExistsError, match="exists; give another file"):
        hasher.export(exported)
    assert exported.read_bytes() == before
    assert [f.name for f in exported.parent.iterdir()] == [exported.name]


def test_damage_is_one_clear_error(exported, tmp_path):
    whole = exported.read_bytes()
    path = tmp_path / "damaged"
    places = [0, 40, len(whole) // 2, len(whole) - 10]
    damaged = [whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :] for place in places]
    for content in (b"", b"some text\n", whole[: len(whole) // 2], *damaged):
        path.write_bytes(content)
        with pytest.raises(ExportError, match="damaged") as caught:
            export.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match="no such file"):
        export.load(tmp_path / "missing")


def rewritten(exported, path, **changes):
    """The same function under another description."""
    with zipfile.ZipFile(exported) as archive, zipfile.ZipFile(path, "w") as copy:
        meta = json.loads(archive.read(META)) | changes
        copy.writestr(META, json.dumps({name: value for name, value in meta.items() if value is not None}))
        copy.writestr(FUNCTION, archive.read(FUNCTION))
    return path


def test_other_formats_and_wrong_bins_are_refused(exported, tmp_path):
    golden = export._read(exported)[0]["golden"]
    golden[-1][1] += 1
    for name, changes, message in (
        ("kind", {"kind": "else"}, "no exported hash function"),
        ("format", {"format": 99}, "format 99"),
        ("digest", {"sha256": "0"}, "digest"),
        ("lacking", {"num_bins": None}, "not complete"),
        ("platform", {"platforms": ["rocm"]}, "exported for rocm, not for cpu"),
        ("golden", {"golden": golden}, "instead of"),
    ):
        with pytest.raises(ExportError, match=message):
            export.load(rewritten(exported, tmp_path / name, **changes))


def test_a_function_that_jax_cannot_read_is_one_error(exported, tmp_path):
    meta = export._read(exported)[0] | {"sha256": hashlib.sha256(b"no function").hexdigest(), "jax": "9.9"}
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr(META, json.dumps(meta))
        archive.writestr(FUNCTION, b"no function")
    with pytest.raises(ExportError, match=r"written by JAX 9\.9; JAX .* cannot read it") as caught:
        export.load(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_the_command_exports_and_applies(hasher, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_bytes(b"\n".join(KEYS))
    hasher.save(tmp_path / "saved")
    assert cli.run(cli.Export(tmp_path / "saved", tmp_path / "function.zip")) == cli.OK
    capsys.readouterr()
    assert cli.run(cli.Hash(tmp_path / "function.zip", str(words))) == cli.OK
    assert capsys.readouterr().out.split() == [str(b) for b in np.asarray(hasher(KEYS))]
    assert status_of(cli.Export(tmp_path / "saved", tmp_path / "function.zip")) == 1
    assert status_of(cli.Hash(words, str(words))) == 1
    error = capsys.readouterr().err
    assert "exists; give another file" in error
    assert "no exported hash function" in error


def written(path, function, meta):
    """Another function, exported as ours are, with a digest that fits: what a forger would write."""
    shapes = jax.ShapeDtypeStruct((8, 8), np.uint8), jax.ShapeDtypeStruct((8,), np.int32)
    lowered = bytes(
        jax.export.export(jax.jit(function), disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("inverse")])(
            *shapes
        ).serialize()
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(META, json.dumps(meta | {"sha256": hashlib.sha256(lowered).hexdigest()}))
        archive.writestr(FUNCTION, lowered)
    return path


def test_a_function_that_calls_code_of_the_machine_is_not_run(exported, tmp_path):
    def call(characters, lengths):
        return jax.ffi.ffi_call("inverse", jax.ShapeDtypeStruct((8,), np.int32))(lengths)

    with pytest.raises(ExportError, match="calls code that is not in the file"):
        export.load(written(tmp_path / "x", call, export._read(exported)[0]))


def test_a_function_of_something_else_is_refused(exported, tmp_path):
    def rows(characters, lengths):
        return characters

    with pytest.raises(ExportError, match="not complete, or not true"):
        export.load(written(tmp_path / "x", rows, export._read(exported)[0]))


def test_archives_that_flood_or_hold_more_than_ours_are_refused(exported, tmp_path):
    with zipfile.ZipFile(exported) as archive:
        parts = {name: archive.read(name) for name in (META, FUNCTION)}
    flood = bytes(2**25)
    for name, change, message in (
        ("flood", {FUNCTION: flood}, "claims 33,5"),
        ("traversal", {"../../x": b""}, "other files"),
        ("nested", {META: b"[" * 100_000}, "recursion|nested"),
        ("numbers", {META: b"1" * 5_000}, "digits"),
        ("platforms", {META: json.dumps(json.loads(parts[META]) | {"platforms": 5}).encode()}, "exported for 5"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for inner, content in (parts | change).items():
                archive.writestr(inner, content)
        with pytest.raises(ExportError, match=message) as caught:
            export.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(ExportError, match="not a regular file"):
        export.load(tmp_path / "x")
