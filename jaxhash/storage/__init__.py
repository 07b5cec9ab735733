"""Storage: checkpoints, logs and locks, written whole or not at all, and checked when they are read.

In: arrays, descriptions, events. Out: files and folders that a crash or a power cut leaves whole, and their contents.

checkpoint      arrays and a description in a folder, checksummed (Orbax)
saves           step saves of one training: the latest to go on from, the older ones removed
event_log       JSON lines, written while a run works
locks           one process at a time in a folder, and which one
atomic          a file or folder gets its name once it is on the disk
program         a compiled function as bytes (StableHLO)
checked_read    files of unknown origin, read with a limit
"""

from jaxhash.storage.checkpoint import CheckpointError
from jaxhash.storage.locks import InUse

__all__ = ["CheckpointError", "InUse"]
