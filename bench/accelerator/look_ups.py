"""Hash look-ups: keys as tokens on the device, bins left there, beside Python's loop over strings on the host."""

import random
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bench import harness, hash_peers, hash_throughput
from bench.accelerator import inputs
from bench.accelerator.ceilings import ceilings
from bench.accelerator.part import Setting, figure
from bench.data import renewed
from jaxhash.hashing.keys.tokens import Tokens, tokenize
from jaxhash.hashing.perfect.fitting import FitConfig, fit
from jaxhash.hashing.perfect.hasher import Hasher

LOOP, MAP = hash_throughput.PYTHON, hash_throughput.INTO_NUMPY
GOAL = 1_000
"""Times Python's loop."""


def run(setting: Setting) -> dict[str, Any]:
    """Nanoseconds a key by method and batch size, and ratios to Python's loop."""
    quick = setting.quick
    words, source = inputs.words(quick)
    asked = random.Random(0).sample(words, 1_000 if quick else 300_000)
    harness.say(f"fitting {len(words):,} keys")
    hashers = {method: fit(words, FitConfig(method=method)) for method in ("seeds", "sharded")}
    tokens = tokenize(asked, -(-max(len(word.encode()) for word in words) // 4) * 4)
    on_device = Tokens(*map(jnp.asarray, tokens))
    agreement = hash_throughput.agreement(hashers, asked, tokens, on_device)

    in_order, _ = renewed(asked)
    works: dict[str, harness.Timed] = {
        LOOP: harness.Work(hash_peers.python_loop(hash_throughput.FEW_BINS).of_words, in_order),
        MAP: harness.Work(hash_peers.numpy_map(hash_throughput.FEW_BINS, asked).of_words, in_order),
    }
    keys = {LOOP: len(asked), MAP: len(asked)}
    sizes = [len(asked) * times for times in ((1,) if quick else (1, 10, 100))]
    for size in sizes:
        batch = repeated(on_device, size // len(asked))
        for method, hasher in hashers.items():
            name = of(method, size)
            works[name], keys[name] = partial(_looked_up, hasher, batch), size
    seconds, _ = harness.interleaved(works, 1 if quick else 11, warm_up=True, keep=False)
    ns = {name: 1e9 * took / keys[name] for name, took in harness.medians(seconds).items()}
    bytes_a_key = tokens.characters.shape[1] + 4 + 4
    best = {method: min(ns[of(method, size)] for size in sizes) for method in hashers}
    return {
        "figures": [
            *(figure(f"x Python's loop, {method}, best batch", ns[LOOP] / best[method], GOAL) for method in hashers),
            *(figure(f"x Python's loop, {name}", ns[LOOP] / ns[name]) for name in ns if name not in (LOOP, MAP)),
            *(figure(f"G keys/s, {method}, best batch", 1 / best[method]) for method in hashers),
            *(
                figure(
                    f"share of the bandwidth, {method}", bytes_a_key / best[method] * 1e9 / ceilings(quick).bytes_moved
                )
                for method in hashers
            ),
        ],
        "data": source,
        "dictionary": len(words),
        "bytes_a_key": bytes_a_key,
        "ns_a_key": ns,
        "agreement": agreement,
        "seconds_of_rounds": seconds,
        "spread": harness.spreads(seconds),
    }


def of(method: str, size: int) -> str:
    """What a measurement is called."""
    return f"{method}, {size:,} keys"


def repeated(tokens: Tokens, times: int) -> Tokens:
    """The same keys again and again, on the device."""
    return Tokens(jnp.tile(tokens.characters, (times, 1)), jnp.tile(tokens.lengths, times))


def _looked_up(hasher: Hasher, tokens: Tokens) -> jax.Array:
    return jax.block_until_ready(hasher(tokens))
