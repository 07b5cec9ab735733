"""Devices of this process, alone or as a mesh: where the models of a sweep are trained.

CPU            a place for every device: tasks are dealt out to them whole, and each runs the program that a single
               device would run, so that results are the same bits however many devices there are
accelerators   one place of all devices: the repeats of a task are split between them along the axis `models`
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

AXIS = "models"
SOON_COMPILED: dict[str, str | bool] = {"xla_gpu_enable_triton_gemm": False}
"""Compiler options of programs of exact float32 products. Without them, XLA tries out many Triton kernels for each
product on a GPU: `python -m bench.compile` has the seconds. On a CPU they have no effect."""

REPRODUCIBLE = "--xla_gpu_deterministic_ops=true"
"""Leaves out kernels that add in any order, and the trying out of kernels (XLA's documents, determinism)."""

_config: Any = jax.config  # its options have no types

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Devices that work on one task together, each on as many of its models."""

    devices: tuple[jax.Device, ...]

    @property
    def on_cpu(self) -> bool:
        """Whether they are the devices of a CPU, which are made of the same cores."""
        return self.devices[0].platform == "cpu"

    @property
    def split(self) -> Sharding:
        """How arrays lie whose first axis is that of the repeats."""
        return self._sharding(PartitionSpec(AXIS))

    @property
    def whole(self) -> Sharding:
        """How arrays lie that every device needs."""
        return self._sharding(PartitionSpec())

    def spread(self, tree: T) -> T:
        """Arrays with the repeats first, split between the devices.

        So that all get as many, the last repeat is trained more than once if it has to be; `gather` drops the copies.
        """
        count = len(self.devices)

        def filled(a: Any) -> Any:
            missing = -len(a) % count
            return jnp.concatenate([jnp.asarray(a), *[jnp.asarray(a[-1:])] * missing]) if missing else a

        return jax.device_put(jax.tree.map(filled, tree), self.split)

    def _sharding(self, spec: PartitionSpec) -> Sharding:
        if len(self.devices) == 1:
            return SingleDeviceSharding(self.devices[0])
        return NamedSharding(Mesh(self.devices, (AXIS,)), spec)


@cache
def training_options() -> dict[str, str | bool]:
    """Compiler options of programs that train on a CPU side by side, one a worker: Eigen makes their products.

    XLA's other library, YNNPACK, splits small products between all cores, which are at work already
    (`python -m bench.sweep_training`). It is left single convolutions, of which these programs have none: left nothing,
    XLA complains on stderr. Accelerators need no options, and an XLA that does not know these gets none.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, str | bool] = {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
    }
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # pragma: no cover (depends on the version)
        return {}
    return options


def same_bits_each_run() -> None:
    """Ask XLA for GPU programs that give the same bits in every run; has to come before JAX has computed anything.

    Otherwise XLA tries kernels out for each program, and takes those that were fastest that time, which may round
    differently; and it may add in any order. On a CPU programs repeat as they are.

    Raises:
        RuntimeError: if JAX has started.
    """
    if REPRODUCIBLE in os.environ.get("XLA_FLAGS", ""):
        return
    if _has_started():
        raise RuntimeError(f"JAX has started already; set XLA_FLAGS={REPRODUCIBLE} in the environment instead")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {REPRODUCIBLE}".strip()


def worker_count() -> int:
    """How many tasks are worked on side by side: one a core on CPU, one on an accelerator."""
    return cores() if jax.default_backend() == "cpu" else 1


def cores() -> int:
    """Cores that this process may use; all of the machine where the system has no such limit (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gather(tree: T, repeats: int) -> T:
    """What `Place.spread` split: the first so many repeats, on the host."""
    return jax.tree.map(lambda a: a[:repeats], jax.device_get(tree))


def soon_compiled(*static: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """A decorator: `jax.jit` with `SOON_COMPILED`; within another program, which has the options, a part of that one.

    Args:
        static: names of static arguments.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        compiled = jax.jit(function, static_argnames=static, compiler_options=SOON_COMPILED)

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> T:
            within = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((arguments, named)))
            return (function if within else compiled)(*arguments, **named)

        return call

    return decorate


def places(mesh: str = "auto") -> list[Place]:
    """The places of this process.

    Args:
        mesh: `auto`: on all its devices; `none`: on the first; a number: on the first so many.

    Raises:
        ValueError: if it is something else, or there are not as many devices.
    """
    devices = jax.local_devices()
    if mesh in ("auto", "none"):
        count = len(devices) if mesh == "auto" else 1
    elif mesh.isdecimal() and int(mesh) >= 1:
        count = int(mesh)
    else:
        raise ValueError(f"mesh={mesh!r} is not valid: give auto, none, or a number of devices from 1 on")
    if count > len(devices):
        mend = f"give at most {len(devices)}, or auto"
        if devices[0].platform == "cpu":
            mend += f"; XLA_FLAGS=--xla_force_host_platform_device_count={count} makes {count} of a CPU"
        raise ValueError(f"mesh={mesh} is more than the {len(devices)} devices of this process; {mend}")
    together = Place(tuple(devices[:count]))
    return [Place((device,)) for device in together.devices] if together.on_cpu else [together]


def _has_started() -> bool:
    """Whether JAX has made its devices. It says so only by refusing to make others."""
    before = _config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", 2 if before == 1 else 1)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", before)
    return False
