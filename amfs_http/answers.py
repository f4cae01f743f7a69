"""The answers of an AMFS server, and how to tell them from those of anything else.

A proxy, a network's sign-in page or another kind of server may answer in place of AMFS. An answer
therefore counts only in the form that the server's description (`/openapi.json`) gives for that
request. Anything else proves nothing about the content of the store.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from amfs_core.storage import ObjectInfo
from amfs_curl import Answer

OBJECT_TYPE = "application/vnd.amfs.object"
_PROBLEM_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:amfs:problem:"
_OK, _CREATED = 200, 201
_ABSENT, _EXISTS = "no_object", "object_exists"

T = TypeVar("T")


class NotFromAMFS(Exception):  # never leaves the adapter
    """An answer that no AMFS server gives; its text describes the answer."""


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457): the fields that are used here."""

    type: str
    code: str
    detail: str
    hint: str | None = None


class _Page(msgspec.Struct, frozen=True):
    objects: list[ObjectInfo]
    next: str | None


class _Body(msgspec.Struct, frozen=True):
    key: str
    data: bytes | None  # base64


class _Bodies(msgspec.Struct, frozen=True):
    objects: list[_Body]


class _Written(msgspec.Struct, frozen=True):
    key: str
    bytes: int


class _Removed(msgspec.Struct, frozen=True):
    key: str


def problem_in(answer: Answer) -> Problem | None:
    """Return the problem in an answer; None for an answer of any other form."""
    if _kind(answer) != _PROBLEM_TYPE:
        return None
    try:
        problem = msgspec.json.decode(answer.body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return problem if problem.type == _TYPE_PREFIX + problem.code else None


def object_in(answer: Answer) -> bytes | None:
    """Return the object in the answer to a GET; None when the server says that there is none.
    Raises `NotFromAMFS`, as all of these do."""
    if _code(answer) == _ABSENT:
        return None
    length = answer.headers.get("content-length")
    if answer.status != _OK or _kind(answer) != OBJECT_TYPE or length != str(len(answer.body)):
        raise NotFromAMFS(answer.description)
    return answer.body


def objects_in(answer: Answer, keys: Collection[str]) -> list[tuple[str, bytes | None]]:
    """Return the objects in the answer to a POST of these keys: at least one of them."""
    bodies = _decoded(answer, _OK, _Bodies).objects
    body_keys = [body.key for body in bodies]
    if not body_keys or len(set(body_keys)) < len(body_keys) or not set(body_keys) <= set(keys):
        raise NotFromAMFS(f"{answer.description} (not the objects that were asked for)")
    return [(body.key, body.data) for body in bodies]


def page_in(answer: Answer, prefix: str, after: str) -> tuple[list[ObjectInfo], str | None]:
    """Return a page of a listing and the position of the next page, None after the last page."""
    page = _decoded(answer, _OK, _Page)
    position = after.encode()
    for info in page.objects:
        key = info.key.encode()
        if key <= position or not info.key.startswith(prefix) or info.size < 0:
            raise NotFromAMFS(f"{answer.description} (not the page that was asked for)")
        position = key
    if page.next is not None and page.next.encode() < max(position, after.encode() + b"\0"):
        raise NotFromAMFS(f"{answer.description} (a listing that goes on without end)")
    return page.objects, page.next


def is_created(answer: Answer, key: str, size: int) -> bool:
    """Return whether a PUT created the object; False when it exists already."""
    if _code(answer) == _EXISTS:
        return False
    require_written(answer, key, size)
    return True


def require_written(answer: Answer, key: str, size: int) -> None:
    """Raise `NotFromAMFS` unless this acknowledges that an object was written."""
    if _decoded(answer, _CREATED, _Written) != _Written(key, size):
        raise NotFromAMFS(f"{answer.description} (about another object)")


def require_removed(answer: Answer, key: str) -> None:
    """Raise `NotFromAMFS` unless this acknowledges that an object was removed."""
    if _decoded(answer, _OK, _Removed).key != key:
        raise NotFromAMFS(f"{answer.description} (about another object)")


def _code(answer: Answer) -> str | None:
    problem = problem_in(answer)
    return None if problem is None else problem.code


def _decoded(answer: Answer, status: int, kind: type[T]) -> T:
    if answer.status != status or _kind(answer) != "application/json":
        raise NotFromAMFS(answer.description)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotFromAMFS(f"{answer.description} ({error})") from None


def _kind(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()
