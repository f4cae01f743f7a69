"""`State`: one object of a type of yours, kept as a memory that any process may change.

    state = State(memory, "agents/planner", "plan", Plan)
    state.update(lambda plan: replace(plan, step=plan.step + 1))

The type defines which objects are valid, for reads and for writes. Fields that a newer program has
added stay when an older one, whose type does not have them, changes the rest (docs/state.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from amfs_core import arguments
from amfs_core.errors import InvalidValueError
from amfs_core.format import MemoryEntry, values
from amfs_core.memory import AgentMemory, AsyncAgentMemory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """A state as it was in one version.

    `version` is 0 before the first one. `entry` is the memory, with its confidence and provenance;
    None where `value` is the initial state, because nothing was written or the memory was deleted.
    """

    value: T
    version: int
    entry: MemoryEntry | None


class State(Generic[T]):
    """A state of the type `value_type`, which is the memory `key` at `entity_path`.

    The type is a dataclass, a `msgspec.Struct`, a `TypedDict`, a pydantic model, or whatever else
    msgspec converts to and from JSON. `initial` makes the state before the first write; without it,
    the type is called without arguments. `migrate` is called with the stored JSON, before it is
    converted to the type, and returns it in today's form.

    The memory stays open. Safe to share between threads.
    """

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        entity_path: str,
        key: str,
        value_type: type[T],
        *,
        initial: Callable[[], T] | None = None,
        migrate: Callable[[Any], Any] | None = None,
    ) -> None:
        for function, what in ((initial, "initial"), (migrate, "migrate")):
            if function is not None:
                arguments.function(function, what)
        self._memory = memory.memory if isinstance(memory, AsyncAgentMemory) else memory
        self.entity_path = entity_path
        self.key = key
        self._initial = initial
        self._migrate = migrate
        self._form: _Form[T] = _form(value_type)

    def get(self, *, at: datetime | None = None) -> T:
        """Return the state, or the initial one; with `at`, an aware time, as it was then.

        The cost of `AgentMemory.read`. Raises `InvalidValueError` when the stored value is not of
        the type.
        """
        return self._snapshot(self._memory.read(self.entity_path, self.key, at=at)).value

    def read(self, *, at: datetime | None = None) -> Snapshot[T]:
        """Return the state with its version, for `set`; with `at`, an aware time, as it was then.

        The cost of `AgentMemory.read`, and of its history where there is none. Raises what `get`
        raises.
        """
        entry = self._memory.read(self.entity_path, self.key, at=at)
        if entry is None and at is None:
            # The number of the tombstone, so that `set` can follow it.
            history = self._memory.history(self.entity_path, self.key)
            if history and not history[-1].is_live():
                return Snapshot(self._begin(), history[-1].version, None)
            entry = history[-1] if history else None
        return self._snapshot(entry)

    def set(self, value: T, *, expected: Snapshot[T] | None = None) -> Snapshot[T]:
        """Replace the state, and return the new one.

        With `expected`, a result of `read`, it is replaced only if it has not changed since;
        otherwise `VersionConflictError` is raised and nothing is written. Fields of `expected` that
        the type does not have are kept; without `expected`, everything is replaced.

        The cost of `AgentMemory.write`. Raises `InvalidValueError` when the value is not of the
        type.
        """
        new = self._encoded(value)
        if expected is None:
            return self._snapshot(self._memory.write(self.entity_path, self.key, new))
        if expected.entry is not None:
            stored = self._migrated(expected.entry.value)
            known = self._form.encoded(self._decoded(stored, expected.entry.version))
            new = _merged(new, stored, known)
        return self._snapshot(
            self._memory.write(self.entity_path, self.key, new, expected_version=expected.version)
        )

    def update(self, change: Callable[[T], T]) -> Snapshot[T]:
        """Read, change and write as one step, and return the new state.

        `change` gets the state, or the initial one, which it may alter, and returns the new one. It
        is called again whenever another writer came first, so it should have no other effects.
        Stored fields that the type does not have are kept, as are tags, confidence and expiry.

        The cost of `AgentMemory.update`. Raises what `get`, `set` and `change` raise.
        """
        arguments.function(change, "change")

        def changed(stored: Any) -> Any:
            if stored is None:
                return self._encoded(change(self._begin()))
            stored = self._migrated(stored)
            value = self._decoded(stored)
            known = self._form.encoded(value)  # before `change` can alter it
            return _merged(self._encoded(change(value)), stored, known)

        return self._snapshot(self._memory.update(self.entity_path, self.key, changed))

    def history(self) -> list[Snapshot[T]]:
        """Return all versions of the state, oldest first, except those that were deleted or
        erased. The cost of `AgentMemory.history`. Raises what `get` raises, naming the version."""
        history = self._memory.history(self.entity_path, self.key)
        return [self._snapshot(entry) for entry in history if entry.has_content]

    def _snapshot(self, entry: MemoryEntry | None) -> Snapshot[T]:
        if entry is None:
            return Snapshot(self._begin(), 0, None)
        value = self._decoded(self._migrated(entry.value), entry.version)
        return Snapshot(value, entry.version, entry)

    def _begin(self) -> T:
        if self._initial is not None:
            return self._initial()
        try:
            return self._form.value_type()
        except (TypeError, ValueError) as error:  # pydantic raises its own ValueError
            raise InvalidValueError(
                f"{self._name} has no state yet, and {self._form.name} needs arguments",
                hint="give State an initial=, or the type default values",
                entity_path=self.entity_path,
                key=self.key,
            ) from error

    def _migrated(self, stored: Any) -> Any:
        return stored if self._migrate is None else self._migrate(values.copied(stored))

    def _decoded(self, stored: Any, version: int | None = None) -> T:
        try:
            return self._form.decoded(values.copied(stored))  # whose parts the value may have
        except ValueError as error:
            which = self._name if version is None else f"version {version} of {self._name}"
            raise InvalidValueError(
                f"{which} is not a {self._form.name}: {error}",
                hint="give new fields a default value, and State a migrate= for other changes",
                entity_path=self.entity_path,
                key=self.key,
            ) from error

    def _encoded(self, value: T) -> Any:
        try:
            new = self._form.encoded(value)
            self._form.decoded(values.copied(new))
        except (TypeError, ValueError) as error:
            raise InvalidValueError(
                f"the new state of {self._name} is not a {self._form.name}: {error}",
                entity_path=self.entity_path,
                key=self.key,
            ) from error
        return new

    @property
    def _name(self) -> str:
        return f"{self.entity_path}/{self.key}"


class _Form(Generic[T]):
    """A type as JSON and back, by msgspec."""

    def __init__(self, value_type: type[T]) -> None:
        self.value_type = value_type
        self.name = getattr(value_type, "__name__", str(value_type))

    def encoded(self, value: T) -> Any:
        """Return the value as JSON; `TypeError` if JSON has no form for it."""
        return _listed(msgspec.to_builtins(value, str_keys=True))

    def decoded(self, stored: Any) -> T:
        """Return the stored JSON as the type; `ValueError` if it is not valid."""
        return msgspec.convert(stored, self.value_type, str_keys=True)


class _ModelForm(_Form[T]):
    """A pydantic model as JSON and back, by itself."""

    def encoded(self, value: T) -> Any:
        if not isinstance(value, self.value_type):
            raise TypeError(f"it is a {type(value).__name__}")
        return value.model_dump(mode="json", by_alias=True)  # type: ignore[attr-defined]

    def decoded(self, stored: Any) -> T:
        text = msgspec.json.encode(stored)
        return self.value_type.model_validate_json(text)  # type: ignore[attr-defined, no-any-return]


def _form(value_type: type[T]) -> _Form[T]:
    pydantic = sys.modules.get("pydantic")  # there, where a type is one of its models
    is_class = isinstance(value_type, type)
    if pydantic is not None and is_class and issubclass(value_type, pydantic.BaseModel):
        return _ModelForm(value_type)
    try:
        is_known = not isinstance(msgspec.inspect.type_info(value_type), msgspec.inspect.CustomType)
    except (TypeError, NameError) as error:
        raise InvalidValueError(
            f"msgspec does not know the type {value_type!r}: {error}"
        ) from error
    if not is_known:
        raise InvalidValueError(
            f"{value_type!r} cannot be kept as JSON",
            hint="make it a dataclass, a msgspec.Struct, a TypedDict or a pydantic model",
        )
    return _Form(value_type)


def _merged(new: Any, stored: Any, known: Any) -> Any:
    """Return the new JSON of a state, with the fields that only the stored one has.

    `known` is the part of the stored JSON that the type has. A field that is the same in `new`
    stays as it is stored, with all its content.
    """
    if not (type(new) is type(stored) is type(known) is dict):
        return new
    merged = {
        name: stored[name]
        if name in stored and name in known and _is_same(known[name], value)
        else value
        for name, value in new.items()
    }
    more = (name for name in stored if name not in known and name not in new)
    return {**merged, **{name: stored[name] for name in more}}


def _is_same(value: Any, other: Any) -> bool:
    # As JSON, in which 1, 1.0 and true are three values.
    return msgspec.json.encode(value) == msgspec.json.encode(other)


def _listed(node: Any) -> Any:
    """Return JSON with lists in place of tuples."""
    if isinstance(node, dict):
        return {name: _listed(child) for name, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [_listed(child) for child in node]
    return node
