"""For pytest, in the Anthropic SDK's own tests of memory tools: the local ones are those of AMFS.

The tests look at files on disk and put some there. So the disk is copied to AMFS before each
command and back after it; the command itself sees AMFS only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anthropic.lib.tools import _beta_builtin_memory_tool
from anyio import Path as AsyncPath

from amfs import AgentMemory
from amfs_agents.anthropic import AMFSMemoryTool, AsyncAMFSMemoryTool
from amfs_sqlite import SqliteAdapter

COMMANDS = ("view", "create", "str_replace", "insert", "delete", "rename")


class Mirror:
    """A directory that has the files of a memory tool."""

    def __init__(self, base: Path) -> None:
        self.root = base / "memories"
        self.root.mkdir(exist_ok=True)
        # Beside what the tests take for all files that there are.
        self.memory = AgentMemory("tests", adapter=SqliteAdapter(f"{base}.amfs"))

    def to_amfs(self) -> None:
        stored = self.stored()
        for path in self.root.rglob("*"):
            if path.is_file() and stored.get(path) != path.read_bytes():
                entity_path = path.parent.relative_to(self.root.parent).as_posix()
                self.memory.write(entity_path, path.name, path.read_bytes().decode())

    def to_disk(self) -> None:
        stored = self.stored()
        for path in self.root.rglob("*"):
            if path.is_file() and path not in stored:
                path.unlink()
        for path, content in stored.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def stored(self) -> dict[Path, bytes]:
        return {
            self.root.parent / entry.entity_path / entry.key: entry.value.encode()
            for entry in self.memory.list("memories")
        }


class StandIn(AMFSMemoryTool):
    def __init__(self, base_path: str) -> None:
        self.base_path = Path(base_path)
        self.memory_root = self.base_path / "memories"
        self.mirror = Mirror(self.base_path)
        super().__init__(self.mirror.memory)


class AsyncStandIn(AsyncAMFSMemoryTool):
    def __init__(self, base_path: str) -> None:
        self.base_path = AsyncPath(base_path)
        self.memory_root = self.base_path / "memories"
        self.mirror = Mirror(Path(base_path))
        super().__init__(self.mirror.memory)


def mirrored(name: str) -> Any:
    def command(self: StandIn, command: Any) -> str:
        self.mirror.to_amfs()
        try:
            result: str = getattr(AMFSMemoryTool, name)(self, command)
            return result
        finally:
            self.mirror.to_disk()

    return command


def mirrored_async(name: str) -> Any:
    async def command(self: AsyncStandIn, command: Any) -> str:
        self.mirror.to_amfs()
        try:
            result: str = await getattr(AsyncAMFSMemoryTool, name)(self, command)
            return result
        finally:
            self.mirror.to_disk()

    return command


for name in COMMANDS:
    setattr(StandIn, name, mirrored(name))
    setattr(AsyncStandIn, name, mirrored_async(name))
setattr(_beta_builtin_memory_tool, "BetaLocalFilesystemMemoryTool", StandIn)  # noqa: B010
setattr(_beta_builtin_memory_tool, "BetaAsyncLocalFilesystemMemoryTool", AsyncStandIn)  # noqa: B010
