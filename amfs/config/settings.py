"""Configuration: arguments over variables over `amfs.yaml` over the defaults.

The file is searched for from the working directory upwards, or `AMFS_CONFIG` names it. Nothing here
sends a request. Opening an adapter imports that adapter only.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amfs.config import adapters
from amfs.config.places import API_KEY, S3_VARIABLES, http_options, read_place, s3_options
from amfs_core.arguments import expanded
from amfs_core.errors import ConfigurationError
from amfs_core.storage import DEFAULT_PATIENCE, StorageAdapter
from amfs_core.versions import DEFAULT_MAX_VALUE_BYTES

if TYPE_CHECKING:  # the module imports yaml, which is needed only if there is a file
    from amfs.config.file import ConfigFile
    from amfs_core.catalog import Index

FILE_NAME = "amfs.yaml"
DEFAULT_ROOT = ".amfs"

_VARIABLES = (
    "AMFS_STORE",
    API_KEY,
    *S3_VARIABLES.values(),
    *("AMFS_CONFIG", "AMFS_NAMESPACE", "AMFS_AGENT_ID", "AMFS_ROOT", "AMFS_CACHE_DIR"),
    *("AMFS_PATIENCE", "AMFS_MAX_VALUE_BYTES", "AMFS_INDEX"),
)
"""All variables that are read. Copying the whole environment would take most of the time in which a
handle is made."""

_REMOTE = ("s3", "postgres", "http")
_LONGEST_REQUEST = 10.0  # the default `timeout` of these adapters, in seconds
_SHORTEST_REQUEST = 1.0  # with less, a slow answer would count as none


@dataclass(frozen=True, slots=True)
class Config:
    """The resolved settings of a memory.

    `adapter` names a kind of store; `options` are its constructor's arguments. An `agent_id` of
    None means user@host. `patience` is for how many seconds a call goes on while the store does not
    answer. It also limits a single request, unless the store's options have a `timeout`, so a call
    about one memory ends after twice the patience at the latest. `cache_dir` is the directory that
    keeps the catalog of the newest versions; None keeps it in memory. `max_value_bytes` is the
    largest size of a version as JSON. `index` names the kind of index in which lists and searches
    look, and `index_options` are its constructor's arguments; with None, each process uses its own
    catalog. `place` is the value of `AMFS_STORE`; if it is set, no option comes from the file.
    """

    adapter: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets
    namespace: str = "default"
    agent_id: str | None = None
    patience: float = DEFAULT_PATIENCE
    cache_dir: str | None = None
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES
    index: str | None = None
    index_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    file: ConfigFile | None = field(default=None, repr=False, compare=False)
    place: str | None = field(default=None, repr=False)  # a DSN may hold a password

    def open_adapter(self) -> StorageAdapter:
        """Open the store. Raises `ConfigurationError` when the adapter is not installed or an
        option is unknown, missing or of the wrong type; the error names the line of the file."""
        options = self._timed(self.adapter, self.options)
        file = self.file
        if file is None or self.place is not None:
            return adapters.make(self.adapter, options)
        primary = file.open_adapter(self.adapter, options)
        if not file.layers:
            return primary
        return file.layers.opened(
            primary,
            lambda store: file.open_store(
                store, self._timed(store.adapter, _placed(store.adapter, store.options, file))
            ),
            self.patience,
        )

    def open_index(self) -> Index | None:
        """Open the index, or return None when none is configured. Raises `ConfigurationError` as
        `open_adapter` does."""
        if self.index is None:
            return None
        options = self._timed(self.index, self.index_options)
        file = self.file
        if file is not None and file.index is not None and file.index.options is self.index_options:
            return file.open_index(options)
        from amfs.config import indexes

        return indexes.make(self.index, options)

    def _timed(self, adapter: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options with timeouts that keep each request within the patience."""
        if adapter not in _REMOTE or self.patience >= _LONGEST_REQUEST:
            return options
        longest = max(self.patience, _SHORTEST_REQUEST)
        return {"timeout": longest, "connect_timeout": min(longest, 3.0), **options}

    def signing_agent(self) -> str:
        """Return the agent that signs writes; user@host when none is set."""
        return self.agent_id or _user_at_host()


