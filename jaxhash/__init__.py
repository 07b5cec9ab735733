"""Neural networks as hash functions, in JAX.

The public names and the rooms of the library stand in `__init__.pyi`, which is read here: each is imported when it is
first asked for, so that `import jaxhash` is quick and who only hashes keys does not wait for the training libraries.

    dataset -> training -> encoding -> codes -> sweeps (results) -> plots      networks as hash encoders
    keys -> hashing (study, perfect) -> a Hasher                               networks that learn a hash function
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("jaxhash")
