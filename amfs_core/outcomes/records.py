"""Recording outcomes, and reading them back.

The record is created first and is authoritative; then it is counted into the memories that it
names. After a crash in between, committing the outcome again or `verify` finishes the counting.
`docs/design/outcomes.md` walks through every failure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from amfs_core import fork
from amfs_core.errors import (
    CommitUnknownError,
    CorruptEntryError,
    InvalidValueError,
    OutcomeConflictError,
    OutcomeUnknownError,
    PermissionDeniedError,
)
from amfs_core.format import (
    Address,
    Cause,
    Outcome,
    OutcomeType,
    decode_outcome,
    seal_outcome,
    values,
)
from amfs_core.outcomes import apply, causes
from amfs_core.parallel import new_lock
from amfs_core.spelling import did_you_mean
from amfs_core.storage import Omissions, refusals
from amfs_core.versions import NONE_KNOWN, VersionLog, new_write_id

MAX_KNOWN_BYTES = 32 * 1024 * 1024


class Outcomes:
    """The outcomes of one namespace, as they are in the store.

    Caches up to 32 MiB of them, because they never change.
    """

    def __init__(self, versions: VersionLog) -> None:
        self._versions = versions
        self._store = versions.store
        self._layout = versions.layout
        self._omissions = Omissions()
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Start with an empty cache: the parent may have been changing it at the moment of the
        fork."""
        self._lock = new_lock()
        self._known: OrderedDict[str, tuple[Outcome, int]] = OrderedDict()
        self._size = 0

    def commit(
        self,
        outcome_ref: str,
        outcome_type: OutcomeType | str,
        entries: Iterable[Any] | None,
        *,
        agent_id: str,
        session_id: str,
        reads: Mapping[Address, int],
        threads: int,
    ) -> Outcome:
        """Record an outcome, or find it recorded, and count it into the memories it is about.

        Without `entries`, the outcome is about `reads`. See `AgentMemory.commit_outcome`.
        """
        kind = _type(outcome_type)
        self._layout.outcome_key(outcome_ref)
        names = None if entries is None else causes.named(self._layout, entries)
        try:
            about = _of(reads) if names is None else causes.resolve(self._versions, names, threads)
        except InvalidValueError:
            # It may have been recorded while these entries were still valid, and is then resumed.
            recorded = self.read(outcome_ref)
            if recorded is None:
                raise
            looked: dict[Address, int] = {}
        else:
            # Versions from before the record cannot have been appended because of it.
            looked = self._looked(about)
            made = Outcome(
                namespace=self._layout.namespace,
                ref=outcome_ref,
                type=kind,
                agent_id=agent_id,
                session_id=session_id,
                committed_at=self._versions.clock.now(),
                write_id=new_write_id(),
                causes=about,
                sha256="",
            )
            recorded = self._create(made)
            if recorded.write_id != made.write_id:
                looked = {}
        self._refuse_another(recorded, kind, names)
        apply.finish(self._versions, recorded, looked, threads)
        return recorded

    def read(self, outcome_ref: str) -> Outcome | None:
        """Return the outcome recorded under a reference, or None. 1 request, 0 once it is known."""
        object_key = self._layout.outcome_key(outcome_ref)
        with self._lock:
            known = self._known.get(outcome_ref)
        if known:
            self._store.meter.add("cache_hit")
            return known[0]
        body = self._store.get(object_key)
        return None if body is None else self._decode(outcome_ref, body)

    def list(self, entity_path: str | None = None) -> list[Outcome]:
        """Return all outcomes, oldest first: of those about memories under an entity path, if one
        is given. 1 request per 1,000 outcomes, and 1 for each that is not known yet. An outcome
        that is damaged, or that this process may not read although it may read others, is left out
        and named once in the log."""
        self._layout.entity_prefix(entity_path)
        refs = {
            info.key: ref
            for info in self._store.list(self._layout.outcomes)
            if (ref := self._layout.parse_outcome(info.key)) is not None
        }
        with self._lock:
            known = {key: self._known[ref][0] for key, ref in refs.items() if ref in self._known}
        denials: dict[str, PermissionDeniedError] = {}
        unknown = [key for key in refs if key not in known]
        for key, body in refusals.get_allowed(self._store, unknown, denials.__setitem__):
            try:
                if body is None:
                    raise CorruptEntryError(
                        f"{key} is missing although the listing names it",
                        hint="restore it from a copy",
                        object_key=key,
                    )
                known[key] = self._decode(refs[key], body)
            except CorruptEntryError as damage:
                self._omissions.note(key, damage)
        refusals.require_others(self._store, denials.values(), known)
        for key, refusal in denials.items():
            self._omissions.note(key, refusal)
        outcomes = (
            outcome
            for outcome in known.values()
            if entity_path is None or outcome.is_about(entity_path)
        )
        return sorted(outcomes, key=lambda outcome: (outcome.committed_at, outcome.ref))

    def _looked(self, about: Iterable[Cause]) -> dict[Address, int]:
        """Return the newest version of each memory that this process knows now."""
        looked: dict[Address, int] = {}
        for cause in about:
            address = self._layout.address(cause.entity_path, cause.key)
            head = self._versions.cache.head(address) or NONE_KNOWN
            looked[address] = max(head.version, cause.version, looked.get(address, 0))
        return looked

    def _create(self, made: Outcome) -> Outcome:
        """Return what is recorded under the reference forever: `made`, or an earlier record.

        Sends the same bytes until one of the two is seen, as `StoreClient.settle` does.
        """
        object_key = self._layout.outcome_key(made.ref)
        made, body = seal_outcome(made)

        try:
            recorded_body = self._store.settle(object_key, body)
        except OutcomeUnknownError as error:
            raise CommitUnknownError(
                f"it is unknown whether the outcome {made.ref!r} was recorded: {error}. "
                "Commit it again: that resumes it if it was",
                outcome_ref=made.ref,
                object_key=object_key,
            ) from error
        return self._decode(made.ref, recorded_body)

    def _refuse_another(
        self, recorded: Outcome, kind: OutcomeType, names: causes.Named | None
    ) -> None:
        difference = None if names is None else names.difference(recorded)
        if recorded.type != kind:
            difference = f"it is a {recorded.type}, not a {kind}"
        if difference:
            raise OutcomeConflictError(
                f"there is another outcome {recorded.ref!r}, recorded by {recorded.agent_id}: "
                f"{difference}",
                hint="use another reference",
                outcome_ref=recorded.ref,
                object_key=self._layout.outcome_key(recorded.ref),
            )

    def _decode(self, outcome_ref: str, body: bytes) -> Outcome:
        outcome = decode_outcome(body, self._layout, outcome_ref)
        with self._lock:
            if outcome_ref not in self._known:
                self._known[outcome_ref] = outcome, len(body)
                self._size += len(body)
            while self._known and self._size > MAX_KNOWN_BYTES:
                _, (_, size) = self._known.popitem(last=False)
                self._size -= size
        return outcome


def _of(reads: Mapping[Address, int]) -> tuple[Cause, ...]:
    if not reads:
        raise InvalidValueError(
            "this session has read nothing that the outcome could be about",
            hint=(
                "name what was used (entries=[(entity_path, key), …]), or say that it was nothing "
                "(entries=[])"
            ),
        )
    return tuple(
        sorted(
            Cause(address.entity_path, address.key, version) for address, version in reads.items()
        )
    )


def _type(value: object) -> OutcomeType:
    try:
        return OutcomeType(value)  # type: ignore[arg-type]
    except ValueError as error:
        meant = did_you_mean(value, list(map(str, OutcomeType))) if isinstance(value, str) else ""
        raise InvalidValueError(
            f"outcome_type must be one of {', '.join(OutcomeType)}, "
            f"not {values.shown(value)}{meant}"
        ) from error
