"""Readers of files from strangers: for each some small whole files to begin with, and what may come of any other.

`READERS` has them all. A function of it gets an empty folder of its own and imports what it needs itself, so that the
process that fuzzes it (`fuzz_harness.py`) loads and watches no more than that.
"""

from tests.faults.fuzz_datasets import adult, cifar_binary, cifar_python, idx, imdb_archive, imdb_lines, keys, npz, svhn
from tests.faults.fuzz_saved import (
    checkpoint,
    codes,
    exported,
    hasher,
    hasher_arrays,
    lock,
    report,
    run_config,
    run_log,
    run_program,
    run_task,
)

READERS = {
    reader.__name__: reader
    for reader in (
        idx,
        cifar_python,
        cifar_binary,
        svhn,
        npz,
        adult,
        imdb_lines,
        imdb_archive,
        keys,
        codes,
        checkpoint,
        hasher,
        hasher_arrays,
        exported,
        run_config,
        run_log,
        run_task,
        run_program,
        lock,
        report,
    )
}
