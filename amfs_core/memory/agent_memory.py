"""`AgentMemory`: the shared memory as one agent uses it."""

from __future__ import annotations

import builtins
import weakref
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from amfs_core import arguments
from amfs_core.degraded import DegradableLog, ReconcileReport
from amfs_core.errors import InvalidValueError
from amfs_core.format import Cause, MemoryEntry, Outcome, OutcomeType
from amfs_core.memory.reading import Reading
from amfs_core.memory.session import THREADS
from amfs_core.memory.writing import Writing
from amfs_core.storage import StorageAdapter, one_call
from amfs_core.upkeep import health, stats, verify

if TYPE_CHECKING:
    from amfs_core.layers import Conflict, Decide
    from amfs_core.upkeep.tend import TendReport
    from amfs_core.watch import Callback, Watch


class AgentMemory(Writing, Reading):
    """The memory of a namespace, as one agent reads and writes it.

    Safe to share between threads and usable after a fork. A context manager: `close` ends the
    threads it started, and closes the adapter when `owns_adapter` is true.

    `agent_id` signs what is written, `session_id` (default: a new UUID) groups it. `patience` is
    how long, in seconds, a call goes on while the store does not answer (see
    `docs/design/patience.md`). `embedder`
    turns a list of texts into vectors, for `semantic_search`. `cache_dir`
    is a directory in which the catalog of the newest versions is kept, shared by the processes of
    this machine; without it each process has one of its own, in memory. `max_value_bytes` is how
    large a version may be as JSON (default: 16 MiB); what is larger is read all the same.

    To what a method says that it costs, the first operation adds 1 request, and so does a write
    when the last look was over a minute ago: for the namespace's manifest, where there is none.
    Any method may raise `UnknownFeatureError` (see `docs/design/manifest.md`).
    """

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

        Each memory is moved exactly once, by one more version of it, unless it was written again,
        deleted or has expired since it was used: that is a claim which was not used. Commit again
        with the same reference and type to resume after a failure: what is recorded is returned,
        and what is still to be moved is moved.

        1 request, and 1 per memory that this process knows, else a read more; about 2 log2(n) more
        for a memory that got n versions meanwhile. Raises
        `InvalidKeyError`, `InvalidValueError`, `OutcomeConflictError` when something else is
        recorded under the reference, `CommitUnknownError` when patience ends before it is known
        whether it was recorded, and `OutcomePendingError` when it is recorded and some memories
        could not be moved.
        """
        reads = self._reads.newest()
        provisional = self._reads.provisional()
        if provisional and entries is None:
            for address, write_id in provisional.items():
                landed = self._landed(address.entity_path, address.key, write_id)
                reads[address] = max(landed.version, reads.get(address, 0))
        elif isinstance(entries, list | tuple):
            entries = [
                self._landed(one.entity_path, one.key, one.provenance.write_id)
                if isinstance(one, MemoryEntry) and one.provisional
                else one
                for one in entries
            ]
        return self._engine.outcomes.commit(
            outcome_ref,
            outcome_type,
            entries,
            agent_id=self.agent_id,
            session_id=self.session_id,
            reads=reads,
            threads=THREADS,
        )

    def _landed(self, entity_path: str, key: str, write_id: str) -> MemoryEntry:
        """Return what a version has become that was provisional when it was read."""
        address = self._layout.address(entity_path, key)
        self._versions.whole(address)
        for entry in reversed(self._engine.stored.history(address)):
            if entry.provenance.write_id == write_id:
                return entry
        raise InvalidValueError(
            f"the version of {address} that was used was never in the primary store",
            hint="leave it out of entries: it was a conflict, and somebody has discarded it",
            entity_path=entity_path,
            key=key,
        )

    def conflicts(self) -> builtins.list[Conflict]:
        """Return the writes that were kept while the primary store was down and could not be
        replayed, oldest first; none for a store without a fallback.

        1 request to the fallback for each, and 1 per 1,000.
        """
        versions = self._versions
        return versions.conflicts() if isinstance(versions, DegradableLog) else []

    def reconcile(self, decide: Decide | None = None) -> ReconcileReport:
        """Replay the writes that wait in the fallback store, and decide about conflicts; report
        what was done. What waits is replayed by itself when the primary is back: this is for who
        wants to see it done, or has conflicts to decide.

        `decide` is called with each conflict, and returns a `Decision` or a `Merge`; None keeps
        them all. It should have no other effects. About 4 requests for each operation. Raises what
        `decide` does; a primary that does not answer is said in the report.
        """
        if decide is not None:
            arguments.function(decide, "decide")
        versions = self._versions
        if not isinstance(versions, DegradableLog):
            return ReconcileReport()
        return versions.reconcile(decide)

    @one_call
    def read_outcome(self, outcome_ref: str) -> Outcome | None:
        """Return the outcome recorded under a reference, or None when there is none.

        1 request, 0 once it is known.
        """
        return self._engine.outcomes.read(outcome_ref)

    def list_outcomes(self, entity_path: str | None = None) -> list[Outcome]:
        """Return all outcomes, oldest first; with an entity path, those about memories under it.

        One that is damaged is left out and named in the log (logger "amfs"); `verify` names it too.
        1 request per 1,000 outcomes, and 1 for each that is not known yet, whatever it is about.
        """
        return self._engine.outcomes.list(entity_path)

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

        watch = Watch(self._engine.stored, entity_path, callback, interval=interval, since=since)
        if self._watches is None:
            self._watches = weakref.WeakSet()
        self._watches.add(watch)
        return watch

    def stats(self, entity_path: str | None = None) -> stats.Stats:
        """Count memories, versions and bytes. 1 request per 1,000 objects."""
        return stats.stats(self._engine.stored, entity_path, self._engine.degraded())

    def verify(
        self,
        entity_path: str | None = None,
        *,
        repair: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> verify.VerifyReport:
        """Read every version and outcome and check its bytes, its place, the chain of versions,
        and that every outcome was counted into the memories it names; report what is wrong.

        `repair` finishes outcomes that were not, as a crash may leave them; nothing else is
        changed. `progress(done, total)` is called along the way. 1 request per 1,000 objects, and
        1 per version and outcome.
        """
        if progress is not None:
            arguments.function(progress, "progress")
        return verify.verify(self._engine.stored, entity_path, progress, repair=repair)

    def tend(
        self,
        *,
        backup: StorageAdapter | None = None,
        backup_every: float | timedelta = timedelta(days=1),
        keep: int | None = None,
        keep_for: float | timedelta | None = None,
    ) -> TendReport:
        """Do one round of upkeep, and say what was done: call it now and then, or run `amfs tend`.

        Outcomes that somebody recorded and did not finish counting are finished: of the last 7 days
        in the first round of this process, then those since the round before (`verify` with
        `repair` looks at all). Mirrors of the store (`Layered`) get what they lack; one that fails
        is named in the report. Change logs that nobody can follow any more are removed.

        With `backup`, a store to keep them in, a backup of this namespace is made when the newest
        one there is older than `backup_every` (seconds or a `timedelta`, a day by default), by one
        of all processes that tend it. Then old ones are removed, and attempts that were
        interrupted: the newest `keep` stay, what was made within `keep_for` stays, and what those
        build on; without both, all stay. Several may do this at the same time.

        1 request, 1 per 1,000 outcomes, 1 for each recent one, and 1 for each version after those
        that it is about; for each mirror 1 per 1,000 objects of the namespace in either store, and
        what it lacks; and what `Backups.create` and `Backups.prune` cost. Raises what they and the
        stores do; what was done until then stays.
        """
        from amfs_core.upkeep import tend

        schedule = (
            None if backup is None else tend.Schedule.checked(backup, backup_every, keep, keep_for)
        )
        engine = self._engine
        report, engine.tended = tend.tend(self._engine.stored, engine.tended, schedule)
        return report

    def health(self) -> health.Health:
        """Say whether the store can be read now, and how quickly. 1 request; never raises."""
        return health.check(self._engine.stored, self._engine.degraded)
