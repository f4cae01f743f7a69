"""The methods that write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec.structs import replace

from amfs_core import arguments
from amfs_core.errors import AMFSError, InvalidValueError, VersionConflictError
from amfs_core.format import Address, Draft, MemoryEntry, carried_on, values
from amfs_core.memory import drafts
from amfs_core.memory.session import THREADS, Session
from amfs_core.storage import named, one_call
from amfs_core.versions import NONE_KNOWN, Head, batch, new_write_id, purge


class Updating(NamedTuple):
    """An `update` under way: the version that it changes, live or absent, and its `write_id`,
    which stays the same however often the function is called."""

    address: Address
    head: Head
    live: MemoryEntry | None
    write_id: str
    losses: int = 0


class _Overtaken(Exception):  # never leaves `_try_update`
    def __init__(self, head: Head) -> None:
        self.head = head


class Writing(Session):
    """Appending versions to memories."""

    def write(
        self,
        entity_path: str,
        key: str,
        value: Any,
        *,
        confidence: float = 1.0,
        tags: Iterable[str] = (),
        memory_type: str = "fact",
        ttl: float | timedelta | None = None,
        expires_at: datetime | None = None,
        pattern_refs: Iterable[str] = (),
        expected_version: int | None = None,
        write_id: str | None = None,
        index: bool = True,
    ) -> MemoryEntry:
        """Append a version and return it once it is durable, exactly as any later read will.

        Args:
            entity_path: the memory's path: segments joined by `/`.
            key: its name under that path.
            value: any JSON value.
            confidence: between 0 and 1.
            tags: short texts to filter by.
            memory_type: "fact", "belief", "experience" or "procedure".
            ttl: the time, in seconds or as a `timedelta`, after which reads no longer see it.
            expires_at: the same as a time (an aware `datetime`).
            pattern_refs: references of your own, kept with the version.
            expected_version: write only if this is the newest version (0: if there is none, not
                even a tombstone).
            write_id: `find_write` finds this call by it, which helps when the answer never reached
                you. It must be unique to this call; by default it is 128 random bits.
            index: False keeps the memory out of searches by words or meaning; `list`, and a search
                without a query, still show it.

        Raises:
            InvalidKeyError, InvalidValueError, VersionConflictError: nothing was written.
            WriteOutcomeUnknownError: patience ended, and it may have been written.
            BackendUnavailableError: patience ended, and it was not written.

        Cost: 1 request when this process knows the memory or it is new; otherwise what finding the
        newest version costs, and 3 more.
        """
        # No `one_call`: nearly all writes are one request, and sharing costs time (`speed.md`).
        try:
            address = self._layout.address(entity_path, key)
            draft = drafts.draft(
                self.agent_id,
                self.session_id,
                value,
                confidence=confidence,
                tags=tags,
                memory_type=memory_type,
                ttl=ttl,
                expires_at=expires_at,
                pattern_refs=pattern_refs,
                write_id=write_id,
                index=index,
            )
            if expected_version is None:
                return self._versions.append(address, draft)
            expected = arguments.version(expected_version, "expected_version", least=0)
            return self._append_to(address, draft, expected)
        except AMFSError as error:
            named(error, entity_path, key)
            raise

    def write_many(self, items: Iterable[Mapping[str, Any]]) -> list[MemoryEntry]:
        """Write many items, up to 32 at a time; return their entries in the items' order.

        An item is a dict with the names of `write`'s parameters. `written_at` increases in the
        items' order (a memory whose newest version is from a clock ahead of this one keeps that
        later time). Items with the same key become versions in their order. All items are
        checked before the first is written; no two of one memory may have the same `write_id`.
        Costs what the writes cost. Raises `WriteManyError` when some could not be written: it says
        which, and has the entries of the others.
        """
        work: list[batch.Item] = []
        names: dict[tuple[Address, str], int] = {}
        for index, parameters in enumerate(drafts.items(items)):
            try:
                item = self._item(parameters)
                first = names.setdefault((item.address, item.draft.write_id), index)
                if first != index:
                    raise InvalidValueError(
                        f"its write_id is also that of item {first}, so nobody could tell which of "
                        "the two find_write means",
                        hint="give each write its own",
                    )
                work.append(item)
            except AMFSError as error:
                raise _of_item(error, index, parameters) from error.__cause__
        return batch.Batch(self._versions, work).write(self._append_item, THREADS)

    @one_call
    def update(
        self,
        entity_path: str,
        key: str,
        fn: Callable[[Any], Any],
        *,
        ttl: float | timedelta | None = None,
    ) -> MemoryEntry:
        """Read, change and write as one step: `fn(value)` returns the new value.

        `fn` gets None when there is no live version. It is first called with the newest version
        that this process knows. If another writer has replaced that, or comes first later, `fn` is
        called again with the newer value, so it should have no side effects. Its own time does not
        count against the patience. Confidence, tags, type, expiry and evidence stay as they were:
        it is the same claim. `ttl`, in seconds or as a `timedelta`, begins a new time until it
        expires. 1 request when this process knows the newest version, else a read more.
        """
        address = self._layout.address(entity_path, key)
        write_id = new_write_id()
        lifetime = arguments.lifetime(ttl)
        arguments.function(fn, "fn")

        def make(head: Head) -> Draft:
            live = self._live(address, head)
            with self._patience.callers_time():
                value = fn(None if live is None else live.value)
            return self._changed(live, value, lifetime, write_id)

        head = self._versions.known_head(address) or self._versions.look(address)
        return self._versions.append(address, make, head=head)

    @one_call
    def _begin_update(self, entity_path: str, key: str) -> Updating:
        """Begin an `update` whose function runs elsewhere: return what to call it with.

        For `AsyncAgentMemory`, so that no thread waits for a coroutine. A read at most.
        """
        address = self._layout.address(entity_path, key)
        head = self._versions.known_head(address) or self._versions.look(address)
        return Updating(address, head, self._live(address, head), new_write_id())

    @one_call
    def _try_update(
        self,
        entity_path: str,
        key: str,
        updating: Updating,
        value: Any,
        lifetime: timedelta | None,
    ) -> MemoryEntry | Updating:
        """Append what an `update` made of a version; if another writer came first, return what to
        call the function with again. 1 request, and more after a lost race."""
        address = updating.address
        draft = self._changed(updating.live, value, lifetime, updating.write_id)

        def make(head: Head) -> Draft:
            if (head.version, head.sha256) != (updating.head.version, updating.head.sha256):
                raise _Overtaken(head)
            return draft

        try:
            return self._versions.append(address, make, head=updating.head)
        except _Overtaken as overtaken:
            head = overtaken.head
        if updating.losses:  # losing twice means being behind, not just late
            head = Head.of(self._versions.climb(address, head.version))
        live = self._live(address, head)
        return Updating(address, head, live, updating.write_id, updating.losses + 1)

    def _live(self, address: Address, head: Head) -> MemoryEntry | None:
        current = self._versions.at_head(address, head)
        return current if current is not None and current.is_live() else None

    def _changed(
        self, live: MemoryEntry | None, value: Any, lifetime: timedelta | None, write_id: str
    ) -> Draft:
        """Return the draft of a version that gives a new value to the claim of a live one."""
        draft = drafts.draft(self.agent_id, self.session_id, value, ttl=lifetime, write_id=write_id)
        if live is None:
            return draft
        return replace(draft, **(carried_on(live) | {"value": draft.value}))

    @one_call
    def delete(self, entity_path: str, key: str) -> MemoryEntry | None:
        """Append a tombstone and return it; None, and nothing written, when nothing is live.

        All versions stay in the history. A read, and 1 request.
        """
        address = self._layout.address(entity_path, key)
        tombstone = replace(self._nothing(), deleted=True)

        def make(head: Head) -> Draft | None:
            current = self._versions.at_head(address, head)
            return tombstone if current is not None and current.is_live() else None

        return self._versions.append(address, make, head=self._versions.look(address))

    def purge(self, entity_path: str, key: str, *, expected_version: int | None = None) -> int:
        """Erase the contents of all versions forever; return how many were erased.

        A tombstone is appended first, and the version numbers stay taken. With `expected_version`
        this happens only if that is the newest version; otherwise it raises `VersionConflictError`
        and erases nothing. After a crash, call it again: it continues. A read, and about 2 requests
        per version.
        """
        address = self._layout.address(entity_path, key)
        tombstone = replace(self._nothing(), deleted=True, purges=True)
        if expected_version is not None:
            arguments.version(expected_version, "expected_version")

        def order(head: Head) -> Draft:
            if expected_version not in (None, head.version):
                raise _conflict(address, expected_version or 0, head)
            return tombstone

        erased, below = purge.purge(self._versions.whole(address), address, order)
        if self._engine.keeps_catalog:
            self._searching().forget(address, below)
        return erased

    @one_call
    def find_write(
        self, entity_path: str, key: str, write_id: str, *, version: int | None = None
    ) -> MemoryEntry | None:
        """Return the version that a write call made, or None if it has not landed (so far).

        Takes the `write_id` and `version` of a `WriteOutcomeUnknownError`, or a `write_id` that was
        passed to `write`. 1 request with a version; without one, the history is searched.
        """
        address = self._layout.address(entity_path, key)
        if version is not None:
            entry = self._versions.get(address, arguments.version(version, "version"))
            candidates = [] if entry is None else [entry]
        else:
            candidates = self._versions.history(address)
        return next(
            (candidate for candidate in candidates if candidate.provenance.write_id == write_id),
            None,
        )

    def _nothing(self) -> Draft:
        return drafts.draft(self.agent_id, self.session_id, None)

    def _item(self, parameters: Mapping[str, Any]) -> batch.Item:
        """Return an item of `write_many`, checked as a whole and ready to be written."""
        fields = dict(parameters)
        address = self._layout.address(fields.pop("entity_path"), fields.pop("key"))
        expected = fields.pop("expected_version", None)
        if expected is not None:
            arguments.version(expected, "expected_version", least=0)
        draft = drafts.draft(self.agent_id, self.session_id, fields.pop("value"), **fields)
        moment = self._versions.clock.now()
        prepared = self._versions.prepare(address, draft, moment)
        return batch.Item(address, draft, expected, moment, *prepared)

    @one_call
    def _append_item(self, item: batch.Item) -> MemoryEntry:
        if item.expected is not None:
            return self._append_to(item.address, item.draft, item.expected, item.moment)
        return self._versions.append(
            item.address, item.draft, moment=item.moment, prepared=(item.entry, item.body)
        )

    @one_call
    def _append_to(
        self, address: Address, draft: Draft, expected: int, moment: datetime | None = None
    ) -> MemoryEntry:
        """Append a version if the newest is `expected` (0: if there is none)."""

        def make(head: Head) -> Draft:
            if head.version == expected:
                return draft
            # The winner of a race may be followed by others.
            raise _conflict(address, expected, self._versions.look(address))

        head = self._versions.known_head(address)
        if (head or NONE_KNOWN).version != expected:
            head = self._versions.look(address)
            if head.version != expected:
                raise _conflict(address, expected, head)
        return self._versions.append(address, make, head=head, moment=moment)


def _conflict(address: Address, expected: int, newest: Head) -> VersionConflictError:
    state = f"version {newest.version} is the newest" if newest.version else "there is none"
    return VersionConflictError(
        f"{address} was expected to be at version {expected}, but {state}",
        hint="read it and decide again",
        expected=expected,
        actual=newest.version,
        entity_path=address.entity_path,
        key=address.key,
    )


def _of_item(error: AMFSError, index: int, parameters: Mapping[str, Any]) -> AMFSError:
    """Return an error that says which item of several it is about, and that nothing was written."""
    names = [parameters.get("entity_path"), parameters.get("key")]
    error.entity_path, error.key = (name if type(name) is str else None for name in names)
    place = ", ".join(values.shown(name) for name in names)
    return error.at(f"item {index} ({place})", says_written=True)
