"""The MCP server: memories as tools and resources for models.

Results are sized for a model: excerpts and counts first, whole values on request. Errors say what
to do next.
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
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

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
A memory shared with other agents, which keeps every version. Before a task, use `recall` to find
what is known about it, and `read` the memories that look useful. When you learn something that
others can use, `remember` it under a path for its subject (such as checkout-service) and a key that
names it (such as retry-pattern). Once you know whether the memories you used helped, call
`record_outcome`: it adjusts the confidence that others see.
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
    """A version; a long value is returned in parts."""

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
    """A deleted memory with the version that deleted it, or the number of erased versions."""

    entity_path: str
    key: str
    version: int | None
    erased: int


class Recorded(TypedDict):
    """An outcome, and the memories whose confidence it adjusted."""

    outcome_ref: str
    memories: list[Name]


class Used(TypedDict):
    """A memory that was used."""

    entity_path: str
    key: str


Opened = AbstractContextManager[AgentMemory]
Path = Annotated[
    str, Field(description="What the memory is about: segments joined by /.", min_length=1)
]
MemoryKey = Annotated[str, Field(description="The name of the memory in that path.", min_length=1)]
Under = Annotated[
    str | None, Field(description="Only memories under this entity path; without it, all memories.")
]


class Tools:
    """The tools. `open_memory` returns the memory and the key of the caller."""

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
            Field(description="Write only if this is the newest version; 0: if none exists."),
        ] = None,
    ) -> Name:
        """Write a memory that other agents can find. It becomes a new version; older ones stay."""

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
        query: Annotated[
            str, Field(description="Words to search for; leave it empty for the newest memories.")
        ],
        entity_path: Under = None,
        tags: Annotated[
            list[str], Field(description="Only memories that have all of these tags.")
        ] = [],  # noqa: B006
        limit: Annotated[int, Field(ge=1, le=50)] = 5,
    ) -> Hits:
        """Search all memories for words. Returns excerpts; `read` returns whole values."""

        def search(memory: AgentMemory, caller: Key) -> list[Hit]:
            scope = caller.scope(entity_path)
            hits = memory.search(query, entity_path=scope, tags=tags or None, limit=limit)
            matches = Matches(query)
            return [_hit(hit.entry, hit.score, matches) for hit in hits]

        hits = await self._call(context, search)
        if not hits:
            hint = "Nothing found. Try other words, or list_memories."
        elif len(hits) == limit:
            hint = "There may be more: use a larger limit or more precise words."
        else:
            hint = "That is all."
        return Hits(hits=hits, hint=hint)

    async def read(
        self,
        context: Context[Any, Any],
        entity_path: Path,
        key: MemoryKey,
        version: Annotated[
            int | None, Field(description="The version; without it, the newest.", ge=1)
        ] = None,
        offset: Annotated[int, Field(description="Where to start in a long value.", ge=0)] = 0,
    ) -> Content:
        """Read one memory: its value, its confidence, who wrote it and when."""

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
        document = {
            name: field for name, field in documents.entry(entry).items() if name != "value"
        }
        return Content(
            entry=document, text=text[offset:end], next_offset=end if end < len(text) else None
        )

    async def list_memories(
        self,
        context: Context[Any, Any],
        entity_path: Under = None,
        limit: Annotated[int, Field(ge=1, le=_MOST_LISTED)] = 50,
        after: Annotated[
            str | None, Field(description="The `next` of the previous answer.")
        ] = None,
    ) -> Listed:
        """List memories sorted by name, with the beginning of each value."""

        def look(memory: AgentMemory, caller: Key) -> list[MemoryEntry]:
            return memory.list(caller.scope(entity_path))

        entries = await self._call(context, look)
        if after is not None:
            position = name_before(after)
            entries = [entry for entry in entries if (entry.entity_path, entry.key) > position]
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
            bool, Field(description="Erase the contents of all versions permanently.")
        ] = False,
    ) -> Forgotten:
        """Delete a memory. Its history stays unless you erase it."""

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
        outcome_ref: Annotated[str, Field(description="A unique name for what happened.")],
        outcome_type: Literal["success", "minor_failure", "failure", "critical_failure"],
        memories: Annotated[list[Used], Field(description="The memories that were used.")],
    ) -> Recorded:
        """Record what came of using memories. It adjusts the confidence of each memory, once."""

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
                Name(entity_path=path, key=key, version=version)
                for path, key, version in outcome.causes
            ]
            return Recorded(outcome_ref=outcome.ref, memories=moved)

        return await self._call(context, commit)

    async def resource(self, context: Context[Any, Any], name: str) -> str:
        """Return the newest version of a memory as JSON."""
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
    """Return the MCP server. `bus` announces changed resources."""
    from amfs import __version__

    server: MCPServer[Any] = MCPServer(
        "amfs",
        title="AMFS",
        description="Shared, versioned memory for AI agents.",
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
        description="The newest version of ENTITY/PATH/KEY; write a slash in the key as %2F.",
        mime_type="application/json",
        security=ResourceSecurity(exempt_params={"name"}),  # not a path in a file system
    )(tools.resource)
    return server


def of_memory(memory: AgentMemory) -> MCPServer[Any]:
    """Return the MCP server of one memory, for the user who started it."""

    def opened(_: Context[Any, Any]) -> tuple[Opened, Key]:
        return _Open(memory), NOBODY

    return make_server(opened, WatchBus(memory.watch))


class _Open(AbstractContextManager[AgentMemory]):
    """A memory that stays open when the block ends."""

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
    """Return an error's text, with advice on what to do next."""
    text = f"{error.problem}. {error.hint or ''}".strip()
    if error.code == "version_conflict":
        return f"{text}. Read the memory again, then remember with its version as expected_version."
    if error.written == "unknown":
        return f"{text}. It may have been written: use history to find out before you try again."
    return text


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
