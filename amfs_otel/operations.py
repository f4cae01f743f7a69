"""Operations of memories as spans."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import Span, SpanKind

from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_otel.recorder import Recorder

_NAMED = ("entity_path", "key", "outcome_ref")
_METHODS = (
    *("write", "write_many", "update", "delete", "purge", "find_write"),
    *("read", "read_many", "history", "list", "list_entity_paths", "list_namespaces"),
    *("search", "semantic_search", "diff", "stats", "verify", "health", "tend"),
    *("commit_outcome", "read_outcome", "list_outcomes"),
)

Method = Callable[..., Any]

_originals: dict[tuple[type, str], Method] = {}


def patch(recorder: Recorder) -> None:
    """Start recording each operation of every memory."""
    for name in _METHODS:
        _replace(AgentMemory, name, lambda method: _recorded(recorder, method))
    from amfs_core.memory.async_memory import AsyncAgentMemory

    # The others run those of `AgentMemory` in a thread; this one may run in steps.
    _replace(AsyncAgentMemory, "update", lambda method: _recorded_update(recorder, method))


def unpatch() -> None:
    """Restore the original operations."""
    while _originals:
        (kind, name), method = _originals.popitem()
        delattr(kind, name)
        if getattr(kind, name, None) is not method:  # the class defined it itself
            setattr(kind, name, method)


def _replace(kind: type, name: str, made: Callable[[Method], Method]) -> None:
    method: Method = getattr(kind, name)
    _originals[kind, name] = method
    setattr(kind, name, made(method))


def _recorded(recorder: Recorder, method: Method) -> Method:
    name = f"amfs.{method.__name__}"
    labels = {"amfs.operation": method.__name__}
    named = _names(method)

    @functools.wraps(method)
    def call(self: AgentMemory, /, *args: Any, **kwargs: Any) -> Any:
        attributes = _attributes(self, named, args, kwargs)
        with recorder.span(name, SpanKind.INTERNAL, attributes, labels) as span:
            result = method(self, *args, **kwargs)
            _note(span, result)
        return result

    return call


def _recorded_update(recorder: Recorder, method: Method) -> Method:
    named = _names(method)
    labels = {"amfs.operation": "update"}

    @functools.wraps(method)
    async def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        function = kwargs.get("fn", args[2] if len(args) > 2 else None)
        if not inspect.iscoroutinefunction(function):  # then it is recorded in its thread
            return await method(self, *args, **kwargs)
        attributes = _attributes(self.memory, named, args, kwargs)
        with recorder.span("amfs.update", SpanKind.INTERNAL, attributes, labels) as span:
            result = await method(self, *args, **kwargs)
            _note(span, result)
        return result

    return call


def _names(method: Method) -> dict[str, int]:
    """Return which arguments are names, and where each stands."""
    parameters = list(inspect.signature(method).parameters)[1:]
    return {name: parameters.index(name) for name in _NAMED if name in parameters}


def _attributes(
    memory: AgentMemory, named: dict[str, int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, str]:
    attributes = {"amfs.namespace": memory.namespace, "amfs.agent_id": memory.agent_id}
    for name, place in named.items():
        argument = kwargs.get(name, args[place] if place < len(args) else None)
        if isinstance(argument, str):
            attributes[f"amfs.{name}"] = argument
    return attributes


def _note(span: Span, result: object) -> None:
    """Note the outcome, never a value."""
    if isinstance(result, MemoryEntry):
        span.set_attribute("amfs.version", result.version)
    elif isinstance(result, list):
        span.set_attribute("amfs.results", len(result))
