"""Imports point downward only, and the peers of the benchmarks stay in bench/."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PEERS = {"torch", "tensorflow", "keras", "faiss"}

# Lowest first: a file imports from the layers above its own line only, or from its own layer's earlier names.
LAYERS = [
    ["jaxhash.checkpoint", "jaxhash.codes", "jaxhash.datafiles", "jaxhash.models"],
    ["jaxhash.data", "jaxhash.kmeans", "jaxhash.knn", "jaxhash.logistic", "jaxhash.population"],
    ["jaxhash.properties", "jaxhash.train"],
    ["jaxhash.evaluate"],
    ["jaxhash.runs"],
    ["jaxhash.sweep", "jaxhash.plots"],
    ["experiments"],
    ["bench"],
]
SWEEP_ENGINE = {name for layer in LAYERS for name in layer}


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> int | None:
    for level, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return level
    return None


def modules(*folders: str) -> list[str]:
    files = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in files)


@pytest.mark.parametrize("name", modules("jaxhash", "experiments", "bench"))
def test_a_file_imports_only_what_stands_below_it(name):
    own = layer_of(name.removesuffix(".py").replace("/", "."))
    if own is None:
        pytest.skip("above the sweep engine")
    for module in imported(ROOT / name):
        level = layer_of(module)
        if level is not None and own < layer_of("experiments"):
            assert level < own, f"{name} (layer {own}) imports {module} (layer {level})"
        elif level is not None:
            assert level <= own, f"{name} (layer {own}) imports {module} (layer {level})"


@pytest.mark.parametrize("name", modules("jaxhash", "jaxhash/hashing", "experiments", "tests"))
def test_peers_are_imported_by_benchmarks_only(name):
    roots = {module.split(".")[0] for module in imported(ROOT / name)}
    assert not roots & PEERS


def test_the_layers_name_files_that_exist():
    for name in SWEEP_ENGINE:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
