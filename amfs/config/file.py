"""Reading `amfs.yaml`: every mistake is answered with its line and what was meant.

YAML gives the lines, pydantic the types. Values are never repeated in a message: an option may be a
secret.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pydantic
import yaml

from amfs.config import adapters
from amfs_core.errors import ConfigurationError
from amfs_core.storage import StorageAdapter

_Path = tuple[str | int, ...]
_OPTIONS: _Path = ("layers", "primary", "options")
_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)
_ANY_TYPE = pydantic.ConfigDict(arbitrary_types_allowed=True)


class _Layer(pydantic.BaseModel):
    model_config = _STRICT
    adapter: str
    options: dict[str, Any] | None = None


class _Layers(pydantic.BaseModel):
    model_config = _STRICT
    primary: _Layer


class _Settings(pydantic.BaseModel):
    model_config = _STRICT
    namespace: str | None = None
    agent_id: str | None = None
    patience: typing.Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] | None = None
    cache_dir: str | None = None
    max_value_bytes: typing.Annotated[int, pydantic.Field(ge=1)] | None = None
    layers: _Layers | None = None


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says, and on which lines.

    `adapter` is None when the file names none; `settings` holds all that is beside `layers`.
    """

    path: Path
    adapter: str | None
    options: Mapping[str, Any] = field(repr=False)
    settings: Mapping[str, Any]
    lines: Mapping[_Path, int] = field(repr=False)

    @property
    def directory(self) -> str:
        """The directory that relative paths in the file start from."""
        return os.path.dirname(os.path.abspath(self.path))

    def open_adapter(self, name: str, options: Mapping[str, Any]) -> StorageAdapter:
        """Open an adapter, once the options that this file gives it are checked."""
        named_here = self.adapter == name
        try:
            adapter_class = adapters.find(name)
        except ConfigurationError as error:
            if not named_here:
                raise
            self._refuse((*_OPTIONS[:-1], "adapter"), str(error), error)
        if not named_here:
            return adapters.make(name, options)
        for option in self.options:
            if problem := adapters.unknown_option(adapter_class, option):
                self._refuse((*_OPTIONS, option), problem)
        if missing := adapters.missing_options(adapter_class, options):
            place = _OPTIONS if _OPTIONS in self.lines else _OPTIONS[:-1]
            self._refuse(place, f"adapter {name!r} needs the option {missing[0]!r}")
        converted = self._converted(adapter_class, options)
        try:
            return adapter_class(**{**options, **converted})
        except ConfigurationError as error:
            named = self._place_of(str(error))
            if named is None:
                raise
            self._refuse(named, str(error), error)

    def _place_of(self, problem: str) -> _Path | None:
        """Return where this file has the option that a constructor's error begins with, as in
        `timeout must be …` and `client_options.proxy_url names …`; None when it has it not."""
        place: _Path = (*_OPTIONS, *problem.partition(" ")[0].split("."))
        while len(place) > len(_OPTIONS):
            if place in self.lines:
                return place
            place = place[:-1]
        return None

    def _converted(
        self, adapter_class: adapters.AdapterClass, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return this file's options as the types that the constructor's annotations ask for."""
        types = _types(adapter_class)
        fields: dict[str, Any] = {
            f"option_{index}": (types.get(name, Any), pydantic.Field(alias=name))
            for index, name in enumerate(self.options)
        }
        model = pydantic.create_model("Options", __config__=_ANY_TYPE, **fields)
        try:
            checked = model.model_validate({name: options[name] for name in self.options})
        except pydantic.ValidationError as error:
            _explain(self.path, self.lines, error, _OPTIONS)
        return {name: getattr(checked, f"option_{i}") for i, name in enumerate(self.options)}

    def _refuse(self, place: _Path, problem: str, cause: Exception | None = None) -> NoReturn:
        raise _error(self.path, self.lines.get(place), problem) from cause


def read(path: Path) -> ConfigFile:
    """Read a configuration file; `ConfigurationError` names the file, the line and a hint."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    document = _Document(path, text)
    try:
        found = _Settings.model_validate(document.data)
    except pydantic.ValidationError as error:
        _explain(path, document.lines, error)
    primary = found.layers.primary if found.layers else None
    return ConfigFile(
        path=path,
        adapter=primary.adapter if primary else None,
        options=(primary.options if primary else None) or {},
        settings=found.model_dump(exclude={"layers"}),
        lines=document.lines,
    )


class _Document:
    """A YAML document as plain data, with the line of each key."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[_Path, int] = {}
        self._open: set[int] = set()
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            self._scalars = loader
            self.data = {} if node is None else self._value(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            raise _error(path, line, f"not YAML: {error.problem or error.context}") from error
        except yaml.YAMLError as error:  # a character that YAML does not allow
            position = getattr(error, "position", None)
            line = None if position is None else text.count("\n", 0, position) + 1
            problem = f"not YAML: {getattr(error, 'reason', 'it cannot be read')}"
            raise _error(path, line, problem) from error
        if not isinstance(self.data, dict):
            raise _error(path, 1, "it must be settings such as 'namespace: production'")

    def _value(self, node: yaml.Node, place: _Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if id(node) in self._open:
            raise _error(self.path, line, "this part contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return dict(self._pairs(node, place))
            if isinstance(node, yaml.SequenceNode):
                return [self._value(one, (*place, i)) for i, one in enumerate(node.value)]
            return self._scalars.construct_object(node)
        except ValueError as error:  # such as the date 2026-13-45
            raise _error(self.path, line, "this value is not valid; put it in quotes") from error
        finally:
            self._open.discard(id(node))

    def _pairs(self, node: yaml.MappingNode, place: _Path) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
                raise _error(self.path, line, "a key must be plain text")
            if key in seen:
                raise _error(self.path, line, f"{key!r} was given on line {seen[key]} already")
            seen[key] = line
            self.lines[(*place, key)] = line
            yield key, self._value(value_node, (*place, key))


def _types(adapter_class: adapters.AdapterClass) -> dict[str, Any]:
    """Return the constructor's annotations; none where they cannot be resolved or checked."""
    try:
        types = typing.get_type_hints(adapter_class.__init__, include_extras=True)
    except (NameError, TypeError):  # a name that only type checkers import
        return {}
    return {name: one for name, one in types.items() if _checkable(one)}


def _checkable(annotation: Any) -> bool:
    """True when pydantic can check values against the annotation."""
    try:
        pydantic.create_model("Option", __config__=_ANY_TYPE, value=(annotation, ...))
    except pydantic.PydanticUserError:
        return False
    return True


def _explain(
    path: Path, lines: Mapping[_Path, int], error: pydantic.ValidationError, under: _Path = ()
) -> NoReturn:
    """Raise what pydantic found first in the file's order, as a sentence.

    A misspelt key comes before the missing one that it was meant to be.
    """
    problems: list[tuple[bool, int, str]] = []
    for one in error.errors(include_input=False, include_url=False):
        place = under + one["loc"]
        while place and place not in lines:  # pydantic goes on with the names of union members
            place = place[:-1]
        name = place[-1] if place else "the file"
        if one["type"] == "extra_forbidden":
            problem = f"unknown key {name!r}{adapters.meant(str(name), _siblings(place))}"
        elif one["type"] == "missing":
            problem = f"{name!r} needs {one['loc'][-1]!r}"
        elif one["type"] == "model_type":
            problem = f"{name!r} must hold keys of its own, indented below it"
        else:
            problem = f"{name!r}: {one['msg'].replace('Input should be', 'it must be')}"
        problems.append((one["type"] == "missing", lines.get(place, 1), problem))
    _, line, problem = min(problems, key=lambda found: found[:2])
    raise _error(path, line, problem) from None  # the cause would show the values


def _siblings(place: _Path) -> list[str]:
    models: dict[_Path, type[pydantic.BaseModel]] = {
        (): _Settings,
        ("layers",): _Layers,
        ("layers", "primary"): _Layer,
    }
    model = models.get(place[:-1])
    return list(model.model_fields) if model else []


def _error(path: Path, line: int | None, problem: str) -> ConfigurationError:
    where = f"{path.name if _is_here(path) else path}"
    return ConfigurationError(f"{where} line {line}: {problem}" if line else f"{where}: {problem}")


def _is_here(path: Path) -> bool:
    try:
        return path.parent.resolve() == Path.cwd()
    except OSError:
        return False
