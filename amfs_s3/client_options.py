"""The options of the HTTP client, checked when an adapter is made.

Values are never shown: a header or the URL of a proxy may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from amfs_core.errors import ConfigurationError
from amfs_core.spelling import did_you_mean
from amfs_curl import fault

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_SECONDS = {
    **dict.fromkeys(("nsec", "ns"), 1e-9),
    **dict.fromkeys(("usec", "us"), 1e-6),
    **dict.fromkeys(("msec", "ms"), 1e-3),
    **dict.fromkeys(("seconds", "second", "sec", "s"), 1.0),
    **dict.fromkeys(("minutes", "minute", "min", "m"), 60.0),
    **dict.fromkeys(("hours", "hour", "hr", "h"), 3600.0),
    **dict.fromkeys(("days", "day", "d"), 86_400.0),
    **dict.fromkeys(("weeks", "week", "w"), 7 * 86_400.0),
    **dict.fromkeys(("months", "month", "M"), 30.44 * 86_400.0),
    **dict.fromkeys(("years", "year", "y"), 365.25 * 86_400.0),
}
_PART = rf"\s*([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)\s*({'|'.join(_SECONDS)})\s*"
_LENGTH = re.compile(rf"(?:{_PART.replace('([0-9]', '(?:[0-9]', 1).replace('(nsec', '(?:nsec')})+")
_PARTS = re.compile(_PART)
_LONGEST = 20 * 86_400.0  # the most that libcurl can count in milliseconds


def checked(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options; a `ConfigurationError` begins with the name of the one that is wrong."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"client_options must be a dict, not {type(options).__name__}")
    for name, value in options.items():
        if name in _ONLY_OTHER_CLIENTS:
            raise ConfigurationError(
                f"client_options.{name} is not an option any more: every request is HTTP/1.1, on "
                "connections that are kept",
                hint="leave it out",
            )
        if name not in _KINDS:
            meant = did_you_mean(str(name), _KINDS) or f"; known are {', '.join(_KINDS)}"
            raise ConfigurationError(f"client_options.{name} is unknown{meant}")
        if problem := _KINDS[name](value):
            raise ConfigurationError(f"client_options.{name} {problem}")
    return dict(options)


def seconds(options: Mapping[str, Any], name: str, default: float) -> float:
    """Return a length of time among checked options in seconds, at most 20 days."""
    duration = options.get(name)
    if duration is None:
        return default
    if isinstance(duration, timedelta):
        return min(duration.total_seconds(), _LONGEST)
    length = sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(duration))
    return min(length, _LONGEST)


def _flag(value: object) -> str | None:
    return None if type(value) is bool else "must be true or false"


def _length(value: object) -> str | None:
    if isinstance(value, timedelta):
        return None if value > timedelta(0) else "must be longer than nothing"
    if type(value) is str and _LENGTH.fullmatch(value):
        return None
    return "must be a length of time with its unit, such as '5s' or '2min 30s'"


def _text(value: object) -> str | None:
    if type(value) is not str:
        return f"must be text, not {type(value).__name__}"
    return None if _HEADER_VALUE.fullmatch(value) else "must be ASCII text on one line"


def _headers(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return "must be headers and their values"
    for name, content in value.items():
        if type(name) is not str or not _HEADER_NAME.fullmatch(name):
            return "has a header whose name no header can have"
        text = content.decode("latin-1") if type(content) is bytes else content
        if problem := _text(text):
            return f"has the header {name!r}, which {problem}"
    return None


def _certificates(value: object) -> str | None:
    text = value.decode("latin-1") if type(value) is bytes else value
    if type(text) is not str:
        return f"must be text, not {type(value).__name__}"
    import ssl  # a slow import, and few users pass certificates

    try:
        ssl.create_default_context().load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):  # ValueError: it is not ASCII
        return "must be certificates in PEM form, with -----BEGIN CERTIFICATE----- before each"
    return None


def _certificates_text(value: object) -> str | None:
    return _certificates(value) if type(value) is str else "must be text"


def _proxy(value: object) -> str | None:
    if type(value) is not str:
        return f"must be text, not {type(value).__name__}"
    return fault(value if "://" in value else f"http://{value}")  # as libcurl completes it


_KINDS: dict[str, Callable[[object], str | None]] = {
    "allow_http": _flag,
    "allow_invalid_certificates": _flag,
    "connect_timeout": _length,
    "default_content_type": _text,
    "default_headers": _headers,
    "pool_idle_timeout": _length,
    "proxy_url": _proxy,
    "proxy_ca_certificate": _certificates_text,
    "proxy_excludes": _text,
    "root_certificate": _certificates,
    "read_timeout": _length,
    "timeout": _length,
    "user_agent": _text,
}
"""Each option with the function that says what is wrong with a value, or None."""

_ONLY_OTHER_CLIENTS = (
    *("http1_only", "http2_only", "http2_keep_alive_interval", "http2_keep_alive_timeout"),
    *("http2_keep_alive_while_idle", "pool_max_idle_per_host", "randomize_addresses"),
)
"""Options of the HTTP client that earlier releases used."""
