"""`Threads`: the memories of the checkpoints of threads, and their contents.

    <path>/<thread>/<namespace>/checkpoints            <checkpoint>    a checkpoint
    <path>/<thread>/<namespace>/writes/<checkpoint>    <task>          what a task wrote

Nothing points to the newest checkpoint: it is the one whose id sorts last, as in LangGraph. So a
put changes nothing that another process may be changing. The price is to look at the names of a
thread each time: a listing, or the news of a change log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from amfs_agents.appending import append
from amfs_agents.erasure import finish_purges
from amfs_agents.labels import label, unlabel
from amfs_agents.langgraph.records import Blob, Home, SavedCheckpoint, TaskWrites
from amfs_agents.listing import Names
from amfs_core.format import Address, MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_core.parallel import mapped
from amfs_core.versions import VersionLog

_CHECKPOINTS = "checkpoints"
_WRITES = "writes"
_THREADS = 32
_WINDOWS = (1, 8, 32)
"""The number of checkpoints read at a time to find one that was not erased."""

Change = Callable[[MemoryEntry | None], dict[str, object] | None]
Ref = tuple[Address, int]
"""A version of a memory."""


class Entries:
    """Versions that were read, so that none is requested twice during a call."""

    def __init__(self, versions: VersionLog) -> None:
        self._versions = versions
        self._held: dict[Ref, MemoryEntry | None] = {}

    def load(self, refs: Iterable[Ref]) -> None:
        """Read versions, many at a time. 1 request for each that this process does not know."""
        missing = [ref for ref in dict.fromkeys(refs) if ref not in self._held]
        if missing:
            self._held.update(dict.fromkeys(missing))
            self._held.update(self._versions.get_each(missing))
            for ref in missing:
                if self._held[ref] is None:  # a change log may name a version that never came
                    self._held[ref] = self._versions.newest(ref[0])

    def get(self, ref: Ref) -> MemoryEntry | None:
        """Return a version, or None when it is not there."""
        self.load([ref])
        return self._held[ref]

    def live(self, ref: Ref) -> MemoryEntry | None:
        """Return a version, or None for one that is deleted or erased."""
        entry = self.get(ref)
        return entry if entry is not None and entry.is_live() else None

    def forget(self) -> None:
        """Drop what was read."""
        self._held.clear()


class Found(NamedTuple):
    """The value of a channel, and the checkpoint whose memory has it."""

    checkpoint_id: str
    blob: Blob


class View:
    """One checkpoint namespace of a thread, as it was listed."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.checkpoints: dict[str, Ref] = {}  # by label
        self.tasks: dict[str, dict[str, Ref]] = {}  # of checkpoints, by label
        self._everywhere: dict[tuple[str, object], Found] | None = None

    def add(self, kind: list[str], ref: Ref) -> None:
        """Add a memory that is listed under `kind`; other memories are left out."""
        if kind == [_CHECKPOINTS]:
            self.checkpoints[ref[0].key] = ref
        elif len(kind) == 2 and kind[0] == _WRITES:
            self.tasks.setdefault(kind[1], {})[ref[0].key] = ref

    def ids(self) -> list[str]:
        """Return the ids of the checkpoints, including erased ones, the newest first.

        No request, and 1 for each id that is too long to be a name.
        """
        names = {name: unlabel(name) for name in self.checkpoints}
        hashed = [self.checkpoints[name] for name, id_ in names.items() if id_ is None]
        self.entries.load(hashed)
        ids = [id_ for id_ in names.values() if id_ is not None]
        for ref in hashed:
            entry = self.entries.live(ref)
            if entry is not None:
                ids.append(SavedCheckpoint.of(entry).checkpoint_id)
        return sorted(ids, reverse=True)

    def refs(self, ids: Iterable[str]) -> list[Ref]:
        """Return the memories of checkpoints."""
        names = (label(id_, "checkpoint_id") for id_ in ids)
        return [self.checkpoints[name] for name in names if name in self.checkpoints]

    def task_refs(self, ids: Iterable[str]) -> list[Ref]:
        """Return the memories of the writes to checkpoints."""
        names = (label(id_, "checkpoint_id") for id_ in ids)
        return [ref for name in names for ref in self.tasks.get(name, {}).values()]

    def get(self, checkpoint_id: str) -> SavedCheckpoint | None:
        """Return a checkpoint, None when it is not there."""
        for ref in self.refs([checkpoint_id]):
            entry = self.entries.live(ref)
            if entry is not None:
                return SavedCheckpoint.of(entry)
        return None

    def newest(self) -> SavedCheckpoint | None:
        """Return the checkpoint whose id sorts last, None when there is none."""
        return next(self.newest_first(), None)

    def newest_first(self) -> Iterator[SavedCheckpoint]:
        """Yield the checkpoints, the newest first. 1 request for each not known, some at a time."""
        ids = self.ids()
        at = turn = 0
        while at < len(ids):
            window = ids[at : at + _WINDOWS[min(turn, len(_WINDOWS) - 1)]]
            self.entries.load(self.refs(window))
            yield from filter(None, map(self.get, window))
            at, turn = at + len(window), turn + 1

    def writes(self, checkpoint_id: str) -> list[TaskWrites]:
        """Return the writes to a checkpoint."""
        refs = self.task_refs([checkpoint_id])
        self.entries.load(refs)
        return [TaskWrites.of(entry) for entry in map(self.entries.live, refs) if entry is not None]

    def find(self, channel: str, home: Home) -> Found | None:
        """Return the value of a channel: from its home or, if that was erased after the value was
        moved, from its new home; None when it is gone."""
        saved = self.get(home.checkpoint_id)
        blob = None if saved is None else saved.blob(channel, home.version)
        if blob is not None:
            return Found(home.checkpoint_id, blob)
        if self._everywhere is None:
            self._everywhere = {
                (blob.channel, blob.version): Found(saved.checkpoint_id, blob)
                for saved in self.newest_first()
                for blob in (*saved.blobs, *saved.carried)
            }
        return self._everywhere.get((channel, home.version))


