"""How loops divide their variables, under whichever JAX is installed."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import ClosedJaxpr

from jaxhash.encoding import equations

X = jnp.ones((4, 3))
STACK = jnp.ones((4, 3))  # as long as X: only its rank inside the loop tells that it is sliced

SCANS = {
    "all kinds": (lambda c, h, x: jax.lax.scan(lambda h, x: (h + c.sum() * x, h), h, x), (X, X[0], STACK), 1, 1),
    "what is carried only": (lambda h: jax.lax.scan(lambda h, _: (2 * h, None), h, None, length=4), (X,), 0, 1),
    "slices only": (lambda x: jax.lax.scan(lambda h, x: (h, 2 * x), None, x), (STACK,), 0, 0),
    "two constants, two carried": (
        lambda c, d, h: jax.lax.scan(lambda h, _: ((h[1] + c, h[0] + d), None), (h, 2 * h), None, length=4),
        (X, X + 1, X),
        2,
        2,
    ),
    "a reversed map": (lambda c, x: jax.lax.scan(lambda h, x: (h, c @ x), None, x, reverse=True), (X, STACK), 1, 0),
}


def only(fn, args, primitive):
    (eqn,) = [eqn for eqn in jax.make_jaxpr(fn)(*args).jaxpr.eqns if eqn.primitive.name == primitive]
    return eqn


@pytest.mark.parametrize("name", SCANS)
def test_the_variables_of_a_scan_say_what_is_constant_carried_and_sliced(name):
    fn, args, consts, carried = SCANS[name]
    found = equations.scan(only(fn, args, "scan"))
    assert isinstance(found.body, ClosedJaxpr)
    assert (found.consts, found.carried) == (consts, carried)


def test_the_variables_of_a_while_loop_say_what_is_constant_and_carried():
    def loop(limit, c, d, h):
        return jax.lax.while_loop(lambda h: h[0].sum() < limit, lambda h: (h[0] + c, h[1] * d), (h, h))

    found = equations.while_loop(only(loop, (3.0, X, X + 1, X), "while"))
    assert (found.test_consts, found.body_consts) == (1, 2)
    assert (len(found.test.jaxpr.outvars), len(found.body.jaxpr.outvars)) == (1, 2)
