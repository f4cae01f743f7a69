"""The settings in effect, and the source of each. Values that may be secrets are not shown."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

from amfs.config import Config, shown_place
from amfs_core.catalog import Index
from amfs_core.doctor import Diagnosis, ok, warning
from amfs_core.storage import StorageAdapter

VARIABLES = {
    "AMFS_CONFIG": "the file",
    "AMFS_STORE": "the store",
    "AMFS_S3_BUCKET": "bucket",
    "AMFS_S3_PREFIX": "prefix",
    "AMFS_S3_ENDPOINT": "endpoint_url",
    "AMFS_API_KEY": "api_key",
    "AMFS_ROOT": "root",
    "AMFS_NAMESPACE": "namespace",
    "AMFS_AGENT_ID": "agent_id",
    "AMFS_PATIENCE": "patience",
    "AMFS_CACHE_DIR": "cache_dir",
    "AMFS_MAX_VALUE_BYTES": "max_value_bytes",
    "AMFS_INDEX": "index",
}
"""The variables that `amfs.config` reads, and the setting that each sets."""

_SHOWN = (
    "bucket",
    "prefix",
    "endpoint_url",
    "url",
    "region_name",
    "profile_name",
    "root",
    "path",
    "durability",
    "schema",
)
_OF_BUCKETS = ("AMFS_S3_PREFIX", "AMFS_S3_ENDPOINT")
_OF_SERVERS = ("AMFS_API_KEY",)
_IDLE = {
    "local": (*_OF_BUCKETS, *_OF_SERVERS),
    "postgres": (*_OF_BUCKETS, *_OF_SERVERS, "AMFS_ROOT"),
    "s3": ("AMFS_ROOT", *_OF_SERVERS),
    "sqlite": (*_OF_BUCKETS, *_OF_SERVERS, "AMFS_ROOT"),
    "http": (*_OF_BUCKETS, "AMFS_ROOT"),
}
_IDLE_BESIDE_A_PLACE = ("AMFS_S3_BUCKET", "AMFS_ROOT")
_PLACE = ("layers", "primary")
_NEAR = 0.8


def sources(config: Config, place: str | None) -> Diagnosis:
    """Name the file and variables that were read; warn of variables that have no effect.

    `place` is the value of the option --store.
    """
    file = "no amfs.yaml" if config.file is None else str(config.file.path)
    names = ", ".join(_set()) or "no AMFS_* variables"
    read = f"{file}; {names}"
    unknown = sorted(
        name for name in os.environ if name.startswith("AMFS_") and name not in VARIABLES
    )
    for name in unknown:
        near = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=_NEAR)
        if near:
            return warning(f"{read}; AMFS does not read {name}", f"did you mean {near[0]}?")
    if unknown:  # they may belong to a program around it
        read += f"; AMFS does not read {', '.join(unknown)}"
    unused = set(_IDLE.get(config.adapter, ()))
    if config.place is not None:
        unused.update(_IDLE_BESIDE_A_PLACE)
    idle = [] if place else [name for name in _set() if name in unused]
    if idle and config.place is not None:
        return warning(
            f"{read}; AMFS_STORE selects the store, so {', '.join(idle)} has no effect",
            f"unset either AMFS_STORE or {', '.join(idle)}",
        )
    if idle:
        return warning(
            f"{read}; the store is {config.adapter}, where {', '.join(idle)} has no effect",
            "AMFS_STORE or AMFS_S3_BUCKET selects a store; without them it is a directory",
        )
    return ok(read)


def origins(config: Config, namespace: str | None) -> str:
    """Describe the configured store, with the source of each setting."""
    if config.place is not None:
        why = "AMFS_STORE"
    elif config.adapter == "s3" and "AMFS_S3_BUCKET" in _set():
        why = "AMFS_S3_BUCKET"
    elif config.file is not None and config.file.adapter is not None:
        why = _line(config, (*_PLACE, "adapter"))
    else:
        why = "the default"
    parts = [f"{config.adapter} ({why})"]
    parts += _options(config)
    if config.file is not None and config.place is None and config.file.layers:
        parts.append(f"with {config.file.layers} ({os.path.basename(config.file.path)})")
    parts.append(_namespace(config, namespace))
    return ", ".join(parts)


def named(place: str, adapter: StorageAdapter, config: Config, namespace: str | None) -> str:
    """Describe the store that the option --store names."""
    parts = [f"{adapter.backend_type} at {shown_place(place, adapter)} (--store)"]
    if adapter.backend_type == "s3" and "AMFS_S3_ENDPOINT" in _set():
        parts.append("endpoint_url from AMFS_S3_ENDPOINT")
    if adapter.backend_type == "s3" and "AMFS_S3_PREFIX" in _set():
        parts.append("AMFS_S3_PREFIX unless --store has a prefix")
    parts.append(_namespace(config, namespace))
    return ", ".join(parts)


def index(config: Config, opened: Index) -> str:
    """Describe the index in which lists and searches look, with the source of the setting."""
    why = "AMFS_INDEX" if "AMFS_INDEX" in _set() else _line(config, ("index",))
    return f"{opened.location} ({why})"


def _set() -> list[str]:
    return [name for name in VARIABLES if os.environ.get(name)]


def _options(config: Config) -> Iterator[str]:
    from_variable = {VARIABLES[name]: name for name in _set()}
    if config.place is not None:
        from_variable |= dict.fromkeys(("root", "path", "bucket", "dsn", "url"), "AMFS_STORE")
    for option, value in config.options.items():
        if option in from_variable:
            why = from_variable[option]
        elif config.file is not None and option in config.file.options:
            why = _line(config, (*_PLACE, "options", option))
        else:
            why = "the default"
        if option not in _SHOWN:
            yield f"{option} ({why})"
        elif value is not None:
            yield f"{option} {_url(value) if option in ('endpoint_url', 'url') else value} ({why})"


def _url(value: object) -> str:
    """Return an endpoint without the secrets that some users put into it."""
    from amfs_curl import shown

    return shown(str(value))


def _namespace(config: Config, option: str | None) -> str:
    if option is not None:
        return f"namespace {option!r} (--namespace)"
    if "AMFS_NAMESPACE" in _set():
        why = "AMFS_NAMESPACE"
    elif config.file is not None and config.file.settings.get("namespace"):
        why = _line(config, ("namespace",))
    else:
        why = "the default"
    return f"namespace {config.namespace!r} ({why})"


def _line(config: Config, place: tuple[str, ...]) -> str:
    assert config.file is not None
    name = os.path.basename(config.file.path)
    line = config.file.lines.get(place)
    return f"{name} line {line}" if line else name
