"""A device that runs out of memory, told in one line that says what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_TOLD = (
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
    except (ImportError, RuntimeError) as error:
        if any(text in str(error) for text in _TOLD):
            raise OutOfMemory(f"out of memory on this machine: {str(error).splitlines()[0]}. {mend}") from error
        if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        wanted = str(error).splitlines()[0].partition("RESOURCE_EXHAUSTED: ")[2]
        device = jax.devices()[0]
        raise OutOfMemory(f"out of memory on {device.device_kind} ({device.platform}): {wanted} {mend}") from error
    except MemoryError as error:
        wanted = f": {error}" if str(error) else ""  # Python's own says nothing
        raise OutOfMemory(f"out of memory on this machine{wanted}. {mend}") from error
