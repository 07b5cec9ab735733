"""What the device can do at most, measured: float32 products, int8 products, bytes read and written."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bench import harness


class Ceilings(NamedTuple):
    """A second, on the first device."""

    float32_flops: float
    """Of large square products at JAX's default precision."""
    int8_operations: float
    """Of large square products of int8 with int32 sums; 2 a multiply-add."""
    bytes_moved: float
    """Read plus written by a pass over an array that no cache holds."""

    def as_json(self) -> dict[str, float]:
        """By name."""
        return dict(self._asdict())


@cache
def ceilings(quick: bool) -> Ceilings:
    """Measured once in a process."""
    harness.say("measuring what the device can do")
    return Ceilings(
        harness.rate(harness.matrix_products(512 if quick else 8192)),
        harness.rate(int8_products(256 if quick else 8192)),
        harness.rate(device_copies(2**22 if quick else 2**32)),
    )


def int8_products(size: int) -> harness.Ceiling:
    """Square products of int8 with int32 sums."""
    a = jnp.ones((size, size), jnp.int8)
    return lambda: jax.block_until_ready(int8_product(a, a)), 2.0 * size**3


def device_copies(size: int) -> harness.Ceiling:
    """Bytes of one array of so many bytes read, and of another one written, on the device."""
    x = jnp.zeros(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    return lambda: jax.block_until_ready(add(x)), 2.0 * size


@jax.jit
def int8_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Every row of a by every row of b, int32: the layout that int8 units of GPUs take."""
    return jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
