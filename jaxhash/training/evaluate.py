"""Evaluation of models: loss, accuracy and packed neural codes of all models of a block, streamed over the examples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxhash.codes.code import active, pack
from jaxhash.training.mlp import cross_entropy
from jaxhash.training.population import Block, Forward, NormStats, Params, forward

EXAMPLES_AT_A_TIME = 2048
"""Activations are held for this many examples only: 8 MB for 1,000 units, whatever the size of the data."""


class Evaluation(NamedTuple):
    """What a block's models make of a set of examples, in inference mode."""

    loss: Float[Array, " models"]
    """Mean cross-entropy, in nats; no L2 penalty."""
    accuracy: Float[Array, " models"]
    """Fraction of examples whose largest logit is the label's."""
    words: UInt32[Array, "models n words"]
    """Neural codes, packed: as many words as the longest takes."""


EvaluateFn = Callable[[Params, NormStats | None, Array, Array, Array | None], Evaluation]


def make_evaluate(block: Block) -> EvaluateFn:
    """The pure function `evaluate(params, stats, x, y, count) -> Evaluation`: x float32 [n, features], y int32 [n].

    Loss and accuracy are those of the first `count` examples (int32; None: of all), codes are given of every one: one
    program serves every count.

    Memory: the packed codes, and the activations of 2,048 examples. Cost: one forward pass.
    """

    def evaluate(
        params: Params,
        stats: NormStats | None,
        x: Float[Array, "n features"],
        y: Int[Array, " n"],
        count: Int[Array, ""] | None = None,
    ) -> Evaluation:
        def look(start: Array, size: int) -> tuple[Array, Array, Array]:
            some_x = jax.lax.dynamic_slice_in_dim(x, start, size)
            some_y = jax.lax.dynamic_slice_in_dim(y, start, size)
            out = forward(block, params, stats, some_x, train=False)
            correct = out.logits.argmax(1) == some_y
            losses = cross_entropy(out.logits, some_y)
            if count is not None:
                counts = start + jnp.arange(size) < count
                losses, correct = losses * counts, correct & counts
            return losses.sum(1), correct.sum(1), pack(block_patterns(block, out))

        n = x.shape[0]
        size = min(n, EXAMPLES_AT_A_TIME)
        whole = n // size
        losses, correct, words = jax.lax.map(lambda i: look(i * size, size), jnp.arange(whole))
        loss, hits = losses.sum(0), correct.sum(0)
        words = words.swapaxes(0, 1).reshape(words.shape[1], whole * size, -1)
        if rest := n - whole * size:
            last_loss, last_hits, last_words = look(jnp.array(whole * size), rest)
            loss, hits = loss + last_loss, hits + last_hits
            words = jnp.concatenate([words, last_words], 1)
        examples = n if count is None else count
        return Evaluation(loss / examples, hits / examples, words)

    return evaluate


def block_patterns(block: Block, out: Forward) -> Bool[Array, "models n bits"]:
    """The activation pattern of each model, layer after layer; of narrower ones with zeros behind it."""
    longest = block.widest * block.model.depth

    def pattern(m: int, units: int) -> Bool[Array, "n bits"]:
        bits = active(jnp.concatenate([z[m, :units] for z in out.pre_activations]).T)
        return jnp.pad(bits, ((0, 0), (0, longest - bits.shape[1])))

    return jnp.stack([pattern(m, units) for m, units in enumerate(block.units)])
