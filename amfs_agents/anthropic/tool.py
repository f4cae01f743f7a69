"""`AMFSMemoryTool` and its asynchronous twin, on the base classes of the Anthropic SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from amfs_agents.anthropic import commands
from amfs_agents.anthropic.files import FileError, Files
from amfs_agents.extras import needed_for
from amfs_core.errors import InvalidKeyError, InvalidValueError
from amfs_core.format import MemoryEntry
from amfs_core.memory import AgentMemory, AsyncAgentMemory

with needed_for("AMFSMemoryTool", "anthropic"):
    from anthropic.lib.tools import ToolError
    from anthropic.tools.memory import BetaAbstractMemoryTool, BetaAsyncAbstractMemoryTool

if TYPE_CHECKING:
    from anthropic.types.beta import (
        BetaCacheControlEphemeralParam,
        BetaMemoryTool20250818CreateCommand,
        BetaMemoryTool20250818DeleteCommand,
        BetaMemoryTool20250818InsertCommand,
        BetaMemoryTool20250818RenameCommand,
        BetaMemoryTool20250818StrReplaceCommand,
        BetaMemoryTool20250818ViewCommand,
    )

T = TypeVar("T")


class AMFSMemoryTool(BetaAbstractMemoryTool):
    """The memory tool whose files are memories.

        tool = AMFSMemoryTool(AgentMemory("claude"))
        client.beta.messages.run_tools(model=…, messages=…, tools=[tool])

    The file /memories/a/b.txt is the memory "b.txt" under the entity path `<path>/a`. Every edit is
    a version, `history` shows them and `restore` takes them back. Several processes may use the
    same `path`: two edits of one file at the same time are both kept. Errors of the model are a
    `ToolError` with the message of the SDK's own backends.
    """

    def __init__(
        self,
        memory: AgentMemory,
        *,
        path: str = "memories",
        cache_control: BetaCacheControlEphemeralParam | None = None,
    ) -> None:
        super().__init__(cache_control=cache_control)
        self._files = Files(memory, path)

    def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        """Show a file or a directory. The cost of a read; for a directory that of a list more."""
        return _told(lambda: commands.view(self._files, command.path, command.view_range))

    def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        """Write a new file. The cost of a list, of a read for each name in its path, 1 request."""
        return _told(lambda: commands.create(self._files, command.path, command.file_text))

    def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        """Replace a text that is in a file once. 1 request, or a read more."""
        return _told(
            lambda: commands.str_replace(
                self._files, command.path, command.old_str, command.new_str
            )
        )

    def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        """Insert a text after a line. 1 request, or a read more."""
        return _told(
            lambda: commands.insert(
                self._files, command.path, command.insert_line, command.insert_text
            )
        )

    def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        """Delete a file or a directory; the versions stay. A list, a read and 1 request a file."""
        return _told(lambda: commands.delete(self._files, command.path))

    def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        """Rename a file or a directory. Two lists, and about 4 requests for each file."""
        return _told(lambda: commands.rename(self._files, command.old_path, command.new_path))

    def clear_all_memory(self) -> str:
        """Delete every file; the versions stay. A list, and 2 requests for each file."""
        return _told(lambda: commands.clear(self._files))

    def history(self, path: str) -> list[MemoryEntry]:
        """Return all versions of a file, oldest first, including deletions and earlier versions.

        1 request per 1,000 versions, and 1 for each not read before.
        """
        return self._files.history(path)

    def restore(self, path: str, version: int) -> MemoryEntry:
        """Write the text of an earlier version as the newest, also after the file was deleted.

        2 or 3 requests. Raises `InvalidValueError` when there is no such version with a text, and
        `FileError` for a path that is not under /memories.
        """
        return self._files.restore(path, version)


class AsyncAMFSMemoryTool(BetaAsyncAbstractMemoryTool):
    """`AMFSMemoryTool` for `AsyncAnthropic`: the same methods, awaitable, at the same cost."""

    def __init__(
        self,
        memory: AgentMemory | AsyncAgentMemory,
        *,
        path: str = "memories",
        cache_control: BetaCacheControlEphemeralParam | None = None,
    ) -> None:
        super().__init__(cache_control=cache_control)
        self._tool = AMFSMemoryTool(
            memory.memory if isinstance(memory, AsyncAgentMemory) else memory, path=path
        )

    async def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        """Show a file or a directory."""
        return await asyncio.to_thread(self._tool.view, command)

    async def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        """Write a new file."""
        return await asyncio.to_thread(self._tool.create, command)

    async def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        """Replace a text that is in a file once."""
        return await asyncio.to_thread(self._tool.str_replace, command)

    async def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        """Insert a text after a line."""
        return await asyncio.to_thread(self._tool.insert, command)

    async def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        """Delete a file or a directory; the versions stay."""
        return await asyncio.to_thread(self._tool.delete, command)

    async def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        """Rename a file or a directory."""
        return await asyncio.to_thread(self._tool.rename, command)

    async def clear_all_memory(self) -> str:
        """Delete every file; the versions stay."""
        return await asyncio.to_thread(self._tool.clear_all_memory)

    async def history(self, path: str) -> list[MemoryEntry]:
        """Return all versions of a file, oldest first."""
        return await asyncio.to_thread(self._tool.history, path)

    async def restore(self, path: str, version: int) -> MemoryEntry:
        """Write the text of an earlier version as the newest."""
        return await asyncio.to_thread(self._tool.restore, path, version)


def _told(work: Callable[[], T]) -> T:
    try:
        return work()
    except (FileError, InvalidKeyError, InvalidValueError) as error:  # the model can correct it
        raise ToolError(str(error)) from error
