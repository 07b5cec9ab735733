"""Neural networks as hash functions, in JAX.

`jaxhash.load(run, width=..., repeat=...)` takes a trained model out of a sweep. The rest is in the modules: data,
models, population, train, codes, knn, kmeans, logistic, properties, sweep, checkpoint, plots.
"""

from importlib.metadata import version

from jaxhash.runs import Model, load

__version__ = version("jaxhash")
__all__ = ["Model", "load"]
