"""Power losses: the system calls of a save are recorded, and the disk is rebuilt as a loss of power could leave it.

    python -m tests.faults.power_loss                # 1,000 losses of power, at random moments of a save

What was written to a file is on the disk for sure once the file was synced, and a name once its folder was. Until then
each write, and each change of a name, may be there or not, whatever came before or after it. However that falls out, a
resume finds a save that is right; once the save was reported, it finds that one. Linux, with strace.
"""

import random
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from tests.faults.trials import arrays, found, outcome_of, save_again, saves

TRACE = (
    *("-y", "-xx", "-s", "100000000", "-e"),
    "trace=openat,write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,"
    "rmdir,ftruncate,link,linkat,lseek,sendfile,copy_file_range,fallocate",
)
WRITES = {"write", "pwrite64", "writev", "pwritev"}
NO_CHANGE = {"lseek"}


@dataclass(frozen=True)
class Config:
    """Lose power at random moments of a save."""

    losses: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Write:
    """Bytes written at an offset; a file cut to the offset where they are None."""

    node: int
    offset: int
    content: bytes | None


@dataclass(frozen=True)
class Names:
    """Names given and taken in one step: (folder, name, node, or None where it is taken)."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Sync:
    """A file or folder was synced."""

    node: int


Step = Write | Names | Sync


@dataclass
class Disk:
    """What the process sees: the tree below a folder, and the steps that led to it."""

    folder: Path
    are_folders: list[bool] = field(default_factory=list)
    """Of each node, a file or a folder whatever its names are."""
    entries: dict[int, dict[str, int]] = field(default_factory=dict)
    opened: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of a file descriptor, the node and the offset at which it writes next."""
    steps: list[Step] = field(default_factory=list)
    begin: int = 0
    """Steps that made what was there before."""

    def __post_init__(self) -> None:
        self._new(is_folder=True)
        for path in sorted(self.folder.rglob("*")):
            if path.is_dir():
                self._name(path, self._new(is_folder=True))
            else:
                node = self._name(path, self._new())
                self.steps.append(Write(node, 0, path.read_bytes()))
        self.steps += [Sync(node) for node in range(len(self.are_folders))]
        self.begin = len(self.steps)

    def at(self, path: Path) -> int | None:
        """The node of a path; None if there is none, or it is elsewhere."""
        if not path.is_relative_to(self.folder):
            return None
        node: int | None = 0
        for name in path.relative_to(self.folder).parts:
            node = None if node is None else self.entries.get(node, {}).get(name)
        return node

    def apply(self, name: str, arguments: str, result: str) -> None:
        """Take in a system call that did not fail."""
        paths = _paths(name, arguments)
        if name == "openat":
            self._open(paths[0], arguments, int(re.match(r"\d+", result)[0]))  # type: ignore[index]
        elif name in WRITES:
            self._write(name, arguments, int(result))
        elif name in ("fsync", "fdatasync"):
            if (node := self.at(_described(arguments))) is not None:
                self.steps.append(Sync(node))
        elif name.startswith("rename"):
            self._rename(*paths)
        elif name.startswith("mkdir") and paths[0].is_relative_to(self.folder):
            self._name(paths[0], self._new(is_folder=True))
        elif name.startswith(("unlink", "rmdir")) and self.at(paths[0]) is not None:
            parent = self._parent(paths[0])
            del self.entries[parent][paths[0].name]
            self.steps.append(Names(((parent, paths[0].name, None),)))
        elif name not in NO_CHANGE and str(self.folder) in _text(arguments):
            raise ValueError(f"{name} changes files in a way that this does not follow: {arguments[:200]}")

    def _open(self, path: Path, arguments: str, descriptor: int) -> None:
        self.opened.pop(descriptor, None)
        if not path.is_relative_to(self.folder):
            return
        node = self.at(path)
        if node is None:
            node = self._name(path, self._new())
        elif "O_TRUNC" in arguments:
            self.steps.append(Write(node, 0, None))
        assert "O_APPEND" not in arguments
        self.opened[descriptor] = node, 0

    def _write(self, name: str, arguments: str, count: int) -> None:
        descriptor = int(re.match(r"\d+", arguments)[0])  # type: ignore[index]
        if descriptor not in self.opened or self.at(_described(arguments)) is None:
            return
        node, offset = self.opened[descriptor]
        content = b"".join(_strings(arguments))[:count]
        if name.startswith("p"):
            offset = int(arguments.rsplit(", ", 1)[1])
        else:
            self.opened[descriptor] = node, offset + count
        self.steps.append(Write(node, offset, content))

    def _rename(self, old: Path, new: Path) -> None:
        node = self.at(old)
        if node is None:
            return
        before, after = self._parent(old), self._parent(new)
        del self.entries[before][old.name]
        self.entries[after][new.name] = node
        self.steps.append(Names(((before, old.name, None), (after, new.name, node))))

    def _parent(self, path: Path) -> int:
        node = self.at(path.parent)
        assert node is not None
        return node

    def _new(self, *, is_folder: bool = False) -> int:
        node = len(self.are_folders)
        self.are_folders.append(is_folder)
        if is_folder:
            self.entries[node] = {}
        return node

    def _name(self, path: Path, node: int) -> int:
        parent = self._parent(path)
        self.entries[parent][path.name] = node
        self.steps.append(Names(((parent, path.name, node),)))
        return node


