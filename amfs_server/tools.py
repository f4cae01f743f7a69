"""The MCP server: memories as tools and resources for models.

Results are sized for a model: excerpts and counts first, whole values when they are asked for.
Errors say what to do next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, ResourceSecurity
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.subscriptions import SubscriptionBus
from mcp_types import ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from amfs import documents
from amfs.cli.excerpt import Matches
from amfs_core.errors import AMFSError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory
from amfs_server.keys import NOBODY, Key
from amfs_server.names import name_before, position_behind
from amfs_server.problems import Refusal
from amfs_server.subscriptions import SCHEME, WatchBus

T = TypeVar("T")

_MOST_CHARACTERS = 20_000
_MOST_LISTED = 200

_INSTRUCTIONS = """\
A memory shared with other agents, which keeps every version. Before a task, `recall` what is
known about it; `read` what looks useful. When you learn something that others can use, `remember`
it under a path that says what it is about (such as checkout-service) and a key that says what
(such as retry-pattern). When it is clear whether what you used helped, `record_outcome`: it moves
the confidence that others see.
"""


class Name(TypedDict):
    """The name of a memory, and its version."""

    entity_path: str
    key: str
    version: int


class Hit(Name):
    """A memory that was found."""

    score: float
    confidence: float
    excerpt: str


class Hits(TypedDict):
    """What was found, best first."""

    hits: list[Hit]
    hint: str


class Content(TypedDict):
    """A version; a long value comes in parts."""

    entry: dict[str, Any]
    text: str
    next_offset: int | None


class Listed(TypedDict):
    """Memories, sorted by name."""

    memories: list[Hit]
    next: str | None


class Versions(TypedDict):
    """Versions, newest first."""

    versions: list[dict[str, Any]]
    total: int


class Forgotten(TypedDict):
    """A memory that was deleted, and by which version; or how many versions were erased."""

    entity_path: str
    key: str
    version: int | None
    erased: int


class Recorded(TypedDict):
    """An outcome, and the memories that it moved."""

    outcome_ref: str
    memories: list[Name]


class Used(TypedDict):
    """A memory that was used."""

    entity_path: str
    key: str


Opened = AbstractContextManager[AgentMemory]
Path = Annotated[str, Field(description="What it is about: segments joined by /.", min_length=1)]
MemoryKey = Annotated[str, Field(description="Which memory of that path.", min_length=1)]
Under = Annotated[
    str | None, Field(description="Only memories under this entity path; none: all of them.")
]


class Tools:
    """The tools. `open_memory` gives the memory and the key of whoever calls."""

    def __init__(self, open_memory: Callable[[Context[Any, Any]], tuple[Opened, Key]]) -> None:
        self._open = open_memory

    async def remember(
        self,
        context: Context[Any, Any],
        *,
        entity_path: Path,
        key: MemoryKey,
        value: Annotated[Any, Field(description="Any JSON: text, a number, a list, an object.")],
        confidence: Annotated[float, Field(description="How sure you are.", ge=0, le=1)] = 1.0,
        tags: Annotated[list[str], Field(description="Words to filter by.")] = [],  # noqa: B006
        memory_type: Literal["fact", "belief", "experience", "procedure"] = "fact",
        expected_version: Annotated[
            int | None,
            Field(description="Write only if this is the newest version; 0: if there is none."),
        ] = None,
    ) -> Name:
        """Write a memory that other agents can find. A new version is added; older ones stay."""

        def write(memory: AgentMemory, caller: Key) -> MemoryEntry:
            caller.require_role("writer")
            caller.require_path(entity_path)
            return memory.write(
                entity_path,
                key,
                value,
                confidence=confidence,
                tags=tags,
                memory_type=memory_type,
                expected_version=expected_version,
            )

        return _name(await self._call(context, write))

    async def recall(
        self,
        context: Context[Any, Any],
        query: Annotated[str, Field(description="Words; leave it empty for the newest memories.")],
        entity_path: Under = None,
        tags: Annotated[list[str], Field(description="Memories with all of them.")] = [],  # noqa: B006
        limit: Annotated[int, Field(ge=1, le=50)] = 5,
    ) -> Hits:
        """Search all memories for words. Gives excerpts; `read` gives the whole."""

        def search(memory: AgentMemory, caller: Key) -> list[Hit]:
            scope = caller.scope(entity_path)
            hits = memory.search(query, entity_path=scope, tags=tags or None, limit=limit)
            matches = Matches(query)
            return [_hit(hit.entry, hit.score, matches) for hit in hits]

        found = await self._call(context, search)
        if not found:
            hint = "Nothing is known. Try other words, or list_memories."
        elif len(found) == limit:
            hint = "There may be more: ask with a larger limit or more precise words."
        else:
            hint = "That is all."
        return Hits(hits=found, hint=hint)

    async def read(
        self,
        context: Context[Any, Any],
        entity_path: Path,
        key: MemoryKey,
        version: Annotated[int | None, Field(description="None: the newest.", ge=1)] = None,
        offset: Annotated[int, Field(description="Where in a long value to begin.", ge=0)] = 0,
    ) -> Content:
        """Read one memory: its value, how sure its writer was, who wrote it and when."""

        def look(memory: AgentMemory, caller: Key) -> MemoryEntry:
            caller.require_path(entity_path)
            entry = memory.read(entity_path, key, version=version)
            if entry is None:
                raise ToolError(
                    f"There is no {entity_path}/{key}. Use recall or list_memories to find a name."
                )
            return entry

        entry = await self._call(context, look)
        text = entry.value if isinstance(entry.value, str) else _compact(entry.value)
        end = offset + _MOST_CHARACTERS
        document = {name: one for name, one in documents.entry(entry).items() if name != "value"}
        return Content(
            entry=document, text=text[offset:end], next_offset=end if end < len(text) else None
        )

    async def list_memories(
        self,
        context: Context[Any, Any],
        entity_path: Under = None,
        limit: Annotated[int, Field(ge=1, le=_MOST_LISTED)] = 50,
        after: Annotated[str | None, Field(description="The `next` of the answer before.")] = None,
    ) -> Listed:
        """List memories by name, with the beginning of each value."""

        def look(memory: AgentMemory, caller: Key) -> list[MemoryEntry]:
            return memory.list(caller.scope(entity_path))

        entries = await self._call(context, look)
        if after is not None:
            position = name_before(after)
            entries = [one for one in entries if (one.entity_path, one.key) > position]
        shown = [_hit(entry, 0.0, Matches("")) for entry in entries[:limit]]
        following = None
        if len(entries) > limit:
            final = entries[limit - 1]
            following = position_behind(final.entity_path, final.key)
        return Listed(memories=shown, next=following)

    async def history(
        self,
        context: Context[Any, Any],
        entity_path: Path,
        key: MemoryKey,
        limit: Annotated[int, Field(ge=1, le=100)] = 10,
    ) -> Versions:
        """Show the versions of a memory, newest first: what was believed before, and by whom."""

        def look(memory: AgentMemory, caller: Key) -> list[MemoryEntry]:
            caller.require_path(entity_path)
            return memory.history(entity_path, key)

        entries = await self._call(context, look)
        shown = [
            {
                "version": entry.version,
                "written_at": entry.provenance.written_at.isoformat(),
                "agent_id": entry.provenance.agent_id,
                "confidence": entry.confidence,
                "deleted": entry.deleted,
                "excerpt": Matches("").excerpt(entry.value),
            }
            for entry in reversed(entries[-limit:])
        ]
        return Versions(versions=shown, total=len(entries))

    async def forget(
        self,
        context: Context[Any, Any],
        entity_path: Path,
        key: MemoryKey,
        erase: Annotated[
            bool, Field(description="Erase the contents of all versions, for good.")
        ] = False,
    ) -> Forgotten:
        """Delete a memory. Its history stays unless it is erased."""

        def remove(memory: AgentMemory, caller: Key) -> Forgotten:
            caller.require_role("eraser" if erase else "writer")
            caller.require_path(entity_path)
            if erase:
                erased = memory.purge(entity_path, key)
                return Forgotten(entity_path=entity_path, key=key, version=None, erased=erased)
            tombstone = memory.delete(entity_path, key)
            if tombstone is None:
                raise ToolError(f"There is no {entity_path}/{key}; nothing was deleted.")
            return Forgotten(entity_path=entity_path, key=key, version=tombstone.version, erased=0)

        return await self._call(context, remove)

    async def record_outcome(
        self,
        context: Context[Any, Any],
        outcome_ref: Annotated[str, Field(description="A name for what happened, used once.")],
        outcome_type: Literal["success", "minor_failure", "failure", "critical_failure"],
        memories: Annotated[list[Used], Field(description="The memories that were used.")],
    ) -> Recorded:
        """Say what came of using memories: the confidence of each moves, once."""

        def commit(memory: AgentMemory, caller: Key) -> Recorded:
            caller.require_role("writer")
            for used in memories:
                caller.require_path(used["entity_path"])
            outcome = memory.commit_outcome(
                outcome_ref,
                outcome_type,
                entries=[(used["entity_path"], used["key"]) for used in memories],
            )
            moved = [
                Name(entity_path=path, key=key, version=one) for path, key, one in outcome.causes
            ]
            return Recorded(outcome_ref=outcome.ref, memories=moved)

        return await self._call(context, commit)

    async def resource(self, context: Context[Any, Any], name: str) -> str:
        """Return a memory as the JSON in which it is stored."""
        entity_path, key = name_before(name)

        def look(memory: AgentMemory, caller: Key) -> MemoryEntry | None:
            caller.require_path(entity_path)
            return memory.read(entity_path, key)

        try:
            entry = await self._call(context, look)
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from error
        if entry is None:
            raise ResourceNotFoundError(f"there is no memory {name!r}")
        return _compact(documents.entry(entry))

    async def _call(self, context: Context[Any, Any], work: Callable[[AgentMemory, Key], T]) -> T:
        def call() -> T:
            opened, caller = self._open(context)
            with opened as memory:
                return work(memory, caller)

        try:
            return await asyncio.to_thread(call)
        except Refusal as refusal:
            raise ToolError(f"{refusal.detail}. {refusal.hint or ''}".strip()) from refusal
        except AMFSError as error:
            raise ToolError(_advice(error)) from error


def make_server(
    open_memory: Callable[[Context[Any, Any]], tuple[Opened, Key]],
    bus: SubscriptionBus,
) -> MCPServer[Any]:
    """Return the MCP server. `bus` tells of changed resources."""
    from amfs import __version__

    server: MCPServer[Any] = MCPServer(
        "amfs",
        title="AMFS",
        description="Shared, versioned memory for agents.",
        instructions=_INSTRUCTIONS,
        version=__version__,
        subscriptions=bus,
        log_level="WARNING",
    )
    tools = Tools(open_memory)
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    adds = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
    removes = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)
    for tool, title, hints in (
        (tools.remember, "Remember", adds),
        (tools.recall, "Recall", reads),
        (tools.read, "Read a memory", reads),
        (tools.list_memories, "List memories", reads),
        (tools.history, "History of a memory", reads),
        (tools.forget, "Forget", removes),
        (tools.record_outcome, "Record an outcome", adds),
    ):
        server.tool(title=title, annotations=hints)(tool)
    server.resource(
        SCHEME + "{+name}",
        name="memory",
        title="A memory",
        description="The newest version: ENTITY/PATH/KEY, a slash in the key as %2F.",
        mime_type="application/json",
        security=ResourceSecurity(exempt_params={"name"}),  # no path of a file system
    )(tools.resource)
    return server


def of_memory(memory: AgentMemory) -> MCPServer[Any]:
    """Return the MCP server of one memory, for whoever started it."""

    def opened(_: Context[Any, Any]) -> tuple[Opened, Key]:
        return _Open(memory), NOBODY

    return make_server(opened, WatchBus(memory.watch))


class _Open(AbstractContextManager[AgentMemory]):
    """A memory that stays open."""

    def __init__(self, memory: AgentMemory) -> None:
        self._memory = memory

    def __enter__(self) -> AgentMemory:
        return self._memory

    def __exit__(self, *_: object) -> None:
        return None


def _name(entry: MemoryEntry) -> Name:
    return Name(entity_path=entry.entity_path, key=entry.key, version=entry.version)


def _hit(entry: MemoryEntry, score: float, matches: Matches) -> Hit:
    return Hit(
        entity_path=entry.entity_path,
        key=entry.key,
        version=entry.version,
        score=round(score, 4),
        confidence=round(entry.confidence, 4),
        excerpt=matches.excerpt(entry.value),
    )


def _advice(error: AMFSError) -> str:
    """Return an error in words that say what to do next."""
    text = f"{error.problem}. {error.hint or ''}".strip()
    if error.code == "version_conflict":
        return f"{text}. Read the memory again, then remember with its version as expected_version."
    if error.written == "unknown":
        return f"{text}. It may have been written: use history to find out before you try again."
    return text


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
