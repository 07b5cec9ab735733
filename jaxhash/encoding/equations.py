"""Equations of a jaxpr (`scan`, `while`, calls): the jaxprs inside them, their variables, their line in user code.

All that depends on how a version of JAX writes its equations stands here. Counts are read from the variables, not from
parameters: JAX 0.10 has `num_consts` and `num_carry` of a scan, JAX 0.12 has trees in their place.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

_JAX = str(Path(jax.__file__).parent)
_TRACED_FROM = str(Path(__file__).with_name("transform.py"))
_TRACERS = {"api_util.py", "linear_util.py", "pjit.py"}
_TRANSFORM = re.compile(r"\b(?:vmap|jvp|transpose|jit|pjit|shard_map|checkpoint|remat2?)\(([^()]*)\)")
_STRUCTURE = {"", "while", "scan", "body", "cond", "closed_call", "checkpoint", "remat", "rematted_computation"}


class Scan(NamedTuple):
    """How a scan divides its inputs: constants, what is carried, and the rest, of which each iteration gets a slice."""

    body: ClosedJaxpr
    consts: int
    carried: int


class While(NamedTuple):
    """How a while loop divides its inputs: constants of the test, constants of the body, and what is carried."""

    test: ClosedJaxpr
    body: ClosedJaxpr
    test_consts: int
    body_consts: int


def scan(eqn: JaxprEqn) -> Scan:
    """The parts of a scan. What is sliced, or stacked, has an axis fewer inside than outside."""
    (body,) = sub_jaxprs(eqn)
    sliced = sum(_rank(outer) > _rank(inner) for outer, inner in zip(eqn.invars, body.jaxpr.invars, strict=True))
    stacked = sum(_rank(outer) > _rank(inner) for outer, inner in zip(eqn.outvars, body.jaxpr.outvars, strict=True))
    carried = len(eqn.outvars) - stacked
    return Scan(body, len(eqn.invars) - sliced - carried, carried)


def while_loop(eqn: JaxprEqn) -> While:
    """The parts of a while loop."""
    test, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    carried = len(eqn.outvars)
    return While(test, body, len(test.jaxpr.invars) - carried, len(body.jaxpr.invars) - carried)


def sub_jaxprs(eqn: JaxprEqn) -> Iterator[ClosedJaxpr]:
    """The jaxprs among the parameters of an equation, that take as many arguments as they say."""
    for parameter in eqn.params.values():
        for item in parameter if isinstance(parameter, tuple | list) else (parameter,):
            if isinstance(item, ClosedJaxpr):
                yield item
            elif isinstance(item, Jaxpr) and not item.constvars:  # JAX 0.10; in 0.12 the two are one class
                yield ClosedJaxpr(item, ())


def varying_axes(aval: Any) -> frozenset[str]:
    """Names of the mesh axes along which a value inside shard_map differs."""
    manual = getattr(aval, "manual_axis_type", None)
    return frozenset() if manual is None else frozenset(manual.varying)


def source(eqn: JaxprEqn, around: str) -> str:
    """The user's line that an equation of a function comes from, or else the one that calls this function."""
    traceback = eqn.source_info.traceback
    beyond = False
    frames: list[Any] = [] if traceback is None else traceback.frames
    for frame in frames:
        name, own = _file(frame.file_name)
        # Here ends the function traced. What called it is known better from `around`: a jitted function is traced at
        # its first call and found in a cache at the others.
        beyond |= name in _TRACERS
        if beyond and around:
            return around
        if frame.file_name == _TRACED_FROM:
            break
        if not own:
            return f"{name}:{frame.line_num}"
    return around


def scope(eqn: JaxprEqn, path: str) -> str:
    """The named scopes an equation stands in, behind `path`, without names of transformations and of control flow."""
    before, scopes = None, str(eqn.source_info.name_stack)
    while before != scopes:
        before, scopes = scopes, _TRANSFORM.sub(r"\1", scopes)
    return "/".join([part for part in [*path.split("/"), *scopes.split("/")] if part not in _STRUCTURE])


def _rank(atom: Any) -> int:
    return len(getattr(atom.aval, "shape", ()))


@cache
def _file(path: str) -> tuple[str, bool]:
    """Its name, and whether its lines say nothing to a user."""
    name = Path(path).name
    return name, path.startswith(_JAX) or name == "contextlib.py"
