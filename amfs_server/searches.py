"""Search, by a query string or by a JSON body."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from amfs import documents
from amfs_core.errors import InvalidValueError
from amfs_server.calls import Call, json, moment

_MOST = 1_000
_NAMES = (
    *("q", "under", "tags", "memory_type", "agent_id", "since", "until", "min_confidence"),
    *("limit", "max_age", "complete"),
)


async def by_query(call: Call) -> Response:
    """`GET` the hits for a query."""
    call.only(*_NAMES)
    parameters: dict[str, Any] = {
        "q": call.text("q"),
        "under": call.text("under"),
        "tags": call.texts("tags"),
        "memory_type": call.text("memory_type"),
        "agent_id": call.text("agent_id"),
        "since": call.moment("since"),
        "until": call.moment("until"),
        "min_confidence": call.number("min_confidence"),
        "limit": call.whole("limit"),
        "max_age": call.number("max_age"),
        "complete": call.flag("complete"),
    }
    return await _hits(
        call, {name: value for name, value in parameters.items() if value is not None}
    )


async def by_body(call: Call) -> Response:
    """`POST` a query; for long queries."""
    call.only()
    fields = await call.body(_NAMES)
    for name in fields:
        if fields[name] is None:
            raise InvalidValueError(f"{name} is null", hint="leave it out")
    for name in ("since", "until"):
        if name in fields:
            fields[name] = moment(fields[name], name)
    return await _hits(call, fields)


async def _hits(call: Call, fields: dict[str, Any]) -> Response:
    filters = dict(fields)
    query = filters.pop("q", None)
    under = filters.pop("under", None)
    if "under" in fields and type(under) is not str:
        raise InvalidValueError("under must be text")
    if "q" in fields and type(query) is not str:
        raise InvalidValueError("q must be text")
    if "tags" in fields and not isinstance(fields["tags"], list):
        raise InvalidValueError("tags must be a list of texts")
    if type(fields.get("complete", False)) is not bool:
        raise InvalidValueError("complete must be true or false")
    limit = filters.get("limit", 10)
    if isinstance(limit, float) and limit.is_integer():  # JSON has only one type of number
        limit = filters["limit"] = int(limit)
    if type(limit) is not int or not 1 <= limit <= _MOST:
        raise InvalidValueError(f"limit must be from 1 to {_MOST}")
    scope = call.key.scope(under)
    hits = await call.with_memory(lambda memory: memory.search(query, entity_path=scope, **filters))
    return json({"hits": [documents.hit(hit) for hit in hits]})
