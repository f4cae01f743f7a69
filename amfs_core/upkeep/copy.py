"""Copying a store into another one: every version and outcome, byte for byte.

The two may be of different kinds; what makes it simple is that objects never change. A copy only
creates what is absent, the versions of each memory in their order, so the target is a working store
at every moment and a copy that was killed is resumed by running it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice

from amfs_core.errors import (
    AMFSError,
    ConfigurationError,
    CorruptEntryError,
)
from amfs_core.format import Address, Layout, MemoryEntry, decode_entry, unescape
from amfs_core.parallel import each
from amfs_core.storage import DEFAULT_PATIENCE, StorageAdapter, StoreClient

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
class _Memory:
    """One memory to copy: versions 1 to `last`, as a version is only made after the one before."""

    layout: Layout
    address: Address
    last: int
    done: int = 0

    def decode(self, version: int, body: bytes) -> MemoryEntry | None:
        """Return the entry in a body, None when it is damaged or of a newer format."""
        try:
            return decode_entry(body, self.layout.namespace, self.address, version)
        except CorruptEntryError:
            return None


@dataclass(frozen=True, slots=True)
class _Outcome:
    object_key: str


@dataclass(frozen=True, slots=True)
class _Foreign:
    object_key: str


def copy(
    source: StorageAdapter,
    target: StorageAdapter,
    *,
    namespace: str | None = None,
    progress: Progress | None = None,
    patience: float = DEFAULT_PATIENCE,
) -> CopyReport:
    """Copy every version and outcome of one namespace, or of all, from one store to another.

    An object that the target has already, with the same bytes, is skipped: run it again to go on
    after a crash, or to bring a copy up to date. One with different bytes is never overwritten:
    `AMFSError` names it, and what was copied until then stays. Only erasure passes through: what
    the source has purged is replaced by the source's stub, and what the target has purged stays so.
    Bytes are copied as they are, damaged ones too; `verify` is what judges them. Of a memory in
    which a version is missing only what comes before is copied, and once all others are,
    `CorruptEntryError` names it.

    A store within the other one is refused with `ConfigurationError`: the copy would become part of
    what is copied.

    `progress(done, total)` is called from several threads, one at a time, and costs a listing.
    Per object 1 get and 1 create, or 2 gets when it is there already, and 1 list per 1,000 objects.
    """
    _refuse_nested(source, target)
    copier = _Copier(StoreClient(source, patience), StoreClient(target, patience))
    if progress:
        tasks = _tasks(copier.source, namespace)
        total = sum(one.last if isinstance(one, _Memory) else 1 for one in tasks)
        copier.report_to(progress, total)
    return copier.run(_tasks(copier.source, namespace))


def _refuse_nested(source: StorageAdapter, target: StorageAdapter) -> None:
    places = [getattr(one, "location", None) for one in (source, target)]
    if None in places:
        return
    outer, inner = sorted((f"{str(one).rstrip('/')}/" for one in places), key=len)
    if outer != inner and inner.startswith(outer):
        raise ConfigurationError(
            f"the store {inner} is within the store {outer}, so that one would become part of the "
            "other",
            hint="copy to a place beside it",
        )


# -- listing ---------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _layout(segment: str) -> Layout | None:
    name = unescape(segment)
    return None if name is None else Layout(name)


def _tasks(source: StoreClient, namespace: str | None) -> Iterator[_Memory | _Outcome | _Foreign]:
    """Yield what there is to copy, each memory once, as soon as the listing has passed it.

    In byte order the versions of a memory may stand among those of deeper entity paths, so the
    memories not passed yet are kept: as many as an object key has segments.
    """
    unfinished: list[_Memory] = []
    prefix = "" if namespace is None else Layout(namespace).root
    for info in source.list(prefix):
        while unfinished and not info.key.startswith(unfinished[-1].address.prefix):
            yield unfinished.pop()
        layout = _layout(info.key.partition("/")[0])
        parsed = layout.parse(info.key) if layout else None
        if layout is None or parsed is None:
            outcome = layout is not None and layout.parse_outcome(info.key) is not None
            yield _Outcome(info.key) if outcome else _Foreign(info.key)
            continue
        address, version = parsed
        if unfinished and unfinished[-1].address.prefix == address.prefix:
            unfinished[-1].last = max(unfinished[-1].last, version)
        else:
            unfinished.append(_Memory(layout, address, version))
    yield from reversed(unfinished)


# -- copying ---------------------------------------------------------------------------------


class _Copier:
    """Copies many memories at a time, each in its order, and counts."""

    def __init__(self, source: StoreClient, target: StoreClient) -> None:
        self.source = source
        self.target = target
        self._lock = threading.RLock()
        self._creates_together = target.batches
        self._stopped = threading.Event()
        self._counts = dict.fromkeys(("copied", "already_there", "erased", "foreign", "bytes"), 0)
        self._missing: list[CorruptEntryError] = []
        self._progress: Progress | None = None
        self._done = self._total = 0

    def report_to(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        progress(0, total)

    def run(self, tasks: Iterable[_Memory | _Outcome | _Foreign]) -> CopyReport:
        """Do all tasks; after the first failure start no more, and raise it once all stand. What is
        missing in the source is raised at the end: it is in nobody's way.

        Outcomes come after all memories of their namespace, which the listing has first. The other
        way round a copy that was killed would have outcomes whose counting versions are still to
        come; who commits or repairs such a one there appends versions of its own in their place,
        and from then on the two stores differ. This way round what is left half done is a version
        that counts an outcome without a record: it only waits for the record.
        """
        objects = self._without_foreign(tasks)
        try:
            for _, group in groupby(objects, key=type):  # all of it, before the next kind begins
                for done in each(self._do, self._after_together(group), _COPIERS):
                    done.result()
        finally:
            self._stopped.set()
        if self._missing:
            raise min(self._missing, key=str)
        return CopyReport(**self._counts)

    def _without_foreign(
        self, tasks: Iterable[_Memory | _Outcome | _Foreign]
    ) -> Iterator[_Memory | _Outcome]:
        for task in tasks:
            if isinstance(task, _Foreign):
                self._count("foreign")
            else:
                yield task

    def _after_together(self, tasks: Iterable[_Memory | _Outcome]) -> Iterator[_Memory | _Outcome]:
        """Create what the target can create together, and yield the tasks that are left."""
        remaining = iter(tasks)
        while some := list(islice(remaining, _TOGETHER)):
            memories = [task for task in some if isinstance(task, _Memory)]
            if self._creates_together and memories:
                self._create_together(memories)
            yield from (
                task for task in some if not isinstance(task, _Memory) or task.done < task.last
            )

    def _create_together(self, memories: list[_Memory]) -> None:
        """Create the versions of several memories, all their first ones, then all their second ones
        and so on; what was not created, as it is there already, say, is left for one by one."""
        created = 0
        active = memories
        while active:
            keys = {memory.address.object_key(memory.done + 1): memory for memory in active}
            bodies = {
                key: body
                for key, body in self.source.get_many(list(keys))
                if body is not None and not self._stopped.is_set()
            }
            made = self.target.create_many(bodies)
            created += len(made)
            for key in made:
                keys[key].done += 1
                self._count("copied", len(bodies[key]))
            active = [memory for key in made if (memory := keys[key]).done < memory.last]
        # Where a copy goes on after another, to look is cheaper than to write in vain.
        self._creates_together = created >= len(memories) // 2

    def _do(self, task: _Memory | _Outcome) -> None:
        try:
            if isinstance(task, _Memory):
                self._copy_memory(task)
            elif not self._stopped.is_set():
                self._copy_outcome(task.object_key)
        except CorruptEntryError as error:
            self._missing.append(error)
        except BaseException:
            self._stopped.set()
            raise

    def _copy_outcome(self, object_key: str) -> None:
        body = self.source.get(object_key)
        if body is None:
            raise _vanished(object_key)
        found, created = self._place(object_key, body, look_first=False)
        if found != body:
            raise _different(object_key)
        self._count("copied" if created else "already_there", len(body) if created else 0)

    def _copy_memory(self, memory: _Memory) -> None:
        stubs: list[int] = []
        there = False  # a memory that was found there goes on being there, mostly
        for version, body in self._bodies(memory):
            object_key = memory.address.object_key(version)
            found, created = self._place(object_key, body, look_first=there)
            there = not created
            if created:
                self._count("copied", len(body))
            elif found == body or _stays(memory, version, body, found):
                self._count("already_there")
            else:
                stubs.append(version)
        # Last, because a purge is ordered by a tombstone that comes after what it erases: whoever
        # reads the target sees the order before the contents go.
        for version in stubs:
            self._erase(memory.address.object_key(version))

    def _bodies(self, memory: _Memory) -> Iterator[tuple[int, bytes]]:
        """Yield all versions of a memory in their order, a few read ahead."""
        for first in range(memory.done + 1, memory.last + 1, _WINDOW):
            window = range(first, min(first + _WINDOW, memory.last + 1))
            keys = {version: memory.address.object_key(version) for version in window}
            bodies = dict(self.source.get_many(keys.values()))
            for version, object_key in keys.items():
                if self._stopped.is_set():
                    return
                body = bodies[object_key]
                if body is None:
                    raise _vanished(object_key)
                yield version, body

    def _place(self, object_key: str, body: bytes, *, look_first: bool) -> tuple[bytes, bool]:
        """Return what the target holds for good, and whether it is known to be created here."""
        found = self.target.get(object_key) if look_first else None
        if found is not None:
            return found, False
        found = self.target.settle(object_key, body)
        return found, found is body

    def _erase(self, object_key: str) -> None:
        body = self.source.get(object_key)
        if body is None:
            raise _vanished(object_key)
        self.target.replace(object_key, body)
        self._count("erased")

    def _count(self, kind: str, size: int = 0) -> None:
        with self._lock:
            self._counts[kind] += 1
            self._counts["bytes"] += size
            self._done += 1
            if self._progress:
                self._total = max(self._total, self._done)
                self._progress(self._done, self._total)


def _stays(memory: _Memory, version: int, body: bytes, found: bytes) -> bool:
    """True when the target's object stays although its bytes differ, False when it is to become the
    source's stub; `AMFSError` when neither is an erased form of the other."""
    ours, theirs = memory.decode(version, body), memory.decode(version, found)
    if ours is not None and theirs is not None:
        if theirs.erased is not None and theirs.erased in (ours.sha256, ours.erased):
            return True
        if ours.erased is not None and ours.erased == theirs.sha256:
            return False
    raise _different(memory.address.object_key(version))


def _different(object_key: str) -> AMFSError:
    return AMFSError(
        f"{object_key} is in the target with different bytes, and was not overwritten",
        hint="copy to another store or prefix, or find out which of the two is right",
        object_key=object_key,
    )


def _vanished(object_key: str) -> AMFSError:
    return CorruptEntryError(
        f"{object_key} is missing in the source although a later version or its listing names it",
        hint="restore it from a copy, or purge the memory",
        object_key=object_key,
    )
