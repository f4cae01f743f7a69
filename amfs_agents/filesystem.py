"""Memories as files, for everything that reads and writes through fsspec.

    fsspec.open("amfs://reports/weekly/summary.md", store="s3://my-bucket/team/")

A memory is a file: its entity path is the directory, its key the name. Text is the bytes of the
text, any other JSON value its JSON, and bytes that are not text are kept as base64. A write is one
more version, all of it at the end; `?version=3` and `?at=2026-11-21T04:27:20Z` read earlier ones.
"""

from __future__ import annotations

import io
import re
from datetime import datetime
from typing import Any, ClassVar, Literal

from fsspec import AbstractFileSystem

from amfs import AgentMemory, MemoryEntry, open_store
from amfs_agents.files import children, content, is_binary, value_of
from amfs_core.errors import AMFSError, InvalidValueError, VersionConflictError

_MOMENT = re.compile(r"\?(?:version=(?P<version>[1-9][0-9]{0,9})|at=(?P<at>[^?&/]+))$")
_KINDS = {"rb": "r", "r": "r", "wb": "w", "w": "w", "xb": "x", "x": "x", "ab": "a", "a": "a"}

Info = dict[str, Any]


class AMFSFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The memories of a namespace as a file system, protocol `amfs`.

    Without `memory`, the file system opens one for `agent_id` and `namespace` in `store`, a place
    as `amfs.open_store` takes it; missing arguments come from the configuration. That memory
    belongs to the file system, and `close` closes it.

    A directory exists as long as something is in it. Every file is in a directory, because every
    memory has an entity path. Removing a file leaves a tombstone, and the history stays.

    Requests: reading a file costs as much as `AgentMemory.read`, and writing as much as `write`. A
    listing, and finding out whether a path is a directory, costs an `AgentMemory.list`. Errors are
    those of files (`FileNotFoundError`, `FileExistsError`, `IsADirectoryError`), and `AMFSError`
    for errors of the store or in a name.
    """

    protocol: ClassVar[str] = "amfs"
    root_marker = ""
    cachable = False  # two memories may look alike and belong to different stores

    def __init__(
        self,
        memory: AgentMemory | None = None,
        *,
        store: str | None = None,
        agent_id: str | None = None,
        namespace: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._adapter = None if store is None or memory is not None else open_store(store)
        self._is_own = memory is None
        self.memory = memory or AgentMemory(agent_id, adapter=self._adapter, namespace=namespace)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(url) for url in path]
        text = str(path).removeprefix("amfs://").removeprefix("amfs:")
        return text.strip("/")

    # -- looking -----------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """List the content of a directory, or a single file. 1 `AgentMemory.list`."""
        path = self._strip_protocol(path)
        infos = {info["name"]: info for info in self._children(path)}
        if not infos:
            infos = {path: self._file(self._entry(path))}
        names = sorted(infos)
        return [infos[name] for name in names] if detail else names

    def info(self, path: str, **options: Any) -> Info:
        """Describe a file or a directory. A read, and a list if it is not a file."""
        path = self._strip_protocol(path)
        if not path:
            return _directory("")
        try:
            return {**self._file(self._entry(path)), "name": path}
        except FileNotFoundError:
            if self._is_directory(path):
                return _directory(path)
            raise

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **options: Any,
    ) -> Any:
        """List all files below a path. 1 `AgentMemory.list`."""
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth, withdirs, detail, **options)
        path = self._strip_protocol(path)
        below = [self._file(entry) for entry in self._below(path)]
        if not below and path:
            try:
                below = [self._file(self._entry(path))]
            except FileNotFoundError:
                below = []
        infos = {info["name"]: info for info in sorted(below, key=lambda file: str(file["name"]))}
        return infos if detail else list(infos)

    def expand_path(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **options: Any,
    ) -> Any:
        """Return the paths that a pattern or a tree stands for. The question mark before an earlier
        version is not part of a pattern."""
        if isinstance(path, str) and _MOMENT.search(path):
            return [self._strip_protocol(path)]
        return super().expand_path(path, recursive, maxdepth, assume_literal, **options)

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """Return the paths that fit a pattern. 1 `AgentMemory.list`, and one for each directory."""
        if _MOMENT.search(path):
            return [self._strip_protocol(path)] if self.exists(path) else []
        return super().glob(path, maxdepth=maxdepth, **options)

    def created(self, path: str) -> datetime:
        """Return when the first version was written. 1 request, 0 once it is known."""
        entity_path, key = _split(self._plain(path))
        first = self.memory.read(entity_path, key, version=1)
        if first is None:
            raise FileNotFoundError(path)
        return first.provenance.written_at

    def modified(self, path: str) -> datetime:
        """Return when the newest version was written."""
        return self._entry(self._strip_protocol(path)).provenance.written_at

    def checksum(self, path: str) -> str:
        """Return the SHA-256 of the version."""
        return self._entry(self._strip_protocol(path)).sha256

    def ukey(self, path: str) -> str:
        """Return the same, because to a cache another version is another file."""
        return self.checksum(path)

    # -- reading and writing -----------------------------------------------------------------

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """Return a file's bytes, or a part of them."""
        return self._read(self._strip_protocol(path))[start:end]

    def pipe_file(
        self,
        path: str,
        value: bytes,
        mode: Literal["create", "overwrite"] = "overwrite",
        **options: Any,
    ) -> None:
        """Write a file: another version, or with `mode="create"` the first."""
        self._write(self._plain(path), bytes(value), creates=mode == "create")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> io.BytesIO:
        kind = _KINDS.get(mode)
        if kind is None:
            raise ValueError(f"a memory cannot be opened with the mode {mode!r}")
        path = self._strip_protocol(path)
        if kind == "r":
            return io.BytesIO(self._read(path))
        before = b""
        if kind == "a":
            try:
                before = self._read(path)
            except FileNotFoundError:
                before = b""
        path = self._plain(path)
        _split(path)
        if kind == "x" and self._is_file(path):  # and again when it is written
            raise FileExistsError(path)
        return _Writing(self, path, before, creates=kind == "x")

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file's value, so that structured values stay structured."""
        path1 = self._strip_protocol(path1)
        try:
            value = self._entry(path1).value
        except FileNotFoundError:
            if self._is_directory(path1):  # which is there with its files
                return
            raise
        entity_path, key = _split(self._plain(path2))
        self.memory.write(entity_path, key, value, index=not is_binary(value))

    def rm_file(self, path: str) -> None:
        """Remove a file: a tombstone. Raises `FileNotFoundError`."""
        entity_path, key = _split(self._plain(path))
        if self.memory.delete(entity_path, key) is None:
            raise FileNotFoundError(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with `recursive` everything below a directory, which removes the
        directory."""
        for name in reversed(self.expand_path(path, recursive=recursive, maxdepth=maxdepth)):
            try:
                self.rm_file(name)
            except (FileNotFoundError, InvalidValueError):
                if not recursive or _MOMENT.search(name):
                    raise  # otherwise it is a directory, whose files were removed before it

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Do nothing: a directory exists when something is in it."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing, but refuse a directory that exists, unless `exist_ok`."""
        if not exist_ok and self.exists(path):
            raise FileExistsError(path)

    def rmdir(self, path: str) -> None:
        """Do nothing: a directory disappears with its content. Refuses a directory that is not
        empty."""
        if self._is_directory(self._strip_protocol(path)):
            raise OSError(f"the directory {path!r} is not empty")

    def close(self) -> None:
        """Close the memory, if it was opened here."""
        if self._is_own:
            self.memory.close()
        if self._adapter is not None:
            self._adapter.close()

    # -- in terms of memories ----------------------------------------------------------------

    def _plain(self, path: str) -> str:
        """Return a path that may be changed: that of the newest version."""
        stripped: str = self._strip_protocol(path)
        if _MOMENT.search(stripped):
            raise InvalidValueError(
                f"{stripped!r} names an earlier version, which nothing changes",
                hint="leave out ?version= or ?at=",
            )
        return stripped

    def _entry(self, path: str) -> MemoryEntry:
        """Return the version that a path names."""
        version = at = None
        if moment := _MOMENT.search(path):
            path = path[: moment.start()]
            version = int(moment["version"]) if moment["version"] else None
            at = _time(moment["at"]) if moment["at"] else None
        names = path.rpartition("/")
        if not names[0] or not names[2]:
            raise FileNotFoundError(path)
        entry = self.memory.read(names[0], names[2], version=version, at=at)
        if entry is None or not entry.has_content:
            raise FileNotFoundError(path)
        return entry

    def _read(self, path: str) -> bytes:
        try:
            return content(self._entry(path).value)
        except FileNotFoundError:
            if path and self._is_directory(path):
                raise IsADirectoryError(path) from None
            raise

    def _write(self, path: str, data: bytes, *, creates: bool) -> None:
        entity_path, key = _split(path)
        value = value_of(data)
        expected = 0 if creates else None
        while True:
            try:
                self.memory.write(
                    entity_path, key, value, expected_version=expected, index=not is_binary(value)
                )
            except VersionConflictError as conflict:
                if self._is_file(path):
                    raise FileExistsError(path) from conflict
                expected = conflict.actual  # a tombstone, or one that has expired
            else:
                return

    def _is_file(self, path: str) -> bool:
        try:
            self._entry(path)
        except FileNotFoundError:
            return False
        return True

    def _is_directory(self, path: str) -> bool:
        return bool(self._below(path))

    def _below(self, path: str) -> list[MemoryEntry]:
        try:
            return self.memory.list(path or None)
        except AMFSError:
            if path and _MOMENT.search(path):
                return []
            raise

    def _children(self, path: str) -> list[Info]:
        files, directories = children(self._below(path), path)
        above = f"{path}/" if path else ""
        return [*map(self._file, files), *(_directory(above + name) for name in directories)]

    @staticmethod
    def _file(entry: MemoryEntry) -> Info:
        return {
            "name": f"{entry.entity_path}/{entry.key}",
            "size": len(content(entry.value)),
            "type": "file",
            "created": entry.provenance.written_at,
            "mtime": entry.provenance.written_at,
            "version": entry.version,
            "agent_id": entry.provenance.agent_id,
            "sha256": entry.sha256,
        }


class _Writing(io.BytesIO):
    """A file that becomes a version when it is closed, unless its block raised."""

    def __init__(self, files: AMFSFileSystem, path: str, before: bytes, *, creates: bool) -> None:
        super().__init__()
        self.write(before)
        self._files = files
        self._path = path
        self._creates = creates
        self._is_done = False

    def __exit__(self, kind: type[BaseException] | None, *more: Any) -> None:
        self._is_done = self._is_done or kind is not None
        self.close()

    def close(self) -> None:
        """Write the version. After a failure the file may be closed again, without a second try."""
        if not self._is_done:
            self._is_done = True
            self._files._write(self._path, self.getvalue(), creates=self._creates)
        super().close()

    def __del__(self) -> None:
        self._is_done = True  # a file that nobody closed was not finished


def _split(path: str) -> tuple[str, str]:
    entity_path, _, key = path.rpartition("/")
    if not entity_path:
        raise InvalidValueError(
            f"{path!r} has no directory",
            hint="a memory is a key in an entity path: amfs://PATH/KEY",
        )
    return entity_path, key


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValueError(
            f"?at= must be a time such as 2026-11-21T04:27:20Z, not {text!r:.80}"
        ) from error


def _directory(name: str) -> Info:
    return {"name": name, "size": 0, "type": "directory"}
