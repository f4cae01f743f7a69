"""`AgentMemory`: the shared memory as one agent uses it."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from amfs_core import arguments, batch, erasure, fork, health, integrity, scan
from amfs_core.cache import NONE_KNOWN, Head
from amfs_core.diff import Diff, diff
from amfs_core.entry import Draft, MemoryEntry
from amfs_core.errors import AMFSError, InvalidValueError, VersionConflictError
from amfs_core.evidence import claim_of
from amfs_core.filters import Filters
from amfs_core.hit import SearchHit
from amfs_core.layout import Address, Layout
from amfs_core.metrics import Metrics
from amfs_core.outcome import Cause, Outcome, OutcomeType
from amfs_core.outcomes import Outcomes
from amfs_core.reads import SessionReads
from amfs_core.storage import StorageAdapter
from amfs_core.store import DEFAULT_PATIENCE, Store
from amfs_core.versions import Versions

if TYPE_CHECKING:
    from amfs_core.embedding import Embedder
    from amfs_core.search import Search
    from amfs_core.watch import Callback, Watch

_WRITERS = 32


class AgentMemory:
    """The memory of a namespace, as one agent reads and writes it.

    Safe to share between threads and usable after a fork. A context manager: `close` ends the
    threads it started, and closes the adapter when `owns_adapter` is true.

    `agent_id` signs what is written, `session_id` (default: a new UUID) groups it. `patience` is
    how long, in seconds, one request is tried again while the store does not answer. `embedder`
    turns a list of texts into vectors, for `semantic_search`. `cache_dir`
    is a directory in which the catalog of the newest versions is kept, shared by the processes of
    this machine; without it each process has one of its own, in memory.
    """

    def __init__(
        self,
        agent_id: str,
        *,
        adapter: StorageAdapter,
        namespace: str = "default",
        session_id: str | None = None,
        patience: float = DEFAULT_PATIENCE,
        owns_adapter: bool = False,
        embedder: Embedder | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.agent_id = arguments.text(agent_id, "agent_id")
        self.session_id = (
            str(uuid.uuid4()) if session_id is None else arguments.text(session_id, "session_id")
        )
        self.namespace = namespace
        self.adapter = adapter
        self._layout = Layout(namespace)
        self._versions = Versions(
            Store(adapter, arguments.seconds(patience, "patience")), self._layout
        )
        self._outcomes = Outcomes(self._versions)
        self._reads = SessionReads()
        self._owns_adapter = owns_adapter
        if embedder is not None and not callable(embedder):
            raise InvalidValueError(
                "embedder must be callable: from a list of texts to a list of vectors"
            )
        self._embedder = embedder
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        self._search: Search | None = None
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock and no threads, in a forked child."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    # -- writing -----------------------------------------------------------------------------

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
        pattern_refs: Iterable[str] = (),
        expected_version: int | None = None,
        write_id: str | None = None,
    ) -> MemoryEntry:
        """Append a version and return it, exactly as any later read will, once it is durable.

        `value` is any JSON value. `confidence` is between 0 and 1. `ttl` is the time, in seconds
        or as a `timedelta`, after which reads no longer see it. With `expected_version` the write
        happens only if that is the newest version (0: if there is none, not even a tombstone).
        `write_id` is what `find_write` finds this call by (by default 128 random bits): one of
        your own lets you ask when the answer never reached you. It must be unique to this call.

        1 request when this process knows the memory or it is new; otherwise what finding the
        newest version costs, and 3 more. Raises `InvalidKeyError`, `InvalidValueError`,
        `VersionConflictError`, or, when patience ends, `WriteOutcomeUnknownError` (it may have
        been written) or `BackendUnavailableError` (it was not).
        """
        address = self._layout.address(entity_path, key)
        draft = self._draft(
            value,
            confidence=confidence,
            tags=tags,
            memory_type=memory_type,
            ttl=ttl,
            pattern_refs=pattern_refs,
            write_id=write_id,
        )
        expected = _expected(expected_version)
        return self._append(address, draft, expected)

    def write_many(self, items: Iterable[Mapping[str, Any]]) -> list[MemoryEntry]:
        """Write many items, up to 32 at a time; return their entries in the items' order.

        An item is a dict with the names of `write`'s parameters. `written_at` increases in the
        items' order (a memory whose newest version is from a clock ahead of this one keeps that
        later time). Items with the same key become versions in their order. All items are
        checked before the first is written. Costs what the writes cost. Raises `WriteManyError`
        when some could not be written: it says which, and has the entries of those that were.
        """
        checked = [arguments.item(given, index) for index, given in enumerate(items)]
        work: list[batch.Item] = []
        for index, given in enumerate(checked):
            fields = dict(given)
            try:
                address = self._layout.address(fields.pop("entity_path"), fields.pop("key"))
                expected = _expected(fields.pop("expected_version", None))
                draft = self._draft(fields.pop("value"), **fields)
            except AMFSError as error:
                error.add_note(f"This is item {index}. Nothing was written.")
                raise
            work.append(batch.Item(address, draft, expected, self._versions.clock.now()))
        return batch.write(work, self._append, self._threads())

    def update(
        self, entity_path: str, key: str, fn: Callable[[Any], Any], *, ttl: float | None = None
    ) -> MemoryEntry:
        """Read, change and write as one step: `fn(value)` gives the new value.

        `fn` gets None when there is no live version. It is called again, with the newer value,
        whenever another writer came first, so it should have no other effects. Confidence, tags,
        type, expiry and evidence stay as they were: it is the same claim. 1 request when this
        process knows the newest version, else a read more.
        """
        address = self._layout.address(entity_path, key)
        write_id = _write_id()
        lifetime = arguments.lifetime(ttl)

        def make(head: Head) -> Draft:
            current = self._versions.get(address, head.version) if head.version else None
            live = current if current is not None and current.is_live() else None
            draft = arguments.draft(
                write_id,
                self.agent_id,
                self.session_id,
                fn(None if live is None else live.value),
                confidence=1.0 if live is None else live.confidence,
                tags=() if live is None else live.tags,
                memory_type="fact" if live is None else live.memory_type,
                ttl=lifetime,
                pattern_refs=() if live is None else live.provenance.pattern_refs,
            )
            if live is None:
                return draft
            return replace(
                draft,
                expires_at=live.expires_at,
                evidence=live.evidence,
                claim=claim_of(live),
                extra=live.extra,
            )

        head = self._versions.cache.head(address) or self._head(address)
        return _made(self._versions.append(address, make, head=head))

    def delete(self, entity_path: str, key: str) -> MemoryEntry | None:
        """Append a tombstone and return it; None, and nothing written, when nothing is live.

        All versions stay in the history. A read, and 1 request.
        """
        address = self._layout.address(entity_path, key)
        tombstone = replace(self._draft(None), deleted=True)

        def make(head: Head) -> Draft | None:
            current = self._versions.get(address, head.version) if head.version else None
            return tombstone if current is not None and current.is_live() else None

        return self._versions.append(address, make, head=self._head(address))

    def purge(self, entity_path: str, key: str) -> int:
        """Erase the contents of all versions for good; return how many were erased.

        A tombstone is appended first and the version numbers stay taken. After a crash, call it
        again: it goes on. A read, and about 2 requests per version.
        """
        address = self._layout.address(entity_path, key)
        tombstone = replace(self._draft(None), deleted=True, purges=True)
        erased = erasure.purge(self._versions, address, tombstone)
        if self._search is not None or self._cache_dir is not None:
            self._searching().forget(address)
        return erased

    # -- outcomes ----------------------------------------------------------------------------

    def commit_outcome(
        self,
        outcome_ref: str,
        outcome_type: OutcomeType | str,
        *,
        entries: Iterable[MemoryEntry | Cause | tuple[str, str]] | None = None,
    ) -> Outcome:
        """Record what happened after memories were used, and move their confidence; return it.

        `outcome_ref` names it, once in the namespace: 1 to 250 bytes. `entries` are the memories
        that were used: an entry (or a `Cause`) stands for its version, an `(entity_path, key)`
        pair for the newest live version now. None stands for the newest version of each memory
        that `read` returned in this session, of the last 10,000; listing and searching are looking
        around and do not count.

        Each memory is moved exactly once, by one more version of it, unless it was written anew,
        deleted or has expired since it was used: that is a claim which was not used. Commit again
        with the same reference and type to resume after a failure: what is recorded is returned,
        and what is still to be moved is moved.

        1 request, and 1 per memory that this process knows, else a read more. Raises
        `InvalidKeyError`, `InvalidValueError`, `OutcomeConflictError` when something else is
        recorded under the reference, `CommitUnknownError` when patience ends before it is known
        whether it was recorded, and `OutcomePendingError` when it is recorded and some memories
        could not be moved.
        """
        return self._outcomes.commit(
            outcome_ref,
            outcome_type,
            entries,
            agent_id=self.agent_id,
            session_id=self.session_id,
            reads=self._reads.newest(),
            threads=self._threads,
        )

    def read_outcome(self, outcome_ref: str) -> Outcome | None:
        """Return the outcome recorded under a reference, or None when there is none.

        1 request, 0 once it is known.
        """
        return self._outcomes.read(outcome_ref)

    def list_outcomes(self, entity_path: str | None = None) -> list[Outcome]:
        """Return all outcomes, oldest first; with an entity path, those about memories under it.

        1 request per 1,000 outcomes, and 1 for each that is not known yet, whatever it is about.
        """
        return self._outcomes.list(entity_path)

    # -- reading -----------------------------------------------------------------------------

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

        `version` asks for that version, whatever became of it since (a tombstone or an expired
        one too). `at` (an aware time) asks for what was newest and live then. Below
        `min_confidence` the answer is None. `max_age` (seconds or `timedelta`) allows an answer
        from memory if the newest version was checked at most that long ago. What is returned is
        what the next outcome of this session is about (see `commit_outcome`).

        1 request for a memory that this process knows, 3 (in two round trips) for one it has not
        seen, 1 for a given version and 0 the second time, 0 within `max_age`; `at` adds about
        log2(versions).
        """
        if version is not None and at is not None:
            raise InvalidValueError("give version or at, not both")
        address = self._layout.address(entity_path, key)
        least = arguments.fraction(min_confidence, "min_confidence")
        age = _age(max_age)
        if version is not None:
            entry = self._versions.get(address, arguments.version(version, "version"))
        elif at is not None:
            moment = arguments.moment(at, "at")
            entry = self._versions.as_of(address, moment)
            entry = entry if entry and entry.is_live(moment) else None
        else:
            entry = self._versions.newest(address, age)
            entry = entry if entry and entry.is_live() else None
        if entry is None or entry.confidence < least:
            return None
        self._reads.note(address, entry.version)
        return entry

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
    ) -> list[SearchHit]:
        """Return the newest live versions that answer a query, best first.

        `query` is words in any language: in values, keys, entity paths and tags. There is no
        query syntax, so no text is wrong. Without one, or with one that is blank, the newest come
        first and every score is 0. With an embedder the meaning counts too.

        The filters are exact: the entity path by whole segments, all of `tags`, the type, the
        agent that wrote the newest version, since <= written_at < until, and a least confidence.
        Complete in the same sense as `list`, and at the same price; `max_age` likewise.
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
        words = "" if query is None else arguments.any_text(query, "query")
        most, age = arguments.count(limit, "limit"), _age(max_age)
        if not words.strip():
            return self._searching().newest(filters, most, max_age=age)
        return self._searching().ranked(words, filters, most, max_age=age)

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
        words = arguments.any_text(text, "text")
        most, age = arguments.count(limit, "limit"), _age(max_age)
        return self._searching().by_meaning(words, filters, most, max_age=age)

    def list(
        self,
        entity_path: str | None = None,
        *,
        max_age: float | timedelta | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[MemoryEntry]:
        """Return the newest live version of every memory under an entity path, at any depth.

        Sorted by name, and complete: every write that returned before the call is in it, or, with
        `max_age` (seconds or `timedelta`), at most that long before. A damaged version is left
        out and named in the log (logger "amfs"); `verify` names it too. `progress(done, total)`
        is called while versions are fetched.

        1 request per 1,000 objects, and 1 for each newest version not read before; none within
        `max_age` of the last list or search.
        """
        if entity_path is not None:
            self._layout.entity_prefix(entity_path)
        return self._searching().find(
            Filters(entity_path), max_age=_age(max_age), progress=progress
        )

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

    def find_write(
        self, entity_path: str, key: str, write_id: str, *, version: int | None = None
    ) -> MemoryEntry | None:
        """Return the version that a write call made, or None when it has not landed (so far).

        For the `write_id` and `version` of a `WriteOutcomeUnknownError`, or a `write_id` that was
        given to `write`. 1 request with a version;
        without, the history is searched.
        """
        address = self._layout.address(entity_path, key)
        if version is not None:
            entry = self._versions.get(address, arguments.version(version, "version"))
            candidates = [] if entry is None else [entry]
        else:
            candidates = self._versions.history(address)
        return next((one for one in candidates if one.provenance.write_id == write_id), None)

    # -- following ---------------------------------------------------------------------------

    def watch(
        self,
        entity_path: str | None = None,
        callback: Callback | None = None,
        *,
        interval: float | None = None,
        since: str | None = None,
    ) -> Watch:
        """Follow every new version of every memory under an entity path (None: of all).

        Iterate what is returned, with `for` or `async for`, or give a `callback`, which is called
        with each entry in one background thread until `cancel` or `close`. A callback that raises
        is logged (logger "amfs") and ends nothing: its entry counts as delivered. `since` is where
        to begin: None, with what is written after this call; "beginning", with all versions there
        are; or the `cursor` of an earlier watch of the same path. `interval` is how many seconds
        (above 0, default 5) are between two polls where no doorbell rings. See `Watch`.

        1 request per 1,000 objects under the path for `since=None`, else none before the first
        entry is asked for. Raises `InvalidValueError` for a cursor of another path or a damaged
        one.
        """
        from amfs_core.watch import Watch

        watch = Watch(self._versions, entity_path, callback, interval=interval, since=since)
        with self._lock:
            self._watches.add(watch)
        return watch

    # -- looking after -----------------------------------------------------------------------

    def stats(self, entity_path: str | None = None) -> scan.Stats:
        """Count memories, versions and bytes. 1 request per 1,000 objects."""
        return scan.stats(self._versions, entity_path)

    def verify(
        self,
        entity_path: str | None = None,
        *,
        repair: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> integrity.VerifyReport:
        """Read every version and outcome and check its bytes, its place, the chain of versions,
        and that every outcome was counted into the memories it names; report what is wrong.

        `repair` finishes outcomes that were not, as a crash may leave them; nothing else is
        changed. `progress(done, total)` is called along the way. 1 request per 1,000 objects, and
        1 per version and outcome.
        """
        return integrity.verify(self._versions, entity_path, progress, repair=repair)

    def health(self) -> health.Health:
        """Say whether the store can be read now, and how quickly. 1 request; never raises."""
        return health.check(self._versions)

    @property
    def metrics(self) -> Metrics:
        """Requests by kind, bytes, retries, lost races and cache hits so far."""
        return self._versions.store.meter.snapshot()

    def close(self) -> None:
        """End the threads and the watches, and close the adapter if it was opened here. Closing
        twice is fine."""
        with self._lock:
            watches = list(self._watches)
            pool, self._pool = self._pool, None
            search, self._search = self._search, None
        for watch in watches:
            watch.cancel()
        if pool:
            pool.shutdown()
        if search:
            search.close()
        if self._owns_adapter:
            self.adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(agent_id={self.agent_id!r}, namespace={self.namespace!r}, "
            f"adapter={self.adapter!r})"
        )

    def _draft(
        self,
        value: Any,
        *,
        confidence: float = 1.0,
        tags: Iterable[str] = (),
        memory_type: str = "fact",
        ttl: float | timedelta | None = None,
        pattern_refs: Iterable[str] = (),
        write_id: str | None = None,
    ) -> Draft:
        return arguments.draft(
            _write_id() if write_id is None else arguments.text(write_id, "write_id"),
            self.agent_id,
            self.session_id,
            value,
            confidence=confidence,
            tags=tags,
            memory_type=memory_type,
            ttl=ttl,
            pattern_refs=pattern_refs,
        )

    def _append(
        self,
        address: Address,
        draft: Draft,
        expected: int | None,
        moment: datetime | None = None,
    ) -> MemoryEntry:
        if expected is None:
            return _made(self._versions.append(address, lambda _: draft, moment=moment))

        def conflict(newest: Head) -> VersionConflictError:
            found = f"version {newest.version} is" if newest.version else "there is none"
            return VersionConflictError(
                f"{address} was expected to be at version {expected}, but {found} the newest; "
                "read it and decide again",
                expected=expected,
                actual=newest.version,
                entity_path=address.entity_path,
                key=address.key,
            )

        def make(head: Head) -> Draft:
            if head.version == expected:
                return draft
            raise conflict(self._head(address))  # the winner of a race may be followed by others

        head = self._versions.cache.head(address)
        if (head or NONE_KNOWN).version != expected:
            head = self._head(address)
            if head.version != expected:
                raise conflict(head)
        return _made(self._versions.append(address, make, head=head, moment=moment))

    def _head(self, address: Address) -> Head:
        """Look for the newest version now, and return what the next one builds on."""
        self._versions.newest(address)
        return self._versions.cache.head(address) or NONE_KNOWN

    def _filters(self, entity_path: str | None, **conditions: Any) -> Filters:
        if entity_path is not None:
            self._layout.entity_prefix(entity_path)
        return Filters.checked(entity_path, **conditions)

    def _searching(self) -> Search:
        with self._lock:
            if self._search is None:
                from amfs_core.search import Search  # SQLite: not before it is needed

                self._search = Search(self._versions, self._cache_dir, self._embedder)
            return self._search

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="amfs-write")
            return self._pool


def _age(max_age: float | timedelta | None) -> float | None:
    return None if max_age is None else arguments.seconds(max_age, "max_age")


def _write_id() -> str:
    """Return 128 random bits: unique among all writers without asking any of them."""
    return os.urandom(16).hex()


def _expected(version: int | None) -> int | None:
    return None if version is None else arguments.version(version, "expected_version", least=0)


def _made(entry: MemoryEntry | None) -> MemoryEntry:
    """Return the entry of an append whose draft is never None."""
    assert entry is not None
    return entry
