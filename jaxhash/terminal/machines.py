"""On what a sweep runs: the options of the commands for devices and processes (docs/cluster.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jaxhash.runtime import processes
from jaxhash.runtime.devices import same_bits_each_run


@dataclass(frozen=True)
class Machines:
    """Devices and processes that train a sweep. None of this changes its result on a CPU."""

    mesh: str = "auto"
    """Devices of each process: auto (all), none (the first), or how many."""
    reproducible: bool = False
    """On a GPU, use only kernels that give the same bits in every run, which may be slower. A CPU's do as they are."""
    coordinator: str | None = None
    """Several processes, each with the same command and the same --out on a file system they share: host:port at which
    process 0 is reached. By default JAX_COORDINATOR_ADDRESS; under Slurm's srun nothing of this need be given."""
    num_processes: int | None = None
    """How many processes there are (default: JAX_NUM_PROCESSES)."""
    process_id: int | None = None
    """Which one this is, from 0 (default: JAX_PROCESS_ID)."""

    def prepare(self) -> None:
        """What has to be asked for before JAX starts."""
        if self.reproducible:
            same_bits_each_run()

    @contextmanager
    def joined(self) -> Iterator[processes.Group | None]:
        """Together with the other processes, if there are any."""
        group = processes.join(self.coordinator, self.num_processes, self.process_id)
        try:
            yield group
        finally:
            if group is not None:
                group.leave()


ONE_PROCESS = Machines(num_processes=1, process_id=0, coordinator="localhost:0")
"""For what does not run in several: all devices of this process."""
