"""Places: the name of a store in one word, for `--store`, `AMFS_STORE` and `open_store`."""

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

# Such as s3:/bucket. A single letter before the colon is a Windows drive.
_LIKE_A_URL = re.compile(
    r"(s3|sqlite|postgres|postgresql|https?):|[a-z][a-z0-9+.-]+:/", re.IGNORECASE
)


def open_store(
    place: str | os.PathLike[str], environ: Mapping[str, str] | None = None
) -> StorageAdapter:
    """Open a store by its place: a directory (or `file:///DIRECTORY`), `sqlite:///FILE`, `postgresql://USER@HOST/DATABASE`,
    `s3://BUCKET/PREFIX`, or the URL of an AMFS server, `http://HOST:PORT`.

    Args:
        place: After `sqlite:///` comes the path of a file; one more slash makes it absolute, as in
            `sqlite:////var/lib/memories.db`. PostgreSQL URLs have the form that libpq takes, and
            `?schema=NAME` selects a schema other than `amfs`. The default prefix in a bucket is
            `AMFS_S3_PREFIX`, or else `amfs/`; the endpoint is `AMFS_S3_ENDPOINT`, or else that of
            the `AWS_*` variables and files. `AMFS_API_KEY` is the key for a server.
        environ: The variables to use in place of the process's environment.

    Returns:
        The store, which the caller closes.

    Raises:
        ConfigurationError: The place is not a store, or its adapter is not installed.

    Cost:
        No request. Nothing is created.
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
            raise ConfigurationError("the name of the store is empty", hint=f"use {_KINDS}")
        if _LIKE_A_URL.match(text):
            raise ConfigurationError(
                f"{text.rpartition('@')[2]!r} is not a store",
                hint=f"use {_KINDS}, with ./ before a directory whose name has such a colon",
            )
        return "local", {"root": text}
    match scheme.lower():
        case "file" if rest.startswith("/"):
            return "local", {"root": rest}
        case "sqlite":
            return "sqlite", {"path": _file(rest)}
        case "postgresql" | "postgres":
            return "postgres", _database(rest)
        case "s3":
            return "s3", _bucket(rest, variables)
        case "http" | "https":
            return "http", {"url": text, **http_options(variables)}
    raise ConfigurationError(f"{scheme}:// is not a kind of store", hint=f"use {_KINDS}")


def shown_place(place: str, adapter: StorageAdapter) -> str:
    """Return a place as messages show it. Many parts of a DSN can hold a password, so a database
    is shown under its adapter's `location`."""
    return str(adapter.location) if adapter.backend_type == "postgres" else place


def s3_options(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the options for a bucket that variables set."""
    return {option: variables[name] for option, name in S3_VARIABLES.items() if variables.get(name)}


def http_options(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the options for a store behind a server that variables set."""
    return {"api_key": variables[API_KEY]} if variables.get(API_KEY) else {}


def _file(rest: str) -> str:
    host, _, path = rest.partition("/")
    if host:
        raise ConfigurationError(
            "a file needs three slashes, sqlite:///FILE, or four for an absolute path"
        )
    if not path.strip("/"):
        raise ConfigurationError("sqlite:/// does not name a file", hint="use sqlite:///FILE")
    if "?" in path:
        raise ConfigurationError(
            "sqlite:///FILE takes no options after a question mark", hint="set them in amfs.yaml"
        )
    return path


def _database(rest: str) -> dict[str, Any]:
    """Return the connection string and the schema, which libpq does not know."""
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
            "s3://BUCKET/PREFIX must not contain credentials", hint="set the AWS_* variables"
        )
    if not bucket:
        raise ConfigurationError("the store does not name a bucket", hint="use s3://BUCKET/PREFIX")
    options = s3_options(variables)
    options["bucket"] = bucket
    if prefix:
        options["prefix"] = prefix if prefix.endswith("/") else prefix + "/"
    return options
