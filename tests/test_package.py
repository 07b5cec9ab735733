"""The front of the package: what `import jaxhash` offers, and what it costs."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxhash

ROOT = Path(jaxhash.__path__[0]).parent
ROOMS = {module.name for module in pkgutil.iter_modules(jaxhash.__path__) if module.ispkg}


def test_every_public_name_is_there():
    for name in jaxhash.__all__:
        assert getattr(jaxhash, name) is not None


def test_dir_shows_the_public_names_and_every_room():
    assert {*ROOMS, "encode", "fit", "load", "measure"} <= set(dir(jaxhash))


def test_import_alone_loads_neither_jax_nor_numpy():
    code = "import sys, jaxhash; dir(jaxhash); sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'flax')))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_who_only_hashes_keys_does_not_wait_for_the_training_libraries():
    heavy = ("flax", "optax", "sklearn", "pandas", "xarray", "matplotlib")
    code = f"import sys, jaxhash; jaxhash.fit, jaxhash.load_hasher; print(*set({heavy}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


PACKAGES = [module.name for module in pkgutil.walk_packages(jaxhash.__path__, "jaxhash.") if module.ispkg]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_what_it_is_for_and_names_its_modules(name):
    package = importlib.import_module(name)
    text = package.__doc__ or ""
    assert len(text) > 100, f"{name}: its docstring is too short to say what goes in and what comes out"
    words = set(re.findall(r"\w+", text))
    unnamed = {module.name for module in pkgutil.iter_modules(package.__path__)} - words
    assert not unnamed, f"{name}: its docstring does not say what is in {unnamed}"


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_that_a_package_lists_is_there(name):
    package = importlib.import_module(name)
    missing = [public for public in getattr(package, "__all__", ()) if not hasattr(package, public)]
    assert not missing, f"{name}.__all__ lists {missing}"


QUESTION = re.compile(r"(What|How|Which|Where|Who|Whose|When|Any)\b")


@pytest.mark.parametrize("path", sorted((ROOT / "jaxhash").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_begins_with_the_word_a_person_would_search_for(path):
    """A question in the first line hides it: "Hamming distances of codes", not "How far codes lie apart"."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert text, "it has no docstring"
    assert not QUESTION.match(text), text.splitlines()[0]
