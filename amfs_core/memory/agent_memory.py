"""`AgentMemory`: the shared memory as one agent uses it."""

from __future__ import annotations

import builtins
import dataclasses
import time
import weakref
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import Cause, MemoryEntry, Outcome, OutcomeType
from amfs_core.memory.reading import Reading
from amfs_core.memory.session import THREADS
from amfs_core.memory.writing import Writing
from amfs_core.storage import StorageAdapter, one_call
from amfs_core.upkeep import health, stats, verify

if TYPE_CHECKING:
    from amfs_core.degraded import ReconcileReport
    from amfs_core.layers import Conflict, Decide
    from amfs_core.upkeep.tend import TendReport
    from amfs_core.watch import Callback, Watch


class AgentMemory(Writing, Reading):
    """The memory of a namespace, as one agent reads and writes it.

    Safe to share between threads and usable after a fork. A context manager: `close` ends the
    threads it started, and closes the adapter when `owns_adapter` is true.

    `agent_id` signs what is written, and `session_id` (default: a new UUID) groups it. `patience`
    is for how many seconds a call keeps trying while the store does not answer (see
    `docs/design/patience.md`). `embedder` turns a list of texts into vectors, for
    `semantic_search`. `cache_dir` is a directory for the catalog of the newest versions, which the
    processes of this machine share; without it each process has its own catalog, in memory.
    `max_value_bytes` is how large a version may be as JSON (default: 16 MiB); larger versions are
    still read.

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

        Each memory is moved exactly once, by one more version of it, unless it was written again,
        deleted or has expired since it was used: then the claim that was used is gone. To resume
        after a failure, commit again with the same reference and type: that returns the recorded
        outcome and moves the memories that are still to be moved.

        Args:
            outcome_ref: names the outcome, once in the namespace: 1 to 250 bytes.
            outcome_type: an `OutcomeType` or its name.
            entries: the memories that were used. An entry (or a `Cause`) stands for its version, an
                `(entity_path, key)` pair for the newest live version now. None stands for the
                newest version of each memory that `read` returned in this session, of the last
                10,000; lists and searches do not count as use.

        Raises:
            InvalidKeyError, InvalidValueError: nothing was recorded.
            OutcomeConflictError: something else is recorded under the reference.
            CommitUnknownError: patience ended before it was known whether it was recorded.
            OutcomePendingError: it is recorded, and some memories could not be moved.

        Cost: 1 request, and 1 per memory that this process knows, else a read more; about 2 log2(n)
        more for a memory that got n versions meanwhile.
        """
        reads = self._reads.newest()
        provisional = self._reads.provisional()
        if provisional and entries is None:
            for address, write_id in provisional.items():
                landed = self._landed(address.entity_path, address.key, write_id)
                reads[address] = max(landed.version, reads.get(address, 0))
        elif isinstance(entries, list | tuple):
            entries = [
                self._landed(entry.entity_path, entry.key, entry.provenance.write_id)
                if isinstance(entry, MemoryEntry) and entry.provisional
                else entry
                for entry in entries
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
        degradable = self._engine.degradable
        return [] if degradable is None else degradable.conflicts()

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
        degradable = self._engine.degradable
        if degradable is None:
            from amfs_core.degraded import ReconcileReport

            return ReconcileReport()
        return degradable.reconcile(decide)

    @one_call
    def read_outcome(self, outcome_ref: str) -> Outcome | None:
        """Return the outcome recorded under a reference, or None when there is none.

        1 request, 0 once it is known.
        """
        return self._engine.outcomes.read(outcome_ref)

    def list_outcomes(self, entity_path: str | None = None) -> list[Outcome]:
        """Return all outcomes, oldest first; with an entity path, those about memories under it.

        A damaged outcome is left out and named once in the log (logger "amfs"); `verify` names it
        too. 1 request per 1,000 outcomes, and 1 for each unknown one, whatever it is about.
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

        Args:
            entity_path: the path to follow, with all paths below it.
            callback: called with each entry in one background thread until `cancel` or `close`. If
                it raises, that is logged (logger "amfs") and the watch goes on: the entry counts as
                delivered. Without one, iterate the returned watch, with `for` or `async for`.
            interval: seconds between two polls where no doorbell rings: above 0, default 5.
            since: None begins with the first write after this call, "beginning" with the first
                version of each memory, and a `cursor` where an earlier watch of the path ended.

        Raises:
            InvalidValueError: the cursor belongs to another path or is damaged.

        Cost: 1 request per 1,000 objects under the path for `since=None`, else none before the
        first entry is asked for. `Watch` has the cost of each poll.
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

        `repair` finishes outcomes that a crash interrupted; it changes nothing else.
        `progress(done, total)` is called along the way. 1 request per 1,000 objects, and 1 per
        version and outcome.
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
        """Do one round of upkeep, and report it: call this regularly, or run `amfs tend`.

        A round finishes outcomes that were recorded and not fully counted: those of the last 7 days
        in the first round of this process, then those since the last round (`verify` with `repair`
        looks at all). Mirrors of the store (`Layered`) get what they lack; one that fails is named
        in the report. Change logs that nobody can follow any more are removed. With `backup`, it
        makes a backup of this namespace if one is due, by one of all processes that tend it, and
        removes old backups and interrupted attempts. Several may do this at the same time.

        Args:
            backup: the store to keep backups in; None: make none.
            backup_every: a backup is due when the newest one is this old: seconds or a `timedelta`,
                a day by default.
            keep: the newest backups that stay, with those that they build on.
            keep_for: backups younger than this stay, with those that they build on. Without `keep`
                and `keep_for`, all stay.

        With an `index`, a round brings it up to date, and removes from it what nobody uses any
        more.

        Raises what the stores and `Backups` raise; what was done until then stays.

        Cost: 1 request, 1 per 1,000 outcomes, 1 for each recent one, and 1 for each version after
        those that it is about; for each mirror 1 per 1,000 objects of the namespace in either
        store, and what it lacks; what `Backups.create` and `Backups.prune` cost; and with an index
        what `list` costs.
        """
        from amfs_core.upkeep import tend

        schedule = (
            None if backup is None else tend.Schedule.checked(backup, backup_every, keep, keep_for)
        )
        engine = self._engine
        report, engine.tended = tend.tend(engine.stored, engine.tended, schedule)
        if engine.index is None:
            return report
        begun = time.monotonic()
        self._searching().refresh()
        engine.index.tend()
        took = report.took + time.monotonic() - begun
        return dataclasses.replace(report, indexed=True, took=took)

    def health(self) -> health.Health:
        """Say whether the store can be read now, and how quickly; and the index, if there is one. 1
        request to each; never raises."""
        engine = self._engine
        return health.check(engine.stored, engine.degraded, engine.index)
