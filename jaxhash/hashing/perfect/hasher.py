"""Hasher, a finished hash function: keys in, bins out; saved, loaded and checked.

A key's bin depends on the key alone: on its fingerprint (`fingerprint.py`) and on integer weights and sums. No float is
compared anywhere, equal logits go to the first bin, so the bin is the same in any batch, process and device.
A saved hasher carries some keys with their bins, which are computed again when it is loaded.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32

from jaxhash.hashing.keys.batches import Places, batches, count, pipeline, split
from jaxhash.hashing.keys.fingerprint import fingerprint
from jaxhash.hashing.keys.lines import Flat
from jaxhash.hashing.keys.tokens import Tokens, list_blocks, listed_keys
from jaxhash.hashing.perfect import export
from jaxhash.hashing.perfect.methods import METHODS, Policy
from jaxhash.storage import checkpoint
from jaxhash.storage.checkpoint import CheckpointError

FORMAT = 2
"""Raised whenever the same arrays come to mean another function."""
KIND = "jaxhash hasher"
MAX_BINS = 2**31 - 1

# Checked on loading, beside keys of the key set: lengths and bytes that it may not have.
_WITNESSES = (b"", b"\0", b"\0\0", b"a", b"a\0", b"jaxhash", "été".encode(), bytes(range(0, 256, 4)))
_HEADER_BITS = 3 * 32


@dataclasses.dataclass(frozen=True, eq=False)
class Hasher:
    """A hash function of keys onto the bins 0 ... num_bins - 1; any key gets a bin, those of its key set each its own.

    With fewer bins than keys in the key set, all bins are used as evenly as can be.
    """

    policy: Policy
    num_keys: int
    """Keys of the key set."""
    num_bins: int
    seed: int
    """Of the fingerprint, a 32-bit word."""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How it was made, for the record."""
    collisions: int = 0
    """Keys - occupied bins on the key set."""
    examples: tuple[bytes, ...] = ()
    """Some keys of the key set, saved with their bins."""

    def __call__(self, keys: Iterable[str | bytes] | Tokens | Flat) -> Int32[Array, " n"]:
        """The bin of each of n keys, on the default device; n may be 0.

        Keys and NumPy tokens are taken in batches of a few padded shapes, so that another number of keys is not
        compiled again; tokens on a device are taken as they are, and are read fastest where their width is a multiple
        of 4.

        Raises:
            TypeError, ValueError: as `keys.encode_keys`.
        """
        parts: Iterator[tuple[Places, Tokens]]
        if isinstance(keys, Tokens):
            if isinstance(keys.characters, jax.Array):
                return _jitted(self._arrays, keys)
            n, parts = len(keys.lengths), split(keys)
        elif isinstance(keys, Flat):
            n, parts = len(keys.lengths), batches(keys)
        else:
            listed = listed_keys(keys)
            n, parts = len(listed), pipeline(list_blocks(listed))
        arrays = self._arrays
        # While the device works on one batch, the host prepares the next; none is waited for until all are under way.
        found = [(places, _jitted(arrays, tokens)) for places, tokens in parts]
        bins = np.empty(n, np.int32)
        for places, some in found:
            bins[places] = np.asarray(some)[: count(places)]
        return jnp.asarray(bins)

    def apply(self, tokens: Tokens) -> Int32[Array, " n"]:
        """The same for tokens, as a pure function to be jitted with others."""
        return _bins(self._arrays, tokens)

    @property
    def method(self) -> str:
        """The method that found the policy: `sharded`, `seeds` or `network`."""
        return next(name for name, method in METHODS.items() if isinstance(self.policy, method.policy))

    @property
    def load(self) -> float:
        """Load factor: keys / bins."""
        return self.num_keys / self.num_bins

    @property
    def bits(self) -> int:
        """Size of all that the function depends on: the arrays, the seed, the numbers of keys and of bins."""
        return sum(8 * leaf.size * leaf.dtype.itemsize for leaf in self.policy) + _HEADER_BITS

    @property
    def bits_per_key(self) -> float:
        """`bits` / keys; not a number if there are no keys."""
        return self.bits / self.num_keys if self.num_keys else math.nan

    @functools.cached_property
    def _arrays(self) -> "_Arrays":
        tables = METHODS[self.method].lookup(self.policy, max(self.num_keys, self.num_bins))
        return jax.device_put(_Arrays(tables, np.uint32(self.seed), np.int32(self.num_bins), self.method))

    def save(self, path: str | Path) -> None:
        """Write the hasher to the new folder `path`, whole or not at all.

        Raises:
            OSError: if it cannot be written, or `path` exists; what is there is left alone.
        """
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists; give another folder, or delete it first")
        description = {
            "kind": KIND,
            "hasher_format": FORMAT,
            "method": self.method,
            "arrays": {name: [list(a.shape), str(a.dtype)] for name, a in self.policy._asdict().items()},
            "num_keys": self.num_keys,
            "num_bins": self.num_bins,
            "seed": self.seed,
            "collisions": self.collisions,
            "config": self.config,
            "golden": [[key.hex(), b] for key, b in self._golden()],
        }
        checkpoint.save(path, jax.tree.map(jnp.asarray, self.policy)._asdict(), description)

    def export(self, path: str | Path) -> None:
        """Write the function to the new file `path` as StableHLO, to be run without this package; see `export.py`.

        Raises:
            OSError: if it cannot be written, or `path` exists; what is there is left alone.
        """
        export.save(path, self.apply, self.num_keys, self.num_bins, self._golden())

    def _golden(self) -> list[tuple[bytes, int]]:
        """Keys with their bins, to be checked where the function is read back."""
        keys = [*_WITNESSES, *self.examples]
        return list(zip(keys, np.asarray(self(keys)).tolist(), strict=True))


