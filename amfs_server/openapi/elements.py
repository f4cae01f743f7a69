"""The parts of the API's description: schemas of values, and parts of operations."""

from __future__ import annotations

from typing import Any

from amfs_core.format import MAX_VERSION, MEMORY_TYPES

Document = dict[str, Any]

TEXT: Document = {"type": "string"}
COUNT: Document = {"type": "integer", "minimum": 0}
TIME: Document = {"type": "string", "format": "date-time"}
NAME: Document = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "description": "At most 255 bytes once escaped.",
}
PATH: Document = {"type": "string", "pattern": "^[^/]{1,255}(/[^/]{1,255})*$", "maxLength": 850}
VERSION: Document = {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}
WORD: Document = {"type": "string", "minLength": 1}
ANYTHING: Document = {"description": "Any JSON value."}
MOST_LIMIT = 1_000


FILTERS: dict[str, tuple[Document, str]] = {
    "memory_type": ({"enum": list(MEMORY_TYPES)}, "Only memories of this type."),
    "agent_id": (
        {"type": "string", "minLength": 1},
        "Only memories whose newest version this agent wrote.",
    ),
    "since": (TIME, "Only memories written at this time or later."),
    "until": (TIME, "Only memories written before this time."),
    "min_confidence": (
        {"type": "number", "minimum": 0, "maximum": 1},
        "Only memories with at least this confidence.",
    ),
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT},
        "The most hits to return; 10 by default.",
    ),
}


def an_object(
    properties: Document, *, required: tuple[str, ...] | None = None, closed: bool = False
) -> Document:
    """Return the schema of a JSON object; `required` names its required properties, None: all."""
    made: Document = {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }
    if closed:
        made["additionalProperties"] = False
    return made


def operation(
    name: str,
    summary: str,
    *,
    responses: Document,
    parameters: list[Document] | None = None,
    body: str | None = None,
    errors: tuple[int, ...] = (),
) -> Document:
    """Return an operation; `errors` are the statuses beyond those of every operation."""
    made: Document = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {**responses, **problems(400, 401, 403, 500, 502, 503, *errors)},
    }
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body}"}
        made["requestBody"] = {"required": True, **content(schema)}
    return made


def plain(name: str, summary: str, responses: dict[str, str]) -> Document:
    """Return an operation that answers with a JSON object and needs no key."""
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {
            status: {"description": text, **content({"type": "object"})}
            for status, text in responses.items()
        },
    }


def answer(text: str, schema: str, **headers: str) -> Document:
    """Return an answer whose body has the named schema."""
    made = {"description": text, **content({"$ref": f"#/components/schemas/{schema}"})}
    if headers:
        made["headers"] = {
            name: {"description": about, "schema": TEXT} for name, about in headers.items()
        }
    return made


def content(schema: Document, media_type: str = "application/json") -> Document:
    """Return the description of a body's content."""
    return {"content": {media_type: {"schema": schema}}}


def problems(*statuses: int) -> Document:
    """Return the answers that are problem documents."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        str(status): {
            "description": _MEANINGS[status],
            **content(schema, "application/problem+json"),
        }
        for status in sorted(statuses)
    }


_MEANINGS = {
    400: "The request is invalid; the problem says why.",
    401: "A key is required.",
    403: "The key may not do that.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "Something else is recorded under this reference.",
    410: "The position is no longer known.",
    412: "The condition does not hold; the ETag is the current version.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    500: "The store's content, its configuration or this server is at fault.",
    502: "The store refuses this server.",
    503: "The store does not answer now, or is not done; Retry-After says when to try again.",
    504: "It is unknown whether the write happened; the problem says how to find out.",
    507: "The store is full.",
}


def in_path(*names: str) -> list[Document]:
    """Return the parameters of a path."""
    about = {
        "entity_path": "One or more segments; encode each, but not the slashes between them.",
        "key": "One segment; encode a slash in it as %2F.",
        "reference": "1 to 250 bytes; encode a slash in it as %2F.",
        "object": "The part of the object key after the namespace: segments, each encoded.",
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": about.get(name, "One segment."),
            "schema": {
                "key": NAME,
                "reference": {"type": "string", "minLength": 1, "maxLength": 250},
            }.get(name, {**NAME, "pattern": "^[^/]+$"}),
        }
        for name in names
    ]


def query(name: str, schema: Document, text: str) -> Document:
    """Return a query parameter."""
    return {"name": name, "in": "query", "description": text, "schema": schema}


def header(name: str, text: str, schema: Document | None = None) -> Document:
    """Return a header parameter."""
    return {"name": name, "in": "header", "description": text, "schema": schema or WORD}


def fraction() -> Document:
    """Return the schema of a number from 0 to 1."""
    return {"type": "number", "minimum": 0, "maximum": 1}


def seconds() -> Document:
    """Return the schema of a duration in seconds."""
    return {"type": "number", "minimum": 0, "description": "Seconds."}


def a_limit() -> Document:
    """Return the schema of the size of a page."""
    return {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT}
