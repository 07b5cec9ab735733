"""Several processes that work on one sweep: who they are, who does what, and what happens when one of them dies.

They meet at the coordination service of `jax.distributed`, which process 0 runs and which keeps a table of keys and
values. Each task is claimed there by the process that asks for it first, each process tells there that it lives, and
all learn there when the others are done. Arrays never leave their process, so that neither NCCL nor gloo nor MPI has
to work. The service is one of our own, not JAX's global one: JAX computes as in a single process, and Orbax, which
would otherwise have all processes write every checkpoint together, lets each save the tasks that it has trained.

A client of the service aborts its process as soon as it cannot hear process 0, before anything is saved, and calls no
function of ours instead (jaxlib 0.10.2: `missed_heartbeat_callback` ends in std::bad_cast). So each process signs off
once all have met: from then on it only reads and writes the table, and an error there is an exception.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from jax._src import clusters
from jax._src.lib import _jax  # the service and the client of `jax.distributed`, which have no public names

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_OF_SILENCE = 15.0
"""A process that has not told for so long that it lives is taken for dead."""
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
"""What Slurm tells the processes that `srun` starts, and JAX reads."""


UNANSWERED = (RuntimeError, TimeoutError)
"""What a question to the service ends in that it does not answer."""


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
    try:
        service = None
        if index == 0:
            service = _jax.get_distributed_runtime_service(f"[::]:{address.rpartition(':')[2]}", count)
        table = _jax.get_distributed_runtime_client(
            address, index, init_timeout=SECONDS_TO_MEET, shutdown_on_destruction=False
        )
        table.connect()
        table.shutdown()
    except RuntimeError as error:
        raise ConnectionError(
            f"process {index} of {count} cannot meet the others at {address}: {_brief(error)}"
        ) from None
    return Group(index, count, table, service)


def _asked(given: dict[str, Any], environment: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Address, number of processes and number of this one."""
    values: dict[str, Any] = {
        name: environment.get(ENVIRONMENT[name]) if value is None else value for name, value in given.items()
    }
    missing = [name for name, value in values.items() if value is None]
    if len(missing) == len(values):
        if all(name in environment for name in SLURM) and int(environment["SLURM_NTASKS"]) > 1:
            # Which devices a process sees is left to Slurm: by default all of its host.
            slurm: Any = clusters.ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, "slurm", SECONDS_TO_MEET
            )
            return slurm[:3]
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

    def __init__(self, index: int, count: int, table: Any, service: Any = None) -> None:
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
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(stop, over), name="watch", daemon=True)
        watch.start()
        try:
            yield
        except BaseException as error:
            if self._lost is not None:
                raise self._loss() from None
            with suppress(*UNANSWERED):
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
            with suppress(*UNANSWERED):  # process 0 is gone already
                self._sweeps = 0
                self._tell("gone", "")
                if self.index == 0:
                    while len(self._known("gone").keys() | self._dead) < self.count and time.monotonic() < until:
                        time.sleep(0.1)
                    time.sleep(1)  # they close their connections
        if self._service is not None:
            self._service.shutdown()

    def _watch(self, stop: threading.Event, over: threading.Event) -> None:
        began = time.monotonic()
        heard = dict.fromkeys(range(self.count), ("", began))
        beat = 0
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            beat += 1
            try:
                self._tell("alive", str(beat))
                alive, left = self._known("alive"), self._known("left")
            except UNANSWERED as error:
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
        except UNANSWERED as error:
            self._lose_the_first(error)
            raise self._loss() from None

    @property
    def _prefix(self) -> str:
        return f"jaxhash/{self._sweeps}"

    def _count(self, what: str) -> int:
        """How often this was counted, by all of them, with this time."""
        key = f"{self._prefix}/{what}"
        return _in_time(lambda: int(self._table.key_value_increment(key, 1)))

    def _tell(self, what: str, value: str) -> None:
        key = f"{self._prefix}/{what}/{self.index}"
        _in_time(lambda: self._table.key_value_set(key, value, allow_overwrite=True))

    def _known(self, what: str) -> dict[int, str]:
        """What each process has told."""
        folder = f"{self._prefix}/{what}/"
        entries = _in_time(lambda: self._table.key_value_dir_get(folder))
        return {int(key.rpartition("/")[2]): value for key, value in entries}

    def _lose_the_first(self, error: Exception) -> None:
        # Not asked again: a process 0 that has been started again would not know this one, and end it at once.
        self._unheard = True
        self._lose(f"process 0 of {self.count} does not answer any more ({_brief(error)})")

    def _lose(self, message: str) -> None:
        self._lost = self._lost or message

    def _loss(self) -> ProcessLost:
        return ProcessLost(f"{self._lost}; process {self.index} has stopped too")


def _in_time(ask: Callable[[], T]) -> T:
    """What the service answers.

    Raises:
        UNANSWERED: if it cannot be reached, or is silent for too long, as when its host has lost its power.
    """
    answer: Future[T] = Future()

    def wait() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    # The client itself would wait for ever.
    threading.Thread(target=wait, name="ask", daemon=True).start()
    try:
        return answer.result(SECONDS_OF_SILENCE)
    except TimeoutError:
        raise TimeoutError(f"silent for {SECONDS_OF_SILENCE:g} s") from None


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0].split(";")[0]


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
