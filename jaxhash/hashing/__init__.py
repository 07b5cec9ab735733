"""Hash functions that are neural networks: perfect hashes of a key set, and the study they come from.

In: keys (`str` or `bytes`, a list or a file). Out: a `Hasher` (n keys -> int32 [n] bins), or the history of a training.
Names are imported when they are first asked for.

keys          lines of a file, word lists, tokens, fingerprints, Python's own hash
perfect       `fit` a perfect hash, save it, load it, export it
study         the learners of "Neural Hash Functions" (A. Museth, CS285): REINFORCE, actor-critic, ...
quality       a hash function on unseen keys: collisions beside Python's hash, evenness, avalanche
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["keys", "perfect", "quality", "study"],
    submod_attrs={
        "keys": ["KeyFile", "load_keys", "tokenize"],
        "perfect": ["FitConfig", "Hasher", "NotPerfect", "fit", "load_hasher"],
        "quality": ["avalanche", "compare_with_python", "evenness"],
    },
)
