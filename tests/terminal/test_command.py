"""A command that is asked to stop: what it says, whenever the signal comes."""

import io
import os
import signal

from rich.console import Console

from jaxhash.terminal.command import interruptible


class Interrupts(io.StringIO):
    """A stream that a Ctrl-C interrupts once within a write, and that refuses to be written to meanwhile, as Python's
    buffered files do.
    """

    writing = False

    def write(self, text):
        if self.writing:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
        self.writing = True
        if "first" in text:
            os.kill(os.getpid(), signal.SIGINT)
        self.writing = False
        return super().write(text)


def test_a_ctrl_c_that_comes_while_something_is_written_is_heard(tmp_path, capfd):
    console = Console(file=Interrupts())
    with interruptible(tmp_path, console) as stop:
        console.print("the first line")
        assert stop.is_set()
    assert "Stopping after" in capfd.readouterr().err
    assert console.file.getvalue() == "the first line\n"


def test_a_ctrl_c_is_told_on_the_console(tmp_path):
    console = Console(file=io.StringIO())
    with interruptible(tmp_path, console) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
    assert console.file.getvalue().startswith("Stopping after")