def load_hasher(path: str | Path) -> Hasher:
    """The hasher saved in a folder, once it was found undamaged and to give the same bins as where it was saved.

    Raises:
        CheckpointError: if it is missing, damaged, of another format, not a hasher, or gives other bins here.
    """
    path = Path(path)
    description = checkpoint.describe(path)
    if description.get("kind") != KIND:
        raise CheckpointError(f"{path}: holds no hasher, but another kind of checkpoint; give what `fit` has saved")
    if (found := description.get("hasher_format")) != FORMAT:
        raise CheckpointError(f"{path}: hasher format {found}, but this jaxhash reads {FORMAT}; use the one that wrote")
    try:
        like = {name: checkpoint.abstract(s, t) for name, (s, t) in description["arrays"].items()}
        kind = METHODS[description["method"]].policy
        names = ("num_keys", "num_bins", "seed", "config", "collisions")
        golden = [(bytes.fromhex(key), int(b)) for key, b in description["golden"]]
        hasher = Hasher(
            kind(**checkpoint.restore(path, like)),
            **{name: description[name] for name in names},
            examples=tuple(key for key, _ in golden[len(_WITNESSES) :]),
        )
        _check(hasher)
    except CheckpointError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: the description of the hasher is not complete, or not true ({error!r})"
        ) from error
    bins = np.asarray(hasher([key for key, _ in golden]))
    if wrong := [i for i, (_, b) in enumerate(golden) if bins[i] != b]:
        key, b = golden[wrong[0]]
        raise CheckpointError(
            f"{path}: {len(wrong)} of {len(golden)} keys get other bins here than where it was saved, such as "
            f"{key[:60]!r}: {bins[wrong[0]]} instead of {b}; this device or JAX does not compute integers correctly"
        )
    return hasher


def floor_bits_per_key(load: float) -> float:
    """Least bits per key of any perfect hash with this load factor; log2(e) = 1.44 for a minimal one.

    Source: Mehlhorn, "On the program size of perfect and universal hash functions" (FOCS 1982), in the limit of many
    keys: log2(e) * (1 + (1 / load - 1) * ln(1 - load)).

    Raises:
        ValueError: if the load is not in (0, 1].
    """
    if not 0 < load <= 1:
        raise ValueError(f"load={load} is not in (0, 1]; a perfect hash needs at least as many bins as keys")
    return math.log2(math.e) * (1 + (1 / load - 1) * math.log1p(-load) if load < 1 else 1)


@dataclasses.dataclass(frozen=True)
class _Arrays:
    """What a hasher computes with. Sizes are arrays as well: another number of bins is not compiled again."""

    tables: Any
    seed: Any
    num_bins: Any
    method: str


jax.tree_util.register_dataclass(_Arrays, data_fields=["tables", "seed", "num_bins"], meta_fields=["method"])


def _check(hasher: Hasher) -> None:
    """Whether what was read from a file of unknown origin is a hasher; nothing is computed with it before.

    Raises:
        ValueError: if it is not.
    """
    for name, least, most in (
        ("num_keys", 0, MAX_BINS),
        ("num_bins", 1, MAX_BINS),
        ("seed", 0, 2**32 - 1),
        ("collisions", 0, MAX_BINS),
    ):
        value = getattr(hasher, name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name}={value!r}")
    # The type checks of the tests come first.
    if not isinstance(hasher.config, dict):  # pragma: no cover
        raise ValueError(f"config={hasher.config!r}")
    METHODS[hasher.method].check(hasher.policy, hasher.num_keys, max(hasher.num_keys, hasher.num_bins))


def _bins(arrays: _Arrays, tokens: Tokens) -> Int32[Array, " n"]:
    # Where bins are fewer than keys, slots go to the bins in turn.
    return METHODS[arrays.method].slots(arrays.tables, fingerprint(tokens, arrays.seed)) % arrays.num_bins


_jitted = jax.jit(_bins)
