"""The handlers for outcomes: what came of using memories."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from amfs import documents
from amfs_core.errors import InvalidValueError, OutcomeConflictError
from amfs_core.format import Cause, Outcome
from amfs_core.memory import AgentMemory
from amfs_server.calls import Call, json
from amfs_server.problems import Refusal

_CAUSE = {"entity_path", "key", "version"}


async def commit(call: Call) -> Response:
    """`PUT` an outcome. Repeating the request resumes an interrupted one."""
    call.key.require_role("writer")
    reference = _reference(call)
    call.only()
    fields = await call.body(("type", "entries"))
    if not isinstance(fields.get("entries"), list):
        raise InvalidValueError(
            "entries must be a list",
            hint='name the memories that were used: "entries": [{"entity_path": …, "key": …}]',
        )
    if type(fields.get("type")) is not str:
        raise InvalidValueError("type must be text, such as success")
    entries = [_entry(call, item) for item in fields["entries"]]
    try:
        outcome = await call.with_memory(
            lambda memory: memory.commit_outcome(reference, fields["type"], entries=entries)
        )
    except OutcomeConflictError as error:
        if call.key.entity_paths is None:
            raise
        # The original message names memories that this key may not see.
        raise OutcomeConflictError(
            f"outcome {reference!r} is already recorded with different content",
            hint="use another reference",
            outcome_ref=reference,
        ) from error
    return json(documents.outcome(outcome), 201)


async def read(call: Call) -> Response:
    """`GET` an outcome."""
    reference = _reference(call)
    call.only()
    outcome = await call.with_memory(lambda memory: memory.read_outcome(reference))
    if outcome is None or not _sees(call, outcome):
        raise Refusal(404, "not_found", "there is no such outcome")
    return json(documents.outcome(outcome))


async def listed(call: Call) -> Response:
    """`GET` the outcomes about memories under an entity path, oldest first."""
    call.only("under")
    under = call.key.scope(call.text("under"))

    def look(memory: AgentMemory) -> list[Outcome]:
        return memory.list_outcomes(under)

    outcomes = [outcome for outcome in await call.with_memory(look) if _sees(call, outcome)]
    return json({"outcomes": [documents.outcome(outcome) for outcome in outcomes]})


def _reference(call: Call) -> str:
    if len(call.names) != 1:
        raise InvalidValueError(
            "the path does not name an outcome",
            hint="a reference is one segment: encode / as %2F",
        )
    return call.names[0]


def _sees(call: Call, outcome: Outcome) -> bool:
    """Whether the key sees every memory that an outcome is about."""
    if call.key.entity_paths is None:
        return True
    causes = outcome.causes
    return bool(causes) and all(call.key.sees(cause.entity_path) for cause in causes)


def _entry(call: Call, item: Any) -> Cause | tuple[str, str]:
    if not isinstance(item, dict) or set(item) - _CAUSE:
        raise InvalidValueError(
            "each entry must be an object with entity_path, key and optionally version"
        )
    entity_path, key, version = (item.get(name) for name in ("entity_path", "key", "version"))
    if type(entity_path) is not str or type(key) is not str:
        raise InvalidValueError("entity_path and key must be text")
    if isinstance(version, float) and version.is_integer():  # JSON has only one type of number
        version = int(version)
    if "version" in item and type(version) is not int:
        raise InvalidValueError("version must be a whole number")
    call.key.require_path(entity_path)
    return (entity_path, key) if version is None else Cause(entity_path, key, version)
