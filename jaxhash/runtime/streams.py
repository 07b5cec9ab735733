"""PRNG streams: the named random number streams of a repeat, so that no two draws ever share a key.

A key is folded with the number of its stream first, and with counters (width, step, layer) only then: no counter can
meet the key of another stream, as step 2 would meet dropout if both were folded into the key of the repeat.

    repeat key = fold_in(key(seed), repeat)
    stream key = fold_in(repeat key, Stream)
    draw key   = fold_in(... fold_in(stream key, counter) ..., counter)

The order of the batches, the label noise and the random inputs are drawn by NumPy on the host: `host_generator`.
"""

from enum import IntEnum

import jax
import numpy as np
from jaxtyping import Array, Key


class Stream(IntEnum):
    """What a key is for. A number, once given, is never given to something else: results depend on it."""

    INIT = 0
    """Initial kernels; then the width."""
    ORDER = 1
    """Order of the batches of each epoch, on the host."""
    DROPOUT = 2
    """Dropout masks; then the step, the width, the layer."""
    MEASURE = 3
    """K-Means seedings on a model's codes; then the width."""
    MEASURE_LAYERS = 4
    """K-Means seedings on the codes of its layers; then the width."""
    INPUT_NOISE = 5
    """Noise on the inputs; then the step. All widths of a repeat see the same."""
    LABEL_NOISE = 6
    """Which labels are replaced, and by what, on the host."""
    RANDOM_INPUTS = 7
    """The random inputs whose codes are measured, on the host."""
    AUGMENT = 9
    """Movements of images; then the step."""
    INIT_CRITIC = 10
    """Initial kernels of a learner's critics."""
    KEYS = 11
    """Which hash keys an iteration of a learner sees; then the iteration."""
    HELD_OUT = 12
    """Which hash keys are held out of a learner's training."""
    HELD_OUT_KEYS = 13
    """Which of these an iteration measures; then the iteration."""
    DRAWS = 14
    """Bins drawn from a learner's policy; then the iteration."""
    REPLAY = 15
    """Which of a learner's past placements it learns from; then the iteration."""


def stream_key(key: Key[Array, ""], stream: Stream, *counters: Array | int) -> Key[Array, ""]:
    """The key of a draw: of a repeat (or a learner), for one purpose, at some counters, each of them 0 or more.

    >>> repeat = jax.random.key(0)
    >>> bool(stream_key(repeat, Stream.DROPOUT, 3) == stream_key(repeat, Stream.INPUT_NOISE, 3))
    False
    """
    for number in (int(stream), *counters):
        key = jax.random.fold_in(key, number)
    return key


def host_generator(key: Key[Array, ""], stream: Stream, counter: int = 0) -> np.random.Generator:
    """NumPy's Philox generator of a stream: each counter gives numbers of its own, 2**64 draws before they meet."""
    data = np.asarray(jax.random.key_data(stream_key(key, stream)))
    words = int.from_bytes(data.tobytes(), "little")
    return np.random.Generator(np.random.Philox(key=words % 2**128, counter=counter << 64))