class Threads:
    """All threads under an entity path."""

    def __init__(self, memory: AgentMemory, path: str) -> None:
        memory.engine.layout.entity_prefix(path)
        self._memory = memory
        self._names = Names(memory)
        self._path = path

    def view(self, thread_id: str, checkpoint_ns: str) -> View:
        """Return one namespace of a thread. The cost of `Names.newest`; no contents are read."""
        views = self.views(thread_id, checkpoint_ns)
        return views[0] if views else View(Entries(self._memory.engine.versions))

    def views(self, thread_id: str | None, checkpoint_ns: str | None = None) -> list[View]:
        """Return the namespaces of a thread, or of all threads. The cost of `Names.newest`."""
        entries = Entries(self._memory.engine.versions)
        views: dict[tuple[str, str], View] = {}
        depth = self._path.count("/") + 1
        for address, version in self._listed(thread_id, checkpoint_ns):
            names = address.entity_path.split("/")[depth:]
            if len(names) > 2:
                view = views.setdefault((names[0], names[1]), View(entries))
                view.add(names[2:], (address, version))
        return list(views.values())

    def put(self, saved: SavedCheckpoint) -> None:
        """Store a checkpoint, replacing any with its id. 1 request for a new one."""

        def change(newest: MemoryEntry | None) -> dict[str, object]:
            if newest is None or not newest.is_live():
                return saved.json()
            return saved.carrying(SavedCheckpoint.of(newest)).json()

        self._append_checkpoint(saved, change)

    def put_writes(
        self, thread_id: str, checkpoint_ns: str, checkpoint_id: str, writes: TaskWrites
    ) -> None:
        """Store the writes of a task, beside its earlier ones. 1 request for a new task."""

        def change(newest: MemoryEntry | None) -> dict[str, object] | None:
            if newest is None or not newest.is_live():
                return writes.json()
            earlier = TaskWrites.of(newest)
            together = writes.onto(earlier)
            return None if together == earlier else together.json()

        path = self._under(thread_id, checkpoint_ns, _WRITES, label(checkpoint_id, "checkpoint_id"))
        self._append(path, label(writes.task_id, "task_id"), change)

    def erase(self, view: View, ids: set[str]) -> None:
        """Erase checkpoints, and the writes to them, permanently.

        Values that other checkpoints need are first moved to the oldest of those. So after a crash
        in between, everything can still be read.
        """
        moved = _without(view, ids)
        for wave in ([saved for saved in moved if saved.blobs], moved):
            mapped(self._move, wave, _THREADS)
        self._purge(view.task_refs(ids))  # first: they are found by their checkpoint
        self._purge(view.refs(ids))

    def _move(self, moved: SavedCheckpoint) -> None:
        """Store in a checkpoint where its values are now, unless it was erased meanwhile."""

        def change(newest: MemoryEntry | None) -> dict[str, object] | None:
            if newest is None or not newest.is_live():
                return None
            current = SavedCheckpoint.of(newest)
            homes, blobs = moved.homes, moved.blobs
            together = replace(current, homes=homes, blobs=blobs).carrying(current)
            return None if together == current else together.json()

        self._append_checkpoint(moved, change)

    def finish(self, view: View) -> None:
        """Erase the remains of checkpoints whose erasure was interrupted by a crash: no reader
        finds them. 2 requests for each one erased, of which one is for what was read before."""
        entries = map(view.entries.get, view.checkpoints.values())
        finish_purges(self._memory, [entry for entry in entries if entry is not None])

    def erase_thread(self, thread_id: str) -> None:
        """Erase everything of a thread, until there is nothing new."""
        done: set[Address] = set()
        while new := [ref for ref in self._listed(thread_id) if ref[0] not in done]:
            self._purge(new)
            done.update(address for address, _ in new)

    def copy(self, view: View, thread_id: str) -> None:
        """Copy a namespace to another thread. 1 request for each checkpoint and each task."""
        saved = [_settled(view, checkpoint) for checkpoint in view.newest_first()]
        copies = [replace(checkpoint, thread_id=thread_id) for checkpoint in saved]
        # In this order, a reader finds everything that a checkpoint needs: its writes, and values
        # in others.
        mapped(lambda copy: self._copy_writes(view, copy), copies, _THREADS)
        homes = {home.checkpoint_id for copy in copies for home in copy.homes.values()}
        mapped(self.put, [copy for copy in copies if copy.checkpoint_id in homes], _THREADS)
        mapped(self.put, [copy for copy in copies if copy.checkpoint_id not in homes], _THREADS)

    def _copy_writes(self, view: View, copy: SavedCheckpoint) -> None:
        for writes in view.writes(copy.checkpoint_id):
            self.put_writes(copy.thread_id, copy.checkpoint_ns, copy.checkpoint_id, writes)

    def _append_checkpoint(self, saved: SavedCheckpoint, change: Change) -> None:
        path = self._under(saved.thread_id, saved.checkpoint_ns, _CHECKPOINTS)
        self._append(path, label(saved.checkpoint_id, "checkpoint_id"), change)

    def _append(self, path: str, key: str, change: Change) -> None:
        append(self._memory, path, key, change, memory_type="experience", index=False)

    def _purge(self, refs: list[Ref]) -> None:
        mapped(lambda ref: self._memory.purge(ref[0].entity_path, ref[0].key), refs, _THREADS)

    def _listed(self, thread_id: str | None = None, checkpoint_ns: str | None = None) -> list[Ref]:
        """Return the newest version of each memory of a thread, or of all."""
        path = self._path if thread_id is None else self._under(thread_id, checkpoint_ns)
        return list(self._names.newest(path).items())

    def _under(self, thread_id: str, checkpoint_ns: str | None = None, *rest: str) -> str:
        parts = [self._path, label(thread_id, "thread_id")]
        if checkpoint_ns is not None:
            parts.append(label(checkpoint_ns, "checkpoint_ns"))
        return "/".join([*parts, *rest])


