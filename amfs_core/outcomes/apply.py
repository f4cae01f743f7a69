"""Counting an outcome into the memories that it names: exactly once each, in any order.

Each memory gets one more version, whose `write_id` follows from the outcome and the memory. If that
id is among the versions after the used one, the outcome has been counted. Such a version is never
older than the outcome's record, so for a new outcome only versions since the record must be read.
`docs/design/outcomes.md` walks through every failure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from amfs_core.errors import AMFSError, OutcomePendingError
from amfs_core.format import Address, Draft, Layout, MemoryEntry, Outcome, carried_on
from amfs_core.outcomes import evidence
from amfs_core.parallel import mapped
from amfs_core.versions import NONE_KNOWN, Head, VersionLog


def write_id(layout: Layout, outcome_ref: str, address: Address) -> str:
    """Return the `write_id` of the version that counts an outcome into a memory."""
    names = f"{layout.outcome_key(outcome_ref)}\n{address.prefix}"
    return hashlib.sha256(names.encode()).hexdigest()[:32]


def finish(
    versions: VersionLog,
    outcome: Outcome,
    looked: Mapping[Address, int],
    threads: int,
) -> None:
    """Count an outcome into every memory that it names, unless it has been counted there.

    `looked` has, for each memory, a version up to which the outcome is known not to be counted: for
    an outcome recorded just now, the newest version before. 1 request per memory when its newest
    version is known and has been read. Raises `OutcomePendingError` when some memories could not be
    changed; the others were.
    """
    used = {versions.layout.address(*name): version for name, version in outcome.memories().items()}
    errors: dict[Address, AMFSError] = {}

    def count(address: Address) -> None:
        try:
            settle(versions, outcome, address, used[address], looked.get(address, 0))
        except AMFSError as error:
            errors[address] = error

    if len(used) == 1:  # a single memory needs no thread
        count(*used)
    elif used:
        mapped(count, used, threads)
    if errors:
        raise _pending(versions.layout, outcome, len(used), errors)


def settle(
    versions: VersionLog, outcome: Outcome, address: Address, used: int, looked: int = 0
) -> MemoryEntry | None:
    """Count an outcome about version `used` into one memory; return the version that counts it.

    None if it was counted before, or is not about the memory's present claim.
    """
    its_id = write_id(versions.layout, outcome.ref, address)
    fresh, looked = looked > 0, max(looked, used)

    def make(head: Head) -> Draft | None:
        nonlocal looked
        newest = versions.get(address, head.version) or versions.missing(address, head.version)
        if not evidence.can_count(newest, used):
            return None
        # `append` may have passed versions that this function has not seen. One of them may be the
        # version that another process appended for the same outcome.
        between = range(looked + 1, head.version + 1)
        if fresh:
            between = _since(versions, outcome, newest, between)
        if _is_among(versions, address, between, its_id):
            return None
        looked = head.version
        confidence, counted = evidence.counted(newest, outcome.type)
        said = carried_on(newest) | {"confidence": confidence, "evidence": counted}
        return Draft(
            write_id=its_id,
            agent_id=outcome.agent_id,
            session_id=outcome.session_id,
            outcome_ref=outcome.ref,
            **said,
        )

    # Not before the record, whatever this clock says, because `_since` relies on that.
    moment = max(versions.clock.now(), outcome.committed_at)
    return versions.append(address, make, head=_head(versions, address, used), moment=moment)


def is_owed(versions: VersionLog, outcome: Outcome, address: Address, used: int) -> bool:
    """True if an outcome about version `used` should be counted into a memory and has not been.

    A read, and 1 request for each version after `used` that is not known yet.
    """
    newest = versions.newest(address) or versions.missing(address, used)
    its_id = write_id(versions.layout, outcome.ref, address)
    after = range(used + 1, newest.version + 1)
    return evidence.can_count(newest, used) and not _is_among(versions, address, after, its_id)


def _head(versions: VersionLog, address: Address, used: int) -> Head:
    """Return the version to begin with: an existing one, not before the used one."""
    head = versions.cache.head(address) or NONE_KNOWN
    if head.version < used:
        head = versions.look(address)
    return head if head.version >= used else versions.missing(address, used)


def _since(versions: VersionLog, outcome: Outcome, newest: MemoryEntry, numbers: range) -> range:
    """Return those numbers whose versions may have been appended for an outcome recorded just now.
    The last number is that of `newest`.

    Such a version is not older than the record, and times never decrease within a memory, so the
    search ends at the first older version. 1 request for each version since, and 1 more.
    """
    address = versions.layout.address(newest.entity_path, newest.key)
    first = numbers.stop
    entry = newest
    while first > numbers.start and entry.provenance.written_at >= outcome.committed_at:
        first -= 1
        if first > numbers.start:
            entry = versions.get(address, first - 1) or versions.missing(address, first - 1)
    return range(first, numbers.stop)


def _is_among(versions: VersionLog, address: Address, numbers: range, its_id: str) -> bool:
    return any(entry.provenance.write_id == its_id for entry in versions.span(address, numbers))


def _pending(
    layout: Layout, outcome: Outcome, total: int, errors: dict[Address, AMFSError]
) -> OutcomePendingError:
    first, *others = sorted(errors, key=str)
    more = f" and {len(others)} more" if others else ""
    failure = OutcomePendingError(
        f"the outcome {outcome.ref!r} is recorded, but the confidence of {len(errors)} of {total} "
        f"memories has not been moved yet ({first}{more}: {errors[first]})",
        hint="commit it again, or run verify with repair, to finish it",
        outcome_ref=outcome.ref,
        outcome=outcome,
        errors={
            (address.entity_path, address.key): errors[address] for address in (first, *others)
        },
        object_key=layout.outcome_key(outcome.ref),
    )
    failure.__cause__ = errors[first]
    return failure
