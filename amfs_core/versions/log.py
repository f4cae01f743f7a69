"""Appending versions and finding the newest: the concurrency heart.

A version is created by one atomic create-if-absent, and its number is never free again. Two things
follow, and everything here rests on them:

- `exists(v)` is monotone: a guess of the newest version can be too low, never wrong.
- Whoever finds v taken may go on to v + 1; whoever does not know must not.

`docs/design/exactly-once.md` walks through every failure.
"""

from __future__ import annotations

import copy
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NoReturn, overload

from amfs_core.errors import (
    AMFSError,
    InvalidValueError,
    OutcomeUnknownError,
    PermissionDeniedError,
    WriteOutcomeUnknownError,
)
from amfs_core.format import (
    MAX_VERSION,
    Address,
    Draft,
    Layout,
    MemoryEntry,
    Provenance,
    decode_entry,
    seal_entry,
)
from amfs_core.storage import PAGE, StoreClient, refusals
from amfs_core.versions.absence import LOOKS, missing
from amfs_core.versions.cache import NONE_KNOWN, Cache, Head
from amfs_core.versions.clock import AHEAD, Clock
from amfs_core.versions.foreign import reached
from amfs_core.versions.guarded import GuardedClient

DEFAULT_MAX_VALUE_BYTES = 16 * 1024 * 1024
"""The largest body that is written. A body is one request, which must end within its timeout, and
readers hold many bodies at a time. Keep a larger value elsewhere, and its address in the memory."""


def _room(version: int, previous: str | None) -> int:
    """Return how many bytes of a body its number and the SHA-256 of its predecessor take."""
    return len(f'{version}"{previous}"' if previous else f"{version}null")


_MOST_ROOM = _room(MAX_VERSION, "0" * 64)
_MOST_WARNINGS = 1000
_log = logging.getLogger("amfs")


Prepared = tuple[MemoryEntry, bytes]
"""A version that may be the next one of its memory, and its body."""


