"""Copying a store into another one: every version and outcome, byte for byte.

The two may be of different kinds. Objects never change, which makes copying simple: a copy only
creates absent objects, the versions of each memory in their order. So the target is a working store
at every moment, and to resume a copy that was killed, run it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import assert_never

from amfs_core.errors import CorruptEntryError
from amfs_core.format import Layout
from amfs_core.parallel import each
from amfs_core.storage import DEFAULT_PATIENCE, ObjectInfo, StorageAdapter, StoreClient
from amfs_core.upkeep.listing import (
    Listed,
    ListedForeign,
    ListedManifest,
    ListedMemory,
    ListedOutcome,
    listed,
)
from amfs_core.upkeep.manifests import BothManifests
from amfs_core.upkeep.placing import different, place, refuse_nested, stays
from amfs_core.versions import absence

_COPIERS = 16  # memories copied at the same time
_TOGETHER = 500  # memories whose versions are created together
_WINDOW = 8  # versions of one memory read ahead; with the copiers, the bodies held at a time

Progress = Callable[[int, int], None]
"""Told `(done, total)` objects, from any thread but by one at a time."""


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What `copy` did, in objects.

    `copied` were created (`bytes` is their size), `already_there` needed nothing, `erased` were
    replaced by the stub that the source has, `foreign` are not objects of the public layout and
    were left out.
    """

    copied: int = 0
    already_there: int = 0
    erased: int = 0
    foreign: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Task:
    """A memory to copy, its versions in their order, or an outcome; `done` are copied."""

    listed: ListedMemory | ListedOutcome
    done: int = 0

    @property
    def last(self) -> int:
        """The number of objects."""
        return self.listed.last if isinstance(self.listed, ListedMemory) else 1


def copy(
    source: StorageAdapter,
    target: StorageAdapter,
    *,
    namespace: str | None = None,
    progress: Progress | None = None,
    patience: float = DEFAULT_PATIENCE,
) -> CopyReport:
    """Copy every version and outcome of one namespace, or of all, from one store to another.

    The manifest of a namespace comes first, whatever else it has. A feature in it, or in that of
    the target, that this release does not know is refused with `UnknownFeatureError`.

    An object that the target already has, with the same bytes, is skipped: run it again to continue
    after a crash, or to bring a copy up to date. An object with different bytes is never
    overwritten: `AMFSError` names it, and what was copied until then stays. Only erasure passes
    through: the source's stub replaces what the source has purged, and what the target has purged
    stays purged. Bytes are copied as they are, even damaged ones; `verify` judges them. If a memory
    lacks a version, only its earlier versions are copied, and `CorruptEntryError` names it once all
    other memories are copied.

    A store inside the other one is refused with `ConfigurationError`: the copy would become part of
    what is copied.

    `progress(done, total)` is called from several threads, one at a time, and costs a listing.
    Per object 1 get and 1 create, or 2 gets when it is there already, and 1 list per 1,000 objects;
    per namespace 1 get from each of the two for the manifest, and again each minute.
    """
    copier = _Copier(StoreClient(source, patience).origin, StoreClient(target, patience))
    refuse_nested(copier.source, copier.target)
    prefix = "" if namespace is None else Layout(namespace).root
    if progress:
        objects = listed(copier.source.list(prefix))
        total = sum(
            listing_entry.last if isinstance(listing_entry, ListedMemory) else 1
            for listing_entry in objects
        )
        copier.report_to(progress, total)
    return copier.run(listed(copier.source.list(prefix)))


def catch_up(
    source: StorageAdapter, target: StorageAdapter, namespace: str, *, patience: float
) -> CopyReport:
    """Copy what the target lacks of a namespace, or has in another size, as `copy` does.

    Only the listings are compared, so that nothing is read of what both have: an object with other
    bytes and the same size is for `copy` to find. 1 request per 1,000 objects of either store, and
    what `copy` takes for each memory that something is lacking of.
    """
    copier = _Copier(StoreClient(source, patience).origin, StoreClient(target, patience))
    refuse_nested(copier.source, copier.target)
    layout = Layout(namespace)
    lacking = _lacking(layout, copier.source.list(layout.root), copier.target.list(layout.root))
    return copier.run(listed(lacking))


