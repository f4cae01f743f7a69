"""The paths of objects, the store itself over HTTP."""

from __future__ import annotations

from amfs_server.objects import OBJECT_TYPE
from amfs_server.openapi.elements import (
    COUNT,
    TEXT,
    TIME,
    Document,
    a_limit,
    an_object,
    content,
    header,
    in_path,
    operation,
    query,
)

_KEY: Document = {"type": "string", "minLength": 3, "maxLength": 1_024}
_BYTES: Document = {
    "type": ["string", "null"],
    "description": "In base64; null if there is no such object.",
}


def object_paths() -> Document:
    """Return the paths of objects."""
    info = an_object({"key": TEXT, "size": COUNT, "modified": TIME})
    page = an_object({"objects": _array(info), "next": {"type": ["string", "null"]}})
    bodies = an_object({"objects": _array(an_object({"key": TEXT, "data": _BYTES}))})
    keys = an_object({"keys": {**_array(_KEY), "maxItems": 1_000}}, closed=True)
    replaced = an_object({"key": TEXT, "bytes": COUNT})
    return {
        "/objects": {
            "get": operation(
                "listObjects",
                "List objects in the byte order of their keys",
                parameters=[
                    query(
                        "prefix",
                        {"type": "string", "pattern": "^([^/]+/)*$"},
                        "Whole segments, each followed by a slash.",
                    ),
                    query("after", TEXT, "The `next` of the previous page, or any key."),
                    query("limit", a_limit(), "The most objects on a page; 1,000 by default."),
                ],
                responses={"200": {"description": "A page.", **content(page)}},
            ),
            "post": {
                **operation(
                    "getObjects",
                    "Get many objects: as many as fit into an answer, at least one",
                    responses={"200": {"description": "Some of them.", **content(bodies)}},
                    errors=(408, 413, 415),
                ),
                "requestBody": {"required": True, **content(keys)},
            },
        },
        "/objects/{namespace}/{object}": {
            "parameters": in_path("namespace", "object"),
            "get": operation(
                "getObject",
                "The bytes of an object",
                responses={"200": {"description": "The bytes.", **content({}, OBJECT_TYPE)}},
                errors=(404,),
            ),
            "put": {
                **operation(
                    "putObject",
                    "Create an object; without a condition, create or replace it",
                    parameters=[
                        header("If-None-Match", "Only create, never replace.", {"enum": ["*"]}),
                    ],
                    responses={
                        "201": {"description": "The object is stored.", **content(replaced)}
                    },
                    errors=(408, 412, 413, 504, 507),
                ),
                "requestBody": {"required": True, **content({}, "application/octet-stream")},
            },
            "delete": operation(
                "deleteObject",
                "Remove an object that does not belong to a memory",
                responses={
                    "200": {
                        "description": "The object is removed.",
                        **content(an_object({"key": TEXT})),
                    }
                },
            ),
        },
    }


def _array(items: Document) -> Document:
    return {"type": "array", "items": items}
