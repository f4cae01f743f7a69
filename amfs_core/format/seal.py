"""The body of an object: one line of JSON whose last field is the SHA-256 of all before it.

The seal finds damage. Beyond that a body must say one thing only, to every reader: no name twice in
an object (readers of JSON differ in which one they take), and no nesting that some cannot follow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from amfs_core.format.values import MAX_DEPTH

FORMAT = 1

DAMAGES = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a body raises when it is not what the format describes."""

_SEAL = re.compile(rb',"sha256":"([0-9a-f]{64})"\}')
_SEAL_BYTES = len(',"sha256":"') + 64 + len('"}')
_MAX_DEPTH = MAX_DEPTH + 10  # a value has some fields around it
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_new_sha256 = hashlib.sha256().copy  # OpenSSL looks the algorithm up for each that is not a copy


def sealed(fields: Mapping[str, Any]) -> bytes:
    """Return fields as one line of JSON whose last field is the SHA-256 of all bytes before it."""
    return with_seal(_encode(fields)[:-1])[0]


def with_seal(covered: bytes) -> tuple[bytes, str]:
    """Return the beginning of a body with the SHA-256 of it and its end, and that SHA-256."""
    hashed = _new_sha256()
    hashed.update(covered)
    sha256 = hashed.hexdigest()
    return covered + f',"sha256":"{sha256}"}}'.encode(), sha256


def is_sealed(body: bytes, sha256: str) -> bool:
    """True when this is the SHA-256 of what the seal of a body covers."""
    hashed = _new_sha256()
    hashed.update(body[:-_SEAL_BYTES])
    return hashed.hexdigest() == sha256


def opened(body: bytes, what: str, corrupt: Callable[[str], NoReturn]) -> dict[str, Any]:
    """Return the fields of a sealed body: the reverse of `sealed`.

    `corrupt` is called with what is wrong for bytes that are not what was sealed, or are of a newer
    format. `what` is what the body should be, such as "a version". The errors of `DAMAGES` pass.
    """
    seal = _SEAL.fullmatch(body[-_SEAL_BYTES:])
    if seal is None:
        if not body:
            corrupt(f"it is empty or no file, and not {what}")
        corrupt(f"it does not end with its sha256, so it is cut short or not {what}")
    if not is_sealed(body, seal[1].decode()):
        corrupt("its bytes do not match its sha256")
    fields: dict[str, Any] = _decode(body)
    number = fields["format"]
    if type(number) is not int or number < 1:
        raise ValueError(f"there is no format {number!r:.80}")
    if number > FORMAT:
        corrupt(f"it has format {number!r:.80}, newer than {FORMAT}: upgrade amfs")
    # Nearly all bodies are as AMFS wrote them, and to write them again is the quickest proof.
    if _encode(fields) != body:
        json.loads(body, object_pairs_hook=_each_once, parse_int=str, parse_float=str)
    if may_be_deep(body) and _is_too_deep(fields):
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
    return fields


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"the name {name!r:.80} is there twice")
        fields[name] = value
    return fields


def may_be_deep(body: bytes) -> bool:
    """False when the brackets alone show that the nesting is not deep: a fraction of the price."""
    if body.count(b"[") + body.count(b"{") <= _MAX_DEPTH:
        return False
    brackets = body.translate(None, _NO_BRACKETS)
    for _ in range(_MAX_DEPTH // 2):  # each round takes one level or two off
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(fewer) == len(brackets):  # texts have brackets too
            return True
        brackets = fewer
        if not brackets:
            return False
    return True


def _is_too_deep(fields: dict[str, Any]) -> bool:
    level: list[Any] = [fields]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True
