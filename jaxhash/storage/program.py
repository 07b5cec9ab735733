"""Compiled functions as bytes (StableHLO, by `jax.export`), which run where the code that made them is not at hand.

What is read is a program, and may run for as long as it likes: read those of people you trust. It cannot read or write
files, as nothing in it may call code that is not in it. JAX promises to read such bytes for six months after they were
written, and does so for longer as a rule.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
from jax import export as jax_export

PLATFORMS = ("cpu", "cuda", "tpu")
# Compiled code of the machine, called by name, is all in StableHLO that could do more than compute. Only this is ours:
# JAX's check that sizes fit together.
_FOREIGN_CODE = re.compile(r"custom_call(?! @shape_assertion\()")


class ProgramError(ValueError):
    """Bytes that are no function, or none for this machine."""


class ForeignCode(ProgramError):
    """A function that calls code of the machine."""


def write(function: Callable[..., Any], *shapes: Any, platforms: tuple[str, ...] = PLATFORMS) -> bytes:
    """A function for arguments of these shapes (pytrees of `jax.ShapeDtypeStruct`), as bytes."""
    return bytes(jax_export.export(jax.jit(function), platforms=platforms)(*shapes).serialize())


def read(content: bytes) -> Callable[..., Any]:
    """The function that `write` wrote; it is not run.

    Raises:
        ProgramError: if JAX cannot read it, or it calls code that is not in it.
    """
    try:
        function = jax_export.deserialize(bytearray(content))
        foreign = _FOREIGN_CODE.search(function.mlir_module())
    except Exception as error:  # JAX and MLIR raise whatever they trip over
        raise ProgramError(f"JAX {jax.__version__} cannot read it ({str(error).partition(chr(10))[0]})") from error
    if foreign is not None:
        raise ForeignCode("it calls code that is not in the file")
    platform = jax_export.default_export_platform()
    if platform not in function.platforms:
        raise ProgramError(f"it is for {', '.join(function.platforms)}, not for {platform}; set JAX_PLATFORMS")
    return function.call