def _lacking(
    layout: Layout, source: Iterator[ObjectInfo], target: Iterator[ObjectInfo]
) -> Iterator[ObjectInfo]:
    """Yield the objects of the source that are not in the target as large as there, with all other
    versions of their memories. Both are in the byte order of their keys."""

    def whole(info: ObjectInfo) -> str:
        """Return what an object is copied together with: its memory, or only itself."""
        version = layout.split(info.key)
        return info.key if version is None else version[0]

    there = next(target, None)
    for _, group in groupby(source, key=whole):
        infos, lacks = list(group), False
        for info in infos:
            key = info.key.encode()
            while there is not None and there.key.encode() < key:
                there = next(target, None)
            lacks |= there is None or there.key != info.key or there.size != info.size
        if lacks:
            yield from infos


# -- copying ---------------------------------------------------------------------------------


class _Copier:
    """Copies many memories at a time, each in its order, and counts."""

    def __init__(self, source: StoreClient, target: StoreClient) -> None:
        self.source = source
        self.target = target
        self._lock = threading.RLock()
        self._creates_together = target.capabilities.batch
        self._is_stopped = False
        self._counts = dict.fromkeys(("copied", "already_there", "erased", "foreign", "bytes"), 0)
        self._missing: list[CorruptEntryError] = []
        self._manifests: dict[str, BothManifests] = {}
        self._progress: Progress | None = None
        self._done = self._total = 0

    def report_to(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        progress(0, total)

    def run(self, objects: Iterable[Listed]) -> CopyReport:
        """Do all tasks; after the first failure start no more, and raise it once all have ended. An
        object that is missing in the source stops nothing: it is raised at the end.

        Outcomes come after all memories of their namespace, which the listing has first. Otherwise
        a copy that was killed could have outcomes whose counting versions are still to come; a
        commit or a repair there would append its own versions in their place, and from then on the
        two stores would differ. In this order a killed copy leaves at most a version that counts an
        outcome without a record, and such a version only waits for the record.
        """
        tasks = self._without_foreign(objects)
        try:
            for _, group in groupby(tasks, key=_kind):  # all of it, before the next kind begins
                for done in each(self._do, self._after_together(group), _COPIERS):
                    done.result()
        finally:
            self._is_stopped = True
        if self._missing:
            raise min(self._missing, key=str)
        return CopyReport(**self._counts)

    def _without_foreign(self, objects: Iterable[Listed]) -> Iterator[_Task]:
        for listing_entry in objects:
            if isinstance(listing_entry, ListedForeign):
                self._count("foreign")
            elif isinstance(listing_entry, ListedManifest):
                self._bring_manifest(listing_entry.layout)
            elif isinstance(listing_entry, ListedMemory | ListedOutcome):
                self._bring_manifest(listing_entry.layout)
                yield _Task(listing_entry)
            else:
                assert_never(listing_entry)

    def _bring_manifest(self, layout: Layout) -> None:
        """Have the target know what a namespace asks of its writers before anything else of it is
        there, and see that this release knows it: at the beginning, and again each minute."""
        both = self._manifests.get(layout.root)
        if both is None:
            both = self._manifests[layout.root] = BothManifests(self.source, self.target, layout)
        for size, created in both.bring():
            self._count("copied" if created else "already_there", size if created else 0)

    def _after_together(self, tasks: Iterable[_Task]) -> Iterator[_Task]:
        """Create what the target can create together, and yield the tasks that are left."""
        remaining = iter(tasks)
        while some := list(islice(remaining, _TOGETHER)):
            if self._creates_together and isinstance(some[0].listed, ListedMemory):
                self._create_together(some)
            yield from (task for task in some if task.done < task.last)

    def _create_together(self, tasks: list[_Task]) -> None:
        """Create the versions of several memories: all first ones together, then all second ones,
        and so on. Versions that were not created, such as existing ones, are left for later."""
        created = 0
        active = tasks
        while active:
            keys = {
                task.listed.address.object_key(task.done + 1): task
                for task in active
                if isinstance(task.listed, ListedMemory)
            }
            bodies = {
                key: body
                for key, body in self.source.get_many(list(keys))
                if body is not None and not self._is_stopped
            }
            made = self.target.create_many(bodies)
            created += len(made)
            for key in made:
                keys[key].done += 1
                self._count("copied", len(bodies[key]))
            active = [task for key in made if (task := keys[key]).done < task.last]
        # Where a copy continues an earlier one, looking is cheaper than writing in vain.
        self._creates_together = created >= len(tasks) // 2

    def _do(self, task: _Task) -> None:
        try:
            self._bring_manifest(task.listed.layout)
            if isinstance(task.listed, ListedMemory):
                self._copy_memory(task, task.listed)
            elif isinstance(task.listed, ListedOutcome):
                if not self._is_stopped:
                    self._copy_outcome(task.listed.info.key)
            else:
                assert_never(task.listed)
        except CorruptEntryError as error:
            self._missing.append(error)
        except BaseException:
            self._is_stopped = True
            raise

    def _copy_outcome(self, object_key: str) -> None:
        body = self.source.get(object_key)
        if body is None:  # listed while it was created, and taken back: it was never acknowledged
            self._forget(1)
            return
        target_body, created = place(self.target, object_key, body, look_first=False)
        if target_body != body:
            raise different(object_key)
        self._count("copied" if created else "already_there", len(body) if created else 0)

    def _copy_memory(self, task: _Task, memory: ListedMemory) -> None:
        stubs: list[int] = []
        there = False  # if one version of a memory is there already, the next mostly is too
        for version, body in self._bodies(task.done, memory):
            object_key = memory.address.object_key(version)
            target_body, created = place(self.target, object_key, body, look_first=there)
            there = not created
            if created:
                self._count("copied", len(body))
            elif target_body == body or stays(
                memory.layout, memory.address, version, body, target_body
            ):
                self._count("already_there")
            else:
                stubs.append(version)
        # Last, because a tombstone that orders a purge comes after what it erases: readers of the
        # target see the order before the contents go.
        for version in stubs:
            self._erase(memory.address.object_key(version))

    def _bodies(self, done: int, memory: ListedMemory) -> Iterator[tuple[int, bytes]]:
        """Yield the versions of a memory after those done in their order, a few read ahead."""
        for first in range(done + 1, memory.last + 1, _WINDOW):
            window = range(first, min(first + _WINDOW, memory.last + 1))
            keys = {version: memory.address.object_key(version) for version in window}
            bodies = dict(self.source.get_many(keys.values()))
            for version, object_key in keys.items():
                if self._is_stopped:
                    return
                body = bodies[object_key]
                if body is None:
                    body = absence.look_again(self.source, memory.layout, memory.address, version)
                if body is None:
                    self._forget(memory.last - version + 1)
                    return
                yield version, body

    def _erase(self, object_key: str) -> None:
        body = self.source.get(object_key)
        if body is None:
            raise absence.missing(object_key, where=" in the source")
        self.target.replace(object_key, body)
        self._count("erased")

    def _forget(self, objects: int) -> None:
        """Expect this many fewer objects than were listed."""
        with self._lock:
            self._total -= objects
            if self._progress:
                self._progress(self._done, self._total)

    def _count(self, kind: str, size: int = 0) -> None:
        with self._lock:
            self._counts[kind] += 1
            self._counts["bytes"] += size
            self._done += 1
            if self._progress:
                self._total = max(self._total, self._done)
                self._progress(self._done, self._total)


def _kind(task: _Task) -> type:
    return type(task.listed)
