"""`Layered`: a store with a cache before it and mirrors behind it (docs/design/layers.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import msgspec

from amfs_core.doctor import Check, Diagnosis, checks_of, labelled, ok, problem, warning
from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
)
from amfs_core.format import FALLBACK_KINDS
from amfs_core.layers.backlog import Backlog, Verb
from amfs_core.layers.failover import Failover, FailoverLog, HeardPrimary
from amfs_core.layers.fallback import Fallback, FallbackStore
from amfs_core.layers.mirror import Mirror, MirrorStore, WaitedMirror
from amfs_core.layers.version_cache import VersionCache
from amfs_core.storage import (
    PAGE,
    Capabilities,
    ChangeLog,
    Lag,
    ObjectInfo,
    StorageAdapter,
    WrappedAdapter,
    adopted,
    check_adapter,
)


class Layered(WrappedAdapter):
    """A primary store, and others that make it quicker or have its objects too.

        Layered(S3Adapter("bucket"), cache=LocalAdapter("cache", durability="none"),
                mirrors=[S3Adapter("another"), Mirror(S3Adapter("a third"), wait=True)])

    `cache` keeps versions that were read. It is used only for what the primary has just listed
    unchanged, and passed by when it fails. It may be deleted at any time.

    `mirrors` get every object that is created, replaced or deleted here: soon after, by a thread,
    or with `Mirror(…, wait=True)` before the call returns. A mirror of the second kind that fails
    fails the write; of the first kind it is tried again, and `amfs copy` brings what is left out.
    They are read while the primary is known to be down.

    `fallback` is where versions wait that are written while the primary is known to be down, until
    they are replayed (docs/design/degraded.md): a store, or a `Fallback` with a function that
    decides about conflicts.

    Closing it waits up to 10 seconds for what is still to be brought to mirrors, and closes the
    stores. Raises `ConfigurationError` for a store that is within another one of them.

    Cost: as the primary's. A waited mirror adds 1 request to each write, another mirror 1 request
    to the primary and 1 to the mirror, in the background.
    """

    def __init__(
        self,
        primary: StorageAdapter,
        cache: StorageAdapter | None = None,
        mirrors: Iterable[StorageAdapter | Mirror] = (),
        fallback: StorageAdapter | Fallback | None = None,
    ) -> None:
        check_adapter(primary)
        super().__init__(primary)
        self.backend_type = "layered"
        self.mirrors = tuple(
            mirror if isinstance(mirror, Mirror) else Mirror(mirror) for mirror in mirrors
        )
        self._cache: VersionCache | None = None
        if cache is not None:
            check_adapter(cache)
            _require_apart(primary, cache, "the cache")
            self._cache = VersionCache(cache)
        self._waited: list[WaitedMirror] = []
        self._later: list[tuple[MirrorStore, Backlog]] = []
        for number, mirror in enumerate(self.mirrors, start=1):
            name = f"mirror {number}"
            check_adapter(mirror.adapter)
            _require_apart(primary, mirror.adapter, name)
            if mirror.wait:
                self._waited.append(WaitedMirror(name, mirror.adapter))
            else:
                store = MirrorStore(name, mirror.adapter)
                self._later.append((store, Backlog(primary, store)))
        stores = [*self._waited, *(store for store, _ in self._later)]
        self.fallback = (
            fallback if fallback is None or isinstance(fallback, Fallback) else Fallback(fallback)
        )
        self._failover: Failover | None = None
        if stores or self.fallback:
            self._failover = Failover(primary, stores, has_fallback=self.fallback is not None)
        self._fallback: FallbackStore | None = None
        if self.fallback is not None and self._failover is not None:
            check_adapter(self.fallback.adapter)
            _require_apart(primary, self.fallback.adapter, "the fallback")
            self._fallback = FallbackStore(self.fallback, self._failover)
        self._set_timeout(primary, [store.adapter for store in stores])

    def _set_timeout(self, primary: StorageAdapter, mirrors: Sequence[StorageAdapter]) -> None:
        """Have the time that a call can take be that of all requests which it may wait for."""
        timeouts = [adopted(store).timeout for store in (primary, *mirrors)]
        known = [timeout for timeout in timeouts if timeout is not None]
        self.timeout = sum(known) if len(known) == len(timeouts) else None

    @property
    def origin(self) -> StorageAdapter:
        """The primary store without its cache, and without answers of mirrors."""
        if self._failover is None or self._fallback is None:
            return self.inner.origin
        return HeardPrimary(self.inner.origin, self._failover)

    # -- reading -----------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Get from the cache, else from the primary, or from a mirror while that is down."""
        if self._cache is None:
            return self._get(key)
        body = self._cache.get(key)
        if body is None:
            body = self._get(key)
            if body is not None:
                self._cache.keep(key, body)
        return body

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many from the cache, and the rest as `get` does."""
        if self._cache is None:
            yield from self._get_many(keys)
            return
        pending = dict.fromkeys(keys)
        for key, body in self._cache.get_many(pending.copy()):
            del pending[key]
            yield key, body
        for key, fetched_body in self._get_many(list(pending)):
            if fetched_body is not None:
                self._cache.keep(key, fetched_body)
            yield key, fetched_body

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List the primary, or a mirror while that is down."""
        if self._failover is not None:
            infos = self._failover.list(prefix, start_after)
        else:
            infos = self.inner.list(prefix, start_after)
        return infos if self._cache is None else self._cache.noting(infos)

    def _get(self, key: str) -> bytes | None:
        if self._failover is None:
            return self.inner.get(key)
        try:
            return self._failover.get(key)
        except BackendUnavailableError:
            body = self._last_known(key)
            if body is None:
                raise
            return body

    def _get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        if self._failover is None:
            return self.inner.get_many(keys)
        return self._failover.get_many(keys)

    def _last_known(self, key: str) -> bytes | None:
        """Return what the cache has of an object that a listing told of, however long ago, while
        nobody else answers: with a fallback that is better than an error."""
        if self._fallback is None or self._cache is None or not self._fallback.is_down:
            return None
        return self._cache.get(key, whenever=True)

    # -- writing -----------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bool:
        """Create in the primary, which decides, and then in the mirrors.

        Raises `CircuitOpenError` while a waited mirror is known to be down: nothing was written.
        When one fails that was not known to be, `OutcomeUnknownError`: the primary has the object.
        """
        failover = self._failover
        if failover is None:
            return self.inner.create(key, data)
        for mirror in self._waited:
            mirror.require(key)
        if self._fallback is not None:  # it has a place to go, so it need not wait for the primary
            failover.admit()
        try:
            created = failover.written(lambda: self.inner.create(key, data))
        except OutcomeUnknownError:
            self._bring_later(Verb.CREATED, (key,))
            raise
        # Also when it was taken: whoever took it may have died before the mirrors had it.
        self._bring_later(Verb.CREATED, (key,))
        for mirror in self._waited:
            mirror.confirm(key, data if created else None, self.inner)
        return created

    def replace(self, key: str, data: bytes) -> None:
        """Replace in the waited mirrors and then in the primary, so that a purge that stops in
        between is known not to be done; then in the other mirrors."""
        for mirror in self._waited:
            mirror.write(partial(mirror.client.replace, key, data))
        self._written(lambda: self.inner.replace(key, data))
        if self._cache is not None:
            self._cache.forget(key)
        self._bring_later(Verb.REPLACED, (key,))

    def delete(self, key: str) -> None:
        """Delete from the waited mirrors, the primary, and the other mirrors."""
        for mirror in self._waited:
            mirror.write(partial(mirror.adapter.delete, key))
        self._written(lambda: self.inner.delete(key))
        if self._cache is not None:
            self._cache.forget(key)
        self._bring_later(Verb.DELETED, (key,))

    def _written(self, write: Callable[[], None]) -> None:
        if self._failover is None:
            write()
        else:
            self._failover.written(write)

    def _bring_later(self, verb: Verb, keys: Collection[str]) -> None:
        for _, backlog in self._later:
            backlog.add(verb, keys)

    def close(self) -> None:
        """Bring to the mirrors what waits, and close all stores."""
        for _, backlog in self._later:
            backlog.drain()
        self.inner.close()
        for mirror in self.mirrors:
            mirror.adapter.close()
        if self._cache is not None:
            self._cache.close()
        if self.fallback is not None:
            self.fallback.adapter.close()

    def __reduce__(self) -> tuple[Any, ...]:
        cache = self._cache and self._cache.store
        return Layered, (self.inner, cache, self.mirrors, self.fallback)

    def __repr__(self) -> str:
        cache = "" if self._cache is None else f", cache={self._cache.store!r}"
        mirrors = f", mirrors={self.mirrors!r}" if self.mirrors else ""
        fallback = "" if self.fallback is None else f", fallback={self.fallback.adapter!r}"
        return f"Layered({self.inner!r}{cache}{mirrors}{fallback})"

    # -- what not every store has ------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """The primary's; and it is examined store by store."""
        return msgspec.structs.replace(self.inner.capabilities, checks=True)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create together in the primary, and then in the mirrors."""
        try:
            for mirror in self._waited:
                mirror.require(next(iter(objects), ""))
        except AMFSError:
            return ()
        if self._fallback is not None and self._fallback.is_down:
            return ()
        created = self.inner.create_many(objects)
        self._bring_later(Verb.CREATED, created)
        for mirror in self._waited:
            created = mirror.create_many({key: objects[key] for key in created}, self.inner)
        return created

    def changes(self) -> ChangeLog | None:
        """Return the primary's log, which is followed as long as no mirror has to answer."""
        log = self.inner.changes()
        return log if log is None or self._failover is None else FailoverLog(log, self._failover)

    def mirror_lags(self) -> Sequence[Lag]:
        """Return how far each mirror is behind, and the primary's own mirrors."""
        waited = [
            Lag(mirror.name, differing=mirror.differing, error=_text(mirror.error))
            for mirror in self._waited
        ]
        later = [
            Lag(
                mirror.name,
                backlog.waiting,
                backlog.seconds,
                backlog.left_out,
                mirror.differing,
                _text(mirror.error),
            )
            for mirror, backlog in self._later
        ]
        lags = sorted((*waited, *later), key=lambda lag: int(lag.mirror.rpartition(" ")[2]))
        return [*lags, *self.inner.mirror_lags()]

    def fallback_of(self, prefix: str) -> Sequence[FallbackStore]:
        """Return this store's fallback, and the primary's own."""
        inner = self.inner.fallback_of(prefix)
        return inner if self._fallback is None else (self._fallback, *inner)

    def checks(self) -> Iterator[Check]:
        """Yield the checks of every store, and how many objects each mirror lacks."""
        yield from checks_of(self.inner)
        if self._cache is not None:
            yield from labelled("cache", checks_of(self._cache.store))
        for number, mirror in enumerate(self.mirrors, start=1):
            name = f"mirror {number}"
            yield from labelled(name, checks_of(mirror.adapter))
            yield Check(
                f"{name}: lag",
                lambda adapter=mirror.adapter: self._compare(adapter),  # type: ignore[misc]
                (f"{name}: list", "list"),
            )
        if self.fallback is not None:
            yield from labelled("fallback", checks_of(self.fallback.adapter))
            yield Check("fallback: waiting", self._count_waiting, ("fallback: list",))

    def _count_waiting(self) -> Diagnosis:
        """Say what waits in the fallback, of all namespaces. 1 request per 1,000 objects."""
        assert self.fallback is not None
        counts = dict.fromkeys((kind.folder for kind in FALLBACK_KINDS), 0)
        for info in self.fallback.adapter.list(""):
            place = f"{info.key}//".split("/")[1]
            if place in counts:
                counts[place] += 1
        waiting, conflicts = counts.values()
        if waiting:
            return warning(
                f"{waiting:,} writes wait for the primary store, and {conflicts:,} conflicts for a "
                "decision",
                "run `amfs reconcile`, which replays what waits",
            )
        if conflicts:
            return warning(
                f"{conflicts:,} conflicts wait for a decision",
                "run `amfs conflicts` to see them, and `amfs reconcile` to decide",
            )
        return ok("nothing waits")

    def _compare(self, mirror: StorageAdapter) -> Diagnosis:
        """Say whether the first 1,000 objects are in a mirror. 2 requests or a few more."""
        if _is_within(self.inner, mirror) or _is_within(mirror, self.inner):
            return problem(
                f"it is at {mirror.location}, and the primary store at {self.inner.location}",
                "give it a place of its own",
            )
        keys = [info.key for info in islice(self.inner.list(""), PAGE)]
        there = set[str]()
        for info in mirror.list("") if keys else ():
            if info.key.encode() > keys[-1].encode():
                break
            there.add(info.key)
        missing = [key for key in keys if key not in there]
        looked = f"of the first {len(keys):,} objects" if len(keys) == PAGE else "of all objects"
        if missing:
            return warning(
                f"{looked}, {len(missing):,} are not there, such as {missing[0]}",
                "run `amfs copy` from the primary store to this one",
            )
        return ok(f"{looked}, none is missing")


def _text(error: AMFSError | None) -> str | None:
    return None if error is None else error.problem


def _require_apart(primary: StorageAdapter, other: StorageAdapter, name: str) -> None:
    """Refuse a store in another one: their objects would be taken for those of the other. Where a
    bucket is takes requests for credentials to find out; that is left to `amfs doctor`."""
    if any(adopted(store).capabilities.paged for store in (primary, other)):
        return
    if _is_within(primary, other) or _is_within(other, primary):
        raise ConfigurationError(
            f"{name} is at {other.location}, and the primary store at {primary.location}: one is "
            "within the other",
            hint="give each a place of its own",
        )


def _is_within(inner: StorageAdapter, outer: StorageAdapter) -> bool:
    """True when all objects of one store are in another one as well, as far as both say where they
    are."""
    places = [adopted(store).location for store in (inner, outer)]
    if None in places:
        return False
    within, around = (f"{str(place).rstrip('/')}/" for place in places)
    return within.startswith(around)