def rebuild(disk: Disk, moment: int, share: float, rng: random.Random, out: Path) -> None:
    """The disk after a loss of power before step `moment`; of what was not synced, about this share is there."""
    steps = disk.steps[:moment]
    last_sync: dict[int, int] = {}
    for number, step in enumerate(steps):
        if isinstance(step, Sync):
            last_sync[step.node] = number
    names: dict[int, dict[str, int]] = {}
    contents: dict[int, bytearray] = {}
    for number, step in enumerate(steps):
        if isinstance(step, Sync):
            continue
        # A step that changes two folders is on the disk once either is.
        touched = [step.node] if isinstance(step, Write) else [folder for folder, _, _ in step.changes]
        if max(last_sync.get(node, -1) for node in touched) < number and rng.random() >= share:
            continue
        if isinstance(step, Write):
            content = contents.setdefault(step.node, bytearray())
            if step.content is None:
                del content[step.offset :]
            else:
                content.extend(bytes(max(step.offset + len(step.content) - len(content), 0)))
                content[step.offset : step.offset + len(step.content)] = step.content
        else:
            for folder, name, node in step.changes:
                entries = names.setdefault(folder, {})
                entries.pop(name, None) if node is None else entries.update({name: node})
    _make(disk, names, contents, 0, out)


def _make(disk: Disk, names: dict[int, dict[str, int]], contents: dict[int, bytearray], node: int, out: Path) -> None:
    if not disk.are_folders[node]:
        out.write_bytes(contents.get(node, b""))
        return
    out.mkdir()
    for name, inner in names.get(node, {}).items():
        _make(disk, names, contents, inner, out / name)


def recorded(folder: Path) -> Disk:
    """A first save, and the steps of a second."""
    folder.mkdir()
    assert outcome_of(lambda folder: saves(folder).save(1, arrays(1)), folder).status == "done"
    disk = Disk(folder)
    assert outcome_of(save_again, folder, *TRACE).status == "done"
    for name, arguments, result in _calls((folder.parent / f"{folder.name}.strace").read_text()):
        if not result.startswith("-1"):
            disk.apply(name, arguments, result)
    assert len(disk.steps) > disk.begin
    return disk


def main(config: Config) -> None:
    """Lose power so many times; exit with 1 if a resume found something wrong, or nothing."""
    rng = random.Random(config.seed)
    with tempfile.TemporaryDirectory() as above:
        disk = recorded(Path(above).resolve() / "work")
        moments = [rng.randint(disk.begin, len(disk.steps)) for _ in range(config.losses)]
        # A few once the save was reported.
        moments[: config.losses // 10] = [len(disk.steps)] * (config.losses // 10)

        def resumes(_: Path) -> list[Any]:
            ends = []
            for number, moment in enumerate(moments):
                out = Path(above) / str(number)
                rebuild(disk, moment, rng.choice((0.0, 0.3, 0.7, 1.0)), rng, out)
                ends.append(found(out))
            return ends

        ended = outcome_of(resumes, Path(above))
        assert ended.status == "done", ended
    wrong = [
        (moment, end)
        for moment, end in zip(moments, ended.value, strict=True)
        if end not in ([1, True], [2, True]) or (moment == len(disk.steps) and end != [2, True])
    ]
    counts = {step: sum(end == [step, True] for end in ended.value) for step in (1, 2)}
    print(
        f"{len(moments)} losses of power in {len(disk.steps) - disk.begin} steps of a save: {counts[1]} resumes from "
        f"the save before, {counts[2]} from the new one, {len(wrong)} wrong"
    )
    print(*wrong[:10], sep="\n")
    sys.exit(bool(wrong))


def _calls(log: str) -> Iterator[tuple[str, str, str]]:
    """(name, arguments, result) of each call, in the order in which they ended."""
    waiting: dict[str, str] = {}
    for line in log.splitlines():
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            waiting[thread] = text.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", text):
            text = waiting.pop(thread) + text[resumed.end() :]
        if match := re.match(r"(\w+)\((.*)\)\s+= (.+)$", text):
            yield match[1], match[2], match[3]


def _strings(arguments: str) -> list[bytes]:
    return [bytes.fromhex(text.replace("\\x", "")) for text in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)]


def _text(arguments: str) -> str:
    return re.sub(
        r"(?:\\x[0-9a-f]{2})+", lambda m: bytes.fromhex(m[0].replace("\\x", "")).decode(errors="replace"), arguments
    )


def _described(arguments: str) -> Path:
    """The path of the file descriptor that comes first."""
    match = re.match(r"(?:\d+|AT_FDCWD)<([^>]*)>", arguments)
    return Path(_text(match[1])) if match else Path("/nowhere")


def _paths(name: str, arguments: str) -> list[Path]:
    """The paths of a call that takes names, each from its folder's descriptor on."""
    if name in WRITES:
        return []
    folders = [Path(_text(text)) for text in re.findall(r"(?:\d+|AT_FDCWD)<([^>]*)>", arguments)] or [Path.cwd()]
    names = [Path(text.decode()) for text in _strings(arguments)]
    return [folders[min(i, len(folders) - 1)] / path for i, path in enumerate(names)]


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
