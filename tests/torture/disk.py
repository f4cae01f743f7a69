"""A disk that loses what was not flushed: the calls of a writer are recorded, and what a crash of
the machine after any of them could leave is built again.

The model is that of ALICE (Pillai et al., OSDI 2014) at its weakest for names: the bytes of a file
are safe once the file was flushed; that a name was made or removed is safe once its directory was
flushed, and until then any of these may have happened and any not, in whatever order they were
asked for. One call is done whole or not at all. `ordered=True` is what journals of ext4, XFS and
Btrfs promise on top: names reach the disk in the order of the calls.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import amfs_local.adapter
import amfs_local.directories
import amfs_local.flush
import amfs_local.temporary

SCRATCH = amfs_local.temporary.DIRECTORY

_MOST_OPEN = 6
"""Of so many calls that may have been lost, all subsets are looked at; of more, some."""

_MODULES: tuple[ModuleType, ...] = (
    amfs_local.adapter,
    amfs_local.directories,
    amfs_local.flush,
    amfs_local.temporary,
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that changed the disk. `file` is what a name was given to, None for a directory."""

    verb: str
    path: str = ""
    file: int | None = None
    data: bytes = b""
    source: str = ""


@dataclass(slots=True)
class Trace:
    """The calls so far, and after how many of them the caller was told that what `contents` has
    is safe."""

    calls: list[Call] = field(default_factory=list)
    acknowledged: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)


class TracedOs:
    """Stands in for the module `os`: does what it does, and records what changes the disk.

    `before` maps a verb to an action that is run once before the next such call. Without
    `unnamed` the file system has no O_TMPFILE.
    """

    def __init__(self, trace: Trace, root: Path, *, unnamed: bool = True) -> None:
        self._calls = trace.calls
        self._root = f"{root}{os.sep}"
        self._unnamed = unnamed
        self._numbers = itertools.count()
        self._open: dict[int, int] = {}  # files by descriptor
        self.directories: dict[int, str] = {}  # those that are open, by descriptor
        self._named: dict[str, int] = {}
        self.before: dict[str, Callable[[], object]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        unnamed = flags & os.O_TMPFILE == os.O_TMPFILE
        if unnamed and not self._unnamed:
            raise OSError(95, "no O_TMPFILE here")
        fd = os.open(path, flags, mode)
        if unnamed or flags & os.O_CREAT:
            self._open[fd] = next(self._numbers)
            if not unnamed:
                self._name(path, self._open[fd])
        elif flags & os.O_DIRECTORY:
            self.directories[fd] = path
        return fd

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)
        self.directories.pop(fd, None)
        os.close(fd)

    def write(self, fd: int, data: bytes) -> int:
        count = os.write(fd, data)
        self._add(Call("write", file=self._open[fd], data=bytes(data[:count])))
        return count

    def fsync(self, fd: int) -> None:
        if fd in self.directories:
            self._due("flush")
            self._add(Call("flush", self._relative(self.directories[fd])))
        else:
            self._add(Call("fsync", file=self._open[fd]))

    def link(self, source: str, path: str, **options: Any) -> None:
        os.link(source, path, **options)
        number = (
            self._open[options["src_dir_fd"]] if "src_dir_fd" in options else self._named[source]
        )
        self._name(path, number)

    def rename(self, source: str, path: str) -> None:
        os.rename(source, path)
        self._named[path] = self._named.pop(source)
        self._add(
            Call("rename", self._relative(path), self._named[path], source=self._relative(source))
        )

    def unlink(self, path: str) -> None:
        os.unlink(path)
        self._add(Call("unlink", self._relative(path)))

    def mkdir(self, path: str) -> None:
        os.mkdir(path)
        self._add(Call("mkdir", self._relative(path)))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not os.path.isdir(path):
            self.makedirs(os.path.dirname(path), exist_ok=True)
            self.mkdir(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)
        self._add(Call("rmdir", self._relative(path)))

    def _name(self, path: str, number: int) -> None:
        self._named[path] = number
        self._add(Call("name", self._relative(path), number))

    def _add(self, call: Call) -> None:
        self._calls.append(call)

    def _due(self, verb: str) -> None:
        action = self.before.pop(verb, None)
        if action is not None:
            action()

    def _relative(self, path: str) -> str:
        return f"{path}{os.sep}".removeprefix(self._root).rstrip(os.sep)


