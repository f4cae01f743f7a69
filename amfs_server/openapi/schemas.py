"""The schemas of bodies and answers."""

from __future__ import annotations

from amfs_core.format import MEMORY_TYPES, OutcomeType
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES
from amfs_server.openapi.elements import (
    ANYTHING,
    COUNT,
    FILTERS,
    NAME,
    PATH,
    TEXT,
    TIME,
    VERSION,
    WORD,
    Document,
    an_object,
    fraction,
    seconds,
)


def schemas() -> Document:
    """Return the schemas to which answers and bodies refer."""
    entry = an_object(
        {
            "namespace": TEXT,
            "entity_path": TEXT,
            "key": TEXT,
            "version": {"type": "integer", "minimum": 1},
            "value": ANYTHING,
            "confidence": fraction(),
            "tags": {"type": "array", "items": TEXT},
            "memory_type": TEXT,
            "expires_at": {"type": ["string", "null"], "format": "date-time"},
            "deleted": {"type": "boolean"},
            "provenance": {"type": "object"},
            "evidence": {"type": "object"},
            "previous": {"type": ["string", "null"]},
            "sha256": TEXT,
        }
    )
    entries: Document = {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}}
    write: Document = {
        "value": ANYTHING,
        "confidence": fraction(),
        "tags": {"type": "array", "items": WORD},
        "memory_type": {"enum": list(MEMORY_TYPES)},
        "ttl": {"type": ["number", "null"], "minimum": 0.001, "maximum": 1e9},
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "pattern_refs": {"type": "array", "items": WORD},
        "index": {"type": "boolean", "description": "If false, no search finds it by its words."},
    }
    cause = an_object(
        {
            "entity_path": PATH,
            "key": NAME,
            "version": VERSION,
        },
        required=("entity_path", "key"),
        closed=True,
    )
    return {
        "Entry": entry,
        "Page": an_object({"entries": entries, "next": {"type": ["string", "null"]}}),
        "HistoryPage": an_object({"entries": entries, "next": {"type": ["integer", "null"]}}),
        "Hits": an_object(
            {
                "hits": {
                    "type": "array",
                    "items": {
                        "allOf": [
                            {"$ref": "#/components/schemas/Entry"},
                            an_object({"score": {"type": "number"}}),
                        ]
                    },
                }
            }
        ),
        "Difference": an_object(
            {
                "entity_path": TEXT,
                "key": TEXT,
                "old": {"type": ["integer", "null"]},
                "new": {"type": "integer"},
                "changes": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "Outcome": an_object(
            {
                "ref": TEXT,
                "type": {"enum": [kind.value for kind in OutcomeType]},
                "agent_id": TEXT,
                "committed_at": TIME,
                "causes": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "Write": {
            **an_object(write, required=("value",), closed=True),
            "not": {"required": ["ttl", "expires_at"]},
            "description": f"At most {DEFAULT_MAX_VALUE_BYTES:,} bytes by default.",
        },
        "Search": an_object(
            {
                "q": TEXT,
                "under": PATH,
                "tags": {"type": "array", "items": WORD},
                "max_age": seconds(),
                "complete": {"type": "boolean"},
                **{name: schema for name, (schema, _) in FILTERS.items()},
            },
            required=(),
            closed=True,
        ),
        "Commit": an_object(
            {
                "type": {"enum": [kind.value for kind in OutcomeType]},
                "entries": {"type": "array", "items": cause},
            },
            closed=True,
        ),
        "Conflict": an_object(
            {
                "id": TEXT,
                "reason": TEXT,
                "newest": COUNT,
                "entry": {"$ref": "#/components/schemas/Entry"},
            }
        ),
        "Decide": {
            "oneOf": [
                an_object({"id": TEXT, "decision": {"enum": ["append", "discard"]}}, closed=True),
                an_object(
                    {"id": TEXT, "decision": {"const": "merge"}, "value": ANYTHING}, closed=True
                ),
            ]
        },
        "Decided": an_object(
            {
                "id": TEXT,
                "entry": {"anyOf": [{"$ref": "#/components/schemas/Entry"}, {"type": "null"}]},
            }
        ),
        "Problem": an_object(
            {
                "type": TEXT,
                "title": TEXT,
                "status": {"type": "integer"},
                "detail": TEXT,
                "code": TEXT,
                "hint": {"type": ["string", "null"]},
            }
        ),
    }
