"""The paths: each resource and its operations."""

from __future__ import annotations

from amfs_server.openapi.elements import (
    COUNT,
    FILTERS,
    PATH,
    TEXT,
    TIME,
    VERSION,
    WORD,
    Document,
    a_limit,
    an_object,
    answer,
    content,
    fraction,
    header,
    in_path,
    operation,
    plain,
    problems,
    query,
    seconds,
)


def paths() -> Document:
    """Return every path of memories, outcomes and operations."""
    memory = [*in_path("namespace", "entity_path", "key")]
    namespace = [*in_path("namespace")]
    under = query("under", PATH, "Only memories under this entity path, at any depth.")
    age = query(
        "max_age", seconds(), "Answer without asking the store if it was checked this recently."
    )
    complete = query(
        "complete", {"type": "boolean"}, "List the whole store even where a change log would do."
    )
    return {
        "/v1/{namespace}/memories/{entity_path}/{key}": {
            "parameters": memory,
            "get": operation(
                "readMemory",
                "Read a memory",
                parameters=[
                    query("version", VERSION, "The version to read."),
                    query("at", TIME, "Read the version that was newest and live at this time."),
                    query("min_confidence", fraction(), "Answer 404 if the confidence is lower."),
                    age,
                    header(
                        "If-None-Match",
                        "The ETag of the client's version: 304 if it is still the newest.",
                    ),
                ],
                responses={
                    "200": answer("The entry.", "Entry", ETag="The version."),
                    "304": {"description": "The client has the newest version."},
                },
                errors=(404,),
            ),
            "put": operation(
                "writeMemory",
                "Write a new version",
                parameters=[
                    header(
                        "If-Match",
                        'Write only if this is the newest version, as `"3"`.',
                        {"type": "string", "pattern": '^"[1-9][0-9]{0,9}"$'},
                    ),
                    header("If-None-Match", "Write only if there is no version.", {"enum": ["*"]}),
                    header(
                        "Idempotency-Key",
                        "A repeated request with the same key returns the same version.",
                        {"type": "string", "pattern": "^[!-~]{1,200}$"},
                    ),
                ],
                body="Write",
                responses={
                    "201": answer(
                        "The new entry.",
                        "Entry",
                        ETag="The version.",
                        Location="The path of the version.",
                    )
                },
                errors=(408, 412, 413, 415, 504, 507),
            ),
            "delete": operation(
                "deleteMemory",
                "Delete a memory, or erase it",
                parameters=[
                    query("purge", {"type": "boolean"}, "Erase the contents of all versions.")
                ],
                responses={
                    "200": {
                        "description": "The tombstone, or the number of erased versions.",
                        **content(
                            {
                                "anyOf": [
                                    {"$ref": "#/components/schemas/Entry"},
                                    an_object({"erased": COUNT}),
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
            "get": operation(
                "listMemories",
                "List memories, sorted by name",
                parameters=[
                    under,
                    query("limit", a_limit(), "The most entries on a page; 100 by default."),
                    query("after", TEXT, "The `next` of the previous page: a memory's name."),
                    age,
                    complete,
                ],
                responses={"200": answer("A page.", "Page")},
            ),
        },
        "/v1/{namespace}/history/{entity_path}/{key}": {
            "parameters": memory,
            "get": operation(
                "readHistory",
                "All versions, oldest first",
                parameters=[
                    query("limit", a_limit(), "The most versions on a page; 100 by default."),
                    query("after", VERSION, "The `next` of the previous page."),
                ],
                responses={"200": answer("A page.", "HistoryPage")},
                errors=(404,),
            ),
        },
        "/v1/{namespace}/diff/{entity_path}/{key}": {
            "parameters": memory,
            "get": operation(
                "compareVersions",
                "The changes between two versions",
                parameters=[
                    query("old", VERSION, "The older version; by default the one before `new`."),
                    query("new", VERSION, "The newer version; by default the newest."),
                ],
                responses={"200": answer("The difference.", "Difference")},
                errors=(404,),
            ),
        },
        "/v1/{namespace}/paths": {
            "parameters": namespace,
            "get": operation(
                "listEntityPaths",
                "The entity paths that have memories",
                parameters=[under, age],
                responses={
                    "200": {
                        "description": "The paths, sorted.",
                        **content(an_object({"entity_paths": {"type": "array", "items": TEXT}})),
                    }
                },
            ),
        },
        "/v1/{namespace}/stats": {
            "parameters": namespace,
            "get": operation(
                "readStats",
                "Counts and sizes",
                parameters=[under],
                responses={"200": {"description": "The counts.", **content({"type": "object"})}},
            ),
        },
        "/v1/{namespace}/search": {
            "parameters": namespace,
            "get": operation(
                "search",
                "Find memories by their words",
                parameters=[
                    query("q", TEXT, "Words in any language; without them, the newest first."),
                    under,
                    query(
                        "tags",
                        {"type": "array", "items": WORD},
                        "Only memories with all of these tags; the parameter may be repeated.",
                    ),
                    *(query(name, schema, text) for name, (schema, text) in FILTERS.items()),
                    age,
                    complete,
                ],
                responses={"200": answer("The hits, best first.", "Hits")},
            ),
            "post": operation(
                "searchByBody",
                "Find memories by a long query",
                body="Search",
                responses={"200": answer("The hits, best first.", "Hits")},
                errors=(408, 413, 415),
            ),
        },
        "/v1/{namespace}/watch": {
            "parameters": namespace,
            "get": operation(
                "watch",
                "Follow new versions, as server-sent events",
                parameters=[
                    under,
                    query("since", TEXT, "The id of an event, or `beginning`."),
                    header("Last-Event-ID", "The id of the last event that the client received."),
                ],
                responses={
                    "200": {
                        "description": "A stream; the data of each event is an entry.",
                        "content": {"text/event-stream": {"schema": TEXT}},
                    }
                },
                errors=(410,),
            ),
        },
        "/v1/{namespace}/outcomes": {
            "parameters": namespace,
            "get": operation(
                "listOutcomes",
                "Outcomes, oldest first",
                parameters=[under],
                responses={
                    "200": {
                        "description": "The outcomes.",
                        **content(
                            an_object({"outcomes": {"type": "array", "items": {"type": "object"}}})
                        ),
                    }
                },
            ),
        },
        "/v1/{namespace}/outcomes/{reference}": {
            "parameters": [*in_path("namespace", "reference")],
            "get": operation(
                "readOutcome",
                "Read an outcome",
                responses={"200": answer("The outcome.", "Outcome")},
                errors=(404,),
            ),
            "put": operation(
                "commitOutcome",
                "Record what came of using memories",
                body="Commit",
                responses={"201": answer("The outcome.", "Outcome")},
                errors=(408, 409, 413, 415, 504, 507),
            ),
        },
        "/v1/{namespace}/conflicts": {
            "parameters": namespace,
            "get": operation(
                "listConflicts",
                "Writes of an outage that could not be replayed, oldest first",
                responses={
                    "200": {
                        "description": "The conflicts.",
                        **content(
                            an_object(
                                {
                                    "conflicts": {
                                        "type": "array",
                                        "items": {"$ref": "#/components/schemas/Conflict"},
                                    }
                                }
                            )
                        ),
                    }
                },
            ),
            "post": operation(
                "decideConflict",
                "Write a conflict after the newest version, merge it, or discard it",
                body="Decide",
                responses={"200": answer("The decision.", "Decided")},
                errors=(404, 408, 413, 415, 504, 507),
            ),
        },
        "/healthz": {
            "get": plain("healthz", "Whether the server is alive", {"200": "It is."}),
        },
        "/readyz": {
            "get": plain(
                "readyz", "Whether the store can be used", {"200": "It can.", "503": "Not now."}
            ),
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Metrics for Prometheus",
                "responses": {
                    "200": {
                        "description": "The metrics.",
                        "content": {"text/plain": {"schema": TEXT}},
                    },
                    **problems(401, 403),
                },
            },
        },
    }