def load(
    path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Return the settings from the variables and the file.

    Args:
        path: The file. Default: the one that `AMFS_CONFIG` names, or else the nearest `amfs.yaml`
            from the working directory upwards, if there is one.
        environ: The variables to use in place of the process's environment. An empty variable
            counts as unset.

    Raises:
        ConfigurationError: A setting is wrong. The error names the variable, or the file and the
            line.
    """
    environment = os.environ if environ is None else environ
    variables = {name: text for name in _VARIABLES if (text := environment.get(name))}
    file = _file(path, variables)
    adapter, options = _store(variables, file)
    if file is not None and "AMFS_STORE" not in variables:
        roots = {"root": variables["AMFS_ROOT"]} if "AMFS_ROOT" in variables else {}
        by = s3_options(variables) if adapter == "s3" else roots
        file.require_unreplaced(adapter, by)
    settings = file.settings if file else {}
    index, index_options = _index(variables, file)
    return Config(
        adapter=adapter,
        options=options,
        namespace=variables.get("AMFS_NAMESPACE") or settings.get("namespace") or "default",
        agent_id=variables.get("AMFS_AGENT_ID") or settings.get("agent_id"),
        patience=_patience(variables, settings.get("patience")),
        cache_dir=checked_path(
            _path(settings.get("cache_dir"), variables.get("AMFS_CACHE_DIR"), file), "cache_dir"
        ),
        max_value_bytes=_max_value_bytes(variables, settings.get("max_value_bytes")),
        index=index,
        index_options=index_options,
        file=file,
        place=variables.get("AMFS_STORE"),
    )


def _store(variables: Mapping[str, str], file: ConfigFile | None) -> tuple[str, dict[str, Any]]:
    """Return the name of the adapter and its options."""
    if "AMFS_STORE" in variables:
        try:
            return read_place(variables["AMFS_STORE"], variables)
        except ConfigurationError as error:
            raise ConfigurationError(f"AMFS_STORE: {error}") from error
    adapter = "s3" if "AMFS_S3_BUCKET" in variables else (file.adapter if file else None) or "local"
    options = dict(file.options) if file and (file.adapter or "local") == adapter else {}
    if adapter == "s3":
        options.update(s3_options(variables))
        if options.get("endpoint_url") == "":  # in a file, this stands for AWS
            options["endpoint_url"] = None
    elif adapter == "local":
        options["root"] = _root(options.get("root"), variables, file)
    elif adapter == "http":
        options.update(http_options(variables))
    elif adapter == "sqlite" and isinstance(options.get("path"), str) and options["path"]:
        options["path"] = _path(options["path"], None, file)
    return adapter, options


def _index(
    variables: Mapping[str, str], file: ConfigFile | None
) -> tuple[str | None, Mapping[str, Any]]:
    """Return the name of the index and its options."""
    if "AMFS_INDEX" in variables:
        from amfs.config import indexes

        return indexes.read_place(variables["AMFS_INDEX"])
    if file is None or file.index is None:
        return None, {}
    return file.index.adapter, file.index.options


def _placed(adapter: str, options: Mapping[str, Any], file: ConfigFile) -> dict[str, Any]:
    """Return the options of a store in the file, with paths relative to the file's directory."""
    placed = dict(options)
    for name in ("root", "path"):
        if adapter in ("local", "sqlite") and isinstance(placed.get(name), str) and placed[name]:
            placed[name] = file.path_of(placed[name])
    if adapter == "s3" and placed.get("endpoint_url") == "":  # in a file, this stands for AWS
        placed["endpoint_url"] = None
    return placed


def _file(path: str | os.PathLike[str] | None, variables: Mapping[str, str]) -> ConfigFile | None:
    named, by = checked_path(path, "config"), "config"
    if named is None and "AMFS_CONFIG" in variables:
        named, by = checked_path(variables["AMFS_CONFIG"], "AMFS_CONFIG"), "AMFS_CONFIG"
    if named is not None and not os.path.exists(named):
        raise ConfigurationError(f"{by} names {named!r}, but there is no such file")
    if named is not None and os.path.isdir(named):
        raise ConfigurationError(
            f"{by} names {named!r}, a directory",
            hint="name the file in it",
        )
    nearest = _found_upwards() if named is None else Path(named)
    if nearest is None:
        return None
    from amfs.config.file import read

    return read(nearest)


def _found_upwards() -> Path | None:
    try:
        directory = os.getcwd()
    except FileNotFoundError:  # the working directory was removed
        return None
    while not os.path.lexists(path := os.path.join(directory, FILE_NAME)):
        above = os.path.dirname(directory)
        if above == directory:
            return None
        directory = above
    if not os.path.isfile(path):  # ignoring it could mean ignoring settings
        raise ConfigurationError(
            f"{path!r} is not a readable file",
            hint="replace it with a file, or remove it",
        )
    return Path(path)


def _root(option: object, variables: Mapping[str, str], file: ConfigFile | None) -> object:
    """Return the local adapter's root."""
    root = DEFAULT_ROOT if option is None else option
    if not isinstance(root, str):  # opening the adapter refuses it
        return root
    return _path(root, variables.get("AMFS_ROOT"), file)


def _path(path: str | None, variable: str | None, file: ConfigFile | None) -> str | None:
    """Return the path that a variable or the file sets. In a file, paths are relative to the file,
    so that they mean the same in every directory below it."""
    if variable is not None:
        return expanded(variable, "the path")
    if file is None or path is None:
        return path
    return file.path_of(path)


def checked_path(value: object, what: str) -> str | None:
    """Return a path as text with `~` expanded, or None for None. Raises `ConfigurationError`, which
    names `what` the path is for, when it is not a valid path."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise ConfigurationError(f"{what} must be a path, not {type(value).__name__}")
    path = os.fsdecode(value)
    if not path:
        raise ConfigurationError(
            f"{what} is empty",
            hint="name a path, or leave the setting out",
        )
    if "\0" in path:
        raise ConfigurationError(f"{what} contains a NUL character, which a path cannot have")
    return expanded(path, what)


def _patience(variables: Mapping[str, str], setting: float | None) -> float:
    text = variables.get("AMFS_PATIENCE")
    if text is None:
        return DEFAULT_PATIENCE if setting is None else setting
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"AMFS_PATIENCE must be seconds, 0 or more, not {text!r:.80}")
    return seconds


def _max_value_bytes(variables: Mapping[str, str], setting: int | None) -> int:
    text = variables.get("AMFS_MAX_VALUE_BYTES")
    if text is None:
        return DEFAULT_MAX_VALUE_BYTES if setting is None else setting
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigurationError(
            f"AMFS_MAX_VALUE_BYTES must be a whole number of bytes, 1 or more, not {text!r:.80}"
        )
    return int(text)


def _user_at_host() -> str:
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, a user id may have no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{platform.node() or 'localhost'}"
