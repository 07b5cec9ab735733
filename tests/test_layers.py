"""Imports point downward only, and the peers of the benchmarks stay in bench/."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PEERS = {"torch", "tensorflow", "keras", "faiss"}

# Lowest first: a module imports only modules that stand in an earlier line.
LAYERS = [
    ["bounded_files", "durable", "pickled_values"],
    [
        "checkpoint",
        "codes",
        "augment",
        "encoding.dataflow",
        "datafiles",
        "devices",
        "distributed",
        "examples",
        "lanes",
        "models",
        "device_memory",
        "run_lock",
        "signals",
        "hashing.side_by_side",
        "hashing.table",
        "hashing.key_batches",
    ],
    [
        "code_tiles",
        "image_files",
        "own_data",
        "tabular_data",
        "text_data",
        "encoding.reductions",
        "encoding.unit_rules",
        "hashing.key_lines",
        "hashing.unfinished",
    ],
    [
        "code_files",
        "convnets",
        "image_data",
        "geometry",
        "kmeans",
        "knn",
        "layer_codes",
        "logistic",
        "population",
        "hashing.keys",
    ],
    [
        "data",
        "code_clusters",
        "code_distances",
        "code_neighbours",
        "conv_codes",
        "properties",
        "train",
        "encoding.units",
        "hashing.key_source",
        "hashing.python_hash",
        "hashing.fingerprint",
        "hashing.batches",
        "hashing.policies",
    ],
    [
        "code_analytics",
        "conv_train",
        "evaluate",
        "encoding.example_axis",
        "grid",
        "encoding.interpret",
        "hashing.quality",
        "hashing.separation",
        "hashing.shards",
        "hashing.single",
        "hashing.learner",
        "hashing.export",
    ],
    ["encoding", "encoding.transform", "hashing.sharded_policy", "hashing.latent_policy"],
    ["hashing.quantised_policy"],
    [
        "runs",
        "hashing.latent",
        "hashing.hasher",
        "hashing.imitate",
        "hashing.reinforce",
        "hashing.guided",
        "hashing.soft_actor_critic",
        "hashing.sharded",
    ],
    [
        "tasks",
        "results",
        "plots",
        "regimes",
        "hashing.learning",
        "hashing.actor_critic",
        "hashing.table_reinforce",
        "hashing.meta",
    ],
    ["cost", "run_log", "hashing.perfect"],
    ["status", "sweep", "tensorboard", "hashing.fit_log"],
    ["cli", "hash_plots", "layer_properties", "variants"],
    ["effects", "phase_plots", "variant_plots"],
]
ABOVE = ["experiments", "bench"]
LEVELS = {f"jaxhash.{name}": level for level, names in enumerate(LAYERS) for name in names}
LEVELS |= {name: len(LAYERS) + level for level, name in enumerate(ABOVE)}


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


def level_of(module: str) -> int | None:
    return LEVELS.get(module.split(".")[0] if module.split(".")[0] in ABOVE else module)


def modules(*folders: str) -> list[str]:
    files = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in files)


@pytest.mark.parametrize("name", modules("jaxhash", "jaxhash/encoding", "jaxhash/hashing", "experiments", "bench"))
def test_a_file_imports_only_what_stands_below_it(name):
    if Path(name).name == "__init__.py":
        return  # what a package offers comes from within
    own = level_of(name.removesuffix(".py").replace("/", "."))
    assert own is not None, f"{name} has no layer; give it one"
    for module in imported(ROOT / name):
        level = level_of(module)
        # The experiments share files among themselves, and so do the benchmarks; modules of a layer do not.
        allowed = own if module.split(".")[0] in ABOVE else own - 1
        assert level is None or level <= allowed, f"{name} (layer {own}) imports {module} (layer {level})"


@pytest.mark.parametrize("name", modules("jaxhash", "jaxhash/encoding", "jaxhash/hashing", "experiments", "tests"))
def test_peers_are_imported_by_benchmarks_only(name):
    roots = {module.split(".")[0] for module in imported(ROOT / name)}
    assert not roots & PEERS


def test_the_layers_name_files_that_exist():
    for name in LEVELS:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
