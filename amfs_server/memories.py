"""The handlers for memories: read, write, delete, erase, list, history and difference."""

from __future__ import annotations

import threading
from collections import OrderedDict

from starlette.responses import Response

from amfs import documents
from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import WRITE_PARAMETERS, AgentMemory
from amfs_server.calls import Call, json, moment
from amfs_server.names import memory_name, name_before, path_of, position_behind
from amfs_server.problems import Refusal

DEFAULT_PAGE = 100
_ELSEWHERE = {"entity_path", "key", "write_id", "expected_version"}  # sent in path and headers
_BODY = set(WRITE_PARAMETERS) - _ELSEWHERE
_MOST_LOCKS = 10_000


async def read(call: Call) -> Response:
    """`GET` a memory."""
    entity_path, key = _seen(call)
    call.only("version", "at", "min_confidence", "max_age")
    version, at = call.whole("version"), call.moment("at")
    least, age = call.number("min_confidence"), call.number("max_age")
    entry = await call.with_memory(
        lambda memory: memory.read(
            entity_path, key, version=version, at=at, min_confidence=least or 0.0, max_age=age
        )
    )
    if entry is None:
        raise Refusal(404, "not_found", "there is no such memory, or no such version of it")
    tag = _tag(entry)
    if tag in _tags(call.header("if-none-match")):
        return Response(status_code=304, headers={"etag": tag, "cache-control": "no-cache"})
    return json(documents.entry(entry), etag=tag, cache_control="no-cache")


async def write(call: Call) -> Response:
    """`PUT` a new version of a memory."""
    call.key.require_role("writer")
    entity_path, key = _seen(call)
    call.only()
    fields = await call.body(_BODY)
    if "value" not in fields:
        raise InvalidValueError("the body has no value", hint='send {"value": …}')
    value = fields.pop("value")
    for name in ("tags", "pattern_refs"):
        if name in fields and not isinstance(fields[name], list):
            raise InvalidValueError(f"{name} must be a list of texts")
    if fields.get("expires_at") is not None:
        fields["expires_at"] = moment(fields["expires_at"], "expires_at")
    expected = _expected(call)
    write_id = call.header("idempotency-key")

    def append(memory: AgentMemory) -> MemoryEntry:
        if write_id is None:
            return memory.write(entity_path, key, value, expected_version=expected, **fields)
        with _one_at_a_time(call.namespace, entity_path, key, write_id):
            return memory.find_write(entity_path, key, write_id) or memory.write(
                entity_path, key, value, expected_version=expected, write_id=write_id, **fields
            )

    entry = await call.with_memory(append)
    location = path_of(call.namespace, "memories", entity_path, key)
    return json(
        documents.entry(entry),
        201,
        etag=_tag(entry),
        location=f"{location}?version={entry.version}",
    )


async def delete(call: Call) -> Response:
    """`DELETE` a memory: a tombstone, or with `purge` the erasure of all its versions."""
    entity_path, key = _seen(call)
    call.only("purge")
    if call.header("if-match") is not None:
        raise InvalidValueError(
            "If-Match does not apply to DELETE", hint="read the memory, then delete it"
        )
    if call.flag("purge"):
        call.key.require_role("eraser")
        erased = await call.with_memory(lambda memory: memory.purge(entity_path, key))
        return json({"erased": erased})
    call.key.require_role("writer")
    entry = await call.with_memory(lambda memory: memory.delete(entity_path, key))
    if entry is None:
        raise Refusal(404, "not_found", "there is no such memory")
    return json(documents.entry(entry), etag=_tag(entry))


async def listed(call: Call) -> Response:
    """`GET` a page of the memories under an entity path, sorted by name."""
    call.only("under", "limit", "after", "max_age", "complete")
    under = call.key.scope(call.text("under"))
    limit, age = call.limit(DEFAULT_PAGE), call.number("max_age")
    complete = call.flag("complete")
    position = call.text("after")
    after = None if position is None else name_before(position)

    def page(memory: AgentMemory) -> tuple[list[MemoryEntry], bool]:
        entries = memory.list(under, max_age=age, complete=complete)
        if after is not None:
            entries = [entry for entry in entries if (entry.entity_path, entry.key) > after]
        return entries[:limit], len(entries) > limit

    entries, more = await call.with_memory(page)
    following = position_behind(entries[-1].entity_path, entries[-1].key) if more else None
    return json({"entries": [documents.entry(entry) for entry in entries], "next": following})


