"""Neural networks as hash functions, in JAX.

`jaxhash.load(run, width=..., repeat=...)` takes a trained model out of a sweep; `jaxhash.fit(keys)` learns a hash
function without collisions, a `Hasher`, of a list or of a `KeyFile`; `jaxhash.encode(fn)` gives the neural code of any
JAX model. The rest is in the modules:

    sweeps    data, models, population, train, codes, knn, kmeans, logistic, properties, sweep, runs, plots
    codes     codes, encoding (a package: its own list of modules)
    hashing   keys, table, policies, the learners (imitate, reinforce, actor_critic, ...), perfect, hasher, quality
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxhash.encoding import encode, encode_with_output
    from jaxhash.hashing.keys.source import KeyFile
    from jaxhash.hashing.perfect.fitting import FitConfig, NotPerfect, fit
    from jaxhash.hashing.perfect.hasher import Hasher, load_hasher
    from jaxhash.sweeps.folder import Model, load

__version__ = version("jaxhash")
__all__ = [
    "FitConfig",
    "Hasher",
    "KeyFile",
    "Model",
    "NotPerfect",
    "encode",
    "encode_with_output",
    "fit",
    "load",
    "load_hasher",
]

_HOMES = {
    "jaxhash.encoding": ["encode", "encode_with_output"],
    "jaxhash.hashing.perfect.hasher": ["Hasher", "load_hasher"],
    "jaxhash.hashing.keys.source": ["KeyFile"],
    "jaxhash.hashing.perfect.fitting": ["FitConfig", "NotPerfect", "fit"],
    "jaxhash.sweeps.folder": ["Model", "load"],
}


def __getattr__(name: str) -> object:
    # Imported when first asked for: who only hashes keys does not wait for the network libraries.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
