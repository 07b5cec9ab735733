"""A device that runs out of memory, told in one line that says what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_OF_JAX = "RESOURCE_EXHAUSTED"
_OF_OTHERS = (
    "failed to map segment from shared object",
    "annot allocate memory",
    "can't start new thread",
    "std::bad_alloc",
)
"""By libraries that are loaded or that start a thread, where no memory is left."""


class OutOfMemory(ValueError):
    """What was asked for does not fit into the memory there is."""


@contextmanager
def explained(mend: str) -> Iterator[None]:
    """Turn what JAX (RESOURCE_EXHAUSTED), NumPy and Python raise for want of memory into `OutOfMemory` with the mend.

    Raises:
        OutOfMemory: for want of memory, on the device or on the host. All other errors pass.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except Exception as error:
        want = next((met for met in (error, error.__cause__) if _is_want(met)), None)
        if want is None:
            raise
        said = str(want).partition("\n")[0]
        if isinstance(want, jax.errors.JaxRuntimeError):
            device, wanted = jax.devices()[0], said.partition(f"{_OF_JAX}: ")[2]
            raise OutOfMemory(f"out of memory on {device.device_kind} ({device.platform}): {wanted} {mend}") from error
        wanted = f": {said}" if said else ""  # Python's own says nothing
        raise OutOfMemory(f"out of memory on this machine{wanted}. {mend}") from error


def _is_want(error: BaseException | None) -> bool:
    if isinstance(error, jax.errors.JaxRuntimeError):
        return _OF_JAX in str(error)
    of_others = isinstance(error, ImportError | RuntimeError) and any(text in str(error) for text in _OF_OTHERS)
    return of_others or isinstance(error, MemoryError)
