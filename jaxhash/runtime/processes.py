"""Several processes that work on one sweep: who they are, who does what, and what happens when one of them dies.

They meet at a table of keys and values that process 0 serves (`table.py`). Each task is claimed there by the process
that asks for it first, each process tells there that it lives, and all learn there when the others are done. Arrays
never leave their process, so that neither NCCL nor gloo nor MPI has to work. JAX knows nothing of it and computes as in
a single process; Orbax, which would otherwise have all processes write every checkpoint together, lets each save the
tasks that it has trained. (`jax.distributed`, when process 0 dies, aborts the others before they have saved anything.)
"""

import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxhash.runtime.table import Service, Table, Unanswered

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_OF_SILENCE = 15.0
"""A process that has not told for so long that it lives is taken for dead."""
KILLED = "its connection ended"
"""Why a process has stopped that could not say it itself."""
SECONDS_TO_SAVE = 30.0
"""So long after that the others end, even in the middle of an epoch."""
SECONDS_TO_MEET = 300
"""So long processes wait for each other at the start."""
SECONDS_TO_APPEAR = 60.0
"""What another host wrote is seen after so long at the latest: NFS keeps what it knows of a folder for some time."""

ENVIRONMENT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
"""What Slurm tells the processes that `srun` starts."""
_FIRST_HOST = re.compile(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?")
"""Of `node001,host2`, `node[001-015]`, `node[001,007-015]-ib,host2`."""


class ProcessLost(ConnectionError):
    """Another process of the sweep has died, or has stopped."""


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> "Group | None":
    """Meet the other processes.

    Args:
        coordinator: host and port at which process 0 is reached, `host:port`.
        num_processes: how many there are.
        process_id: which one this is, from 0.
        environment: what is not given is taken from `ENVIRONMENT`, and if nothing is there either, from Slurm.

    Returns:
        The group, or None if this process is alone.

    Raises:
        ValueError: if only a part is given, or it contradicts itself.
        ConnectionError: if the others were not there in time.
    """
    found = _asked({"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}, environment)
    if found is None:
        return None
    address, count, index = found
    service, until = None, time.monotonic() + SECONDS_TO_MEET
    try:
        if index == 0:
            service = Service(int(address.rpartition(":")[2]))
        while (table := _met(address, count, index, until)) is None:
            time.sleep(0.2)
    except OSError as error:
        if service is not None:
            service.close()
        raise ConnectionError(f"process {index} of {count} cannot meet the others at {address}: {error}") from None
    return Group(index, count, table, service)


def _met(address: str, count: int, index: int, until: float) -> Table | None:
    """The table, once all processes are there; None as long as nobody serves it."""
    table = None
    try:
        table = Table(address, SECONDS_OF_SILENCE)
        table.set(f"joined/{index}", "")
        while (there := len(table.under("joined/"))) < count:
            if time.monotonic() > until:
                raise Unanswered(f"{there} of {count} are there after {SECONDS_TO_MEET} s")
            time.sleep(0.1)
    except Unanswered:
        if table is not None:
            table.close()
        if time.monotonic() > until:
            raise
        return None
    return table


def _asked(given: dict[str, Any], environment: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Address, number of processes and number of this one."""
    values: dict[str, Any] = {
        name: environment.get(ENVIRONMENT[name]) if value is None else value for name, value in given.items()
    }
    missing = [name for name, value in values.items() if value is None]
    if len(missing) == len(values):
        if all(name in environment for name in SLURM) and int(environment["SLURM_NTASKS"]) > 1:
            # Which devices a process sees is left to Slurm: by default all of its host.
            first = _FIRST_HOST.match(environment["SLURM_STEP_NODELIST"])
            host = "".join(first.groups("")) if first else ""
            # One of the ports that systems give out last, another for each job.
            port = 61_440 + int(environment["SLURM_JOB_ID"]) % 4096
            return f"{host}:{port}", int(environment["SLURM_NTASKS"]), int(environment["SLURM_PROCID"])
        return None
    if missing:
        name = missing[0]
        raise ValueError(
            f"several processes need all of {', '.join(ENVIRONMENT)}, but {name} is missing; give "
            f"--{name.replace('_', '-')}, or set {ENVIRONMENT[name]}"
        )
    try:
        address, count, index = values["coordinator"], int(values["num_processes"]), int(values["process_id"])
    except ValueError as error:
        raise ValueError(f"JAX_NUM_PROCESSES and JAX_PROCESS_ID have to be whole numbers: {error}") from None
    if not address.rpartition(":")[2].isdecimal():
        raise ValueError(f"coordinator={address!r} has no port; give host:port, such as {address}:12345")
    if not 0 <= index < count:
        raise ValueError(f"process_id={index} is outside 0 ... {count - 1}, for num_processes={count}")
    return (address, count, index) if count > 1 else None


class Group:
    """The processes of a sweep, seen from one of them."""

    def __init__(self, index: int, count: int, table: Table, service: Service | None = None) -> None:
        self.index, self.count = index, count
        self._table, self._service = table, service
        self._lost: str | None = None
        self._unheard = False
        self._dead: set[int] = set()
        self._sweeps = 0

    @contextmanager
    def sweep(self, stop: threading.Event) -> Iterator[None]:
        """Work together on a sweep, all on the same: `stop` is set when a process dies or stops.

        Raises:
            ProcessLost: if one did. What this one has saved until then is there.
        """
        self._sweeps += 1
        with self._answered():
            if self._count(f"started/{self.index}") > 1:
                # Nobody else would do the tasks that the one before had claimed.
                self._tell("left", "it was started again")
                raise ProcessLost(f"process {self.index} was here before; all have to start again together")
            self._tell("alive", "0")
            self._table.at_end(f"{self._prefix}/left/{self.index}", KILLED)
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(stop, over), name="watch", daemon=True)
        watch.start()
        try:
            yield
            with suppress(Unanswered):
                self._table.at_end("", "")
        except BaseException as error:
            if self._lost is not None:
                raise self._loss() from None
            with suppress(Unanswered):
                self._tell("left", f"{type(error).__name__}: {error}".removesuffix(": "))
            raise
        finally:
            over.set()
            watch.join()

    def claim(self, task: str) -> bool:
        """Whether a task is this process's to do: it is for the one that asks first."""
        with self._answered():
            return self._count(f"claims/{task}") == 1

    def meet(self, where: str, stop: threading.Event) -> None:
        """Wait until all processes are here, or `stop` is set.

        Raises:
            ProcessLost: if one of them is lost.
        """
        with self._answered():
            self._tell(where, "")
            while len(self._known(where)) < self.count:
                if stop.wait(0.1):
                    if self._lost is not None:
                        raise self._loss()
                    return

    def leave(self) -> None:
        """Part: process 0, which the others need, is the last to go."""
        until = time.monotonic() + SECONDS_TO_SAVE
        if not self._unheard:
            with suppress(Unanswered):  # process 0 is gone already
                self._sweeps = 0
                self._tell("gone", "")
                if self.index == 0:
                    while len(self._known("gone").keys() | self._dead) < self.count and time.monotonic() < until:
                        time.sleep(0.1)
        self._table.close()
        if self._service is not None:
            self._service.close()

    def _watch(self, stop: threading.Event, over: threading.Event) -> None:
        began = time.monotonic()
        heard = dict.fromkeys(range(self.count), ("", began))
        beat = 0
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            beat += 1
            try:
                self._tell("alive", str(beat))
                alive, left = self._known("alive"), self._known("left")
            except Unanswered as error:
                self._lose_the_first(error)
                alive, left = {}, {}
            now = time.monotonic()
            for i, (last, since) in heard.items():
                if (tells := alive.get(i, last)) != last:
                    heard[i] = tells, now
                elif now - since > (SECONDS_OF_SILENCE if last else SECONDS_TO_MEET):
                    self._dead.add(i)
                    self._lose(f"process {i} of {self.count} has not answered for {now - since:.0f} s")
            for i, why in left.items():
                if why == KILLED:
                    self._dead.add(i)
                self._lose(f"process {i} of {self.count} has stopped ({why})")
            if self._lost is not None:
                stop.set()
                if not over.wait(SECONDS_TO_SAVE):
                    print(f"Error: {self._loss()}", file=sys.stderr, flush=True)
                    os._exit(1)
                return

    @contextmanager
    def _answered(self) -> Iterator[None]:
        if self._unheard:
            raise self._loss()
        try:
            yield
        except Unanswered as error:
            self._lose_the_first(error)
            raise self._loss() from None

    @property
    def _prefix(self) -> str:
        return f"sweep-{self._sweeps}"

    def _count(self, what: str) -> int:
        """How often this was counted, by all of them, with this time."""
        return self._table.increment(f"{self._prefix}/{what}")

    def _tell(self, what: str, value: str) -> None:
        self._table.set(f"{self._prefix}/{what}/{self.index}", value)

    def _known(self, what: str) -> dict[int, str]:
        """What each process has told."""
        return {int(index): value for index, value in self._table.under(f"{self._prefix}/{what}/").items()}

    def _lose_the_first(self, error: Exception) -> None:
        self._unheard = True
        self._lose(f"process 0 of {self.count} does not answer any more ({error})")

    def _lose(self, message: str) -> None:
        self._lost = self._lost or message

    def _loss(self) -> ProcessLost:
        return ProcessLost(f"{self._lost}; process {self.index} has stopped too")


def appear(paths: Iterable[Path]) -> None:
    """Wait until what other hosts wrote is seen here.

    Raises:
        OSError: if it is not after `SECONDS_TO_APPEAR`.
    """
    until = time.monotonic() + SECONDS_TO_APPEAR
    for path in paths:
        while not path.exists():
            if time.monotonic() > until:
                raise OSError(
                    f"{path}, which another process wrote, does not appear; is the folder shared by all hosts?"
                )
            time.sleep(0.2)
