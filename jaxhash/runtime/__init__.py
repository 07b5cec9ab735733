"""The machine under a run: devices, workers, processes, signals, memory, and the random number streams drawn there.

In: what the machine and the user's environment say. Out: where to compute, how many workers, which process does what,
when to stop, and a key for each draw. Nothing here knows of networks or codes.

devices      the devices of a process as places to train on; how many workers; compiler options
streams      named PRNG streams: no two draws share a key
memory       an error for want of memory becomes one line with the mend
signals      SIGINT and SIGTERM ask a run to finish its step and save
processes    several processes on one sweep: each task is done once, and all stop when one is lost
table        the coordination table where these processes meet, served over TCP
"""

from jaxhash.runtime.devices import Place, places, worker_count
from jaxhash.runtime.memory import OutOfMemory
from jaxhash.runtime.processes import ProcessLost
from jaxhash.runtime.streams import Stream, stream_key

__all__ = [
    "OutOfMemory",
    "Place",
    "ProcessLost",
    "Stream",
    "places",
    "stream_key",
    "worker_count",
]
