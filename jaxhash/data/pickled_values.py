"""The values in a pickle, read without unpickling: numbers, bytes, lists, tuples, dicts, and records that do nothing.

`pickle.Unpickler` runs no code either once it refuses all names, but it lets a file of a few bytes ask for gigabytes
(PUT 999999999) or hash tuples for years. Here a few opcodes of protocol 2 are understood, as Python's own
`pickletools.genops` tells them apart, each in constant time and memory; any other is refused.
"""

import pickletools
from collections.abc import Callable
from typing import Any


class Refused(ValueError):
    """What is in the file is no pickle, or holds more than plain values."""


class Record:
    """What an object becomes: the arguments and the state it was given, and no code."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.state: Any = None


def read(content: bytes, names: frozenset[str]) -> Any:
    """The value in a pickle of protocol 2; text of Python 2 is bytes.

    Args:
        content: the pickle; what stands after its end is not looked at.
        names: `module.name` of the classes and functions that it may call: their results are records.

    Raises:
        Refused: if it asks for other names, has opcodes that no such value needs, or is damaged.
    """
    reader = _Reader(names)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                (value,) = reader.stack
                return value
            if (act := _ACTS.get(opcode.name)) is None:
                raise Refused(f"it asks for {opcode.name}, which no such file needs")
            act(reader, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"damaged: {error}"[:200]) from None
    raise Refused("it has no end")


class _Reader:
    """The stack and the memo of a pickle machine."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        """The stacks below the marks."""
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: None) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        above, self.stack = self.stack, self.outer.pop()
        return above

    def tuple_of(self, count: int) -> None:
        if count > len(self.stack):
            raise Refused("damaged: a tuple lacks values")
        at = len(self.stack) - count
        self.stack[at:] = [tuple(self.stack[at:])]

    def name(self, argument: str) -> None:
        name = argument.replace(" ", ".")
        if name not in self.names:
            raise Refused(f"it asks for {name}, which no such file needs"[:200])
        self.push(name)

    def call(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function not in self.names or not isinstance(arguments, tuple):
            raise Refused("it calls what is no function")
        self.push(Record(arguments))

    def build(self, _: None) -> None:
        state, record = self.stack.pop(), self.stack[-1]
        if not isinstance(record, Record):
            raise Refused("it gives a state to a plain value")
        record.state = state

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Refused("it adds to what is no list")
        self.stack[-1].extend(values)

    def update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise Refused("it adds to what is no dict")
        for key in items[::2]:
            # Others may take for ever to be hashed.
            if type(key) is not bytes:
                raise Refused(f"a {type(key).__name__} names a value")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]


_ACTS: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": lambda reader, _: None,
    "NONE": lambda reader, _: reader.push(None),
    "NEWTRUE": lambda reader, _: reader.push(True),
    "NEWFALSE": lambda reader, _: reader.push(False),
    "BININT": _Reader.push,
    "BININT1": _Reader.push,
    "BININT2": _Reader.push,
    "BINSTRING": lambda reader, text: reader.push(text.encode("latin-1")),
    "SHORT_BINSTRING": lambda reader, text: reader.push(text.encode("latin-1")),
    "EMPTY_LIST": lambda reader, _: reader.push([]),
    "EMPTY_DICT": lambda reader, _: reader.push({}),
    "EMPTY_TUPLE": lambda reader, _: reader.push(()),
    "MARK": _Reader.mark,
    "TUPLE": lambda reader, _: reader.push(tuple(reader.since_mark())),
    "TUPLE1": lambda reader, _: reader.tuple_of(1),
    "TUPLE2": lambda reader, _: reader.tuple_of(2),
    "TUPLE3": lambda reader, _: reader.tuple_of(3),
    "APPEND": lambda reader, _: reader.extend([reader.stack.pop()]),
    "APPENDS": lambda reader, _: reader.extend(reader.since_mark()),
    "SETITEM": lambda reader, _: reader.update([reader.stack.pop(), reader.stack.pop()][::-1]),
    "SETITEMS": lambda reader, _: reader.update(reader.since_mark()),
    "GLOBAL": _Reader.name,
    "REDUCE": _Reader.call,
    "BUILD": _Reader.build,
    "BINPUT": _Reader.put,
    "LONG_BINPUT": _Reader.put,
    "BINGET": lambda reader, place: reader.push(reader.memo[place]),
    "LONG_BINGET": lambda reader, place: reader.push(reader.memo[place]),
}