def installed(traced: TracedOs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the local adapter call it."""
    for module in _MODULES:
        monkeypatch.setattr(module, "os", traced)


# --- what a crash leaves -------------------------------------------------------------------------

Tree = dict[str, bytes | None]
"""Files by path, and directories, which have None."""


def states(calls: list[Call], *, ordered: bool, dice: random.Random) -> Iterator[Tree]:
    """What the disk may have after a crash that came right after these calls."""
    contents = [_contents(calls, torn) for torn in (_whole, _nothing, _half, _zeros)]
    changes = [index for index, call in enumerate(calls) if _directory(call) is not None]
    safe = {index for index in changes if _is_flushed(calls, index)}
    # What only files without their name have lost or kept makes no difference: all, or nothing.
    unseen = {index for index in changes if f"{SCRATCH}/" in f"{calls[index].path}/"}
    unsafe = [index for index in changes if index not in safe | unseen]
    for happened in _subsets(unsafe, ordered=ordered, dice=dice):
        kept = safe | happened | (unseen if dice.random() < 0.5 or ordered else set())
        for data in contents if _is_torn(calls) else contents[:1]:
            yield _tree([calls[index] for index in changes if index in kept], data)


def _directory(call: Call) -> str | None:
    """The directory in which a call changed a name."""
    return os.path.dirname(call.path) if call.verb not in ("write", "fsync", "flush") else None


def _is_flushed(calls: list[Call], index: int) -> bool:
    directory = _directory(calls[index])
    return any(call.verb == "flush" and call.path == directory for call in calls[index + 1 :])


def _subsets(unsafe: list[int], *, ordered: bool, dice: random.Random) -> Iterator[set[int]]:
    if ordered:
        yield from (set(unsafe[:count]) for count in range(len(unsafe) + 1))
    elif len(unsafe) <= _MOST_OPEN:
        for count in range(len(unsafe) + 1):
            yield from map(set, itertools.combinations(unsafe, count))
    else:
        yield from (set(), set(unsafe))
        for _ in range(2**_MOST_OPEN):
            yield {index for index in unsafe if dice.random() < 0.5}


def _whole(data: bytes) -> bytes:
    return data


def _nothing(data: bytes) -> bytes:
    return b""


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros(data: bytes) -> bytes:
    return bytes(len(data))


def _contents(calls: list[Call], torn: Callable[[bytes], bytes]) -> dict[int, bytes]:
    """The bytes of each file: what was flushed is whole, what was not is `torn`."""
    flushed: dict[int, bytes] = {}
    written: dict[int, bytes] = {}
    for call in calls:
        if call.verb == "write" and call.file is not None:
            written[call.file] = written.get(call.file, b"") + call.data
        elif call.verb == "fsync" and call.file is not None:
            flushed[call.file] = flushed.get(call.file, b"") + written.pop(call.file, b"")
    return {
        number: flushed.get(number, b"") + torn(written.get(number, b""))
        for number in flushed.keys() | written.keys()
    }


def _is_torn(calls: list[Call]) -> bool:
    return _contents(calls, _whole) != _contents(calls, _nothing)


def _tree(changes: list[Call], data: Mapping[int, bytes]) -> Tree:
    tree: Tree = {"": None}
    for call in changes:
        if call.verb == "rename" and call.source in tree:
            del tree[call.source]
        if os.path.dirname(call.path) not in tree:  # a directory above it is lost, and it with that
            continue
        if call.verb == "mkdir":
            tree[call.path] = None
        elif call.verb in ("unlink", "rmdir"):
            for path in [
                tree_path for tree_path in tree if f"{tree_path}/".startswith(f"{call.path}/")
            ]:
                del tree[path]
        elif call.file is not None:
            tree[call.path] = data.get(call.file, b"")
    return tree


def build(tree: Tree, root: Path) -> None:
    """Make a directory that has these files."""
    root.mkdir()
    for path, data in sorted(tree.items()):
        if data is None:
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).write_bytes(data)
