"""Restoring a backup: absent objects are created, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import groupby

from amfs_core.format import Address, Layout, decode_manifest
from amfs_core.parallel import mapped
from amfs_core.storage import StoreClient
from amfs_core.upkeep.backup.archive import objects_of, require_parts
from amfs_core.upkeep.backup.index import Line, Place, merged
from amfs_core.upkeep.backup.manifest import Backup
from amfs_core.upkeep.backup.shelf import Shelf
from amfs_core.upkeep.listing import ListedMemory, listed, position
from amfs_core.upkeep.manifests import bring
from amfs_core.upkeep.placing import decoded, different, place, stays
from amfs_core.versions import Manifests, purge

_THREADS = 16
_TOGETHER = 1000  # objects that are restored together …
_TOGETHER_BYTES = 4 * 1024 * 1024  # … and how many bytes of them, so that memory is bounded

Progress = Callable[[int, int], None]
"""Told `(done, total)` objects, from any thread but by one at a time."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What `restore` did, in objects, from which backup.

    `restored` were created (`bytes` is their size), `already_there` needed nothing. Of `erased`
    ones the target has, or now has, a stub: an erasure on either side holds.
    """

    backup: Backup
    restored: int = 0
    already_there: int = 0
    erased: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Memory:
    """Versions of a memory, in their order, and the numbers of those that the target had."""

    address: Address
    numbers: Collection[int]
    bodies: list[tuple[int, bytes]]

    @property
    def there(self) -> int:
        """The last version that the target had, 0 when it had none."""
        return max(self.numbers, default=0)


def restore(
    shelf: Shelf,
    chain: list[Backup],
    target: StoreClient | None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore the last backup of a chain; without a target, read and check it only."""
    for backup in chain:
        require_parts(shelf, backup)
    _put_manifest(shelf.layout, chain[-1], target)
    runs = [(backup, run) for backup in chain for run in backup.runs]
    objects = merged(shelf.layout, [objects_of(shelf, backup.name, run) for backup, run in runs])
    restoring = _Restoring(shelf.layout, target, chain[-1], progress)
    for batch in _batches(objects):
        restoring.put(batch)
    return restoring.end()


def _put_manifest(layout: Layout, backup: Backup, target: StoreClient | None) -> None:
    """Restore the manifest before the first object that may need it, and refuse what it, or that of
    the target, asks for and this release does not know."""
    bodies = [body.encode() for body in backup.manifest]
    if bodies:
        newest = decode_manifest(bodies[-1], layout, len(bodies))
        newest.require_known(layout.manifest_key(len(bodies)), writes=target is not None)
    if target is not None:
        bring(bodies, target, layout)
        Manifests(target, layout).for_writing()


