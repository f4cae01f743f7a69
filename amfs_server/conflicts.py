"""The handlers for conflicts: writes of an outage that could not be replayed."""

from __future__ import annotations

from starlette.responses import Response

from amfs import documents
from amfs_core.errors import BackendUnavailableError, InvalidValueError
from amfs_core.layers import Conflict, Decide, Decision, Merge
from amfs_core.memory import AgentMemory
from amfs_server.calls import Call, json
from amfs_server.problems import Refusal

DECISIONS = ("append", "discard", "merge")


async def listed(call: Call) -> Response:
    """`GET` the conflicts about memories that the key sees, oldest first."""
    call.only()
    conflicts = await call.with_memory(lambda memory: memory.conflicts())
    return json(
        {
            "conflicts": [
                documents.conflict(conflict) for conflict in conflicts if _sees(call, conflict)
            ]
        }
    )


async def decide(call: Call) -> Response:
    """`POST` a decision about one conflict. A repeated request answers 404 once it is decided."""
    call.key.require_role("writer")
    call.only()
    fields = await call.body(("id", "decision", "value"))
    id, decision = fields.get("id"), fields.get("decision")
    if type(id) is not str:
        raise InvalidValueError("id must be the id of a conflict")
    if decision not in DECISIONS:
        raise InvalidValueError(f"decision must be one of {', '.join(DECISIONS)}")
    if (decision == "merge") != ("value" in fields):
        raise InvalidValueError("value is the value to merge: give it with merge only")
    chosen = Merge(fields["value"]) if decision == "merge" else Decision(decision)

    def work(memory: AgentMemory) -> documents.Document:
        of = {
            conflict.id: conflict for conflict in memory.conflicts() if _sees(call, conflict)
        }.get(id)
        if of is None:
            raise Refusal(404, "not_found", "there is no such conflict")
        report = memory.reconcile(_only(of, chosen))
        if any(conflict.id == id for conflict in report.conflicts):
            raise BackendUnavailableError(
                f"the conflict {id} is not decided: {report.error or 'the primary store is down'}",
                hint="try again when the primary store is back",
            )
        name = (of.entry.entity_path, of.entry.key)
        # Decisions come after everything that waited, so the last version is the decided one.
        landed = [entry for entry in report.landed if (entry.entity_path, entry.key) == name]
        made = landed[-1] if landed and decision != "discard" else None
        return {"id": id, "entry": None if made is None else documents.entry(made)}

    return json(await call.with_memory(work))


def _only(conflict: Conflict, decision: Decision | Merge) -> Decide:
    return lambda candidate: decision if candidate.id == conflict.id else Decision.KEEP


def _sees(call: Call, conflict: Conflict) -> bool:
    return call.key.sees(conflict.entry.entity_path)