async def history(call: Call) -> Response:
    """`GET` the versions of a memory, oldest first."""
    entity_path, key = _seen(call)
    call.only("limit", "after")
    limit, after = call.limit(DEFAULT_PAGE), call.whole("after")
    if after is not None:
        arguments.version(after, "after")
    entries = await call.with_memory(lambda memory: memory.history(entity_path, key))
    if not entries:
        raise Refusal(404, "not_found", "there is no such memory")
    entries = [entry for entry in entries if entry.version > (after or 0)]
    following = entries[limit - 1].version if len(entries) > limit else None
    return json(
        {"entries": [documents.entry(entry) for entry in entries[:limit]], "next": following}
    )


async def difference(call: Call) -> Response:
    """`GET` what changed between two versions of a memory."""
    entity_path, key = _seen(call)
    call.only("old", "new")
    old, new = call.whole("old"), call.whole("new")
    for version, name in ((old, "old"), (new, "new")):
        if version is not None:
            arguments.version(version, name)
    try:
        changes = await call.with_memory(lambda memory: memory.diff(entity_path, key, old, new))
    except InvalidValueError as error:  # the arguments are valid, so a version is missing
        raise Refusal(
            404, "not_found", "there is no such memory, or no such version of it"
        ) from error
    return json(documents.difference(changes))


async def paths(call: Call) -> Response:
    """`GET` the entity paths that have memories of their own."""
    call.only("under", "max_age")
    under, age = call.key.scope(call.text("under")), call.number("max_age")
    listed = await call.with_memory(lambda memory: memory.list_entity_paths(under, max_age=age))
    return json({"entity_paths": listed})


async def stats(call: Call) -> Response:
    """`GET` counts and sizes."""
    call.only("under")
    under = call.key.scope(call.text("under"))
    counts = await call.with_memory(lambda memory: memory.stats(under))
    return json(documents.stats(counts))


def _seen(call: Call) -> tuple[str, str]:
    """Return the memory that the path names, if the key sees it."""
    entity_path, key = memory_name(call.names)
    call.key.require_path(entity_path)
    return entity_path, key


def _tag(entry: MemoryEntry) -> str:
    return f'"{entry.version}"'


def _tags(header: str | None) -> set[str]:
    """Return the entity tags of a header, weak tags as strong ones (RFC 9110, 13.1.2)."""
    return {tag.strip().removeprefix("W/") for tag in (header or "").split(",") if tag.strip()}


def _expected(call: Call) -> int | None:
    """Return the `expected_version` that the conditional headers of a request stand for."""
    match, none_match = call.header("if-match"), call.header("if-none-match")
    expected = None if match is None else _version_of(match)
    if none_match is None:
        return expected
    if none_match != "*":
        raise InvalidValueError('a PUT takes If-None-Match: * or If-Match: "VERSION"')
    return 0


def _version_of(tag: str) -> int:
    digits = tag[1:-1]
    is_version = tag[0] == tag[-1] == '"' and digits.isascii() and digits.isdigit()
    if not is_version or len(digits) > 10 or int(digits) < 1:
        raise InvalidValueError(
            f"If-Match must be one version in the form of the ETag, not {tag!r:.80}",
            hint='send the ETag of a GET, such as "3"',
        )
    return int(digits)


_locks: OrderedDict[tuple[str, ...], threading.Lock] = OrderedDict()
_locking = threading.Lock()


def _one_at_a_time(*name: str) -> threading.Lock:
    """Return the lock of one write: a repeated request waits for the first and finds its result."""
    with _locking:
        lock = _locks.setdefault(name, threading.Lock())
        _locks.move_to_end(name)
        while len(_locks) > _MOST_LOCKS and not next(iter(_locks.values())).locked():
            _locks.popitem(last=False)
    return lock
