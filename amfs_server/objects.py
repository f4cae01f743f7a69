"""Objects: the store itself over HTTP, for `--store http://…`.

`amfs_http.HttpAdapter` speaks this, so that every program and command works on a store that it
reaches through this server only. A key that sees a part of the store sees that part here too.
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

_MOST_BYTES = 8 * 1024 * 1024  # of bodies in one answer; the client asks again for the rest
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
    """`POST` keys, get objects: as many as fit into an answer, at least one."""
    call.only()
    fields = await call.body(("keys",))
    keys = fields.get("keys")
    if not isinstance(keys, list) or not all(type(key) is str and key for key in keys):
        raise InvalidValueError("keys must be a list of texts")
    if len(keys) > MOST_PAGE:
        raise InvalidValueError(f"at most {MOST_PAGE} keys are asked for at once")
    rights = ObjectRights(call.key, call.engines.store)

    def bodies() -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        size = 0
        found: Iterator[tuple[str, bytes | None]] = call.engines.store.get_many(keys)
        with closing(found):  # type: ignore[type-var]  # a generator, all of them
            for key, data in found:
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
    """`PUT` an object: with `If-None-Match: *` only if there is none, else over what is there."""
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
        raise Refusal(412, "object_exists", "there is such an object, or one is being made")
    return json({"key": key, "bytes": len(data)}, 201)


async def delete(call: Call) -> Response:
    """`DELETE` an object that is none of a memory: a scratch object."""
    call.key.require_role("eraser")
    call.only()
    key, rights = _named(call)
    rights.require_all("removes objects")
    await call.in_thread(lambda: call.engines.store.delete(key))
    return json({"key": key})


def _named(call: Call) -> tuple[str, ObjectRights]:
    """Return the key that the path names, if the caller sees its place."""
    require_object_key(call.names, writes=call.request.method not in ("GET", "HEAD"))
    key = "/".join(call.names)
    rights = ObjectRights(call.key, call.engines.store)
    rights.require_place(key)
    return key, rights
