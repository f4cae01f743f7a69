"""The adapters that are installed, and how to make one by its name.

An adapter is a class with a `backend_type`. Its package announces it in the entry-point group
`amfs.adapters`, so a third party's adapter is installed like any plugin:

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
"""The adapters of this distribution. They need no entry point, so they work in a checkout that is
not installed, and no plugin can replace them."""

_NEEDS = {
    "http": ("pycurl",),
    "postgres": ("psycopg",),
    "s3": ("boto3", "platformdirs", "pycurl"),
}
"""The packages that come with an adapter's extra. The adapter imports them only at its first
request, which would be late to report that one is missing."""

AdapterClass = type[StorageAdapter]


def installed() -> list[str]:
    """Return the names of all installed adapters, sorted."""
    from importlib.metadata import entry_points

    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


def find(name: str) -> AdapterClass:
    """Return the class of an adapter.

    Raises `ConfigurationError` when no adapter has that name (the message lists those that are
    installed), when its package or a dependency cannot be imported, or when its `backend_type` is
    another name.
    """
    try:
        adapter_class = _imported(name)
    except ImportError as error:
        raise ConfigurationError(_missing(name, error)) from error
    if adapter_class is None:
        names = installed()
        raise ConfigurationError(
            f"there is no adapter {name!r}{did_you_mean(name, names)} "
            f"(installed: {', '.join(names)})"
        )
    if getattr(adapter_class, "backend_type", None) != name:
        raise ConfigurationError(
            f"the class of the adapter {name!r} has the backend_type "
            f"{getattr(adapter_class, 'backend_type', None)!r}",
            hint="its package must use the same name for both",
        )
    return cast(AdapterClass, adapter_class)


def make(name: str, options: Mapping[str, Any]) -> StorageAdapter:
    """Open the adapter of that name; raises `ConfigurationError` for unknown or missing options."""
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
    """Return the problem with the name of an option, or None when the constructor accepts it."""
    known = parameters(adapter_class)
    names = [name for name, parameter in known.items() if parameter.kind in _NAMED]
    if option in names or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()
    ):
        return None
    return f"unknown key {option!r}{meant(option, names)}"


def missing_options(adapter_class: type, options: Mapping[str, Any]) -> list[str]:
    """Return the names of required options that are missing."""
    return [
        name
        for name, parameter in parameters(adapter_class).items()
        if parameter.kind in _NAMED and parameter.default is parameter.empty and name not in options
    ]


def meant(name: str, names: list[str]) -> str:
    """Return `; did you mean 'x'?`, or the list of known names when none is similar."""
    return did_you_mean(name, names) or f"; known are {', '.join(names)}"


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _imported(name: str) -> object | None:
    """Import the class of that name; return None when no package announces it."""
    if name in _OWN:
        for needed in _NEEDS.get(name, ()):
            if importlib.util.find_spec(needed) is None:
                raise ImportError(f"{needed} is not installed")
        module, _, attribute = _OWN[name].partition(":")
        adapter_class: object = getattr(importlib.import_module(module), attribute)
        return adapter_class
    from importlib.metadata import entry_points

    points = list(entry_points(group=GROUP, name=name))
    if len({point.value for point in points}) > 1:
        places = ", ".join(sorted(point.value for point in points))
        raise ConfigurationError(f"several packages provide an adapter {name!r}: {places}")
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
