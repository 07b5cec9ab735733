"""Perfect hash of a key set: learned or searched by one of three methods, checked on every key, saved as one folder.

In: keys and a `FitConfig` (method, bins, seed). Out: a `Hasher`, which gives every key of the set a bin of its own, or
`NotPerfect` with the best one found. Names are imported when they are first asked for.

fitting                         `fit`; separation: fingerprints that differ; workers: on all devices; resume: long fits
sharded, seeds, network         the methods, each with its look-up (network_training: of the last); buckets: how
                                keys are divided; methods: their table
hasher                          `Hasher`, `load_hasher`
export                          a hasher as one file that needs only JAX and NumPy
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["export", "fitting", "hasher"],
    submod_attrs={
        "fitting": ["FitConfig", "NotPerfect", "fit"],
        "hasher": ["Hasher", "load_hasher"],
        "network": ["NetworkMethodConfig"],
        "seeds": ["SeedsConfig"],
        "sharded": ["ShardedConfig"],
    },
)