def _settled(view: View, saved: SavedCheckpoint) -> SavedCheckpoint:
    """Return a checkpoint with the present home of every value."""
    homes = dict(saved.homes)
    for channel, home in saved.homes.items():
        source = view.find(channel, home)
        if source is not None:
            homes[channel] = Home(home.version, source.checkpoint_id)
    return replace(saved, homes=homes)


def _without(view: View, ids: set[str]) -> list[SavedCheckpoint]:
    """Return the other checkpoints that must change when those with these ids are erased, the
    oldest first: each needed value moves to the oldest checkpoint that needs it."""
    moved: dict[tuple[str, object], str] = {}
    changed = []
    for saved in reversed(list(view.newest_first())):
        if saved.checkpoint_id in ids:
            continue
        homes, blobs = dict(saved.homes), list(saved.blobs)
        for channel, home in saved.homes.items():
            source = view.find(channel, home)
            if source is None:  # nothing can be done for it
                continue
            holder = source.checkpoint_id
            if holder in ids:
                holder = moved.setdefault((channel, home.version), saved.checkpoint_id)
            if holder == saved.checkpoint_id:
                blobs.append(source.blob)
                del homes[channel]
            else:
                homes[channel] = Home(home.version, holder)
        if (homes, tuple(blobs)) != (saved.homes, saved.blobs):
            changed.append(replace(saved, homes=homes, blobs=tuple(blobs)))
    return changed
