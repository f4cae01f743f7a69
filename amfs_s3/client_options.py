"""The options of obstore's HTTP client, checked here: its own errors name neither key nor mend.

What each may be is what `obstore.store.ClientConfig` says, which is there for type checkers only.
Values are never shown: a header or the URL of a proxy may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from amfs_core.arguments import did_you_mean
from amfs_core.errors import ConfigurationError
from amfs_s3.url import fault

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_UNITS = (
    *("nsec", "ns", "usec", "us", "msec", "ms", "seconds", "second", "sec", "s"),
    *("minutes", "minute", "min", "m", "hours", "hour", "hr", "h", "days", "day", "d"),
    *("weeks", "week", "w", "months", "month", "M", "years", "year", "y"),
)
_LENGTH = re.compile(rf"\s*(?:[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?\s*(?:{'|'.join(_UNITS)})\s*)+")


def checked(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options as obstore takes them; `ConfigurationError` begins with the key's name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"client_options must be a dict, not {type(given).__name__}")
    for name, value in given.items():
        if name not in _KINDS:
            meant = did_you_mean(str(name), _KINDS) or f"; known are {', '.join(_KINDS)}"
            raise ConfigurationError(f"client_options.{name} is unknown{meant}")
        if problem := _KINDS[name](value):
            raise ConfigurationError(f"client_options.{name} {problem}")
    return {name: str(value) if type(value) is int else value for name, value in given.items()}


def _flag(value: object) -> str | None:
    return None if type(value) is bool else "must be true or false"


def _length(value: object) -> str | None:
    if isinstance(value, timedelta):
        return None if value > timedelta(0) else "must be longer than nothing"
    if type(value) is str and _LENGTH.fullmatch(value):
        return None
    return "must be a length of time with its unit, such as '5s' or '2min 30s'"


def _count(value: object) -> str | None:
    if type(value) is int:
        value = str(value)
    if type(value) is str and value.isascii() and value.isdigit() and int(value[:10]) < 2**31:
        return None if len(value) <= 10 else "is too large"
    return "must be a whole number, 0 or more"


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
    import ssl  # slow, and few have certificates here

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
    return fault(value if "://" in value else f"http://{value}")  # as obstore completes it


_KINDS: dict[str, Callable[[object], str | None]] = {
    "allow_http": _flag,
    "allow_invalid_certificates": _flag,
    "connect_timeout": _length,
    "default_content_type": _text,
    "default_headers": _headers,
    "http1_only": _flag,
    "http2_keep_alive_interval": _length,
    "http2_keep_alive_timeout": _length,
    "http2_keep_alive_while_idle": _flag,
    "http2_only": _flag,
    "pool_idle_timeout": _length,
    "pool_max_idle_per_host": _count,
    "proxy_url": _proxy,
    "proxy_ca_certificate": _certificates_text,
    "proxy_excludes": _text,
    "root_certificate": _certificates,
    "randomize_addresses": _flag,
    "read_timeout": _length,
    "timeout": _length,
    "user_agent": _text,
}
"""Each option, and what says what is wrong with a value of it."""
