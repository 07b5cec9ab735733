"""The front of the package: what `import jaxhash` offers, and what it costs."""

import pkgutil
import subprocess
import sys

import jaxhash

ROOMS = {module.name for module in pkgutil.iter_modules(jaxhash.__path__) if module.ispkg}


def test_every_public_name_is_there():
    for name in jaxhash.__all__:
        assert getattr(jaxhash, name) is not None


def test_dir_shows_the_public_names_and_every_room():
    assert {*ROOMS, "encode", "fit", "load", "measure"} <= set(dir(jaxhash))


def test_import_alone_loads_neither_jax_nor_numpy():
    code = "import sys, jaxhash; dir(jaxhash); sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'flax')))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
