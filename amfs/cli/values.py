"""What people type: values, times and lengths of time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from amfs.cli import streams
from amfs_core.arguments import expanded
from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)", re.ASCII)


def value(given: str) -> Any:
    """Return the value that an argument means: JSON, else the text; `@file` and `-` are read.

    Raises `InvalidValueError` for JSON that could not be kept as it is.
    """
    text = _content(given)
    try:
        return strict_json.parsed(text)
    except strict_json.NotJSONError as error:
        if text.lstrip().startswith(("{", "[")):
            click.echo(f"amfs: note: written as text, as it is not JSON ({error})", err=True)
        return text


def _content(given: str) -> str:
    if given == "-":
        return _decoded(streams.standard_input().read(), "standard input")
    if given.startswith("@"):
        return _decoded(Path(expanded(given[1:], "the file")).read_bytes(), given[1:])
    return given


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")  # the signature of some editors is not part of the text
    except UnicodeDecodeError as error:
        raise InvalidValueError(
            f"{name} is not UTF-8 text",
            hint="encode it, for example with base64",
        ) from error


def length(given: str) -> timedelta:
    """Return a length of time: seconds, or a number with s, m, h, d or w."""
    found = _LENGTH.fullmatch(given)
    if found is None:
        raise click.BadParameter(f"{given!r} is not a time such as 90, 15m, 2h or 7d")
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2] or "s"])
    except OverflowError as error:
        raise click.BadParameter(f"{given!r} is too long") from error


def moment(given: str) -> datetime:
    """Return a time in UTC: from ISO 8601, without a zone local time; or so long ago, as in 7d."""
    try:
        if given[-1:] in _UNITS:
            return datetime.now(UTC) - length(given)
        return datetime.fromisoformat(given).astimezone(UTC)
    except (ValueError, OverflowError, click.BadParameter) as error:
        raise click.BadParameter(
            f"{given!r} is not a time such as 2026-11-21T04:27:20Z, or 7d for a week ago"
        ) from error
