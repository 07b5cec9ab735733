"""Coordination table: keys and values that process 0 serves to the other processes of a sweep over TCP.

Each process keeps one connection open; a question is a line of JSON, and so is its answer. Like the service of
`jax.distributed`, it trusts its network: nothing is encrypted, and who reaches the port can write to the table. What
arrives is never run, and a line has a limit.
"""

import json
import socket
import socketserver
import threading
from contextlib import suppress
from typing import Any

MOST_BYTES = 2**20
"""The longest line that is read."""


class Unanswered(OSError):
    """The process that serves the table cannot be reached, has ended, or is silent for too long."""


class Table:
    """The table as each of the processes sees it, from any of its threads. Close it.

    Args:
        address: of the process that serves it, `host:port`.
        seconds: a question that is not answered after so long raises `Unanswered`, as do all that follow.
    """

    def __init__(self, address: str, seconds: float) -> None:
        host, _, port = address.rpartition(":")
        self._seconds, self._lock, self._why = seconds, threading.Lock(), ""
        try:
            self._connection = socket.create_connection((host.strip("[]"), int(port)), seconds)
        except OSError as error:
            raise Unanswered(error.strerror or str(error)) from None
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._connection.makefile("rb")

    def increment(self, key: str) -> int:
        """Add 1 to a count, which begins at 0: the new one. No two processes get the same."""
        return int(self._ask("increment", key))

    def set(self, key: str, value: str) -> None:
        """Write a value, of which the first thousand characters are kept; it replaces the one before."""
        self._ask("set", key, value[:1000])

    def under(self, prefix: str) -> dict[str, str]:
        """The values of all keys that begin so, by what follows."""
        return dict(self._ask("under", prefix))

    def at_end(self, key: str, value: str) -> None:
        """What the service writes when this connection ends, if nothing stands there; an empty key: nothing."""
        self._ask("at_end", key, value)

    def close(self) -> None:
        """Ask nothing more."""
        self._file.close()
        self._connection.close()

    def _ask(self, *question: str) -> Any:
        with self._lock:
            if not self._why:
                try:
                    self._connection.sendall(json.dumps(question).encode() + b"\n")
                    if line := self._file.readline(MOST_BYTES):
                        return json.loads(line)
                    self._why = "it closed the connection"
                except TimeoutError:
                    self._why = f"silent for {self._seconds:g} s"
                except OSError as error:
                    self._why = error.strerror or str(error)
                except ValueError:
                    self._why = "something else answers there"
            # An answer that comes late must not be taken for that of the next question.
            raise Unanswered(self._why)


class Service:
    """Serves a table on all addresses of this host, in threads of its own. Close it.

    Args:
        port: 0 for one that is free.

    Raises:
        OSError: if the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._server = _Server(port)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="table", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more; connections that are open end with the process."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        super().__init__(("", port), _Questions, bind_and_activate=False)
        self.socket.close()
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self.socket = socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=both)
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._values: dict[str, str] = {}

    def answer(self, what: str, key: str, value: str) -> Any:
        """What stands in the table, after this question."""
        with self._lock:
            if what == "increment":
                self._counts[key] = self._counts.get(key, 0) + 1
                return self._counts[key]
            if what == "set":
                self._values[key] = value
                return None
            if what == "end":
                self._values.setdefault(key, value)
                return None
            return {name[len(key) :]: said for name, said in self._values.items() if name.startswith(key)}


class _Questions(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        at_end = ("", "")
        # A process that ends, and one that is none of ours: the connection ends, and nothing is said.
        with suppress(OSError, ValueError, TypeError, RecursionError):
            while line := self.rfile.readline(MOST_BYTES):
                what, key, value = map(str, (*json.loads(line), "", "")[:3])
                if what == "at_end":
                    at_end, answer = (key, value), None
                else:
                    answer = self.server.answer(what, key, value)
                self.wfile.write(json.dumps(answer).encode() + b"\n")
        if at_end[0]:
            self.server.answer("end", *at_end)
