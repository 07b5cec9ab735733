"""JAX and the libraries on it are used by public names only: those that begin with `_` change between versions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = {"jax", "jaxlib", "flax", "optax", "chex", "orbax", "xarray"}


def private(source: str) -> list[str]:
    """Names of the libraries in a source of which a part begins with an underscore."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
    parts = [name.split(".") for name in names if name.replace(".", "").isidentifier()]
    return [".".join(p) for p in parts if p[0] in LIBRARIES and any(x[0] == "_" and x[:2] != "__" for x in p)]


@pytest.mark.parametrize("folder", ["jaxhash", "experiments", "bench", "tests"])
def test_no_private_name_is_used(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert {path.name: found for path in files if (found := private(path.read_text()))} == {}


def test_private_names_are_found():
    source = "import jax\nfrom jax._src import core\nfrom jax import numpy, _src\nimport jaxlib._x as y\njax._src.z()\n"
    assert private(source) == ["jax._src.core", "jax._src", "jaxlib._x", "jax._src.z", "jax._src"]
    assert private("import jax\njax.__version__\nfrom a._b import c\njax.tree.map(f)._asdict\n") == []
