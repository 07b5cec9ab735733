"""Matrix products of what is measured are exact float32 on every device: by default GPUs round them to TF32."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxhash.codes import lloyd
from jaxhash.codes.kmeans import _by_means
from jaxhash.codes.logistic import OneVsOne, _fit, predict


def shaped(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


WORDS, BITS = shaped(60, 2, dtype=jnp.uint32), 64
PROGRAMS = {
    "k-means": partial(
        jax.jit(lloyd._lloyd.__wrapped__, static_argnames=("k", "max_iterations")).lower,
        *(shaped(2, 3, BITS), shaped(2, 30, 2, dtype=jnp.uint32), shaped(dtype=jnp.int32), shaped()),
        k=3,
        max_iterations=5,
    ),
    "k-means, streamed": partial(
        jax.jit(_by_means, static_argnums=3).lower, WORDS, shaped(60, BITS), shaped(3, BITS), 3
    ),
    "logistic regression": partial(
        jax.jit(_fit.__wrapped__, static_argnames=("num_classes", "capacity")).lower,
        *(WORDS, shaped(60, dtype=jnp.int32), shaped(), None),
        num_classes=3,
        capacity=30,
    ),
    "its prediction": partial(predict.lower, OneVsOne(shaped(3, BITS), shaped(3), shaped(3, dtype=bool)), WORDS),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_products_are_exact(name):
    with jax.default_matmul_precision("default"):  # the suite's is exact
        text = PROGRAMS[name]().as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert [line for line in products if "precision = [HIGHEST, HIGHEST]" not in line] == []
