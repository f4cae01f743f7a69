"""Which adapters are installed, and making one by its name.

An adapter is a class with a `backend_type`, announced by its package under the entry-point group
`amfs.adapters`, so that a third party's is installed like any plugin:

    [project.entry-points."amfs.adapters"]
    tape = "amfs_tape:TapeAdapter"
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any, cast

from amfs_core.errors import ConfigurationError
from amfs_core.spelling import did_you_mean
from amfs_core.storage import StorageAdapter

GROUP = "amfs.adapters"

_OWN = {
    "local": "amfs_local:LocalAdapter",
    "postgres": "amfs_postgres:PostgresAdapter",
    "s3": "amfs_s3:S3Adapter",
    "sqlite": "amfs_sqlite:SqliteAdapter",
    "http": "amfs_http:HttpAdapter",
}
"""This distribution's own. They need no entry point, so a checkout works without installing it,
and no plugin can stand in for them."""

_NEEDS = {
    "http": ("pycurl",),
    "postgres": ("psycopg",),
    "s3": ("boto3", "platformdirs", "pycurl"),
}
"""What an extra brings. The adapter imports it at its first request only, which is late to hear
that it is missing."""

AdapterClass = type[StorageAdapter]


def installed() -> list[str]:
    """Return the names of all adapters that are installed."""
    from importlib.metadata import entry_points

    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


def find(name: str) -> AdapterClass:
    """Return the class of an adapter.

    Raises `ConfigurationError` when there is none of that name (it lists those there are), when
    its package or what that needs cannot be imported, or when it calls itself something else.
    """
    try:
        found = _imported(name)
    except ImportError as error:
        raise ConfigurationError(_missing(name, error)) from error
    if found is None:
        names = installed()
        raise ConfigurationError(
            f"there is no adapter {name!r}{did_you_mean(name, names)} "
            f"(installed: {', '.join(names)})"
        )
    if getattr(found, "backend_type", None) != name:
        raise ConfigurationError(
            f"the adapter {name!r} is a class whose backend_type is "
            f"{getattr(found, 'backend_type', None)!r}",
            hint="its package must make them the same",
        )
    return cast(AdapterClass, found)


def make(name: str, options: Mapping[str, Any]) -> StorageAdapter:
    """Open the adapter of that name. `ConfigurationError` when an option is unknown or missing."""
    adapter_class = find(name)
    for option in options:
        if problem := unknown_option(adapter_class, option):
            raise ConfigurationError(f"adapter {name!r}: {problem}")
    if missing := missing_options(adapter_class, options):
        raise ConfigurationError(f"adapter {name!r} needs the option {missing[0]!r}")
    return adapter_class(**options)


def parameters(adapter_class: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters by name."""
    return dict(inspect.signature(adapter_class).parameters)


def unknown_option(adapter_class: type, option: str) -> str | None:
    """Say what is wrong with the name of an option; None when the constructor takes it."""
    known = parameters(adapter_class)
    names = [name for name, one in known.items() if one.kind in _NAMED]
    if option in names or any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return None
    return f"unknown key {option!r}{meant(option, names)}"


def missing_options(adapter_class: type, options: Mapping[str, Any]) -> list[str]:
    """Return the names of the options that have no default and are not given."""
    return [
        name
        for name, one in parameters(adapter_class).items()
        if one.kind in _NAMED and one.default is one.empty and name not in options
    ]


def meant(given: str, names: list[str]) -> str:
    """Return `; did you mean 'x'?`, or what there is when nothing is near."""
    return did_you_mean(given, names) or f"; known are {', '.join(names)}"


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _imported(name: str) -> object | None:
    """Import the class of that name; None when nobody announces one."""
    if name in _OWN:
        for needed in _NEEDS.get(name, ()):
            if importlib.util.find_spec(needed) is None:
                raise ImportError(f"{needed} is not installed")
        module, _, attribute = _OWN[name].partition(":")
        found: object = getattr(importlib.import_module(module), attribute)
        return found
    from importlib.metadata import entry_points

    points = list(entry_points(group=GROUP, name=name))
    if len({point.value for point in points}) > 1:
        places = ", ".join(sorted(point.value for point in points))
        raise ConfigurationError(f"several packages bring an adapter {name!r}: {places}")
    if not points:
        return None
    try:
        loaded: object = points[0].load()
    except AttributeError as error:
        raise ImportError(str(error)) from error
    return loaded


def _missing(name: str, error: ImportError) -> str:
    if name in _NEEDS:
        return f"the {name} adapter needs its extra: pip install 'amfs[{name}]' ({error})"
    return f"the adapter {name!r} cannot be imported: {error}"
