"""Commands run within the process of the tests."""

from jaxhash import cli
from jaxhash.terminal.command import framed


def status_of(command):
    """Exit status of a sub-command of `jaxhash`, by its options."""
    try:
        framed(lambda: cli.run(command), kept="")
    except SystemExit as ended:
        return ended.code
    return 0
