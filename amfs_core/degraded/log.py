"""`DegradableLog`: the log of a namespace whose writes may wait in a fallback store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from datetime import datetime

from amfs_core.degraded.keeper import Keeper
from amfs_core.degraded.reconcile import ReconcileReport
from amfs_core.degraded.view import ViewLog
from amfs_core.errors import BackendUnavailableError, DegradedError, OutcomeUnknownError
from amfs_core.format import Address, Draft, MemoryEntry
from amfs_core.layers import Conflict, Decision, FallbackStore, Merge
from amfs_core.storage import Degraded
from amfs_core.versions import Head, Prepared, VersionLog


class DegradableLog(VersionLog):
    """What `stored` is, and while its primary is down what waits for that.

    What is asked about one memory is answered with what waits for it. All else, and all that is
    cached, is of `stored`: a provisional version gets nowhere else.
    """

    def __init__(self, stored: VersionLog) -> None:
        self.__dict__.update(stored.__dict__)  # its client, cache and all else: they are one log
        self.stored = stored
        self._keepers: dict[int, Keeper] = {}
        self._view: tuple[int, ViewLog] | None = None
        for fallback in stored.store.fallback_of(stored.layout.root):
            self._keeper_of(fallback)

    def _keeper(self, address: Address) -> Keeper | None:
        """Return what keeps the writes of a memory, once it has looked whether something waits."""
        fallbacks = self.store.fallback_of(address.object_key(1))
        keeper = self._keeper_of(fallbacks[0]) if fallbacks else None
        if keeper is not None:
            keeper.look()
        return keeper

    def _keeper_of(self, fallback: FallbackStore) -> Keeper:
        known = self._keepers.get(id(fallback))
        return known or self._keepers.setdefault(id(fallback), Keeper(self.stored, fallback))

    # -- appending ---------------------------------------------------------------------------

    def append(  # type: ignore[override]
        self,
        address: Address,
        draft: Draft | Callable[[Head], Draft | None],
        *,
        head: Head | None = None,
        moment: datetime | None = None,
        prepared: Prepared | None = None,
    ) -> MemoryEntry | None:
        """Append one version, or keep it where it waits while the primary is down; nothing goes
        past what waits. See `VersionLog.append`."""
        keeper = self._keeper(address)
        moment = moment or self.clock.now()
        waits = keeper is not None and (keeper.holds or keeper.fallback.is_down)
        if keeper is not None and waits and not keeper.settle():
            return keeper.keep(address, draft, moment, None)
        try:
            with keeper.fallback.keeping() if keeper and _can_wait(draft) else nullcontext():
                if head is not None and not self._is_stored(address, head):
                    head = self.stored.look(address)
                return self.stored.append(
                    address,
                    draft,  # type: ignore[arg-type]
                    head=head,
                    moment=moment,
                    prepared=prepared,
                )
        except (BackendUnavailableError, OutcomeUnknownError) as error:
            # A short patience ends before enough requests have failed for the primary to be down.
            if keeper is None or not keeper.finds_down():
                raise
            return keeper.keep(address, draft, moment, error)

    def _is_stored(self, address: Address, head: Head) -> bool:
        """Whether a head is of the store: it may be one that waited when it was given out."""
        known = self.cache.head(address)
        if known is None:
            return head.version == 0
        return (head.version, head.sha256) == (known.version, known.sha256)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create versions together, unless something may wait before them."""
        for keeper in self._keepers.values():
            keeper.look()
            if keeper.holds or keeper.fallback.is_down:
                return ()
        try:
            return self.stored.create_many(objects)
        except BackendUnavailableError:  # each by itself finds out
            return ()

    def whole(self, address: Address) -> VersionLog:
        """Return the log that has all of a memory; `DegradedError` while something of it waits or
        is to be decided, or the primary is down."""
        keeper = self._keeper(address)
        if keeper is None:
            return self.stored
        if keeper.holds:
            keeper.settle()
        if keeper.of(address) or keeper.fallback.is_down:
            raise DegradedError(
                f"the primary store is down, and writes of {address} may wait for it",
                hint="do it when they have been replayed: amfs health says when",
                entity_path=address.entity_path,
                key=address.key,
            )
        if any(conflict.operation.address == address for conflict in keeper.waiting.conflicts()):
            raise DegradedError(
                f"there are conflicts of {address} in the fallback store",
                hint="decide them first: amfs conflicts lists them",
                entity_path=address.entity_path,
                key=address.key,
            )
        return self.stored

    # -- finding -----------------------------------------------------------------------------

    def _last(self, address: Address) -> MemoryEntry | None:
        keeper = self._keeper(address)
        waiting = keeper.of(address) if keeper is not None else []
        return waiting[-1].entry if waiting else None

    def known_head(self, address: Address) -> Head | None:
        """Return what the next version builds on, as far as this process knows."""
        last = self._last(address)
        return self.stored.known_head(address) if last is None else Head.of(last)

    def look(self, address: Address) -> Head:
        """Look for the newest version, and return what the next one builds on."""
        last = self._last(address)
        return self.stored.look(address) if last is None else Head.of(last)

    def at_head(self, address: Address, head: Head) -> MemoryEntry | None:
        """Return the version that a head stands for."""
        keeper = self._keeper(address)
        for operation in () if keeper is None else keeper.of(address):
            if operation.entry.sha256 == head.sha256:
                return operation.entry
        return self.stored.at_head(address, head)

    def newest(self, address: Address, max_age: float | None = None) -> MemoryEntry | None:
        """Return the newest version, a provisional one too. While nobody answers for the primary,
        the newest that this process knows."""
        last = self._last(address)
        if last is not None:
            return last
        try:
            return self.stored.newest(address, max_age)
        except BackendUnavailableError:
            keeper, known = self._keeper(address), self.cache.head(address)
            if keeper is None or known is None or not keeper.fallback.is_down:
                raise
            return self.stored.get(address, known.version) if known.version else None

    def get(self, address: Address, version: int) -> MemoryEntry | None:
        """Return one version, the one that waits with this number first."""
        keeper = self._keeper(address)
        waiting = [] if keeper is None else keeper.of(address)
        for operation in reversed(waiting):
            if operation.entry.version == version:
                return operation.entry
        return self.stored.get(address, version)

    def as_of(self, address: Address, moment: datetime) -> MemoryEntry | None:
        """Return the version that was newest at a time."""
        keeper = self._keeper(address)
        for operation in reversed([] if keeper is None else keeper.of(address)):
            if operation.entry.provenance.written_at <= moment:
                return operation.entry
        return self.stored.as_of(address, moment)

    def history(self, address: Address) -> list[MemoryEntry]:
        """Return all versions, and then those that wait."""
        keeper = self._keeper(address)
        waiting = [] if keeper is None else keeper.of(address)
        # After what waits: of what lands in between, both are seen, and counted once.
        entries = self.stored.history(address)
        landed = {entry.provenance.write_id for entry in entries}
        return [
            *entries,
            *(operation.entry for operation in waiting if operation.write_id not in landed),
        ]

    def climb(self, address: Address, known: int) -> MemoryEntry | None:
        """Return the newest version, given that `known` exists."""
        last = self._last(address)
        if last is not None:
            return last
        head = self.cache.head(address)
        return self.stored.climb(address, min(known, head.version if head else 0))

    # -- what waits --------------------------------------------------------------------------

    def view(self) -> ViewLog | None:
        """Return what lists and searches run over; None when nothing waits and that is `stored`."""
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.look()
        if not any(keeper.holds for keeper in keepers):
            self._view = None
            return None
        rounds = sum(keeper.rounds for keeper in keepers)
        if self._view is None or self._view[0] != rounds:
            self._view = rounds, ViewLog(self.stored, keepers)
        return self._view[1]

    def degraded(self) -> Degraded:
        """Return what waits in all fallbacks of the namespace. 2 requests to each; never raises."""
        states = [keeper.degraded() for keeper in self._keepers.values()]
        return Degraded(
            any(state.is_down for state in states),
            min((state.since for state in states if state.since is not None), default=None),
            sum(state.waiting for state in states),
            sum(state.conflicts for state in states),
            next((state.error for state in states if state.error is not None), None),
        )

    def conflicts(self) -> list[Conflict]:
        """Return the conflicts in all fallbacks of the namespace, oldest first."""
        conflicts = [
            conflict for keeper in self._keepers.values() for conflict in keeper.waiting.conflicts()
        ]
        return sorted(conflicts, key=lambda conflict: conflict.id)

    def reconcile(
        self, decide: Callable[[Conflict], Decision | Merge] | None = None
    ) -> ReconcileReport:
        """Replay all that waits, and decide about conflicts."""
        report = ReconcileReport()
        errors: list[str] = []
        for keeper in self._keepers.values():
            error = keeper.reconcile(report, decide)
            if error is not None:
                errors.append(error)
        return ReconcileReport(
            report.landed,
            report.discarded,
            self.conflicts(),
            self.degraded().waiting,
            "; ".join(errors) or None,
        )

    def close(self) -> None:
        """End the threads; what waits stays for the next process."""
        for keeper in self._keepers.values():
            keeper.close()


def _can_wait(draft: Draft | Callable[[Head], Draft | None]) -> bool:
    """Whether a write may be kept: no purge, and no part of an outcome."""
    return not isinstance(draft, Draft) or not (draft.purges or draft.outcome_ref is not None)
