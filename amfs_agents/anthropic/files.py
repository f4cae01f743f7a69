"""`Files`: text files under /memories, each of them a memory; no SDK.

The file /memories/a/b.txt is the memory "b.txt" under the entity path "<path>/a". A directory is
there as long as a file is under it, and /memories always.
"""

from __future__ import annotations

from collections.abc import Callable

from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory

ROOT = "/memories"
_RENAMES = 10


class FileError(Exception):
    """An error of the model, in the words for the model."""


class Files:
    """The files of one model. Every change of one is a version of its memory."""

    def __init__(self, memory: AgentMemory, path: str) -> None:
        self._memory = memory
        self._path = path

    def read(self, path: str) -> MemoryEntry | None:
        """Return the newest version of a file; None where there is none. The cost of a read."""
        names = segments(path)
        return self._memory.read(*self._place(names)) if names else None

    def sizes(self, path: str) -> dict[tuple[str, ...], int] | None:
        """Return the sizes, in bytes, of all files under a directory, by their names from there;
        None when there is no such directory. The cost of a list."""
        names = segments(path)
        sizes = {place[len(names) :]: size for place, size in self._tree(names).items()}
        return sizes if sizes or not names else None

    def change(self, path: str, change: Callable[[str | None], str]) -> MemoryEntry:
        """Write `change(text)` as the next version of a file, text being None without one.

        `change` is called again when another writer came first. 1 request, and a read more for a
        file that this process does not know, or when `change` raises `FileError`.
        """
        names = segments(path)
        if not names:
            raise FileError(f"The path {path} is not a file.")

        def checked(value: object) -> str:
            return change(None if value is None else _text(value, path))

        place = self._place(names)
        try:
            return self._memory.update(*place, checked)
        except FileError:  # perhaps because of a text that is no longer the newest
            self._memory.read(*place)
            return self._memory.update(*place, checked)

    def create(self, path: str, text: str) -> None:
        """Write a file that is not there yet. The cost of a list, and 1 request or a read more."""
        names = segments(path)
        if not names or self._tree(names):
            raise FileError(f"File {path} already exists")
        self._check_parents(names)

        def fresh(old: str | None) -> str:
            if old is not None:
                raise FileError(f"File {path} already exists")
            return text

        self.change(path, fresh)

    def delete(self, path: str) -> int:
        """Delete a file or a directory with all that is in it; return how many files there were.

        Their versions stay. A read and 1 request for a file; a list, and that for each, for a
        directory.
        """
        names = segments(path)
        deleted = 0
        if names and self._memory.delete(*self._place(names)) is not None:
            deleted += 1
        for below in self._tree(names):
            deleted += self._memory.delete(*self._place(below)) is not None
        return deleted

    def rename(self, old: str, new: str) -> None:
        """Give a file, or all files in a directory, another name.

        Each file is written under its new name, then deleted under the old one: a crash between
        the two leaves both. A list, and about 4 requests for each file.
        """
        source, target = segments(old), segments(new)
        if not target or self._is_file(target) or self._tree(target):
            raise FileError(f"The destination {new} already exists")
        self._check_parents(target)
        below = self._tree(source)
        if self._is_file(source):
            below[source] = 0
        if not below:
            raise FileError(f"The path {old} does not exist")
        if target[: len(source)] == source:
            raise FileError(f"The path {old} cannot be renamed into itself")
        for names in below:
            self._move(names, target + names[len(source) :])

    def history(self, path: str) -> list[MemoryEntry]:
        """Return all versions of a file, oldest first, including those before a deletion."""
        names = segments(path)
        return self._memory.history(*self._place(names)) if names else []

    def restore(self, path: str, version: int) -> MemoryEntry:
        """Write an earlier version's text as the newest one. 2 or 3 requests.

        Raises `InvalidValueError` when there is no such version, or it has no text.
        """
        names = segments(path)
        if not names:
            raise InvalidValueError(f"{path} is a directory", hint="restore each of its files")
        place = self._place(names)
        entry = self._memory.read(*place, version=version)
        if entry is None or not entry.has_content:
            raise InvalidValueError(
                f"{path} has no text in version {version}",
                hint="history(path) lists the versions",
                entity_path=place[0],
                key=place[1],
                version=version,
            )
        return self._memory.write(*place, _text(entry.value, path))

    def _move(self, names: tuple[str, ...], to: tuple[str, ...]) -> None:
        source, target = self._place(names), self._place(to)
        for _ in range(_RENAMES):  # until no edit came in during the copy
            entry = self._memory.read(*source)
            if entry is None:
                return
            self._memory.write(*target, entry.value)
            newest = self._memory.read(*source)
            if newest is None or newest.version == entry.version:
                break
        self._memory.delete(*source)

    def _is_file(self, names: tuple[str, ...]) -> bool:
        return bool(names) and self._memory.read(*self._place(names)) is not None

    def _check_parents(self, names: tuple[str, ...]) -> None:
        """Refuse a path below a file."""
        for depth in range(1, len(names)):
            if self._is_file(names[:depth]):
                raise FileError(f"The path {shown(names[:depth])} is not a directory.")

    def _tree(self, names: tuple[str, ...]) -> dict[tuple[str, ...], int]:
        """Return the files below a directory, possibly none, and their sizes."""
        skipped = len(self._path) + 1
        entries = self._memory.list("/".join((self._path, *names)))
        tree = {}
        for entry in entries:
            directory = entry.entity_path[skipped:]
            place = (*(directory.split("/") if directory else ()), entry.key)
            if type(entry.value) is str:  # a memory of another program there is not a file
                tree[place] = len(entry.value.encode())
        return tree

    def _place(self, names: tuple[str, ...]) -> tuple[str, str]:
        return "/".join((self._path, *names[:-1])), names[-1]


def segments(path: str) -> tuple[str, ...]:
    """Return the names in a path from /memories on; none for /memories itself.

    Raises `FileError` for a path that is not under /memories, or leaves it by "..".
    """
    if path != ROOT and not path.startswith(f"{ROOT}/"):
        raise FileError(f"Path must start with {ROOT}, got: {path}")
    names: list[str] = []
    for name in path[len(ROOT) :].split("/"):
        if name == "..":
            if not names:
                raise FileError(f"Path {path} would escape {ROOT} directory")
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    return tuple(names)


def shown(names: tuple[str, ...]) -> str:
    """Return the path with these names."""
    return "/".join((ROOT, *names))


def _text(value: object, path: str) -> str:
    if type(value) is not str:
        raise FileError(f"Unsupported file type for {path}")
    return value
