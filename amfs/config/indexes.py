"""The index that the configuration names: lists and searches of all agents look there."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amfs.config import adapters, places
from amfs_core.errors import ConfigurationError
from amfs_core.spelling import did_you_mean

if TYPE_CHECKING:
    from amfs_core.catalog import Index

_KINDS = {"postgres": "amfs_postgres.index:PostgresIndex"}


def find(name: str) -> type[Index]:
    """Return the class of an index. Raises `ConfigurationError` when no index has that name or its
    extra is not installed."""
    if name not in _KINDS:
        raise ConfigurationError(
            f"there is no index {name!r}{did_you_mean(name, list(_KINDS))} "
            f"(known: {', '.join(_KINDS)})"
        )
    adapters.find(name)  # its error says which package is missing
    module, _, attribute = _KINDS[name].partition(":")
    kind: type[Index] = getattr(importlib.import_module(module), attribute)
    return kind


def make(name: str, options: Mapping[str, Any]) -> Index:
    """Open the index of that name; raises `ConfigurationError`. No request."""
    kind = find(name)
    for option in options:
        if problem := adapters.unknown_option(kind, option):
            raise ConfigurationError(f"index {name!r}: {problem}")
    if missing := adapters.missing_options(kind, options):
        raise ConfigurationError(f"index {name!r} needs the option {missing[0]!r}")
    return kind(**options)


def read_place(place: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of the index at a place, in the form of `AMFS_INDEX`: a
    database, `postgresql://USER@HOST/DATABASE`, with `?schema=NAME` for a schema other than
    `amfs_index`."""
    scheme, is_url, _ = place.partition("://")
    if not is_url or scheme.lower() not in ("postgresql", "postgres"):
        raise ConfigurationError(
            "AMFS_INDEX does not name an index", hint="use postgresql://USER@HOST/DATABASE"
        )
    return places.read_place(place, {})
