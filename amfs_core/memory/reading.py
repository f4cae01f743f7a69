"""The methods that read, list, search and compare."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from amfs_core import arguments
from amfs_core.catalog import Filters, SearchHit
from amfs_core.errors import AMFSError, InvalidValueError
from amfs_core.format import Address, MemoryEntry, values
from amfs_core.memory.session import THREADS, Session
from amfs_core.parallel import mapped
from amfs_core.storage import named, one_call
from amfs_core.upkeep import namespaces
from amfs_core.versions import Diff, diff


class Reading(Session):
    """Finding out what is remembered."""

    def read(
        self,
        entity_path: str,
        key: str,
        *,
        version: int | None = None,
        at: datetime | None = None,
        min_confidence: float = 0.0,
        max_age: float | timedelta | None = None,
    ) -> MemoryEntry | None:
        """Return the newest live version, or None when there is none.

        The next outcome of this session is about the versions that this returns (see
        `commit_outcome`).

        Args:
            entity_path: the memory's path: segments joined by `/`.
            key: its name under that path.
            version: read this version, even if it is a tombstone or has expired.
            at: read the version that was newest and live at this aware time.
            min_confidence: None is returned for a version below it.
            max_age: seconds or a `timedelta`; answer from memory if the newest version was checked
                at most that long ago.

        Cost: 1 request for a memory that this process knows, 3 (in two round trips) for one it has
        not seen, 1 for a given version and 0 the second time, 0 within `max_age`; `at` adds about
        log2(versions).
        """
        if version is None:
            return self._read_newest(entity_path, key, at, min_confidence, max_age)
        # One request has the whole patience anyway, and sharing it costs time (`speed.md`).
        try:
            if at is not None:
                raise InvalidValueError("give version or at, not both")
            address = self._layout.address(entity_path, key)
            least = arguments.fraction(min_confidence, "min_confidence")
            if max_age is not None:
                arguments.seconds(max_age, "max_age")
            entry = self._versions.get(address, arguments.version(version, "version"))
        except AMFSError as error:
            named(error, entity_path, key)
            raise
        if entry is None or entry.confidence < least:
            return None
        self._note(address, entry)
        return entry

    @one_call
    def _read_newest(
        self,
        entity_path: str,
        key: str,
        at: datetime | None,
        min_confidence: float,
        max_age: float | timedelta | None,
    ) -> MemoryEntry | None:
        address = self._layout.address(entity_path, key)
        least = arguments.fraction(min_confidence, "min_confidence")
        age = _age(max_age)
        if at is None:
            moment = None
            entry = self._versions.newest(address, age)
        else:
            moment = arguments.moment(at, "at")
            entry = self._versions.as_of(address, moment)
        if entry is None or not entry.is_live(moment) or entry.confidence < least:
            return None
        self._note(address, entry)
        return entry

    def _note(self, address: Address, entry: MemoryEntry) -> None:
        if entry.provisional:
            self._reads.note_provisional(address, entry.provenance.write_id)
        else:
            self._reads.note(address, entry.version)

    def history(self, entity_path: str, key: str) -> list[MemoryEntry]:
        """Return all versions, oldest first, tombstones and erased ones included.

        1 request per 1,000 versions, and 1 for each version not read before.
        """
        return self._versions.history(self._layout.address(entity_path, key))

    def search(
        self,
        query: str | None = None,
        *,
        entity_path: str | None = None,
        tags: str | Iterable[str] | None = None,
        memory_type: str | None = None,
        agent_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        min_confidence: float = 0.0,
        limit: int = 10,
        max_age: float | timedelta | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return the newest live versions that answer a query, best first.

        Complete in the same sense as `list`, and at the same price. The filters are exact.

        Args:
            query: words in any language, which are looked for in values, keys, entity paths and
                tags. There is no query syntax, so every text is valid. Without a query, or with a
                blank one, the newest come first and every score is 0. With an embedder the meaning
                counts too.
            entity_path: only memories under this path, by whole segments.
            tags: only memories with all of these tags.
            memory_type: only memories of this type.
            agent_id: only memories whose newest version this agent wrote.
            since: only versions written at this time or later.
            until: only versions written before this time.
            min_confidence: only versions at least this certain.
            limit: the most hits to return.
            max_age: as for `list`.
            complete: as for `list`.
        """
        filters = self._filters(
            entity_path,
            tags=tags,
            memory_type=memory_type,
            agent_id=agent_id,
            since=since,
            until=until,
            min_confidence=min_confidence,
        )
        words = "" if query is None else arguments.query(query, "query")
        most, age = arguments.count(limit, "limit"), _age(max_age)
        if not words.strip():
            return self._searching().newest(filters, most, max_age=age, complete=complete)
        return self._searching().ranked(words, filters, most, max_age=age, complete=complete)

    def semantic_search(
        self,
        text: str,
        *,
        entity_path: str | None = None,
        tags: str | Iterable[str] | None = None,
        memory_type: str | None = None,
        agent_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        min_confidence: float = 0.0,
        limit: int = 10,
        max_age: float | timedelta | None = None,
        complete: bool = False,
    ) -> list[SearchHit]:
        """Return the newest live versions that are nearest to a text by meaning, nearest first.

        The score is the cosine of the angle between the vectors. Filters, completeness and price
        are as in `search`; each version is embedded once. Raises `ConfigurationError` without an
        embedder, or when that fails.
        """
        filters = self._filters(
            entity_path,
            tags=tags,
            memory_type=memory_type,
            agent_id=agent_id,
            since=since,
            until=until,
            min_confidence=min_confidence,
        )
        words = arguments.query(text, "text")
        most, age = arguments.count(limit, "limit"), _age(max_age)
        return self._searching().by_meaning(words, filters, most, max_age=age, complete=complete)

    def read_many(
        self,
        pairs: Iterable[tuple[str, str] | MemoryEntry],
        *,
        min_confidence: float = 0.0,
        max_age: float | timedelta | None = None,
    ) -> builtins.list[MemoryEntry | None]:
        """Read many memories, up to 32 at a time; return what `read` returns of each, in order.

        A pair is an entity path and a key, or an entry: then the newest version of its memory is
        read. All pairs are checked before the first is read. The first error is raised once all
        reads have ended. Costs what the reads cost.
        """
        names = [_pair(pair, index) for index, pair in enumerate(pairs)]
        for entity_path, key in names:
            self._layout.address(entity_path, key)

        def read(name: tuple[str, str]) -> MemoryEntry | None:
            return self.read(*name, min_confidence=min_confidence, max_age=max_age)

        return mapped(read, names, THREADS)

    def list_entity_paths(
        self, under: str | None = None, *, max_age: float | timedelta | None = None
    ) -> builtins.list[str]:
        """Return the entity paths that directly hold a live memory, sorted, at any depth.

        `under` limits them to a path and those below it. `max_age` and the cost are as in `list`.
        """
        if under is not None:
            self._layout.entity_prefix(under)
        return self._searching().entity_paths(Filters(under), max_age=_age(max_age))

    def list_namespaces(self) -> builtins.list[str]:
        """Return the names of all namespaces in the store, not only of this memory's.

        An empty namespace does not exist. 1 request for each, and 1 more; in a directory a look
        at each. Raises `PermissionDeniedError` for credentials that may list only a part.
        """
        return sorted(namespaces(self._versions.store))

    def list(
        self,
        entity_path: str | None = None,
        *,
        max_age: float | timedelta | None = None,
        progress: Callable[[int, int], None] | None = None,
        complete: bool = False,
    ) -> list[MemoryEntry]:
        """Return the newest live version of every memory under an entity path, at any depth.

        Sorted by name, and complete: the list has every write that returned before the call, or,
        with `max_age` (seconds or `timedelta`), at most that long before it, and always the writes
        of this process. A version that is damaged, or may not be read although others may, is left
        out and named once in the log (logger "amfs"); `verify` names it too. `progress(done,
        total)` is called while versions are fetched.

        A store with a change log (a directory on a local disk, SQLite, PostgreSQL) is asked only
        what is new since the last look. Changes by other tools are found by the listings that each
        process makes now and then, and at once with `complete=True`, which lists everything
        (docs/design/changes.md).

        1 request per 1,000 objects, or 1 in all where a change log is followed, and 1 for each
        newest version not read before; none within `max_age` of the last list or search.
        """
        if entity_path is not None:
            self._layout.entity_prefix(entity_path)
        if progress is not None:
            arguments.function(progress, "progress")
        return self._searching().find(
            Filters(entity_path), max_age=_age(max_age), progress=progress, complete=complete
        )

    @one_call
    def diff(
        self, entity_path: str, key: str, old: int | None = None, new: int | None = None
    ) -> Diff:
        """Say what changed from version `old` to `new`: by default in the newest version.

        Costs the reads of the two. Raises `InvalidValueError` when a version does not exist.
        """
        address = self._layout.address(entity_path, key)
        if new is None:
            newer = self._versions.newest(address)
        else:
            newer = self._versions.get(address, arguments.version(new, "new"))
        if newer is None:
            wanted = "no versions" if new is None else f"no version {new}"
            raise InvalidValueError(f"{address} has {wanted} to compare")
        number = newer.version - 1 if old is None else arguments.version(old, "old", least=0)
        older = self._versions.get(address, number) if number else None
        if older is None and number:
            raise InvalidValueError(f"{address} has no version {number} to compare")
        return diff(older, newer)

    def _filters(self, entity_path: str | None, **conditions: Any) -> Filters:
        if entity_path is not None:
            self._layout.entity_prefix(entity_path)
        return Filters.checked(entity_path, **conditions)


def _pair(pair: object, index: int) -> tuple[str, str]:
    if isinstance(pair, MemoryEntry):
        return pair.entity_path, pair.key
    if isinstance(pair, tuple) and len(pair) == 2:
        return pair
    raise InvalidValueError(
        f"pairs[{index}] must be an entity path and a key, or an entry, not {values.shown(pair)}"
    )


def _age(max_age: float | timedelta | None) -> float | None:
    return None if max_age is None else arguments.seconds(max_age, "max_age")
