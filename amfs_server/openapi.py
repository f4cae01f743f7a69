"""The description of the API, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from amfs_core.format import MAX_VERSION, MEMORY_TYPES, OutcomeType
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES

Document = dict[str, Any]

_TEXT: Document = {"type": "string"}
_COUNT: Document = {"type": "integer", "minimum": 0}
_TIME: Document = {"type": "string", "format": "date-time"}
_NAME: Document = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "description": "At most 255 bytes once escaped.",
}
_PATH: Document = {"type": "string", "pattern": "^[^/]{1,255}(/[^/]{1,255})*$", "maxLength": 850}
_VERSION: Document = {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}
_WORD: Document = {"type": "string", "minLength": 1}
_ANYTHING: Document = {"description": "Any JSON value."}
_MOST_LIMIT = 1_000


def document() -> Document:
    """Return the description of every resource."""
    from amfs import __version__

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AMFS",
            "version": __version__,
            "summary": "Shared, versioned memory for agents.",
            "description": (
                "Names are percent-encoded segments of the path: the last one is the key, those "
                "before it are the entity path. Errors are problem documents (RFC 9457), one "
                "`type` for each kind."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> Document:
    memory = [*_in_path("namespace", "entity_path", "key")]
    namespace = [*_in_path("namespace")]
    under = _query("under", _PATH, "An entity path: what is in it and below it.")
    age = _query("max_age", _seconds(), "Answer from memory if checked at most so long ago.")
    return {
        "/v1/{namespace}/memories/{entity_path}/{key}": {
            "parameters": memory,
            "get": _operation(
                "readMemory",
                "Read a memory",
                parameters=[
                    _query("version", _VERSION, "That version."),
                    _query("at", _TIME, "What was newest and live then."),
                    _query("min_confidence", _fraction(), "Below it: 404."),
                    age,
                    _header("If-None-Match", "The ETag of what the client has: 304 if it is new."),
                ],
                responses={
                    "200": _answer("The entry.", "Entry", ETag="The version."),
                    "304": {"description": "The client has the newest version."},
                },
                errors=(404,),
            ),
            "put": _operation(
                "writeMemory",
                "Write a new version",
                parameters=[
                    _header(
                        "If-Match",
                        'Write only if this is the newest version, as `"3"`.',
                        {"type": "string", "pattern": '^"[1-9][0-9]{0,9}"$'},
                    ),
                    _header("If-None-Match", "Write only if there is no version.", {"enum": ["*"]}),
                    _header(
                        "Idempotency-Key",
                        "The same key once more gives the same version.",
                        {"type": "string", "pattern": "^[!-~]{1,200}$"},
                    ),
                ],
                body="Write",
                responses={
                    "201": _answer(
                        "The new entry.",
                        "Entry",
                        ETag="The version.",
                        Location="Where the version is.",
                    )
                },
                errors=(408, 412, 413, 415, 504, 507),
            ),
            "delete": _operation(
                "deleteMemory",
                "Delete a memory, or erase it",
                parameters=[
                    _query("purge", {"type": "boolean"}, "Erase the contents of all versions.")
                ],
                responses={
                    "200": {
                        "description": "The tombstone, or how many versions were erased.",
                        **_content(
                            {
                                "anyOf": [
                                    {"$ref": "#/components/schemas/Entry"},
                                    _object({"erased": _COUNT}),
                                ]
                            }
                        ),
                    }
                },
                errors=(404, 504),
            ),
        },
        "/v1/{namespace}/memories": {
            "parameters": namespace,
            "get": _operation(
                "listMemories",
                "List memories, sorted by name",
                parameters=[
                    under,
                    _query("limit", _limit(), "Entries on a page; 100 if it is not given."),
                    _query("after", _TEXT, "The `next` of the page before: the name of a memory."),
                    age,
                ],
                responses={"200": _answer("A page.", "Page")},
            ),
        },
        "/v1/{namespace}/history/{entity_path}/{key}": {
            "parameters": memory,
            "get": _operation(
                "readHistory",
                "All versions, oldest first",
                parameters=[
                    _query("limit", _limit(), "Versions on a page; 100 if it is not given."),
                    _query("after", _VERSION, "The `next` of the page before."),
                ],
                responses={"200": _answer("A page.", "HistoryPage")},
                errors=(404,),
            ),
        },
        "/v1/{namespace}/diff/{entity_path}/{key}": {
            "parameters": memory,
            "get": _operation(
                "compareVersions",
                "What changed between two versions",
                parameters=[
                    _query("old", _VERSION, "By default the version before `new`."),
                    _query("new", _VERSION, "By default the newest."),
                ],
                responses={"200": _answer("The difference.", "Difference")},
                errors=(404,),
            ),
        },
        "/v1/{namespace}/paths": {
            "parameters": namespace,
            "get": _operation(
                "listEntityPaths",
                "The entity paths that have memories",
                parameters=[under, age],
                responses={
                    "200": {
                        "description": "The paths, sorted.",
                        **_content(_object({"entity_paths": {"type": "array", "items": _TEXT}})),
                    }
                },
            ),
        },
        "/v1/{namespace}/stats": {
            "parameters": namespace,
            "get": _operation(
                "readStats",
                "Counts and sizes",
                parameters=[under],
                responses={"200": {"description": "The counts.", **_content({"type": "object"})}},
            ),
        },
        "/v1/{namespace}/search": {
            "parameters": namespace,
            "get": _operation(
                "search",
                "Find memories by their words",
                parameters=[
                    _query("q", _TEXT, "Words in any language. Without them: the newest first."),
                    under,
                    _query(
                        "tags",
                        {"type": "array", "items": _WORD},
                        "All of them; the parameter may be repeated.",
                    ),
                    *(_query(name, schema, text) for name, (schema, text) in _FILTERS.items()),
                    age,
                ],
                responses={"200": _answer("What was found, best first.", "Hits")},
            ),
            "post": _operation(
                "searchByBody",
                "The same with a long query",
                body="Search",
                responses={"200": _answer("What was found, best first.", "Hits")},
                errors=(408, 413, 415),
            ),
        },
        "/v1/{namespace}/watch": {
            "parameters": namespace,
            "get": _operation(
                "watch",
                "Follow new versions, as server-sent events",
                parameters=[
                    under,
                    _query("since", _TEXT, "The id of an event, or `beginning`."),
                    _header("Last-Event-ID", "The id of the last event that the client has."),
                ],
                responses={
                    "200": {
                        "description": "A stream; the data of each event is an entry.",
                        "content": {"text/event-stream": {"schema": _TEXT}},
                    }
                },
                errors=(410,),
            ),
        },
        "/v1/{namespace}/outcomes": {
            "parameters": namespace,
            "get": _operation(
                "listOutcomes",
                "Outcomes, oldest first",
                parameters=[under],
                responses={
                    "200": {
                        "description": "The outcomes.",
                        **_content(
                            _object({"outcomes": {"type": "array", "items": {"type": "object"}}})
                        ),
                    }
                },
            ),
        },
        "/v1/{namespace}/outcomes/{reference}": {
            "parameters": [*_in_path("namespace", "reference")],
            "get": _operation(
                "readOutcome",
                "Read an outcome",
                responses={"200": _answer("The outcome.", "Outcome")},
                errors=(404,),
            ),
            "put": _operation(
                "commitOutcome",
                "Record what came of using memories",
                body="Commit",
                responses={"201": _answer("The outcome.", "Outcome")},
                errors=(408, 409, 413, 415, 504, 507),
            ),
        },
        "/healthz": {
            "get": _plain("healthz", "Is the server alive", {"200": "It is."}),
        },
        "/readyz": {
            "get": _plain("readyz", "Can the store be used", {"200": "Yes.", "503": "Not now."}),
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Counts for Prometheus",
                "responses": {
                    "200": {
                        "description": "The counts.",
                        "content": {"text/plain": {"schema": _TEXT}},
                    },
                    **_problems(401, 403),
                },
            },
        },
    }


_FILTERS: dict[str, tuple[Document, str]] = {
    "memory_type": ({"enum": list(MEMORY_TYPES)}, "Memories of that type."),
    "agent_id": ({"type": "string", "minLength": 1}, "Newest version written by that agent."),
    "since": (_TIME, "Written then or later."),
    "until": (_TIME, "Written before."),
    "min_confidence": ({"type": "number", "minimum": 0, "maximum": 1}, "At least so sure."),
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": _MOST_LIMIT},
        "Hits; 10 if it is not given.",
    ),
}


def _schemas() -> Document:
    entry = _object(
        {
            "namespace": _TEXT,
            "entity_path": _TEXT,
            "key": _TEXT,
            "version": {"type": "integer", "minimum": 1},
            "value": _ANYTHING,
            "confidence": _fraction(),
            "tags": {"type": "array", "items": _TEXT},
            "memory_type": _TEXT,
            "expires_at": {"type": ["string", "null"], "format": "date-time"},
            "deleted": {"type": "boolean"},
            "provenance": {"type": "object"},
            "evidence": {"type": "object"},
            "previous": {"type": ["string", "null"]},
            "sha256": _TEXT,
        }
    )
    entries: Document = {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}}
    write: Document = {
        "value": _ANYTHING,
        "confidence": _fraction(),
        "tags": {"type": "array", "items": _WORD},
        "memory_type": {"enum": list(MEMORY_TYPES)},
        "ttl": {"type": ["number", "null"], "minimum": 0.001, "maximum": 1e9},
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "pattern_refs": {"type": "array", "items": _WORD},
        "index": {"type": "boolean", "description": "False: no search finds it by its words."},
    }
    cause = _object(
        {
            "entity_path": _PATH,
            "key": _NAME,
            "version": _VERSION,
        },
        required=("entity_path", "key"),
        closed=True,
    )
    return {
        "Entry": entry,
        "Page": _object({"entries": entries, "next": {"type": ["string", "null"]}}),
        "HistoryPage": _object({"entries": entries, "next": {"type": ["integer", "null"]}}),
        "Hits": _object(
            {
                "hits": {
                    "type": "array",
                    "items": {
                        "allOf": [
                            {"$ref": "#/components/schemas/Entry"},
                            _object({"score": {"type": "number"}}),
                        ]
                    },
                }
            }
        ),
        "Difference": _object(
            {
                "entity_path": _TEXT,
                "key": _TEXT,
                "old": {"type": ["integer", "null"]},
                "new": {"type": "integer"},
                "changes": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "Outcome": _object(
            {
                "ref": _TEXT,
                "type": {"enum": [kind.value for kind in OutcomeType]},
                "agent_id": _TEXT,
                "committed_at": _TIME,
                "causes": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "Write": {
            **_object(write, required=("value",), closed=True),
            "not": {"required": ["ttl", "expires_at"]},
            "description": f"At most {DEFAULT_MAX_VALUE_BYTES:,} bytes, unless set otherwise.",
        },
        "Search": _object(
            {
                "q": _TEXT,
                "under": _PATH,
                "tags": {"type": "array", "items": _WORD},
                "max_age": _seconds(),
                **{name: schema for name, (schema, _) in _FILTERS.items()},
            },
            required=(),
            closed=True,
        ),
        "Commit": _object(
            {
                "type": {"enum": [kind.value for kind in OutcomeType]},
                "entries": {"type": "array", "items": cause},
            },
            closed=True,
        ),
        "Problem": _object(
            {
                "type": _TEXT,
                "title": _TEXT,
                "status": {"type": "integer"},
                "detail": _TEXT,
                "code": _TEXT,
                "hint": {"type": ["string", "null"]},
            }
        ),
    }


def _object(
    properties: Document, *, required: tuple[str, ...] | None = None, closed: bool = False
) -> Document:
    made: Document = {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }
    if closed:
        made["additionalProperties"] = False
    return made


def _operation(
    name: str,
    summary: str,
    *,
    responses: Document,
    parameters: list[Document] | None = None,
    body: str | None = None,
    errors: tuple[int, ...] = (),
) -> Document:
    made: Document = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {**responses, **_problems(400, 401, 403, 500, 502, 503, *errors)},
    }
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body}"}
        made["requestBody"] = {"required": True, **_content(schema)}
    return made


def _plain(name: str, summary: str, responses: dict[str, str]) -> Document:
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {
            status: {"description": text, **_content({"type": "object"})}
            for status, text in responses.items()
        },
    }


def _answer(text: str, schema: str, **headers: str) -> Document:
    made = {"description": text, **_content({"$ref": f"#/components/schemas/{schema}"})}
    if headers:
        made["headers"] = {
            name: {"description": about, "schema": _TEXT} for name, about in headers.items()
        }
    return made


def _content(schema: Document) -> Document:
    return {"content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> Document:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema}}
    return {
        str(status): {"description": _MEANINGS[status], "content": content}
        for status in sorted(statuses)
    }


_MEANINGS = {
    400: "The request is wrong; the problem says what.",
    401: "A key is needed.",
    403: "The key may not do that.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "Something else is recorded under this reference.",
    410: "The position is not known any more.",
    412: "The condition does not hold; the ETag is the version there is.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    500: "The store's content, its configuration or this server is at fault.",
    502: "The store refuses this server.",
    503: "The store does not answer now, or is not done; Retry-After says when to ask again.",
    504: "It is not known whether it was written; the problem says how to ask.",
    507: "The store is full.",
}


def _in_path(*names: str) -> list[Document]:
    about = {
        "entity_path": "One or more segments; each is encoded, the slashes between them are not.",
        "key": "One segment; a slash in it is %2F.",
        "reference": "1 to 250 bytes; a slash in it is %2F.",
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": about.get(name, "One segment."),
            "schema": {
                "key": _NAME,
                "reference": {"type": "string", "minLength": 1, "maxLength": 250},
            }.get(name, {**_NAME, "pattern": "^[^/]+$"}),
        }
        for name in names
    ]


def _query(name: str, schema: Document, text: str) -> Document:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _header(name: str, text: str, schema: Document | None = None) -> Document:
    return {"name": name, "in": "header", "description": text, "schema": schema or _WORD}


def _fraction() -> Document:
    return {"type": "number", "minimum": 0, "maximum": 1}


def _seconds() -> Document:
    return {"type": "number", "minimum": 0, "description": "Seconds."}


def _limit() -> Document:
    return {"type": "integer", "minimum": 1, "maximum": _MOST_LIMIT}