def _batches(
    objects: Iterator[tuple[Place, Line, bytes]],
) -> Iterator[list[tuple[Place, Line, bytes]]]:
    batch: list[tuple[Place, Line, bytes]] = []
    size = 0
    for record in objects:
        batch.append(record)
        size += len(record[2])
        if len(batch) >= _TOGETHER or size >= _TOGETHER_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Restoring:
    """One restore: puts batches, one after the other, and counts."""

    def __init__(
        self,
        layout: Layout,
        target: StoreClient | None,
        backup: Backup,
        progress: Progress | None,
    ) -> None:
        self._layout = layout
        self._target = target
        self._backup = backup
        self._progress = progress
        self._done = 0
        self._counts = dict.fromkeys(("restored", "already_there", "erased", "bytes"), 0)
        self._there = None if target is None else _There(target, layout)
        self._stubs: list[tuple[str, bytes]] = []
        self._tell(0)

    def put(self, batch: list[tuple[Place, Line, bytes]]) -> None:
        """Put objects, those of a memory in their order, and outcomes after all memories."""
        if self._target is None or self._there is None:
            self._tell(len(batch))
            return
        memories: list[_Memory] = []
        outcomes: list[tuple[str, bytes]] = []
        for where, group in groupby(batch, key=lambda record: record[0][0]):
            objects = [(place[1], line.key, body) for place, line, body in group]
            parsed = self._layout.parse(objects[0][1])
            if parsed is None:
                outcomes += [(key, body) for _, key, body in objects]
            else:
                bodies = [(number, body) for number, _, body in objects]
                memories.append(_Memory(parsed[0], self._there.numbers(where), bodies))
        self._put_together(self._target, memories)
        mapped(self._put_memory, [memory for memory in memories if memory.bodies], _THREADS)
        if outcomes:
            self._put_stubs()
            mapped(self._put_outcome, outcomes, _THREADS)
        self._tell(len(batch))

    def end(self) -> RestoreReport:
        """Do the last steps, and report what was done."""
        self._put_stubs()
        return RestoreReport(self._backup, **self._counts)

    def _put_together(self, target: StoreClient, memories: list[_Memory]) -> None:
        """Create what the target can create together: all first versions of memories, then all
        second ones, and so on. Versions that were not created are left for later."""
        active = [memory for memory in memories if memory.bodies[0][0] > memory.there]
        while target.capabilities.batch and active:
            keys = {memory.address.object_key(memory.bodies[0][0]): memory for memory in active}
            made = target.create_many({key: memory.bodies[0][1] for key, memory in keys.items()})
            for key in made:
                _, body = keys[key].bodies.pop(0)
                self._count(restored=1, bytes=len(body))
            active = [memory for key in made if (memory := keys[key]).bodies]

    def _put_memory(self, memory: _Memory) -> None:
        there = memory.there
        for version, body in memory.bodies:
            self._put_version(memory, version, body, there)

    def _put_version(self, memory: _Memory, version: int, body: bytes, there: int) -> None:
        assert self._target is not None
        target, address, key = self._target, memory.address, memory.address.object_key(version)
        target_body = target.get(key) if version <= there else None
        stub = None
        if target_body is None and version < there:
            stub = self._stub(memory, version, body)
        if target_body is None:
            target_body, created = place(target, key, stub or body, look_first=False)
            if created:
                self._count(restored=1, bytes=len(target_body), erased=stub is not None)
                return
        if target_body == body:
            self._count(already_there=1)
        elif stays(self._layout, address, version, body, target_body):
            self._count(already_there=1, erased=1)
        else:
            self._stubs.append((key, body))

    def _stub(self, memory: _Memory, version: int, body: bytes) -> bytes | None:
        """Return the stub to restore for a version that the target has lost and ordered to erase;
        None if it ordered no such thing. Reads all later versions that the target has."""
        assert self._target is not None
        for number in sorted(
            (candidate for candidate in memory.numbers if candidate > version), reverse=True
        ):
            later_body = self._target.get(memory.address.object_key(number))
            entry = later_body and decoded(self._layout, memory.address, number, later_body)
            if entry and entry.purges:
                return purge.stub_of(self._layout, memory.address, version, body)
        return None

    def _put_stubs(self) -> None:
        """Erase in the target what is erased in the backup, after the tombstones that ordered it:
        readers of the target see the order before the contents go."""
        for key, body in self._stubs:
            assert self._target is not None
            self._target.replace(key, body)
            self._count(erased=1)
        self._stubs = []

    def _put_outcome(self, outcome: tuple[str, bytes]) -> None:
        assert self._target is not None
        key, body = outcome
        target_body, created = place(self._target, key, body, look_first=False)
        if target_body != body:
            raise different(key)
        self._count(restored=created, already_there=not created, bytes=len(body) * created)

    def _count(self, **objects: int) -> None:
        for kind, number in objects.items():
            self._counts[kind] += number

    def _tell(self, objects: int) -> None:
        self._done += objects
        if self._progress:
            backup = self._backup
            self._progress(self._done, max(self._done, backup.versions + backup.outcomes))


class _There:
    """The versions that the target has, memory by memory, as the backup comes to them."""

    def __init__(self, target: StoreClient, layout: Layout) -> None:
        infos = target.list(layout.entries)
        self._memories = (
            memory for memory in listed(infos, with_infos=True) if isinstance(memory, ListedMemory)
        )
        self._next = next(self._memories, None)

    def numbers(self, place: bytes) -> Collection[int]:
        """Return the versions of the memory at a place. It is asked for places in their order,
        perhaps for the same again."""
        while self._next is not None and position(self._next.address.prefix) < place:
            self._next = next(self._memories, None)
        if self._next is None or position(self._next.address.prefix) != place:
            return ()
        return self._next.infos.keys()
