"""Objects: the store itself over HTTP, for `--store http://…`.

`amfs_http.HttpAdapter` uses these resources, so every program and command works on a store that it
can reach only through this server. A key that sees a part of the store sees the same part here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from starlette.responses import Response

from amfs_core.errors import InvalidKeyError, InvalidValueError
from amfs_core.storage import ObjectInfo
from amfs_server.calls import MOST_PAGE, Call, json
from amfs_server.names import require_object_key, require_segments
from amfs_server.object_rights import ObjectRights
from amfs_server.problems import Refusal

_MOST_BYTES = 8 * 1024 * 1024  # of bodies in one answer; the client requests the rest separately
OBJECT_TYPE = "application/vnd.amfs.object"


async def listed(call: Call) -> Response:
    """`GET` a page of the objects under a prefix, in the byte order of their keys."""
    call.only("prefix", "after", "limit")
    prefix, after = call.text("prefix") or "", call.text("after") or ""
    if prefix:
        if not prefix.endswith("/"):
            raise InvalidKeyError(f"the prefix {prefix!r:.200} does not end with /")
        require_segments(prefix[:-1].split("/"))
    limit = call.limit(MOST_PAGE)
    rights = ObjectRights(call.key, call.engines.store)
    rights.require_prefix(prefix)

    def page() -> list[ObjectInfo]:
        return list(islice(call.engines.store.list(prefix, after), limit))

    objects = await call.in_thread(page)
    following = objects[-1].key if len(objects) == limit else None
    shown = [info for info in objects if rights.lists(info.key)]
    return json({"objects": shown, "next": following})


async def get_many(call: Call) -> Response:
    """`POST` keys to get their objects: as many as fit into one answer, at least one."""
    call.only()
    fields = await call.body(("keys",))
    keys = fields.get("keys")
    if not isinstance(keys, list) or not all(type(key) is str and key for key in keys):
        raise InvalidValueError("keys must be a list of texts")
    if len(keys) > MOST_PAGE:
        raise InvalidValueError(f"a request may ask for at most {MOST_PAGE} keys")
    rights = ObjectRights(call.key, call.engines.store)

    def bodies() -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        size = 0
        pairs: Iterator[tuple[str, bytes | None]] = call.engines.store.get_many(keys)
        with closing(pairs):  # type: ignore[type-var]  # a generator, all of them
            for key, data in pairs:
                rights.require_read(key, data)
                answers.append({"key": key, "data": data})
                size += len(data or b"")
                if size > _MOST_BYTES:
                    break
        return answers

    for key in keys:
        require_object_key(key.split("/"), writes=False)
        rights.require_place(key)
    return json({"objects": await call.in_thread(bodies)})


async def read(call: Call) -> Response:
    """`GET` an object's bytes."""
    call.only()
    key, rights = _named(call)

    def look() -> bytes | None:
        data = call.engines.store.get(key)
        rights.require_read(key, data)
        return data

    data = await call.in_thread(look)
    if data is None:
        raise Refusal(404, "no_object", "there is no such object")
    return Response(data, media_type=OBJECT_TYPE)


async def write(call: Call) -> Response:
    """`PUT` an object: create it with `If-None-Match: *`, otherwise create or replace it."""
    creates = call.header("if-none-match")
    if creates not in (None, "*"):
        raise InvalidValueError("a PUT of an object takes If-None-Match: * and nothing else")
    call.key.require_role("eraser" if creates is None else "writer")
    call.only()
    key, rights = _named(call)
    data = await call.data()

    def put() -> bool:
        rights.require_write(key, data, replaces=creates is None)
        if creates is None:
            call.engines.store.replace(key, data)
            return True
        return call.engines.store.create(key, data)

    if not await call.in_thread(put):
        raise Refusal(412, "object_exists", "the object exists already, or is being created")
    return json({"key": key, "bytes": len(data)}, 201)


async def delete(call: Call) -> Response:
    """`DELETE` a scratch object, which does not belong to a memory."""
    call.key.require_role("eraser")
    call.only()
    key, rights = _named(call)
    rights.require_all("removes objects")
    await call.in_thread(lambda: call.engines.store.delete(key))
    return json({"key": key})


def _named(call: Call) -> tuple[str, ObjectRights]:
    """Return the object key that the path names, if the caller may see it."""
    require_object_key(call.names, writes=call.request.method not in ("GET", "HEAD"))
    key = "/".join(call.names)
    rights = ObjectRights(call.key, call.engines.store)
    rights.require_place(key)
    return key, rights