class VersionLog:
    """All versions of all memories of one namespace, as they are in the store."""

    def __init__(
        self, store: GuardedClient, layout: Layout, max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES
    ) -> None:
        self.store: StoreClient = store
        self.manifests = store.manifests
        self._bare = store.unguarded
        self.max_value_bytes = max_value_bytes
        self.layout = layout
        self.cache = Cache()
        self.clock = Clock()
        self._warned: set[Address] = set()

    def unguarded(self) -> VersionLog:
        """Return the same log for whoever looks at the store and does not rely on what is there:
        whatever its manifest says, it is read."""
        bare = copy.copy(self)
        bare.store = self._bare
        return bare

    # -- appending ---------------------------------------------------------------------------

    @overload
    def append(
        self,
        address: Address,
        draft: Draft | Callable[[Head], Draft],
        *,
        head: Head | None = None,
        moment: datetime | None = None,
        prepared: Prepared | None = None,
    ) -> MemoryEntry: ...

    @overload
    def append(
        self,
        address: Address,
        draft: Callable[[Head], Draft | None],
        *,
        head: Head | None = None,
        moment: datetime | None = None,
    ) -> MemoryEntry | None: ...

    def append(
        self,
        address: Address,
        draft: Draft | Callable[[Head], Draft | None],
        *,
        head: Head | None = None,
        moment: datetime | None = None,
        prepared: Prepared | None = None,
    ) -> MemoryEntry | None:
        """Append one version and return it once it is durable.

        `draft` is what to write, or a function that returns it. The function is called with the
        head that the version will follow, again after every lost race; it returns None to append
        nothing. `head` is where to start: by default what this process knows, or a guess that there
        is no version, which a create of v1 either proves or refutes. `moment` is the time of the
        call: by default now. `prepared` is what `prepare` made of the draft for the same moment: it
        is not sealed again if it still follows the head.

        1 request when the head is right. Raises `WriteOutcomeUnknownError` when patience ends
        before it is known whether the version landed.
        """
        started, shares, losses = time.monotonic(), False, 0
        head = head or self.cache.head(address)
        guessed = head is None
        try:
            while True:
                head = head or NONE_KNOWN
                said = draft if isinstance(draft, Draft) else draft(head)
                if said is None:
                    return None
                if prepared is not None and _follows(prepared[0], head):
                    entry, body = prepared
                else:
                    entry = self._next(address, said, head, moment or self.clock.now())
                    body = seal_entry(entry)
                if len(body) > self.max_value_bytes and said.outcome_ref is None:
                    self._refuse(address, len(body))
                object_key = address.object_key(entry.version)
                try:
                    stored_body = self.store.settle(object_key, body)
                except OutcomeUnknownError as error:
                    raise unknown(address, entry, object_key, error) from error
                if stored_body is body:
                    self.cache.keep(address, entry, body, newest=True)
                    return entry
                entry = self._remember(address, entry.version, stored_body)
                if entry.provenance.write_id == said.write_id:
                    self.cache.note_appended(address, entry.version)
                    return entry
                # More requests follow; they share the patience that began with the first one.
                shares = self.store.patience.share(started) or shares
                losses += 1
                self.store.meter.add("conflict")
                if guessed:
                    entry, guessed = self._locate(address) or entry, False
                elif losses > 1:  # losing twice means being behind, not just late
                    _back_off(losses)
                    entry = self.climb(address, entry.version) or entry
                head = Head.of(entry)
        finally:
            if shares:
                self.store.patience.unshare()

    def prepare(self, address: Address, draft: Draft, moment: datetime) -> Prepared:
        """Return the version that a draft makes after the newest known one, and its body.

        Raises `InvalidValueError` if it could be too large, whatever version it makes in the end.
        """
        head = self.cache.head(address) or NONE_KNOWN
        entry = self._next(address, draft, head, moment)
        body = seal_entry(entry)
        size = len(body) - _room(entry.version, entry.previous) + _MOST_ROOM
        if size > self.max_value_bytes:
            self._refuse(address, size)
        return entry, body

    def made(self, address: Address, draft: Draft, head: Head, moment: datetime) -> Prepared:
        """Return what a draft makes of the version after a head, and its body; sends nothing.
        Raises `InvalidValueError` when it is too large."""
        entry = self._next(address, draft, head, moment)
        body = seal_entry(entry)
        if len(body) > self.max_value_bytes:
            self._refuse(address, len(body))
        return entry, body

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create versions together, where the store can; see `StoreClient.create_many`."""
        return self.store.create_many(objects)

    def whole(self, address: Address) -> VersionLog:
        """Return the log that has all versions of a memory, for who is to change them: this one."""
        return self

    def _warn(self, address: Address, head: Head) -> None:
        """Warn once about each memory whose time stands still until a time in the future."""
        if address not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(address)
            _log.warning(
                "%s v%d is from %s, which is in the future: the clock of its writer was wrong, or "
                "that of this machine is. New versions get that same time until then, so at= does "
                "not tell them apart. Set the clock; `amfs verify` names every such memory",
                address,
                head.version,
                head.written_at.isoformat(timespec="seconds"),
            )

    def _refuse(self, address: Address, size: int) -> NoReturn:
        raise InvalidValueError(
            f"{address} would take {size:,} bytes as JSON",
            hint=(
                f"the limit is {self.max_value_bytes:,} "
                "(max_value_bytes). Keep the value elsewhere and write where it is"
            ),
            says_written=True,
            entity_path=address.entity_path,
            key=address.key,
        )

    def _next(self, address: Address, draft: Draft, head: Head, moment: datetime) -> MemoryEntry:
        """Return the version after `head`, still without its seal."""
        written_at = moment
        if moment < head.written_at:
            written_at = head.written_at
            if written_at - moment > AHEAD:
                self._warn(address, head)
        if head.version >= MAX_VERSION:
            raise AMFSError(
                f"{address} is at version {head.version}, and no version can follow",
                hint="move it out of the store if another tool put it there, or use another key",
                says_written=True,
                entity_path=address.entity_path,
                key=address.key,
                version=head.version,
            )
        return MemoryEntry(
            namespace=self.layout.namespace,
            entity_path=address.entity_path,
            key=address.key,
            version=head.version + 1,
            value=draft.value,
            confidence=draft.confidence,
            tags=draft.tags,
            memory_type=draft.memory_type,
            expires_at=draft.expires_at if draft.ttl is None else _end(written_at, draft.ttl),
            deleted=draft.deleted,
            provenance=Provenance(
                draft.agent_id,
                draft.session_id,
                written_at,
                draft.write_id,
                draft.pattern_refs,
                outcome_ref=draft.outcome_ref,
            ),
            evidence=draft.evidence,
            previous=head.sha256,
            sha256="",
            purges=draft.purges,
            claim=draft.claim,
            index=draft.index,
            extra=draft.extra,
        )

    # -- finding -----------------------------------------------------------------------------

    def known_head(self, address: Address) -> Head | None:
        """Return what the next version builds on, as far as this process knows. No request."""
        return self.cache.head(address)

    def look(self, address: Address) -> Head:
        """Look for the newest version now, and return what the next one builds on."""
        # Not what the cache has then: of what a signal handler reads while its thread changes the
        # cache, that learns later.
        return Head.of(self.newest(address))

    def at_head(self, address: Address, head: Head) -> MemoryEntry | None:
        """Return the version that a head stands for, None for a head of none."""
        return self.get(address, head.version) if head.version else None

    def newest(self, address: Address, max_age: float | None = None) -> MemoryEntry | None:
        """Return the newest version, tombstones included, or None when there is none.

        1 request for a memory that this process knows (none within `max_age` seconds of the last
        check), else 3 in two round trips for up to 1,000 versions, and about 2 log2(n) more above.
        """
        head = self.cache.head(address)
        if head is None:
            return self._locate(address)
        if max_age is not None and time.monotonic() - head.checked <= max_age:
            return self.get(address, head.version) if head.version else None
        return self.climb(address, head.version)

    def get(self, address: Address, version: int) -> MemoryEntry | None:
        """Return one version, or None when there is no such version. 1 request, 0 once it is known.

        Raises `CorruptEntryError` when the object is not what was written.
        """
        body = self.cache.body(address, version)
        if body is not None:
            self.store.meter.add("cache_hit")
            return self.decode(address, version, body)
        body = self.store.get(address.object_key(version))
        return None if body is None else self._remember(address, version, body)

    def as_of(self, address: Address, moment: datetime) -> MemoryEntry | None:
        """Return the version that was newest at a time, by bisection: times never fall."""
        newest = self.newest(address)
        if newest is None or newest.provenance.written_at <= moment:
            return newest
        entry, low, high = None, 0, newest.version
        while high - low > 1:
            middle = self._must_get(address, (low + high) // 2)
            if middle.provenance.written_at <= moment:
                entry, low = middle, middle.version
            else:
                high = middle.version
        return entry

    def history(self, address: Address) -> list[MemoryEntry]:
        """Return all versions, oldest first. 1 request per 1,000 versions to list them, and 1 for
        each that is not known yet. Raises `CorruptEntryError` when one is missing or damaged."""
        known = (self.cache.head(address) or NONE_KNOWN).version
        for look in range(1, LOOKS + 1):
            last = max(known, max(self.listed(address), default=0))
            may_lack = last > known and look < LOOKS
            entries = list(self.span(address, range(1, last + 1), may_lack_last=may_lack))
            if len(entries) == last:
                break
            _back_off(look + 3)
        return entries

    def span(
        self, address: Address, numbers: range, *, may_lack_last: bool = False
    ) -> Iterator[MemoryEntry]:
        """Yield the versions with these numbers in their order. 1 request for each that is not
        known yet, many at a time. Raises `CorruptEntryError` when one is missing or damaged; with
        `may_lack_last` the last one may be missing."""
        for first in range(0, len(numbers), PAGE):  # a forged number may be huge
            page = numbers[first : first + PAGE]
            entries = dict(self.get_each((address, version) for version in page))
            for version in page:
                entry = entries.get((address, version))
                if entry is None and may_lack_last and version == numbers[-1]:
                    return
                yield entry or self.missing(address, version)

    def get_each(
        self, wanted: Iterable[tuple[Address, int]]
    ) -> Iterator[tuple[tuple[Address, int], MemoryEntry]]:
        """Yield those of the wanted versions that exist, in any order. 1 request for each that is
        not known yet, many at a time."""
        for (address, version), body in self.get_bodies(wanted):
            if body is not None:
                yield (address, version), self._remember(address, version, body)

    def get_bodies(
        self,
        wanted: Iterable[tuple[Address, int]],
        refused: Callable[[Address, int, PermissionDeniedError], None] | None = None,
    ) -> Iterator[tuple[tuple[Address, int], bytes | None]]:
        """Yield the bytes of the wanted versions, unchecked, in any order; None where there is no
        object. 1 request for each that is not known yet, many at a time. `refused` is told of each
        version that may not be read; without `refused`, such a version raises."""
        known: list[tuple[Address, int]] = []
        unknown: dict[str, tuple[Address, int]] = {}
        for address, version in wanted:
            if self.cache.body(address, version) is None:
                unknown[address.object_key(version)] = address, version
            else:
                known.append((address, version))
        if refused is None:
            bodies = self.store.get_many(unknown)
        else:
            bodies = refusals.get_allowed(
                self.store, unknown, lambda key, refusal: refused(*unknown[key], refusal)
            )
        for object_key, body in bodies:
            yield unknown[object_key], body
        # After the others: among them may be an order to erase, which makes these forgotten.
        for address, version in known:
            cached_body = self.cache.body(address, version)
            if cached_body is not None:
                self.store.meter.add("cache_hit")
            yield (address, version), cached_body or self.store.get(address.object_key(version))

    def _locate(self, address: Address, look: int = 1) -> MemoryEntry | None:
        """Find the newest version of a memory that this process has not seen.

        The listing is only a hint: the proof is that the version after it is absent. A caller that
        may not list pays with about 2 log2(n) requests. If the listed version itself is absent,
        this looks at it again.
        """
        hint = 0
        try:
            if self.store.capabilities.paged:
                hint = reached(islice(self.listed(address), PAGE))
        except PermissionDeniedError:
            return self.climb(address, 0)
        pair = [(address, version) for version in (hint, hint + 1) if version]
        entries = dict(self.get_each(pair))
        if (address, hint + 1) in entries:
            return self.climb(address, hint + 1)
        if hint and (address, hint) not in entries:
            if look == LOOKS:
                self.missing(address, hint)
            _back_off(look + 3)
            return self._locate(address, look + 1)
        self.cache.checked(address, hint)
        return entries.get((address, hint))

    def climb(self, address: Address, known: int) -> MemoryEntry | None:
        """Return the newest version, given that `known` exists (0: no version is known to exist).

        Gallops up until a version is absent, then halves the gap: 1 request when nothing is new,
        about 2 log2(n) when n versions are new.
        """
        newest, low, high = None, known, 0
        while not high:
            step = max(1, low - known)
            probe = self.get(address, low + step)
            if probe is None:
                high = low + step
            else:
                newest, low = probe, low + step
        while high - low > 1:
            middle = (low + high) // 2
            probe = self.get(address, middle)
            if probe is None:
                high = middle
            else:
                newest, low = probe, middle
        self.cache.checked(address, low)
        return newest or (self._must_get(address, low) if low else None)

    def listed(self, address: Address) -> Iterator[int]:
        """Yield the version numbers in a listing, in the byte order of their names.

        Names of deeper entity paths may stand among them; the listing starts and ends as near to
        the versions as the order allows.
        """
        end = f"{address.prefix}v:"  # ":" follows "9"
        for info in self.store.list(address.prefix, f"{address.prefix}v"):
            if info.key >= end:
                return
            parsed = self.layout.parse(info.key)
            if parsed is not None and parsed[0] == address:
                yield parsed[1]

    # -- reading bodies ----------------------------------------------------------------------

    def decode(self, address: Address, version: int, body: bytes) -> MemoryEntry:
        """Return the entry in a body; `CorruptEntryError` unless it is that version, whole."""
        return decode_entry(body, self.layout.namespace, address, version)

    def _remember(self, address: Address, version: int, body: bytes) -> MemoryEntry:
        entry = decode_entry(body, self.layout.namespace, address, version)
        self.cache.keep(address, entry, body)
        return entry

    def _must_get(self, address: Address, version: int) -> MemoryEntry:
        return self.get(address, version) or self.missing(address, version)

    def missing(self, address: Address, version: int) -> NoReturn:
        """Raise the error for a version that must exist and does not."""
        raise missing(address.object_key(version), address=address, version=version)


def unknown(
    address: Address, entry: MemoryEntry, object_key: str, error: AMFSError
) -> WriteOutcomeUnknownError:
    """Return the error for a version that may or may not have been written."""
    write_id = entry.provenance.write_id
    return WriteOutcomeUnknownError(
        f"it is unknown whether version {entry.version} of {address} was written: {error}. "
        f"Ask with find_write({address.entity_path!r}, {address.key!r}, {write_id!r})",
        write_id=write_id,
        version=entry.version,
        entity_path=address.entity_path,
        key=address.key,
        object_key=object_key,
    )


def _follows(entry: MemoryEntry, head: Head) -> bool:
    return entry.version == head.version + 1 and entry.previous == head.sha256


def _end(written_at: datetime, ttl: timedelta) -> datetime:
    """Return when a version expires. A `written_at` that is ahead of the clock, as after a version
    from a writer whose clock was ahead, does not count."""
    try:
        return min(written_at, datetime.now(UTC)) + ttl
    except OverflowError as error:
        raise InvalidValueError(
            f"a ttl of {ttl} from {written_at} ends after the year 9999",
            says_written=True,
        ) from error


def _back_off(losses: int) -> None:
    """Wait a random time, up to 2, 4, 8 … 64 ms, so that writers who collided spread out."""
    time.sleep(random.uniform(0, 0.001 * 2 ** min(losses, 6)))
