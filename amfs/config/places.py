"""Places: a store in one word, as `--store`, `AMFS_STORE` and `open_store` take it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from amfs.config import adapters
from amfs_core.errors import ConfigurationError
from amfs_core.storage import StorageAdapter

S3_VARIABLES = {
    "bucket": "AMFS_S3_BUCKET",
    "prefix": "AMFS_S3_PREFIX",
    "endpoint_url": "AMFS_S3_ENDPOINT",
}

API_KEY = "AMFS_API_KEY"

_KINDS = "a directory, sqlite:///FILE, postgresql://…, s3://BUCKET/PREFIX or http://HOST:PORT"

# s3:/bucket and the like. One letter before the colon is a drive of Windows.
_LIKE_A_URL = re.compile(
    r"(s3|sqlite|postgres|postgresql|https?):|[a-z][a-z0-9+.-]+:/", re.IGNORECASE
)


def open_store(
    place: str | os.PathLike[str], environ: Mapping[str, str] | None = None
) -> StorageAdapter:
    """Open a store by its place: a directory, `sqlite:///FILE`, `postgresql://USER@HOST/DATABASE`,
    `s3://BUCKET/PREFIX`, or the URL of an AMFS server, `http://HOST:PORT`.

    After `sqlite://` and a slash comes the path of a file: a relative one, or with one more slash
    (`sqlite:////var/lib/memories.db`) an absolute one. A database is named as libpq takes it, and
    `?schema=NAME` names a schema in it other than `amfs`. Without a prefix in a bucket
    `AMFS_S3_PREFIX` counts, else `amfs/`; its endpoint is `AMFS_S3_ENDPOINT`, else what the
    `AWS_*` variables and files say. `AMFS_API_KEY` is the key for a server. `environ` stands in for
    the environment. The caller closes the store. Sends and makes nothing. Raises
    `ConfigurationError`.
    """
    name, options = read_place(place, os.environ if environ is None else environ)
    return adapters.make(name, options)


def read_place(
    place: str | os.PathLike[str], variables: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Return the name of the adapter and its options. Raises `ConfigurationError`."""
    if not isinstance(place, str | os.PathLike):
        raise ConfigurationError(f"a store must be {_KINDS}, not {type(place).__name__}")
    text = os.fsdecode(place)
    # Not urlsplit: a path, bucket or prefix may hold characters that mean something in a URL.
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        if not text:
            raise ConfigurationError("the store is empty", hint=f"name {_KINDS}")
        if _LIKE_A_URL.match(text):
            raise ConfigurationError(
                f"{text.rpartition('@')[2]!r} is not a store",
                hint=(f"name {_KINDS}, with ./ before a directory whose name has such a colon"),
            )
        return "local", {"root": text}
    match scheme.lower():
        case "sqlite":
            return "sqlite", {"path": _file(rest)}
        case "postgresql" | "postgres":
            return "postgres", _database(rest)
        case "s3":
            return "s3", _bucket(rest, variables)
        case "http" | "https":
            return "http", {"url": text, **http_options(variables)}
    raise ConfigurationError(f"a store cannot be at {scheme}://", hint=f"name {_KINDS}")


def shown_place(place: str, adapter: StorageAdapter) -> str:
    """Return a place as messages show it. A DSN can hold a password in many parts, so a database
    is shown as its adapter names it."""
    return str(adapter.location) if adapter.backend_type == "postgres" else place


def s3_options(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a bucket that variables give."""
    return {option: variables[name] for option, name in S3_VARIABLES.items() if variables.get(name)}


def http_options(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a store behind a server that variables give."""
    return {"api_key": variables[API_KEY]} if variables.get(API_KEY) else {}


def _file(rest: str) -> str:
    host, _, path = rest.partition("/")
    if host:
        raise ConfigurationError(
            "a file is at sqlite:///FILE, with three slashes, or with four for an absolute path"
        )
    if not path.strip("/"):
        raise ConfigurationError("sqlite:/// names no file", hint="it is sqlite:///FILE")
    if "?" in path:
        raise ConfigurationError(
            "sqlite:///FILE takes no options after a question mark", hint="amfs.yaml has them"
        )
    return path


def _database(rest: str) -> dict[str, Any]:
    """Return the connection string, and the schema, of which libpq knows nothing."""
    database, _, query = rest.partition("?")
    options: dict[str, Any] = {}
    parts = []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name == "schema":
            options["schema"] = unquote(value)
        else:
            parts.append(part)
    dsn = f"postgresql://{database}" + (f"?{'&'.join(parts)}" if parts else "")
    return {"dsn": dsn, **options}


def _bucket(rest: str, variables: Mapping[str, str]) -> dict[str, Any]:
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise ConfigurationError(
            "leave credentials out of s3://BUCKET/PREFIX", hint="AWS_* has them"
        )
    if not bucket:
        raise ConfigurationError("the store names no bucket", hint="it is s3://BUCKET/PREFIX")
    options = s3_options(variables)
    options["bucket"] = bucket
    if prefix:
        options["prefix"] = prefix if prefix.endswith("/") else prefix + "/"
    return options
