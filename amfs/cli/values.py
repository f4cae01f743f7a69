"""Parsing of arguments: values, times and durations."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from amfs.cli import output, streams
from amfs_core.arguments import expanded
from amfs_core.errors import InvalidValueError
from amfs_core.format import strict_json

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)", re.ASCII)


def value(argument: str) -> Any:
    """Return the value of an argument: parsed if it is JSON, otherwise the text itself.

    `@FILE` stands for the content of a file, `-` for standard input. Raises `InvalidValueError` for
    JSON that cannot be stored exactly.
    """
    text = _content(argument)
    try:
        return strict_json.parsed(text)
    except strict_json.NotJSONError as error:
        if text.lstrip().startswith(("{", "[")):
            output.note(f"this is not JSON, so it is text ({error})")
        return text


def _content(argument: str) -> str:
    if argument == "-":
        return _decoded(streams.standard_input().read(), "standard input")
    if argument.startswith("@"):
        return _decoded(Path(expanded(argument[1:], "the file")).read_bytes(), argument[1:])
    return argument


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")  # drop the byte order mark that some editors write
    except UnicodeDecodeError as error:
        raise InvalidValueError(
            f"{name} is not UTF-8 text",
            hint="encode binary data, for example with base64",
        ) from error


def length(text: str) -> timedelta:
    """Return a duration: a number of seconds, or a number with the unit s, m, h, d or w."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration such as 90, 15m, 2h or 7d")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])
    except OverflowError as error:
        raise click.BadParameter(f"{text!r} is too long") from error


def moment(text: str) -> datetime:
    """Return a time in UTC, from ISO 8601 or a duration before now such as 7d.

    ISO 8601 without a time zone is local time.
    """
    try:
        if text[-1:] in _UNITS:
            return datetime.now(UTC) - length(text)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, click.BadParameter) as error:
        raise click.BadParameter(
            f"{text!r} is not a time such as 2026-11-21T04:27:20Z, or 7d for a week ago"
        ) from error
